"""Inverses of a few columns for every level and gene."""

from __future__ import annotations

import numba
import numpy as np

_kernel = numba.njit(nogil=True, cache=True, error_model="numpy")


@_kernel
def halves(N, root, Y):
    """Y = L⁻¹Λ' of L L' = I + Λ'N_i Λ for all levels i (N: L × c × c) and genes (Λ: m × c × c).

    Y'Y = Γ (I + N_i Γ)⁻¹ is as exact as its quadratic forms need it where Γ is large.
    """
    levels, c = N.shape[:2]
    A = np.empty((c, c))
    for g in range(len(root)):
        for i in range(levels):
            for a in range(c):
                for b in range(c):
                    A[a, b] = 1.0 if a == b else 0.0
                    for k in range(c):
                        for l in range(c):
                            A[a, b] += root[g, k, a] * N[i, k, l] * root[g, l, b]
            for a in range(c):
                for b in range(c):
                    Y[g, i, a, b] = root[g, b, a]
            for k in range(c):
                pivot = np.sqrt(A[k, k])
                for b in range(c):
                    Y[g, i, k, b] /= pivot
                for a in range(k + 1, c):
                    factor = A[a, k] / pivot
                    for b in range(k, c):
                        A[a, b] -= factor * A[k, b] / pivot
                    for b in range(c):
                        Y[g, i, a, b] -= factor * Y[g, i, k, b]


@_kernel
def resolvents(N, G, J, logdet):
    """J = (I + N_i G)⁻¹ for all levels i (L × c × c) and genes (m × c × c), and Σ log det(I + N_i G) of each gene.

    By Gauss and Jordan, the largest pivot of a column first: I + N G has positive determinant but no symmetry.
    """
    levels, c = N.shape[:2]
    A = np.empty((c, 2 * c))
    for g in range(len(G)):
        total = 0.0
        for i in range(levels):
            for a in range(c):
                for b in range(c):
                    A[a, b] = 1.0 if a == b else 0.0
                    A[a, c + b] = 1.0 if a == b else 0.0
                    for k in range(c):
                        A[a, b] += N[i, a, k] * G[g, k, b]
            for k in range(c):
                best = k
                for a in range(k + 1, c):
                    if abs(A[a, k]) > abs(A[best, k]):
                        best = a
                if best != k:
                    for b in range(2 * c):
                        A[k, b], A[best, b] = A[best, b], A[k, b]
                pivot = A[k, k]
                total += np.log(abs(pivot))
                for b in range(2 * c):
                    A[k, b] /= pivot
                for a in range(c):
                    if a != k:
                        factor = A[a, k]
                        for b in range(2 * c):
                            A[a, b] -= factor * A[k, b]
            for a in range(c):
                for b in range(c):
                    J[g, i, a, b] = A[a, c + b]
        logdet[g] = total
