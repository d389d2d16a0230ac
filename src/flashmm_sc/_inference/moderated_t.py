"""Moderated t tests: averaged over the posterior of the variance ratios.

At a given γ, (c'β̂ - c'β) / se is exactly t with ν = n - p df. With the posterior ω of the ratios on a grid,

    p = Σ_k ω_k P(|T_ν| > |c'β̂_k| / se_k),    coef = Σ_k ω_k c'β̂_k,    se² = Σ_k ω_k (se_k² + (c'β̂_k - coef)²)

This mixture is summed up by the t that has its p: df are those with which coef / se has the two-sided p, at most ν. Where
no df do, since a mixture has more of its mass near its centre than any t (most p > 0.05), df = ν and se gives way, so
that t = coef / se and p = P(|T_df| > |t|) always hold; but not below `_LEAST` of itself, as it would have to for effects
near zero whose p is below 1 only since the c'β̂_k have either sign.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.threads import for_gene_blocks
from flashmm_sc._inference.moderated import NEGLIGIBLE, grid_points
from flashmm_sc._inference.t_tests import Alternative, Intervals, TTests
from flashmm_sc._inference.tails import df_of_tail, quantile, upper_tail

if TYPE_CHECKING:
    from flashmm_sc._gaussian.projection import Projection
    from flashmm_sc._inference.moderated import Moderated

_LEAST = 0.8
_TINY = np.nextafter(0, 1)


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
    nu, r, other = projection.n - projection.p, L.shape[1], alternative != "two-sided" or effect != 0
    out = TTests(*(np.full((len(moderated.weights), r), np.nan) for _ in range(5)))
    points, fitted = grid_points(projection, moderated, L), moderated.fitted

    def work(part: slice) -> None:
        index = fitted[part]
        genes, weights = moderated.genes[index], moderated.weights[index]
        centre = genes.b @ L  # of little difference to the c'β̂_k, so that squares don't cancel
        mean, square, p, p_other = np.zeros((4, len(index), r))
        for k, point in enumerate(points):
            use = np.flatnonzero(weights[:, k] > NEGLIGIBLE)
            w = weights[use, k, None]
            beta, s0 = point.estimates(genes[use])
            se = np.sqrt(s0 * np.diag(point.cov))
            mean[use] += w * (beta - centre[use])
            square[use] += w * (se**2 + (beta - centre[use]) ** 2)
            p[use] += w * tail(beta, se, nu)
            if other:
                p_other[use] += w * tail(beta, se, nu, alternative, effect)
        p, p_other = np.minimum(p, 1.0), np.minimum(p_other, 1.0)
        coef = centre + mean
        t, se, df = summed_up(p, coef, np.sqrt(square - mean**2), nu)
        if other:
            p, t = p_other, t_of(p_other, coef, df, alternative)
        for array, values in zip(vars(out).values(), (coef, se, t, df, p), strict=True):
            array[index] = values

    for_gene_blocks(work, len(fitted), projection.S.gene_bytes(4 * r), n_jobs)
    return out


def summed_up(p: np.ndarray, coef: np.ndarray, se: np.ndarray, most: np.ndarray | float) -> tuple[np.ndarray, ...]:
    """t, se and df of a mixture with this two-sided p, mean and standard deviation; df are at most `most`."""
    log_p = np.log(np.maximum(p, _TINY)) - np.log(2)
    df = df_of_tail(np.abs(coef) / se, log_p, most)
    t = np.copysign(quantile(log_p, df), coef)
    with np.errstate(divide="ignore", invalid="ignore"):  # t may be 0
        se = np.clip(np.nan_to_num(coef / t, nan=np.inf), _LEAST * se, se / _LEAST)
    return coef / se, se, df


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


def tail(
    beta: np.ndarray,
    se: np.ndarray,
    nu: np.ndarray | float,
    alternative: Alternative = "two-sided",
    effect: float = 0.0,
) -> np.ndarray:
    """The p-value at known ratios."""
    if alternative != "two-sided":
        return upper_tail(((beta if alternative == "greater" else -beta) - effect) / se, nu)
    size = np.abs(beta)
    if effect == 0:
        return 2 * upper_tail(size / se, nu)
    return upper_tail((size - effect) / se, nu) + upper_tail((size + effect) / se, nu)


def t_of(p: np.ndarray, coef: np.ndarray, df: np.ndarray, alternative: Alternative) -> np.ndarray:
    """The t that has this p-value and direction."""
    half = p / 2 if alternative == "two-sided" else np.minimum(p, 1 - p)
    t = quantile(np.log(np.maximum(half, _TINY)), df)
    if alternative == "two-sided":
        return np.copysign(t, coef)
    return np.where((p < 0.5) == (alternative == "greater"), t, -t)
