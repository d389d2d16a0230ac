"""Linear algebra of small symmetric matrices, of which the lower triangle counts."""

from __future__ import annotations

import math

import numba
import numpy as np

compiled = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"})
_APART = 32


@compiled
def information(X, w, H):
    """Set the lower triangle of H = X diag(w) X'."""
    for a in range(len(X)):
        for b in range(a + 1):
            x, z, total = X[a], X[b], 0.0
            for i in range(w.size):
                total += w[i] * x[i] * z[i]
            H[a, b] = total


@compiled
def product(X, w, out):
    """Set out to X w."""
    for a in range(len(X)):
        x, total = X[a], 0.0
        for i in range(w.size):
            total += w[i] * x[i]
        out[a] = total


@compiled
def squares(v):
    """The sum of the squares of v."""
    total = 0.0
    for a in range(v.size):
        total += v[a] * v[a]
    return total


@compiled
def factorise(H):
    """Replace the lower triangle of H by its Cholesky factor; return log |H|."""
    log_det = 0.0
    for a in range(len(H)):
        for b in range(a + 1):
            total = H[a, b]
            for k in range(b):
                total -= H[a, k] * H[b, k]
            H[a, b] = math.sqrt(max(total, 1e-300)) if a == b else total / H[b, b]
        log_det += 2 * math.log(H[a, a])
    return log_det


@compiled
def solve_lower(C, v):
    """Replace v by C⁻¹ v."""
    for a in range(v.size):
        for b in range(a):
            v[a] -= C[a, b] * v[b]
        v[a] /= C[a, a]


@compiled
def solve_upper(C, v):
    """Replace v by C'⁻¹ v."""
    for a in range(v.size - 1, -1, -1):
        for b in range(a + 1, v.size):
            v[a] -= C[b, a] * v[b]
        v[a] /= C[a, a]


@compiled
def solve(C, v):
    """Replace v by (C C')⁻¹ v."""
    solve_lower(C, v)
    solve_upper(C, v)


@compiled
def symmetric(H):
    """Set the upper triangle of H to the lower."""
    for a in range(len(H)):
        for b in range(a):
            H[b, a] = H[a, b]


@compiled
def room(n):
    """An array that is some way off all others.

    Loops over arrays that lie closer than an instruction is wide are carried out number by number, and sums then differ in
    their last bit.
    """
    return np.empty(n + 2 * _APART)[_APART : _APART + n]


@compiled
def table(p, q):
    """The same, p × q."""
    return room(p * q).reshape(p, q)
