"""Tail probabilities of Student's t, and of F, by the tens of millions.

Where t² is small beside the degrees of freedom they go through the normal distribution: Hill's expansion
(Communications of the ACM 1970, algorithm 395) maps t to a normal deviate with a relative error of the tail below 1e-11.
"""

from __future__ import annotations

import numpy as np
from scipy.special import betainc, betaincinv, betaln, hyp2f1, log_ndtr, ndtr, ndtri_exp, stdtr, stdtrit

SMALL = 1e-290
"""Probabilities below which logarithms take their place."""
_MANY = 1000  # df from which the quantile is found by way of the normal one
MANY_DF = 1e8
"""Beyond it, densities are those of the normal, and differences of log Γ lose digits."""
_INFINITE = 1e15  # df that are as good as infinitely many
_FAR = -300.0  # logarithm of the tail from which on stdtrit may fail, or the tail be no number any more
_LARGEST = 709.0  # logarithm of numbers
_ROUNDING = 1e-12  # of logarithms of tails
_HALVINGS = 32  # of the interval of log df, to some 1e-9


def upper_tail(t: np.ndarray, df: np.ndarray | float) -> np.ndarray:
    """P(T > t), exact for tiny t as well as in the far tail."""
    t, df = np.broadcast_arrays(t, df)
    normal = (df >= 50) & (t * t < df / 5)
    out = np.empty(t.shape)
    out[normal] = ndtr(-deviate(t[normal], df[normal]))
    out[~normal] = stdtr(df[~normal], -t[~normal])
    return out


def log_upper_tail(t: np.ndarray, df: np.ndarray | float) -> np.ndarray:
    """log P(T > t), finite also where the probability is too small for a number."""
    t, df = np.broadcast_arrays(t, df)
    with np.errstate(divide="ignore"):  # of a probability of zero
        out = np.log(upper_tail(t, df), out=np.empty(t.shape))
    normal = (df >= 50) & (t * t < df / 5)
    out[normal] = log_ndtr(-deviate(t[normal], df[normal]))
    far = ~normal & (out < -600)
    out[far] = _by_series(-np.log1p(t[far] ** 2 / df[far]), df[far] / 2)
    return out


def _by_series(log_x: np.ndarray, a: np.ndarray) -> np.ndarray:
    """log ½ I_x(a, ½), which is log P(T > t) with x = ν / (ν + t²) and a = ν/2, by its series (DLMF 8.17.8)."""
    x = np.exp(log_x)
    return a * log_x + 0.5 * np.log1p(-x) + np.log(hyp2f1(a + 0.5, 1.0, a + 1, x)) - np.log(2 * a) - betaln(a, 0.5)


def normal_deviate(t: np.ndarray, df: np.ndarray | float) -> np.ndarray:
    """The normal deviate with the same tails as t, however far."""
    return np.copysign(-ndtri_exp(log_upper_tail(np.abs(t), df)), t)


def deviate(t: np.ndarray, nu: np.ndarray | float) -> np.ndarray:
    """The normal deviate with the same tail as t."""
    nu = np.minimum(nu, _INFINITE)
    a = nu - 0.5
    b = 48.0 * a * a
    y = a * np.log1p(t * t / nu)
    series = ((((-0.4 * y - 3.3) * y - 24.0) * y - 85.5) / (0.8 * y * y + 100.0 + b) + y + 3.0) / b + 1.0
    return np.copysign(series * np.sqrt(y), t)


def quantile(log_p: np.ndarray, nu: np.ndarray | float) -> np.ndarray:
    """The t >= 0 with P(T > t) = p, from log p <= log ½; finite as long as log p is."""
    log_p, nu = np.broadcast_arrays(np.asarray(log_p, float), nu)
    many, far = nu >= _MANY, log_p < _FAR
    out = np.array(-stdtrit(nu, np.exp(log_p)))
    out[many] = _by_deviates(log_p[many], nu[many])
    out[far & ~many] = _by_logarithms(log_p[far & ~many], nu[far & ~many])
    return out


def _by_deviates(log_p: np.ndarray, nu: np.ndarray) -> np.ndarray:
    """Newton on the normal deviate, which is all but linear in the guess."""
    z, nu = -ndtri_exp(log_p), np.minimum(nu, _INFINITE)
    t = np.sqrt(nu * np.expm1(z * z / (nu - 0.5)))
    for _ in range(3):
        step = 1e-4 * (1 + t)
        slope = (deviate(t + step, nu) - deviate(t - step, nu)) / (2 * step)
        t = t - (deviate(t, nu) - z) / slope
    return t


def _by_logarithms(log_p: np.ndarray, nu: np.ndarray) -> np.ndarray:
    """Newton on log P(T > t) in u = log t."""
    a = nu / 2
    log_beta = betaln(a, 0.5)
    u = 0.5 * np.log(nu) - (log_p + np.log(2 * a) + log_beta) / nu
    for _ in range(50):
        log_x = -np.logaddexp(0, 2 * u - np.log(nu))
        tail = _by_series(log_x, a)
        slope = u + (a + 0.5) * log_x - 0.5 * np.log(nu) - log_beta - tail
        step = (tail - log_p) * np.exp(-slope)
        u = u + step
        if np.abs(step).max(initial=0.0) < 1e-14 * _LARGEST:
            break
    return np.exp(np.minimum(u, _LARGEST))


def df_of_tail(t: np.ndarray, log_p: np.ndarray, most: np.ndarray | float) -> np.ndarray:
    """The df between 1 and `most` at which P(T > t) is closest to p, for t >= 0 and log p <= log ½."""
    df = np.array(np.broadcast_to(np.asarray(most, float), t.shape))
    heavier = log_upper_tail(t, df) < log_p - _ROUNDING * (1 + np.abs(log_p))
    t, log_p = t[heavier], log_p[heavier]
    low, high = np.zeros(t.shape), np.log(df[heavier])
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        more = log_upper_tail(t, np.exp(middle)) >= log_p
        low, high = np.where(more, middle, low), np.where(more, high, middle)
    df[heavier] = np.exp(high)
    return df


def f_upper_tail(F: np.ndarray, r: int, nu: int) -> np.ndarray:
    """P(F_rν > F); with r = 1 to the last bit that of t."""
    return 2 * upper_tail(np.sqrt(F), nu) if r == 1 else betainc(nu / 2, r / 2, nu / (nu + r * F))


def f_quantile(p: np.ndarray, r: int, nu: int) -> np.ndarray:
    """The F with P(F_rν > F) = p."""
    small = np.minimum(p, 0.5)
    far, near = betaincinv(nu / 2, r / 2, small), betaincinv(r / 2, nu / 2, np.minimum(1 - p, 0.5))
    with np.errstate(divide="ignore"):  # p may be 0
        return np.where(p < 0.5, nu / r * (1 / far - 1), nu / r * near / (1 - near))
