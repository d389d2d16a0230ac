"""What all genes together know of the variance of sums of counts: the distribution of τ², and the design effect.

The estimate of `prior` is a few spikes, whose places are uncertain; convolving each bin's weights with a normal of sd 0.6 on
log τ² pays for that. The share at τ² = 0 stays.

Cells of a sample are not quite independent, and the sum over few cells varies more than φ says: by a design effect κ in b,
one for all genes. It is the one under which the sums of all genes together are most probable, each with its τ² averaged
over the prior learned at that κ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._inference.mixing import mixing_weights
from flashmm_sc._inference.prior import MIN_GENES, SHRINKAGE, Prior, learn

if TYPE_CHECKING:
    from flashmm_sc._counts.regression import Regression

_SD = 0.6
_EFFECTS = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0)
_ENOUGH = 1000
"""Genes that the design effect is estimated from, evenly spaced by their rates."""
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
    weights = mixing_weights(log_lik, SHRINKAGE * centre)
    return Prior(tau2[:, None], np.empty(0), smoothed(tau2, weights[None]))


def smoothed(tau2: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weights (B × G) convolved with a normal on log τ²; the first point is τ² = 0."""
    z = np.log(tau2[1:])
    kernel = np.exp(-0.5 * ((z[:, None] - z) / _SD) ** 2)
    return np.column_stack([weights[:, 0], weights[:, 1:] @ (kernel / kernel.sum(axis=1, keepdims=True))])


def design_effect(regression: Regression, tau2: np.ndarray, n_jobs: int | None) -> float:
    """The first of `_EFFECTS` after which the evidence of the genes doesn't rise; 1 with fewer than `MIN_GENES`."""
    order = np.argsort(regression.samples.rate, kind="stable")
    if len(order) < MIN_GENES:
        return 1.0
    some = regression.of_genes(order[:: -(-len(order) // _ENOUGH)])
    best, most = 1.0, -np.inf
    for effect in _EFFECTS:
        log_lik, _ = some.inflated(effect).profile(tau2, n_jobs)
        found = evidence(tau2, log_lik, np.log(some.samples.rate))
        if found <= most:  # without overdispersion it makes no difference
            break
        best, most = effect, found
    return best


def evidence(tau2: np.ndarray, log_lik: np.ndarray, log_rate: np.ndarray) -> float:
    """Log-likelihood of all genes, averaged over the prior that fits them best: smoothed, it would blur what is compared."""
    weights = learn(tau2[:, None], log_lik, log_rate).of(log_rate)
    most = log_lik.max(axis=1, keepdims=True)
    return float((np.log((weights * np.exp(log_lik - most)).sum(axis=1)) + most[:, 0]).sum())
