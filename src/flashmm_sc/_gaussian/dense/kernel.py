"""Sums over the points and eigenvalues of `between`, for every gene."""

from __future__ import annotations

import numba
import numpy as np

_kernel = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})


@_kernel
def determinants(share, along, mu, m, gamma, out):
    """log det, tr T_22, |T_22|², |T_12|², Σ γ_2 k m and its slope in x: weights of points (genes × P), γ_2 of each gene."""
    P, R = mu.shape
    top = mu.max()
    for g in range(len(gamma)):
        ratio = gamma[g]
        width = _width(ratio, top)
        out[g] = 0.0
        for p in range(P):
            trace = norm = cross = part = 0.0
            at, of_level = mu[p], m[p]
            for j in range(R):
                k = 1.0 / (1.0 + ratio * at[j])
                own = k * at[j]
                trace += own
                norm += own * own
                part += k * of_level[j]
                cross += k * k * of_level[j]
            w = share[g, p]
            out[g, 0] += w * _logdet(at, ratio, width)
            out[g, 1] += w * trace
            out[g, 2] += w * norm
            out[g, 3] += w * cross
            out[g, 4] += w * ratio * part
            out[g, 5] += along[g, p] * ratio * part


@_kernel
def _width(gamma, top):
    """How many factors 1 + γ λ can be multiplied without overflow, λ <= top."""
    return max(int(600.0 / max(abs(np.log(1.0 + gamma * top)), 1.0)), 1)


@_kernel
def _logdet(lam, gamma, width):
    """Σ log(1 + γ λ), a logarithm for so many factors."""
    logdet = 0.0
    for start in range(0, lam.size, width):
        product = 1.0
        for i in range(start, min(start + width, lam.size)):
            product *= 1.0 + gamma * lam[i]
        logdet += np.log(product)
    return logdet


@_kernel
def own_sums(lam, gamma, out):
    """-Σ log d, Σ λ d and Σ λ² d² of d = 1 / (1 + γ_1 λ)."""
    for g in range(len(gamma)):
        trace = norm = 0.0
        for i in range(lam.size):
            own = lam[i] / (1.0 + gamma[g] * lam[i])
            trace += own
            norm += own * own
        out[g, 0], out[g, 1], out[g, 2] = _logdet(lam, gamma[g], _width(gamma[g], lam[-1])), trace, norm


@_kernel
def weights(share, mu, gamma, power, out):
    """Weights of b_j² of all points: of the points times γ_2 k, or k² if that is the power; genes × P × (R + columns of X)."""
    P, R = mu.shape
    for g in range(len(gamma)):
        ratio = gamma[g]
        for p in range(P):
            w = share[g, p]
            out[g, p, R:] = w if power == 1 else 0.0
            for j in range(R):
                k = 1.0 / (1.0 + ratio * mu[p, j])
                out[g, p, j] = w * k * (ratio if power == 1 else k)


@_kernel
def forms(share, along, twice, mu, lam, gamma, a, b, out):
    """φ and its derivatives: in γ_2, in x, and the second ones (22, 2x, xx); then of γ_1 Σ a² d those in γ_1, up to the second.

    gamma holds γ_1 and γ_2 of each gene; b the columns of X after the R others.
    """
    P, R = mu.shape
    for g in range(len(gamma)):
        first, ratio = gamma[g, 0], gamma[g, 1]
        out[g] = 0.0
        for p in range(P):
            value = slope = bend = 0.0
            at, of_gene = mu[p], b[g, p]
            for j in range(R):
                k = 1.0 / (1.0 + ratio * at[j])
                e = k * of_gene[j] * of_gene[j]
                value += e
                slope += e * k
                bend += e * k * k * at[j]
            whole = ratio * value
            for j in range(R, of_gene.size):
                whole += of_gene[j] * of_gene[j]
            out[g, 0] += share[g, p] * whole
            out[g, 1] += share[g, p] * slope
            out[g, 2] += along[g, p] * whole
            out[g, 3] += -2.0 * share[g, p] * bend
            out[g, 4] += along[g, p] * slope
            out[g, 5] += twice[g, p] * whole
        out[g, 6], out[g, 7], out[g, 8] = _own_form(lam, first, a[g])


@_kernel
def own_forms(lam, gamma, a, out):
    """γ_1 Σ a² d and its derivatives in γ_1, up to the second."""
    for g in range(len(gamma)):
        out[g, 0], out[g, 1], out[g, 2] = _own_form(lam, gamma[g], a[g])


@_kernel
def _own_form(lam, gamma, a):
    form = slope = bend = 0.0
    for i in range(lam.size):
        d = 1.0 / (1.0 + gamma * lam[i])
        e = d * a[i] * a[i]
        form += e
        slope += e * d
        bend += e * d * d * lam[i]
    return gamma * form, slope, -2.0 * bend
