"""Compiled loops of the sparse covariance: an LDL' factorisation of one pattern, for `LANES` genes at a time.

Every entry is a row of `LANES` numbers, one a gene, so that an index is looked up once for all of them.
"""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 8
_WIDE = 4  # rows of LANES columns that are solved for together where all have the same H
_compiled = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})


@intrinsic
def _add_product(typingctx, y, i, f, k, x, j):  # noqa: ARG001
    """y[i] += f[k] * x[j] for rows of LANES numbers, or a number f, as one instruction.

    A loop over LANES isn't compiled to one, since the rows might overlap.
    """

    def generate(context, builder, signature, args):
        vector, word = ir.VectorType(ir.DoubleType(), LANES), ir.IntType(64)

        def row(n):
            data = context.make_array(signature.args[n])(context, builder, args[n]).data
            index = args[n + 1]
            index = builder.zext(index, word) if index.type.width < 64 else index
            return builder.bitcast(builder.gep(data, [builder.mul(index, word(LANES))]), vector.as_pointer())

        def splat(number):
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), number, word(0))
            return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))

        load = lambda pointer: builder.load(pointer, align=8)
        out = row(0)
        factor = splat(args[2]) if isinstance(signature.args[2], types.Float) else load(row(2))
        product = builder.fmul(factor, load(row(4)), flags=("contract",))
        builder.store(builder.fadd(load(out), product, flags=("contract",)), out, align=8)
        return context.get_dummy_value()

    return types.void(y, i, f, k, x, j), generate


@_compiled
def factorise(start, target, value, kind, scale, sign, L, logdet, excess):
    """Fill L (groups × entries × LANES, diagonal δ first in each column) for the scale B and sign E of each component.

    log |det H|, and how many more δ are negative than E are.
    """
    f = np.empty((1, LANES))
    for group in range(L.shape[0]):
        l, b = L[group], scale[group]
        for t in range(value.size):
            for g in range(LANES):
                l[t, g] = value[t] * b[kind[0, t], g] * b[kind[1, t], g]
        at = 0
        for j in range(start.size - 1):
            first, last = start[j], start[j + 1]
            k = kind[0, first]
            for g in range(LANES):
                l[first, g] += sign[group, k, g]
                excess[group, g] += int(l[first, g] < 0) - int(sign[group, k, g] < 0)
                logdet[group, g] += np.log(np.abs(l[first, g]))
            for s in range(first + 1, last):
                for g in range(LANES):
                    f[0, g] = -l[s, g] / l[first, g]
                for t in range(s, last):
                    _add_product(l, target[at], f, 0, l, t)
                    at += 1
                for g in range(LANES):
                    l[s, g] = -f[0, g]


@_compiled
def diagonal_sums(start, target, value, kind, L, diagonal, pairs):
    """Sums over H⁻¹ by component: of its diagonal (groups × K+1 × LANES), and of (H⁻¹)_ij (W'W)_ij without B.

    The latter by the components of i and j: groups × K+1 × K+1 × LANES.
    """
    longest = 0
    for j in range(start.size - 1):
        longest = max(longest, start[j + 1] - start[j])
    inverse, sums = np.empty(L.shape[1:]), np.empty((longest, LANES))
    for group in range(L.shape[0]):
        l = L[group]
        end = target.size
        for j in range(start.size - 2, -1, -1):
            first, last = start[j], start[j + 1]
            size = last - first
            sums[:size] = 0.0
            at = end = end - (size - 1) * size // 2
            for s in range(1, size):
                _add_product(sums, s, l, first + s, inverse, target[at])
                at += 1
                for t in range(s + 1, size):
                    _add_product(sums, t, l, first + s, inverse, target[at])
                    _add_product(sums, s, l, first + t, inverse, target[at])
                    at += 1
            for g in range(LANES):
                inverse[first, g] = 1 / l[first, g]
            for s in range(1, size):
                for g in range(LANES):
                    inverse[first + s, g] = -sums[s, g]
                    inverse[first, g] += l[first + s, g] * sums[s, g]
            for g in range(LANES):
                diagonal[group, kind[0, first], g] += inverse[first, g]
            for t in range(first, last):
                for g in range(LANES):
                    x = inverse[t, g] * value[t]
                    pairs[group, kind[0, t], kind[1, t], g] += x
                    if t > first:
                        pairs[group, kind[1, t], kind[0, t], g] += x


@_compiled
def _solve(start, row, l, y, several):
    """Solve H y = y in place for `several` vectors of LANES genes with an H each: y (N several) × LANES."""
    f = np.empty((several, LANES))
    for j in range(start.size - 1):
        for c in range(several):
            for g in range(LANES):
                f[c, g] = -y[j * several + c, g]
        for t in range(start[j] + 1, start[j + 1]):
            at = np.int64(row[t]) * several
            for c in range(several):
                _add_product(y, at + c, f, c, l, t)
    for j in range(start.size - 2, -1, -1):
        for c in range(several):
            for g in range(LANES):
                f[c, g] = -y[j * several + c, g] / l[start[j], g]
        for t in range(start[j] + 1, start[j + 1]):
            at = np.int64(row[t]) * several
            for c in range(several):
                _add_product(f, c, l, t, y, at + c)
        for c in range(several):
            for g in range(LANES):
                y[j * several + c, g] = -f[c, g]


