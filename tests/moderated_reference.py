"""Moderated tests by their definition, with the n × n covariance at every grid point."""

from __future__ import annotations

import numpy as np
import pandas as pd

import flashmm_sc as fsc


def study(donors: int = 8, genes: int = 300, cells: int = 30, seed: int = 0, effect: float = 0.0, batches: int = 0):
    """Normal data with variance ratios of a gamma distribution; a treatment of half of the donors."""
    rng = np.random.default_rng(seed)
    donor = np.repeat(np.arange(donors), cells)
    X = pd.DataFrame({"one": 1.0, "trt": (donor % 2).astype(float), "x": rng.normal(size=donor.size)})
    Z = np.eye(donors)[donor]
    ratio = rng.gamma(0.5, 0.1, genes)
    Y = rng.normal(size=(donor.size, genes)) + Z @ (rng.normal(size=(donors, genes)) * np.sqrt(ratio))
    Y[:, : genes // 10] += effect * X[["trt"]].to_numpy()
    d = [donors]
    if batches:
        batch = rng.integers(batches, size=donor.size)
        Z = np.hstack([Z, np.eye(batches)[batch]])
        Y += np.eye(batches)[batch] @ (rng.normal(size=(batches, genes)) * np.sqrt(ratio[::-1]))
        d.append(batches)
    return Y + rng.gamma(1, 2, genes), X, Z, d


def posterior_by_hand(fit: fsc.LMMFit, Y: np.ndarray, X: pd.DataFrame, Z: np.ndarray, gene: int):
    """ω, β̂ and cov(β̂) of one gene at every grid point, with the n × n covariance."""
    prior = fit.moderated.prior
    pi = prior.of(fit.moderated.covariate[[gene]])[0]
    X, y, n, p = X.to_numpy(), Y[:, gene], *X.shape
    d = fit.stats.d
    log_lik, beta, covs = np.zeros(len(pi)), np.zeros((len(pi), p)), np.zeros((len(pi), p, p))
    for k, gamma in enumerate(prior.gamma):
        V = np.eye(n) + (Z * np.repeat(gamma, d)) @ Z.T
        Vi = np.linalg.inv(V)
        cov = np.linalg.inv(X.T @ Vi @ X)
        b = cov @ X.T @ Vi @ y
        Q = y @ Vi @ (y - X @ b)
        log_lik[k] = -0.5 * ((n - p) * np.log(Q) + np.linalg.slogdet(V)[1] - np.linalg.slogdet(cov)[1])
        beta[k], covs[k] = b, Q / (n - p) * cov
    weights = pi * np.exp(log_lik - log_lik.max())
    weights /= weights.sum()
    return weights, beta, covs
