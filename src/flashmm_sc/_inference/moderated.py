"""Moderated fits: each gene's posterior of the variance ratios, and what tests need at a point of its grid.

At a given γ the covariance is known up to s_0, so t and F statistics are exact with ν = n - p df; `moderated_t` and
`moderated_f` average their p-values over the posterior ω on the grid of `prior`. At a grid point K = D (I + S D)⁻¹ is the
same for all genes, so that c'β̂_k = c'b - (K A c)'r is one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.errors import warn
from flashmm_sc._gaussian.estimate import data_of
from flashmm_sc._gaussian.profile import Method, Objective
from flashmm_sc._inference.df import Combinations
from flashmm_sc._inference.prior import MAX_COMPONENTS, MIN_GENES, MIN_LEVELS, Prior, grid, learn, posterior
from flashmm_sc._stats.totals import column_totals

if TYPE_CHECKING:
    from flashmm_sc._gaussian.covariance import Factorisation
    from flashmm_sc._gaussian.genes import Genes
    from flashmm_sc._gaussian.projection import Projection
    from flashmm_sc._gaussian.vectors import Vectors
    from flashmm_sc._stats.summary import SummaryStats

NEGLIGIBLE = 1e-12
"""A posterior probability that counts for nothing."""


@dataclass(frozen=True, eq=False)
class Moderated:
    """The prior of the variance ratios and what gives each gene's posterior.

    Attributes
    ----------
    prior
        Learned from the genes that were fitted.
    covariate
        Mean expression of each gene, by which the prior varies, m.
    genes
        The projected data of m genes, of which tests average over the grid.
    weights
        Posterior of the grid points, m × G; NaN for genes that were not fitted.
    """

    prior: Prior
    covariate: np.ndarray
    genes: Genes
    weights: np.ndarray

    @classmethod
    def of(
        cls, projection: Projection, genes: Genes, fitted: np.ndarray, covariate: np.ndarray, prior: Prior | None = None
    ) -> Moderated:
        """Posteriors of the fitted genes (positions) under a prior, by default the one learned from them."""
        gamma = grid(projection) if prior is None else prior.gamma
        log_lik = log_likelihoods(projection, genes[fitted], gamma)
        prior = learn(gamma, log_lik, covariate[fitted]) if prior is None else prior
        weights = np.full((len(genes.yRy), len(gamma)), np.nan)
        weights[fitted] = posterior(prior.of(covariate[fitted]), log_lik)
        return cls(prior, covariate, genes, weights)

    @property
    def fitted(self) -> np.ndarray:
        """Positions of the genes that have a posterior."""
        return np.flatnonzero(np.isfinite(self.weights[:, 0]))

    def theta(self, projection: Projection) -> np.ndarray:
        """Posterior means of the variance components, m × (K+1), the residual last."""
        forms = projection.S.factor(self.prior.gamma).shared_forms(self.genes.r)
        s0 = self.weights * (self.genes.yRy[:, None] - forms) / (projection.n - projection.p)
        return np.column_stack([s0 @ self.prior.gamma, s0.sum(axis=1)])


def check_moderate(method: Method, n_components: int) -> None:
    """Refuse models whose ratios have no grid."""
    if method != "REML":
        msg = "moderate=True rests on the restricted likelihood; use method='REML'."
        raise ValueError(msg)
    if n_components > MAX_COMPONENTS:
        msg = (
            f"moderate=True takes at most {MAX_COMPONENTS} random components, since the grid of their ratios grows with "
            f"each; there are {n_components}."
        )
        raise ValueError(msg)


def moderation(stats: SummaryStats, projection: Projection, fitted: np.ndarray, group: str = "") -> Moderated | None:
    """Moderate the genes of a fit (of a group of cells); None, with a warning, where a prior can't be learned."""
    levels = min(projection.ranks)
    reason = ""
    if len(fitted) < MIN_GENES:
        reason = f"only {len(fitted)} genes could be fitted, and a prior learned from fewer than {MIN_GENES} can't be trusted"
    elif levels < MIN_LEVELS:
        reason = f"a random component has only {levels} levels beyond the fixed effects, fewer than {MIN_LEVELS}"
    if reason:
        what = f"Group {group!r} is not moderated" if group else "Not moderated"
        warn(f"{what}: {reason}. Satterthwaite's df serve instead.")
        return None
    return Moderated.of(projection, data_of(projection, stats), fitted, mean_expression(stats))


def mean_expression(stats: SummaryStats) -> np.ndarray:
    """(Weighted) mean of each gene over the cells, from a random intercept; the root mean square where there is none."""
    totals = column_totals(stats)
    return np.sqrt(stats.yy / stats.weight_sum) if totals is None else totals[2] / stats.weight_sum


def log_likelihoods(projection: Projection, genes: Genes, gamma: np.ndarray) -> np.ndarray:
    """Restricted log-likelihood of every gene at every grid point, up to a constant of the gene: m × G."""
    return -0.5 * Objective.of(projection, "REML").values(genes, gamma)


@dataclass(frozen=True, eq=False)
class Point:
    """A grid point, as tests of r combinations c (the columns of L) need it: K A c, and c_i'cov(β̂)c_j / s_0 (r × r).

    Posterior probabilities of genes are a column of `Moderated.weights`.
    """

    projection: Projection
    L: np.ndarray
    factor: Factorisation
    KAc: Vectors
    cov: np.ndarray

    def estimates(self, genes: Genes) -> tuple[np.ndarray, np.ndarray]:
        """c'β̂ (m × r) and s_0 (m × 1) of genes."""
        s0 = (genes.yRy[:, None] - self.factor.shared_forms(genes.r)) / (self.projection.n - self.projection.p)
        return genes.b @ self.L - genes.r.dot(self.KAc), s0


def grid_points(projection: Projection, moderated: Moderated, L: np.ndarray) -> list[Point]:
    """The points of the grid for the combinations in the columns of L (p × r)."""
    combos = Combinations.of(projection, L)
    points = []
    for ratios in moderated.prior.gamma[:, None]:
        factor = projection.S.factor(ratios)
        w, _ = factor.solve(combos.random.vectors)
        cov = combos.cXXic + factor.shared_matrix(combos.random)[0]
        points.append(Point(projection, L, factor, w.scaled(ratios), cov))
    return points
