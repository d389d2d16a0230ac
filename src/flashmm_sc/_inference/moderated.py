"""Moderated tests: t tests averaged over the posterior of the variance ratios.

At a given γ the covariance is known up to s_0, so (c'β̂ - c'β) / se is exactly t with ν = n - p df. With the posterior ω
of the ratios over the grid of `prior`,

    p = Σ_k ω_k P(|T_ν| > |c'β̂_k| / se_k),    coef = Σ_k ω_k c'β̂_k,    se² = Σ_k ω_k (se_k² + (c'β̂_k - coef)²)

and t is the t_ν quantile that has this p and the sign of coef (coef / se where p is below all floating-point numbers).
At a grid point K = D (I + S D)⁻¹ is the same for all genes, so that c'β̂_k = c'b - (K A c)'r is one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.errors import warn
from flashmm_sc._base.threads import for_gene_blocks
from flashmm_sc._gaussian.genes import Genes
from flashmm_sc._gaussian.profile import Method, Objective
from flashmm_sc._inference.df import Combinations
from flashmm_sc._inference.prior import MAX_COMPONENTS, MIN_GENES, MIN_LEVELS, Prior, grid, learn, posterior
from flashmm_sc._inference.t_tests import Alternative, Intervals, TTests
from flashmm_sc._inference.tails import quantile, upper_tail
from flashmm_sc._stats.totals import column_totals

if TYPE_CHECKING:
    from collections.abc import Callable

    from flashmm_sc._gaussian.projection import Projection
    from flashmm_sc._gaussian.vectors import Vectors
    from flashmm_sc._stats.summary import SummaryStats

_NEGLIGIBLE = 1e-12


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
    return Moderated.of(projection, Genes.of(projection, stats), fitted, mean_expression(stats))


def mean_expression(stats: SummaryStats) -> np.ndarray:
    """Mean of each gene over the cells, from a random intercept; the root mean square where there is none."""
    totals = column_totals(stats)
    return np.sqrt(stats.yy / stats.n) if totals is None else totals[2] / stats.n


def log_likelihoods(projection: Projection, genes: Genes, gamma: np.ndarray) -> np.ndarray:
    """Restricted log-likelihood of every gene at every grid point, up to a constant of the gene: m × G."""
    return -0.5 * Objective.of(projection, "REML").values(genes, gamma)


def moderated_tests(
    projection: Projection,
    moderated: Moderated,
    L: np.ndarray,
    *,
    alternative: Alternative = "two-sided",
    effect: float = 0.0,
    n_jobs: int | None = None,
) -> TTests:
    """Test the combinations c'β for the columns c of L (p × r) in every gene; options as in `t_tests`."""
    genes = moderated.genes
    m, r, nu = len(genes.yRy), L.shape[1], projection.n - projection.p
    out = TTests(*(np.full((m, r), np.nan) for _ in range(5)))
    points = _points(projection, moderated.prior.gamma, L)
    fitted = np.flatnonzero(np.isfinite(moderated.weights[:, 0]))

    def work(part: slice) -> None:
        index = fitted[part]
        some, weights = genes[index], moderated.weights[index]
        least = some.b @ L
        coef, second, p = np.zeros((3, len(index), r))
        for k, point in enumerate(points):
            use = np.flatnonzero(weights[:, k] > _NEGLIGIBLE)
            w, at = weights[use, k, None], some[use]
            beta = least[use] - at.r.dot(point.KAc)
            s0 = (at.yRy - point.form(at)) / nu
            se = np.sqrt(s0[:, None] * point.variance)
            coef[use] += w * beta
            second[use] += w * (se**2 + beta**2)
            p[use] += w * _tail(beta, se, nu, alternative, effect)
        out.coef[index], out.se[index], out.df[index] = coef, np.sqrt(np.maximum(second - coef**2, 0)), nu
        out.p[index] = p = np.minimum(p, 1.0)
        out.t[index] = np.where(p > 0, _t_of(p, coef, nu, alternative), coef / out.se[index])

    for_gene_blocks(work, len(fitted), projection.S.gene_bytes(4 * r), n_jobs)
    return out


