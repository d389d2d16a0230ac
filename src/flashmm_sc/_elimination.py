"""The inverse of a small dense matrix for every gene."""

from __future__ import annotations

import numba
import numpy as np

_LANES = 16  # rows are padded to whole vectors of this length


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def invert_signed(G, D, negative, K2, logdet, ok):  # type: ignore[no-untyped-def]
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
        B = np.sqrt(np.abs(D[g]))
        expected, found = negative[g] + (D[g] < 0).sum(), 0
        V[:] = 0.0
        for i in range(R):
            order[i] = i
            for j in range(R):
                A[i, j] = B[i] * G[g, i, j] * B[j]
            A[i, i] += 1.0 if D[g, i] >= 0 else -1.0
            V[i, i] = 1.0
        logdet[g], ok[g] = 0.0, True
        for k in range(R):
            if expected > 0:
                best = k + np.argmax(np.abs(np.diag(A)[k:]))
                if best != k:
                    _swap(A, V, order, k, best)
            pivot, row, inverse_row = A[k, k], A[k], V[k]
            if pivot == 0 or not np.isfinite(pivot) or (expected == 0 and pivot < 0):
                ok[g] = False
                break
            found += pivot < 0
            logdet[g] += np.log(np.abs(pivot))
            start = k // _LANES * _LANES
            for i in range(k + 1, R):
                f = row[i] / pivot
                for j in range(start, width):
                    A[i, j] -= f * row[j]
                for j in range(start + _LANES):
                    V[i, j] -= f * inverse_row[j]
            sign[k], scale = np.sign(pivot), 1 / np.sqrt(np.abs(pivot))
            for j in range(k + 1):
                inverse_row[j] *= scale
        ok[g] = ok[g] and found == expected
        K2[g] = 0.0
        if ok[g]:
            _square(V, sign, order, B, K2[g])


@numba.njit(nogil=True, cache=True)
def _swap(A, V, order, i, j):  # type: ignore[no-untyped-def]
    """Exchange two rows and columns of what is left."""
    for rows in (A, V):
        for c in range(rows.shape[1]):
            rows[i, c], rows[j, c] = rows[j, c], rows[i, c]
    for r in range(len(A)):
        A[r, i], A[r, j] = A[r, j], A[r, i]
    V[i, i] = V[j, j] = 1.0
    V[i, j] = V[j, i] = 0.0
    order[i], order[j] = order[j], order[i]


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def _square(V, sign, order, B, out):  # type: ignore[no-untyped-def]
    """B V' diag(sign) V B in the order of the columns before they were exchanged."""
    R = len(V)
    row = np.empty(R)
    for i in range(R):
        row[:] = 0.0
        for k in range(i, R):
            f = sign[k] * V[k, i]
            for j in range(i + 1):
                row[j] += f * V[k, j]
        for j in range(i + 1):
            a, b = order[i], order[j]
            out[a, b] = out[b, a] = B[a] * row[j] * B[b]
