"""exp and log of arrays, in loops without branches and calls, which are compiled to instructions for several numbers at once.

Numba calls the C library for each number, which takes several times as long. Both are right to 2 units in the last place.
"""

from __future__ import annotations

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

compiled = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})

_ROUND = 1.5 * 2.0**52  # a number plus this has its nearest integer in its last bits
_LOG2_E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_BIAS, _BITS = 1023, 52
_SQRT_HALF = 0x3FE6A09E667F3BCD  # bits of √½
_ROUND_BITS = 0x4338000000000000


@intrinsic
def _bits(typingctx, x):  # noqa: ARG001
    """The 64 bits of a float as an integer."""
    return types.int64(types.float64), lambda context, builder, sig, args: builder.bitcast(args[0], ir.IntType(64))


@intrinsic
def _float(typingctx, bits):  # noqa: ARG001
    """The float with these 64 bits."""
    return types.float64(types.int64), lambda context, builder, sig, args: builder.bitcast(args[0], ir.DoubleType())


@compiled
def exp_of(x, out):
    """Set out to exp(x), x held within ±700: 2^k times the exponential series of what is left, at most ½ log 2."""
    for i in range(x.size):
        v = min(max(x[i], -700.0), 700.0)
        t = v * _LOG2_E + _ROUND
        k = t - _ROUND
        r = (v - k * _LN2_HIGH) - k * _LN2_LOW
        s = 1 / 479001600.0
        s = s * r + 1 / 39916800.0
        s = s * r + 1 / 3628800.0
        s = s * r + 1 / 362880.0
        s = s * r + 1 / 40320.0
        s = s * r + 1 / 5040.0
        s = s * r + 1 / 720.0
        s = s * r + 1 / 120.0
        s = s * r + 1 / 24.0
        s = s * r + 1 / 6.0
        s = ((s * r + 0.5) * r + 1.0) * r + 1.0
        out[i] = s * _float((_bits(t) + _BIAS) << _BITS)


@compiled
def log1p_of(x, out):
    """Set out to log(1 + x), x > -1: k log 2 and the series of log(1 + f) in f/(2 + f), 1 + x = 2^k (1 + f).

    Of 1 + x as it is rounded, the rest is added to first order; the coefficients are those of fdlibm.
    """
    for i in range(x.size):
        u = 1.0 + x[i]
        bits = _bits(u)
        k = (bits - _SQRT_HALF) >> _BITS
        power = _float(k + _ROUND_BITS) - _ROUND
        f = _float(bits - (k << _BITS)) - 1.0
        s = f / (2.0 + f)
        z = s * s
        c = z * 1.479819860511658591e-01 + 1.531383769920937332e-01
        c = z * c + 1.818357216161805012e-01
        c = z * c + 2.222219843214978396e-01
        c = z * c + 2.857142874366239149e-01
        c = z * c + 3.999999999940941908e-01
        c = z * (z * c + 6.666666666666735130e-01)
        h = 0.5 * f * f
        rest = (x[i] - (u - 1.0)) / u
        out[i] = power * _LN2_HIGH - ((h - (s * (h + c) + (power * _LN2_LOW + rest))) - f)
