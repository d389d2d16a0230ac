"""Compiled loops of negative binomial regression with known dispersion, a gene at a time.

The log-likelihood of one sample's count y at mean μ = exp η and dispersion 1/r,

    l(η) = y η - (y + r) log(1 + μ/r) + log Γ(y + r) - log Γ(r) - y log r

is concave in η with |l'''| <= |l''|, so that a Newton step of which the largest change of η is δ never fails if it is
shortened to log(1 + δ)/δ of itself (Bach, Electronic Journal of Statistics 2010): no line search, no divergence.

Samples are the last, contiguous axis of every array. X is p × n.
"""

from __future__ import annotations

import math

import numpy as np

from flashmm_sc._counts.algebra import (
    compiled,
    factorise,
    information,
    product,
    room,
    solve,
    solve_lower,
    solve_upper,
    squares,
    symmetric,
    table,
)
from flashmm_sc._counts.elementary import exp_of, log1p_of

_MAX_STEPS = 60
_CLOSE = 1e-6
"""Decrement of the last Newton step; what is left after it is of the order of its square."""
_SHIFT = 8
"""From here on four terms of Stirling's series give log Γ to 1e-11."""


@compiled
def _series(x):
    """Log Γ(x) - ((x - ½) log x - x + ½ log 2π)."""
    z = 1.0 / (x * x)
    return (1.0 / 12 - z * (1.0 / 360 - z * (1.0 / 1260 - z / 1680))) / x


@compiled
def _constants(y, r, a, b):
    """Sum of log Γ(y + r) - log Γ(r) - y log r, exact also where r is large; a and b are room for two arrays.

    By the series at R = r + 8, and Γ(r) = Γ(R) / (r (r + 1) ... (r + 7)).
    """
    total = 0.0
    for i in range(y.size):
        a[i] = y[i] / (r[i] + _SHIFT)
    log1p_of(a, b)
    for i in range(y.size):
        R = r[i] + _SHIFT
        total += (R - 0.5 + y[i]) * b[i] - y[i] + _series(R + y[i]) - _series(R)
        a[i] = _SHIFT / r[i]
    log1p_of(a, b)
    for i in range(y.size):
        total += y[i] * b[i]
        above, below = 1.0, 1.0
        for k in range(_SHIFT):
            above *= y[i] + r[i] + k
            below *= r[i] + k
        a[i] = above / below - 1.0
    log1p_of(a, b)
    for i in range(y.size):
        total -= b[i]
    return total


@compiled
def _means(X, beta, offset, eta, mu):
    """Set η = offset + X'β and μ."""
    for i in range(eta.size):
        eta[i] = offset[i]
    for a in range(beta.size):
        b, x = beta[a], X[a]
        for i in range(eta.size):
            eta[i] += b * x[i]
    exp_of(eta, mu)


@compiled
def _start(y, offset, X, beta):
    """Set β to the least-squares fit of the logarithms of rates; the rows of X are orthonormal."""
    for a in range(beta.size):
        beta[a] = 0.0
        for i in range(y.size):
            beta[a] += X[a, i] * (math.log(y[i] + 0.5) - offset[i])


@compiled
def _log_lik(y, r, eta, mu, a, b):
    """The part of the log-likelihood that depends on η."""
    total = 0.0
    for i in range(y.size):
        a[i] = mu[i] / r[i]
    log1p_of(a, b)
    for i in range(y.size):
        total += y[i] * eta[i] - (y[i] + r[i]) * b[i]
    return total


@compiled
def _maximise(y, offset, r, X, beta, eta, mu, w, H, step):
    """Bring β to the maximum; η and μ are those at it."""
    p = beta.size
    _means(X, beta, offset, eta, mu)
    if p == 0:
        return
    for _ in range(_MAX_STEPS):
        for i in range(y.size):
            share = (y[i] + r[i]) / (r[i] + mu[i])
            w[i] = y[i] - mu[i] * share
            eta[i] = mu[i] * share * r[i] / (r[i] + mu[i])
        product(X, w, step)
        information(X, eta, H)
        factorise(H)
        solve_lower(H, step)
        decrement = squares(step)
        solve_upper(H, step)
        delta = 0.0
        for i in range(y.size):
            change = 0.0
            for a in range(p):
                change += step[a] * X[a, i]
            delta = max(delta, abs(change))
        length = math.log1p(delta) / delta if delta > 1e-3 else 1.0
        for a in range(p):
            beta[a] += length * step[a]
        _means(X, beta, offset, eta, mu)
        if decrement < _CLOSE and delta < 0.1:
            return


@compiled
def _fisher(r, mu, w):
    """Set w to the expected information of η."""
    for i in range(mu.size):
        w[i] = mu[i] * r[i] / (r[i] + mu[i])


@compiled
def _sizes(c, phi, tau2, r):
    """Set r to 1/d, d = b + τ²(1 + b) and b = φ c."""
    for i in range(c.size):
        b = phi * c[i]
        r[i] = 1.0 / max(b + tau2 * (1.0 + b), 1e-10)


@compiled
def profile(Y, offset, c, phi, tau2, X, first, drop, log_lik, betas):
    """Adjusted profile log-likelihood, up to a constant of the gene, and β at every point of the grid of τ².

    From point `first` on to both sides, until the log-likelihood has fallen by `drop`; points beyond are left as they are.
    """
    m, n = Y.shape
    G, p = tau2.size, len(X)
    eta, mu, w, r, logs = room(n), room(n), room(n), room(n), room(n)
    H, step, beta = table(p, p), room(p), room(p)
    for g in range(m):
        y, best = Y[g], -np.inf
        for side in range(2):
            if side == 0:
                _start(y, offset, X, beta)
            else:
                beta[:] = betas[g, first]
            k, last = (first, G) if side == 0 else (first - 1, -1)
            while k != last:
                _sizes(c, phi[g], tau2[k], r)
                _maximise(y, offset, r, X, beta, eta, mu, w, H, step)
                value = _log_lik(y, r, eta, mu, w, logs) + _constants(y, r, w, logs)
                _fisher(r, mu, w)
                information(X, w, H)
                value -= 0.5 * factorise(H)
                log_lik[g, k] = value
                betas[g, k] = beta
                best = max(best, value)
                if value < best - drop:
                    break
                k += 1 if side == 0 else -1


