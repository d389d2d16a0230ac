"""The distribution of the variance ratios over genes, learned from all of them.

The restricted likelihood of a gene's ratios γ depends on error contrasts only, which carry no information on its fixed
effects. On a grid γ_1 ... γ_G that all genes share

    L_gk = Q_g(γ_k)^(-ν/2) det(I + S D_k)^(-½)

and the prior π over the grid is the nonparametric maximum-likelihood estimate, which maximises Σ_g log Σ_k π_k L_gk: first
that of all genes, π⁰, then within bins of a covariate (mean expression) the π that maximises the same over the bin's genes
plus w_0 Σ_k π⁰_k log π_k, as if w_0 genes more were known to be distributed as π⁰. A bin may well have ratios that π⁰ has not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._inference.mixing import mixing_weights

if TYPE_CHECKING:
    from flashmm_sc._gaussian.projection import Projection

N_BINS = 6
SHRINKAGE = 50.0
MIN_GENES = 100
MIN_LEVELS = 2
MAX_COMPONENTS = 2
_POINTS = {1: 41, 2: 13}  # grid points of each component, by the number of components


@dataclass(frozen=True, eq=False)
class Prior:
    """A discrete distribution of the variance ratios, by bins of a covariate.

    Attributes
    ----------
    gamma
        Grid of ratios, G × K.
    edges
        Inner edges of the bins of the covariate, B - 1.
    weights
        Probability of each grid point in each bin, B × G.
    """

    gamma: np.ndarray
    edges: np.ndarray
    weights: np.ndarray

    def of(self, covariate: np.ndarray) -> np.ndarray:
        """Prior of genes with these values of the covariate, m × G."""
        return self.weights[np.searchsorted(self.edges, covariate, side="right")]


def grid(projection: Projection) -> np.ndarray:
    """Ratios 0 and evenly spaced in log from 1e-2 to 1e4 times 1 / median positive eigenvalue of S_kk: G × K."""
    ratios = np.geomspace(1e-2, 1e4, _POINTS[len(projection.d)] - 1)
    axes = [np.append(0.0, ratios / np.median(positive)) for positive in projection.spectra]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))


def learn(gamma: np.ndarray, log_lik: np.ndarray, covariate: np.ndarray) -> Prior:
    """Estimate the prior from log L (m × G) and the covariate of the genes (m)."""
    everywhere = mixing_weights(log_lik, np.zeros(len(gamma)))
    n_bins = max(1, min(N_BINS, len(covariate) // MIN_GENES))
    edges = np.unique(np.quantile(covariate, np.arange(1, n_bins) / n_bins))
    bins = np.searchsorted(edges, covariate, side="right")
    weights = [mixing_weights(log_lik[bins == b], SHRINKAGE * everywhere) for b in range(len(edges) + 1)]
    return Prior(gamma, edges, np.stack(weights))


def posterior(prior: np.ndarray, log_lik: np.ndarray) -> np.ndarray:
    """Posterior of the grid points for each gene, m × G."""
    weights = prior * np.exp(log_lik - log_lik.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)
