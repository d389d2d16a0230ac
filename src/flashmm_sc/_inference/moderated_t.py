"""Moderated t tests: averaged over the posterior of the variance ratios.

At a given γ, (c'β̂ - c'β) / se is exactly t with ν = n - p df. With the posterior ω of the ratios on a grid,

    p = Σ_k ω_k P(|T_ν| > |c'β̂_k| / se_k),    coef = Σ_k ω_k c'β̂_k,    se² = Σ_k ω_k (se_k² + (c'β̂_k - coef)²)

and t is the t_ν quantile that has this p and the sign of coef (coef / se where p is below all floating-point numbers).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.threads import for_gene_blocks
from flashmm_sc._inference.moderated import NEGLIGIBLE, grid_points
from flashmm_sc._inference.t_tests import Alternative, Intervals, TTests
from flashmm_sc._inference.tails import quantile, upper_tail

if TYPE_CHECKING:
    from flashmm_sc._gaussian.projection import Projection
    from flashmm_sc._inference.moderated import Moderated


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
    points, fitted = grid_points(projection, moderated, L), moderated.fitted

    def work(part: slice) -> None:
        index = fitted[part]
        some, weights = genes[index], moderated.weights[index]
        coef, second, p = np.zeros((3, len(index), r))
        for k, point in enumerate(points):
            use = np.flatnonzero(weights[:, k] > NEGLIGIBLE)
            w, at = weights[use, k, None], some[use]
            beta, s0 = point.estimates(at)
            se = np.sqrt(s0 * np.diag(point.cov))
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
    points, fitted = grid_points(projection, moderated, L), moderated.fitted
    ends = [np.full(tests.coef.shape, np.nan) for _ in range(2)]

    def work(part: slice) -> None:
        index = fitted[part]
        at, weights = moderated.genes[index], moderated.weights[index, :, None]
        beta, s0 = (np.stack(parts, axis=1) for parts in zip(*(point.estimates(at) for point in points), strict=True))
        se = np.sqrt(s0 * np.stack([np.diag(point.cov) for point in points]))
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
