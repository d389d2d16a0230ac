"""The loops of `_sparse`: a sparse LDL' factorisation of one pattern, for `LANES` genes at a time.

Every entry is a row of `LANES` numbers, one a gene, so that an index is looked up once for all of them.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

LANES = 8
_COMPILED = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract"}}


@intrinsic
def _add_product(typingctx, y, i, f, k, x, j):
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


@numba.njit(**_COMPILED)
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


@numba.njit(**_COMPILED)
def diagonal_sums(start, row, target, value, kind, L, diagonal, pairs):
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


@numba.njit(**_COMPILED)
def _solve(start, row, l, y):
    """Solve H y = y in place for y N × LANES, each gene with its own H."""
    f = np.empty((1, LANES))
    for j in range(start.size - 1):
        for g in range(LANES):
            f[0, g] = -y[j, g]
        for t in range(start[j] + 1, start[j + 1]):
            _add_product(y, row[t], f, 0, l, t)
    for j in range(start.size - 2, -1, -1):
        for g in range(LANES):
            f[0, g] = -y[j, g] / l[start[j], g]
        for t in range(start[j] + 1, start[j + 1]):
            _add_product(f, 0, l, t, y, row[t])
        for g in range(LANES):
            y[j, g] = -f[0, g]


@numba.njit(**_COMPILED)
def _solve_same(start, row, l, first, y):
    """Solve H y = y in place for LANES columns y (N × LANES) and one H; rows of y before `first` are zero."""
    f = np.empty((1, LANES))
    for j in range(first, start.size - 1):
        for g in range(LANES):
            f[0, g] = y[j, g]
        for t in range(start[j] + 1, start[j + 1]):
            _add_product(y, row[t], -l[t], 0, f, 0)
    for j in range(start.size - 2, -1, -1):
        for g in range(LANES):
            f[0, g] = y[j, g] / l[start[j]]
        for t in range(start[j] + 1, start[j + 1]):
            _add_product(f, 0, -l[t], 0, y, row[t])
        for g in range(LANES):
            y[j, g] = f[0, g]


@numba.njit(**_COMPILED)
def solve(start, row, kind, L, scale, sign, r, v):
    """v = E u / B for H [u; β] = [B r; 0]; r and v are m × several × q."""
    m, several, q = r.shape
    y = np.empty((start.size - 1, LANES))
    for group in range(L.shape[0]):
        for i in range(several):
            y[q:] = 0.0
            for g in range(LANES):
                right = r[min(group * LANES + g, m - 1), i]
                for j in range(q):
                    y[j, g] = right[j] * scale[group, kind[0, start[j]], g]
            _solve(start, row, L[group], y)
            for g in range(min(LANES, m - group * LANES)):
                out = v[group * LANES + g, i]
                for j in range(q):
                    k = kind[0, start[j]]
                    out[j] = y[j, g] * sign[group, k, g] / scale[group, k, g]


@numba.njit(**_COMPILED)
def products(start, row, value, kind, L, scale, sign, v, out):
    """v_k' T_kl v_l: from v (m × several × q) to m × several × K × K."""
    m, several, q = v.shape
    N = start.size - 1
    x, y = np.zeros((N, LANES)), np.empty((N, LANES))
    for group in range(L.shape[0]):
        for i in range(several):
            for g in range(LANES):
                for j in range(q):
                    x[j, g] = v[min(group * LANES + g, m - 1), i, j]
            for component in range(out.shape[2]):
                y[:] = 0.0
                for j in range(q):
                    for t in range(start[j], start[j + 1]):
                        if value[t] != 0:
                            if kind[1, t] == component:
                                _add_product(y, row[t], value[t], 0, x, j)
                            if kind[0, t] == component and t > start[j]:
                                _add_product(y, j, value[t], 0, x, row[t])
                for j in range(q):
                    for g in range(LANES):
                        y[j, g] *= scale[group, kind[0, start[j]], g]
                _solve(start, row, L[group], y)
                for j in range(q):
                    k = kind[0, start[j]]
                    for g in range(min(LANES, m - group * LANES)):
                        out[group * LANES + g, i, k, component] += (
                            x[j, g] * y[j, g] * sign[group, k, g] / scale[group, k, g]
                        )


@numba.njit(**_COMPILED)
def forms(start, row, l, right):
    """right_i' H⁻¹ right_i for the rows of right (m × q, zero for X) and one H."""
    m, q = right.shape
    y, out = np.empty((start.size - 1, LANES)), np.zeros(m)
    for first in range(0, m, LANES):
        y[q:] = 0.0
        for g in range(LANES):
            for j in range(q):
                y[j, g] = right[min(first + g, m - 1), j]
        _solve_same(start, row, l, 0, y)
        for g in range(min(LANES, m - first)):
            for j in range(q):
                out[first + g] += right[first + g, j] * y[j, g]
    return out


@numba.njit(**_COMPILED)
def fixed_columns(start, row, kind, L, right, beta, squares):
    """For every gene solve H [u; β] = [0; right]: β (m × p × r), and sums of u² by component (m × K × r)."""
    p, r = right.shape
    q = start.size - 1 - p
    y, total, l = np.empty((q + p, LANES)), np.empty((squares.shape[1], LANES)), np.empty(L.shape[1])
    for gene in range(len(beta)):
        for t in range(l.size):
            l[t] = L[gene // LANES, t, gene % LANES]
        for first in range(0, r, LANES):
            y[:q] = 0.0
            for j in range(p):
                for c in range(LANES):
                    y[q + j, c] = right[j, min(first + c, r - 1)]
            _solve_same(start, row, l, q, y)
            total[:] = 0.0
            for j in range(q):
                _add_product(total, kind[0, start[j]], y, j, y, j)
            for c in range(min(LANES, r - first)):
                for j in range(p):
                    beta[gene, j, first + c] = y[q + j, c]
                for k in range(len(total)):
                    squares[gene, k, first + c] = total[k, c]
