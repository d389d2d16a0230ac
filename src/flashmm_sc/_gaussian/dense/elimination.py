"""The inverse of a small dense matrix for every gene."""

from __future__ import annotations

import numba
import numpy as np

_LANES = 16  # rows are padded to whole vectors of this length
_kernel = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})


@_kernel
def invert_signed(G, D, negative, K2, logdet, ok):
    """K2 = D (I + G D)⁻¹ and log |det(I + G D)| for a stack of genes, and whether I + S D is positive definite.

    With B = |D|^½ and E = sign(D), K2 = B (E + B G B)⁻¹ B. By inertia I + S D has only positive eigenvalues exactly when
    E + B G B has as many negative pivots as E, and one more for each `negative` eigenvalue of the block eliminated. With
    none expected this is Cholesky's factorisation, else the largest pivot left is taken first.
    """
    R = G.shape[1]
    width = (R + _LANES - 1) // _LANES * _LANES
    A, V = np.zeros((R, width)), np.zeros((R, width))  # what is left to eliminate, and the inverse triangle
    order, sign = np.arange(R), np.ones(R)
    for g in range(G.shape[0]):
        of_gene, B = G[g], np.sqrt(np.abs(D[g]))
        expected, found = negative[g] + (D[g] < 0).sum(), 0
        V[:] = 0.0
        for i in range(R):
            order[i] = i
            for j in range(R):
                A[i, j] = B[i] * of_gene[i, j] * B[j]
            A[i, i] += 1.0 if D[g, i] >= 0 else -1.0
            V[i, i] = 1.0
        logdet[g], ok[g] = 0.0, True
        for k in range(R):
            if expected > 0:
                best = k + np.argmax(np.abs(np.diag(A)[k:]))
                if best != k:
                    _swap(A, V, order, k, best)
            pivot = A[k, k]
            if pivot == 0 or not np.isfinite(pivot) or (expected == 0 and pivot < 0):
                ok[g] = False
                break
            found += pivot < 0
            logdet[g] += np.log(np.abs(pivot))
            sign[k] = np.sign(pivot)
            _eliminate(A, V, k, k // _LANES * _LANES)
        ok[g] = ok[g] and found == expected
        K2[g] = 0.0
        if ok[g]:
            _square(V, sign, order, B, K2[g])


@_kernel
def _eliminate(A, V, k, start):
    """Subtract row k from those below, in A from column `start` on, in V up to its diagonal; scale it to a unit pivot."""
    left, inverse = A[k, start:], V[k, : start + _LANES]
    per_pivot = 1 / A[k, k]
    for i in range(k + 1, len(A)):
        f = A[k, i] * per_pivot
        below, inverse_below = A[i, start:], V[i, : start + _LANES]
        for j in range(left.size):
            below[j] -= f * left[j]
        for j in range(inverse.size):
            inverse_below[j] -= f * inverse[j]
    scale = np.sqrt(np.abs(per_pivot))
    for j in range(inverse.size):
        inverse[j] *= scale


@_kernel
def _swap(A, V, order, i, j):
    """Exchange two rows and columns of what is left."""
    for rows in (A, V):
        for c in range(rows.shape[1]):
            rows[i, c], rows[j, c] = rows[j, c], rows[i, c]
    for r in range(len(A)):
        A[r, i], A[r, j] = A[r, j], A[r, i]
    V[i, i] = V[j, j] = 1.0
    V[i, j] = V[j, i] = 0.0
    order[i], order[j] = order[j], order[i]


@_kernel
def _square(V, sign, order, B, out):
    """B V' diag(sign) V B in the order of the columns before they were exchanged."""
    R = len(V)
    row = np.empty(R)
    for i in range(R):
        row[:] = 0.0
        for k in range(i, R):
            f, factor = sign[k] * V[k, i], V[k]
            for j in range(i + 1):
                row[j] += f * factor[j]
        a = order[i]
        for j in range(i + 1):
            b = order[j]
            out[a, b] = out[b, a] = B[a] * row[j] * B[b]
