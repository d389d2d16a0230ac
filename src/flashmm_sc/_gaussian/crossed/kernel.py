"""Compiled loops of the crossed covariance: one dense Cholesky factorisation a gene, by blocks, with BLAS.

A lower triangle is kept by rows of blocks, one after the other, each of them transposed: row i is a matrix of (i + 1) WIDTH rows
and WIDTH columns, so that whatever BLAS multiplies lies together. Blocks on the diagonal hold the inverse of L's.
"""

from __future__ import annotations

import numba
import numpy as np

WIDTH = 48
TOGETHER = 2
"""Genes that are summed for together, so that weights are read once."""
_compiled = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})


def padded(n: int) -> int:
    """Rows of whole blocks."""
    return -(-n // WIDTH) * WIDTH


def packed(n: int) -> int:
    """Numbers that the triangle of n rows takes."""
    blocks = padded(n) // WIDTH
    return WIDTH**2 * blocks * (blocks + 1) // 2


@_compiled
def _row(L, i):
    """Blocks 0 to i of row i, transposed, one below the other."""
    first = WIDTH**2 * (i * (i + 1) // 2)
    return L[first : first + WIDTH**2 * (i + 1)].reshape(((i + 1) * WIDTH, WIDTH))


@_compiled
def factorise(size, start, column, value, corner, gamma, B, L, logdet):
    """Factorise B (W'W - γ C' diag(1 / (1 + γ n)) C) B + E for every γ: m × packed(N), and the log determinants, m.

    n is `size`; C is given by its sparse rows, W'W by the rows, columns and values of its lower triangle (`corner`). E is 1
    where B isn't 1 because of X: `B` has its scale in the first row of each gene and E in the second.
    """
    i, j, w = corner
    N = B.shape[2]
    blocks = (N + WIDTH - 1) // WIDTH
    place = np.empty(N, np.int64)
    for c in range(N):
        k = c // WIDTH
        place[c] = WIDTH**2 * (k * (k + 1) // 2) + c % WIDTH
    for g in range(len(gamma)):
        l, b = L[g], B[g, 0]
        l[:] = 0.0
        for t in range(len(w)):
            l[place[i[t]] + WIDTH * j[t]] = w[t] * b[i[t]] * b[j[t]]
        for c in range(N):
            l[place[c] + WIDTH * c] += B[g, 1, c]
        for c in range(N, blocks * WIDTH):
            l[WIDTH**2 * ((blocks - 1) * blocks // 2) + c % WIDTH + WIDTH * c] = 1.0
        for level in range(len(size)):
            e = gamma[g] / (1 + gamma[g] * size[level])
            for s in range(start[level], start[level + 1]):
                f, at = e * value[s] * b[column[s]], place[column[s]]
                for t in range(start[level], s + 1):
                    l[at + WIDTH * column[t]] -= f * value[t] * b[column[t]]
        logdet[g] = _cholesky(l, blocks)


@_compiled
def _cholesky(L, blocks):
    """Factorise in place; the log determinant, NaN where L isn't positive definite."""
    logdet, product = 0.0, np.empty((WIDTH, WIDTH))
    for i in range(blocks):
        own = _row(L, i)
        for k in range(i + 1):
            above, block = _row(L, k), own[k * WIDTH : (k + 1) * WIDTH]
            if k > 0:
                np.dot(above[: k * WIDTH].T, own[: k * WIDTH], product)
                block -= product
            if k < i:
                np.dot(above[k * WIDTH :], block, product)
                block[:] = product
            else:
                logdet += _invert(block, product)
    return logdet


@_compiled
def _invert(U, V):
    """Replace the upper triangle of U'U by the inverse of U', lower triangular; its log determinant."""
    logdet = 0.0
    for k in range(WIDTH):
        logdet += np.log(U[k, k])
        scale = 1 / np.sqrt(U[k, k])
        for j in range(k, WIDTH):
            U[k, j] *= scale
        for i in range(k + 1, WIDTH):
            f = U[k, i]
            for j in range(i, WIDTH):
                U[i, j] -= f * U[k, j]
    V[:] = 0.0
    for i in range(WIDTH):
        V[i, i] = 1.0
        for k in range(i):
            f = U[k, i]
            for j in range(k + 1):
                V[i, j] -= f * V[k, j]
        for j in range(i + 1):
            V[i, j] /= U[i, i]
    U[:] = V
    return logdet


@_compiled
def forward(L, x):
    """x becomes L⁻¹ x, for the columns of x (whole blocks of rows)."""
    for k in range(len(x) // WIDTH):
        row, own = _row(L, k), x[k * WIDTH : (k + 1) * WIDTH]
        if k > 0:
            own -= np.dot(row[: k * WIDTH].T, x[: k * WIDTH])
        own[:] = np.dot(row[k * WIDTH :], own)


@_compiled
def backward(L, x):
    """x becomes L⁻ᵀ x."""
    for k in range(len(x) // WIDTH - 1, -1, -1):
        row, own = _row(L, k), x[k * WIDTH : (k + 1) * WIDTH]
        own[:] = np.dot(row[k * WIDTH :].T, own)
        if k > 0:
            x[: k * WIDTH] -= np.dot(row[: k * WIDTH], own)


@_compiled
def solve(L, which, x):
    """x becomes (L L')⁻¹ x for the columns of each gene (m × whole blocks of rows × several), which has the factor `which`."""
    for g in range(len(x)):
        forward(L[which[g]], x[g])
        backward(L[which[g]], x[g])


@_compiled
def fold(start, column, value, weight, a, r2, t):
    """[r_2; 0] - C' diag(weight_p) a for the rows of a and r_2 and all points: t is points × rows × N; C is sparse, by rows."""
    P, m, N = t.shape
    total, own = np.empty((N, TOGETHER * P)), np.empty(TOGETHER * P)
    for first in range(0, m, TOGETHER):
        several = min(TOGETHER, m - first)
        total[:] = 0.0
        for level in range(len(weight)):
            for g in range(several):
                for p in range(P):
                    own[g * P + p] = weight[level, p] * a[first + g, level]
            for s in range(start[level], start[level + 1]):
                x, row = value[s], total[column[s]]
                for c in range(several * P):
                    row[c] -= x * own[c]
        for g in range(several):
            for p in range(P):
                for j in range(N):
                    t[p, first + g, j] = total[j, g * P + p]
                for j in range(r2.shape[1]):
                    t[p, first + g, j] += r2[first + g, j]