@compiled
def _null_start(H, N, away, HN, S, gamma):
    """Set γ to where the quadratic approximation of the log-likelihood at the maximum is largest under the null."""
    p, q = N.shape
    for a in range(p):
        for b in range(q):
            HN[a, b] = 0.0
            for k in range(p):
                HN[a, b] += H[a, k] * N[k, b]
    for a in range(q):
        gamma[a] = 0.0
        for k in range(p):
            gamma[a] += HN[k, a] * away[k]
        for b in range(a + 1):
            S[a, b] = 0.0
            for k in range(p):
                S[a, b] += N[k, a] * HN[k, b]
    factorise(S)
    solve(S, gamma)


@compiled
def _observed(y, r, mu, w):
    """Set w to the observed information of η."""
    for i in range(mu.size):
        w[i] = mu[i] * r[i] * (y[i] + r[i]) / (r[i] + mu[i]) ** 2


@compiled
def _ratio(y, r, eta, mu, eta0, mu0, w, logs):
    """Twice the log-likelihood ratio, sample by sample so that little cancels; sets logs to log (r + μ)/(r + μ_0)."""
    for i in range(y.size):
        w[i] = (mu[i] - mu0[i]) / (r[i] + mu0[i])
    log1p_of(w, logs)
    total = 0.0
    for i in range(y.size):
        total += y[i] * (eta[i] - eta0[i]) - (y[i] + r[i]) * logs[i]
    return max(2 * total, 0.0)


@compiled
def _log_u(r, eta, mu, eta0, mu0, X, w, logs, C, v, c):
    """Logarithm of |c'S⁻¹q| |S| / |c|, of Skovgaard's u, for the maximum (η, μ) and that under the null (η_0, μ_0).

    S = Σ x x' μ r/(r + μ_0) and q = Σ x μ (ζ - ζ_0), covariances of scores and log-likelihoods; ζ = log(μ/(r + μ)) and
    logs are log (r + μ)/(r + μ_0).
    """
    n = eta.size
    for i in range(n):
        w[i] = mu[i] * r[i] / (r[i] + mu0[i])
    information(X, w, C)
    log_det = factorise(C)
    for i in range(n):
        w[i] = mu[i] * (eta[i] - eta0[i] - logs[i])
    product(X, w, v)
    solve(C, v)
    u = 0.0
    for a in range(c.size):
        u += c[a] * v[a]
    return math.log(max(abs(u), 1e-300)) - 0.5 * math.log(squares(c)) + log_det


@compiled
def against_null(Y, offset, c, phi, tau2, X, gene, beta, L, N, XN, D, XD, value, ratio, log_u):
    """2 (max l - max l under the null), and log |u| of the signed root's correction where the null takes one column.

    For pairs e of a gene and a τ², and hypotheses h: pairs × hypotheses. β under the null is D_h v + N_h γ with the
    gene's v; L is h × p, N h × p × q, D h × p; XN and XD are the same for X'β.
    """
    n, (p, q) = Y.shape[1], N.shape[1:]
    eta, mu, eta0, mu0 = room(n), room(n), room(n), room(n)
    r, w, base, logs = room(n), room(n), room(n), room(n)
    H, J, HN, S = table(p, p), table(p, p), table(p, q), table(q, q)
    away, v, gamma, step = room(p), room(p), room(q), room(q)
    for e in range(gene.size):
        g = gene[e]
        y = Y[g]
        _sizes(c, phi[g], tau2[e], r)
        _means(X, beta[e], offset, eta, mu)
        _observed(y, r, mu, w)
        information(X, w, J)
        log_j = factorise(J)
        _fisher(r, mu, w)
        information(X, w, H)
        symmetric(H)
        J[:] = H
        log_i = factorise(J)
        for h in range(len(N)):
            for i in range(n):
                base[i] = offset[i] + value[g, h] * XD[h, i]
            for a in range(p):
                away[a] = beta[e, a] - value[g, h] * D[h, a]
            _null_start(H, N[h], away, HN, S, gamma)
            _maximise(y, base, r, XN[h], gamma, eta0, mu0, w, S, step)
            ratio[e, h] = _ratio(y, r, eta, mu, eta0, mu0, w, logs)
            if q == p - 1:
                _observed(y, r, mu0, w)
                information(XN[h], w, S)
                log_n = factorise(S)
                log_u[e, h] = 0.5 * (log_j - log_n) - log_i + _log_u(r, eta, mu, eta0, mu0, X, w, logs, J, v, L[h])


@compiled
def standard_errors(Y, offset, c, phi, tau2, X, gene, beta, L, out):
    """Roots of c'(X W X')⁻¹ c for the rows c of L, W the expected information, for pairs of a gene and a τ²."""
    n, p = Y.shape[1], len(X)
    eta, mu, w, r = room(n), room(n), room(n), room(n)
    H, v = table(p, p), room(p)
    for e in range(gene.size):
        _sizes(c, phi[gene[e]], tau2[e], r)
        _means(X, beta[e], offset, eta, mu)
        _fisher(r, mu, w)
        information(X, w, H)
        factorise(H)
        for j in range(len(L)):
            v[:] = L[j]
            solve_lower(H, v)
            out[e, j] = math.sqrt(squares(v))