@_compiled
def _solve_same(start, row, l, first, x):
    """Solve H x = x in place for _WIDE * LANES columns x and one H; rows of x before `first` are zero."""
    f, y = np.empty((_WIDE, LANES)), x.reshape(-1, LANES)
    for j in range(first, start.size - 1):
        f[:] = y[j * _WIDE : (j + 1) * _WIDE]
        for t in range(start[j] + 1, start[j + 1]):
            factor, at = -l[t], np.int64(row[t]) * _WIDE
            for c in range(_WIDE):
                _add_product(y, at + c, factor, 0, f, c)
    for j in range(start.size - 2, -1, -1):
        inverse = 1 / l[start[j]]
        for c in range(_WIDE):
            for g in range(LANES):
                f[c, g] = y[j * _WIDE + c, g] * inverse
        for t in range(start[j] + 1, start[j + 1]):
            factor, at = -l[t], np.int64(row[t]) * _WIDE
            for c in range(_WIDE):
                _add_product(f, c, factor, 0, y, at + c)
        y[j * _WIDE : (j + 1) * _WIDE] = f


@_compiled
def solve(start, row, kind, L, scale, sign, r, v):
    """v = E u / B for H [u; β] = [B r; 0]; r and v are m × several × q."""
    m, several, q = r.shape
    y = np.empty((start.size - 1, LANES))
    for group in range(L.shape[0]):
        first = group * LANES
        b, weight = scale[group], sign[group] / scale[group]
        for i in range(several):
            y[q:] = 0.0
            for j in range(q):
                k = kind[0, start[j]]
                for g in range(LANES):
                    y[j, g] = r[min(first + g, m - 1), i, j] * b[k, g]
            _solve(start, row, L[group], y, 1)
            for j in range(q):
                k = kind[0, start[j]]
                for g in range(min(LANES, m - first)):
                    v[first + g, i, j] = y[j, g] * weight[k, g]


@_compiled
def products(start, row, value, kind, L, scale, sign, v, out):
    """v_k' T_kl v_l: from v (m × several × q) to m × several × K × K."""
    m, several, q = v.shape
    N, K = start.size - 1, out.shape[2]
    x, y = np.zeros((N, LANES)), np.empty((N * K, LANES))
    for group in range(L.shape[0]):
        first = group * LANES
        b, weight = scale[group], sign[group] / scale[group]
        for i in range(several):
            y[:] = 0.0
            for j in range(q):
                for g in range(LANES):
                    x[j, g] = v[min(first + g, m - 1), i, j]
            for j in range(q):
                for t in range(start[j], start[j + 1]):
                    if value[t] != 0:
                        at = np.int64(row[t])
                        _add_product(y, at * K + kind[1, t], value[t], 0, x, j)
                        if j < at < q:
                            _add_product(y, j * K + np.int64(kind[0, t]), value[t], 0, x, at)
            for j in range(q):
                for c in range(K):
                    for g in range(LANES):
                        y[j * K + c, g] *= b[kind[0, start[j]], g]
            _solve(start, row, L[group], y, K)
            for j in range(q):
                k = kind[0, start[j]]
                for c in range(K):
                    for g in range(min(LANES, m - first)):
                        out[first + g, i, k, c] += x[j, g] * y[j * K + c, g] * weight[k, g]


@_compiled
def forms(start, row, l, right):
    """right_i' H⁻¹ right_i for the rows of right (m × q, zero for X) and one H."""
    m, q = right.shape
    x, out = np.empty((start.size - 1, _WIDE * LANES)), np.zeros(m)
    for first in range(0, m, x.shape[1]):
        x[q:] = 0.0
        for c in range(x.shape[1]):
            for j in range(q):
                x[j, c] = right[min(first + c, m - 1), j]
        _solve_same(start, row, l, 0, x)
        for c in range(min(x.shape[1], m - first)):
            for j in range(q):
                out[first + c] += right[first + c, j] * x[j, c]
    return out


@_compiled
def fixed_columns(start, row, kind, L, right, beta, squares):
    """For every gene solve H [u; β] = [0; right]: β (m × p × r), and sums of u² by component (m × K × r)."""
    p, r = right.shape
    q = start.size - 1 - p
    x, l = np.empty((q + p, _WIDE * LANES)), np.empty(L.shape[1])
    total, y = np.empty((squares.shape[1] * _WIDE, LANES)), x.reshape(-1, LANES)
    for gene in range(len(beta)):
        for t in range(l.size):
            l[t] = L[gene // LANES, t, gene % LANES]
        for first in range(0, r, x.shape[1]):
            x[:q] = 0.0
            for j in range(p):
                for c in range(x.shape[1]):
                    x[q + j, c] = right[j, min(first + c, r - 1)]
            _solve_same(start, row, l, q, x)
            total[:] = 0.0
            for j in range(q):
                at = np.int64(kind[0, start[j]]) * _WIDE
                for c in range(_WIDE):
                    _add_product(total, at + c, y, j * _WIDE + c, y, j * _WIDE + c)
            for c in range(min(x.shape[1], r - first)):
                for j in range(p):
                    beta[gene, j, first + c] = x[q + j, c]
                for k in range(squares.shape[1]):
                    squares[gene, k, first + c] = total[k * _WIDE + c // LANES, c % LANES]
