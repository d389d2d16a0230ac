"""The distribution of τ² over genes: learned from all of them within bins of their mean rate, and smoothed.

The estimate of `prior` is a few spikes, whose places are uncertain; convolving each bin's weights with a normal of sd 0.6 on
log τ² pays for that. The share at τ² = 0 stays.
"""

from __future__ import annotations

import numpy as np

from flashmm_sc._inference.prior import MIN_GENES, SHRINKAGE, Prior, learn, maximised

_SD = 0.6
DEFAULT = 0.05, 1.0
"""Median of τ² and sd of its logarithm in the prior that counts as much as `SHRINKAGE` genes where genes are few."""


def count_prior(tau2: np.ndarray, log_lik: np.ndarray, log_rate: np.ndarray) -> Prior:
    """Estimate the prior from log L (m × G) and the log rates of the genes (m).

    With fewer than `MIN_GENES` genes it is a log-normal with median and sd `DEFAULT` together with them.
    """
    if len(log_lik) >= MIN_GENES:
        found = learn(tau2[:, None], log_lik, log_rate)
        return Prior(found.gamma, found.edges, smoothed(tau2, found.weights))
    median, sd = DEFAULT
    centre = np.zeros(len(tau2))
    centre[1:] = np.exp(-0.5 * (np.log(tau2[1:] / median) / sd) ** 2)
    centre /= centre.sum()
    weights = maximised(np.exp(log_lik - log_lik.max(axis=1, keepdims=True)), centre, centre, SHRINKAGE)
    return Prior(tau2[:, None], np.empty(0), smoothed(tau2, weights[None]))


def smoothed(tau2: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weights (B × G) convolved with a normal on log τ²; the first point is τ² = 0."""
    z = np.log(tau2[1:])
    kernel = np.exp(-0.5 * ((z[:, None] - z) / _SD) ** 2)
    return np.column_stack([weights[:, 0], weights[:, 1:] @ (kernel / kernel.sum(axis=1, keepdims=True))])