def moderated_intervals(
    projection: Projection,
    moderated: Moderated,
    L: np.ndarray,
    tests: TTests,
    level: float,
    *,
    n_jobs: int | None = None,
) -> Intervals:
    """Add the equal-tailed intervals of the mixture: x with Σ_k ω_k P(T_ν > (x - c'β̂_k) / se_k) = (1 ± level) / 2."""
    nu = projection.n - projection.p
    points = _points(projection, moderated.prior.gamma, L)
    fitted = np.flatnonzero(np.isfinite(moderated.weights[:, 0]))
    ends = [np.full(tests.coef.shape, np.nan) for _ in range(2)]

    def work(part: slice) -> None:
        index = fitted[part]
        at, weights = moderated.genes[index], moderated.weights[index, :, None]
        beta = np.stack([at.b @ L - at.r.dot(point.KAc) for point in points], axis=1)
        s0 = np.stack([(at.yRy - point.form(at)) / nu for point in points], axis=1)
        se = np.sqrt(s0[..., None] * np.stack([point.variance for point in points]))
        widest = 2 * quantile(np.log((1 - level) / 2), nu) * se.max(axis=1)
        for end, above in zip(ends, ((1 + level) / 2, (1 - level) / 2), strict=True):
            low, high = beta.min(axis=1) - widest, beta.max(axis=1) + widest
            for _ in range(50):
                middle = (low + high) / 2
                up = (weights * upper_tail((middle[:, None] - beta) / se, nu)).sum(axis=1) > above
                low, high = np.where(up, middle, low), np.where(up, high, middle)
            end[index] = (low + high) / 2

    for_gene_blocks(work, len(fitted), projection.S.gene_bytes(12 * len(points) * L.shape[1]), n_jobs)
    return Intervals(**vars(tests), ci_low=ends[0], ci_high=ends[1])


@dataclass(frozen=True, eq=False)
class _Point:
    """A grid point: K A c, c'cov(β)c / s_0 (r), and the quadratic form r'K r of genes."""

    KAc: Vectors
    variance: np.ndarray
    form: Callable[[Genes], np.ndarray]


def _points(projection: Projection, gamma: np.ndarray, L: np.ndarray) -> list[_Point]:
    combos = Combinations.of(projection, L)
    points = []
    for ratios in gamma:
        factor = projection.S.factor(ratios[None])
        w, quad = factor.solve(combos.random.vectors)
        form = lambda genes, factor=factor: factor.shared_forms(genes.r)[:, 0]
        points.append(_Point(w.scaled(ratios[None]), np.diag(combos.cXXic) + quad[0], form))
    return points


def _tail(beta: np.ndarray, se: np.ndarray, nu: int, alternative: Alternative, effect: float) -> np.ndarray:
    """The p-value at known ratios."""
    if alternative != "two-sided":
        return upper_tail(((beta if alternative == "greater" else -beta) - effect) / se, nu)
    size = np.abs(beta)
    if effect == 0:
        return 2 * upper_tail(size / se, nu)
    return upper_tail((size - effect) / se, nu) + upper_tail((size + effect) / se, nu)


def _t_of(p: np.ndarray, coef: np.ndarray, nu: int, alternative: Alternative) -> np.ndarray:
    """The t that has this p-value and direction."""
    with np.errstate(divide="ignore", invalid="ignore"):  # p may be 0
        if alternative == "two-sided":
            return np.copysign(quantile(np.log(p / 2), nu), coef)
        half = np.minimum(p, 1 - p)
        t = quantile(np.log(half), nu)
    up = (p < 0.5) == (alternative == "greater")
    return np.where(up, t, -t)
