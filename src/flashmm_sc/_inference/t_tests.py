"""From estimates to t tests of linear combinations of coefficients.

All of it follows from what the genes share (`Projection`) and each gene's coefficients and variance components, so a
test of a stored result needs no second look at the cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from scipy.special import stdtrit

from flashmm_sc._base.threads import for_gene_blocks
from flashmm_sc._inference.df import Combinations, Ddf, capped, kenward_roger_variance, satterthwaite, variances
from flashmm_sc._inference.tails import upper_tail

if TYPE_CHECKING:
    from flashmm_sc._gaussian.estimate import Estimates
    from flashmm_sc._gaussian.projection import Projection

Alternative: TypeAlias = Literal["two-sided", "less", "greater"]


@dataclass(frozen=True, eq=False)
class TTests:
    """Tests of r linear combinations in m genes; every array is m × r."""

    coef: np.ndarray
    se: np.ndarray
    t: np.ndarray
    df: np.ndarray
    p: np.ndarray


@dataclass(frozen=True, eq=False)
class Intervals(TTests):
    """Tests with confidence intervals, m × r."""

    ci_low: np.ndarray
    ci_high: np.ndarray


def with_intervals(tests: TTests, level: float) -> Intervals:
    """Add the intervals coef ± t se."""
    half = stdtrit(tests.df, (1 + level) / 2) * tests.se
    return Intervals(**vars(tests), ci_low=tests.coef - half, ci_high=tests.coef + half)


def t_tests(
    projection: Projection,
    estimates: Estimates,
    L: np.ndarray,
    *,
    ddf: Ddf = "residual",
    alternative: Alternative = "two-sided",
    effect: float = 0.0,
    n_jobs: int | None = None,
) -> TTests:
    """Test the combinations c'β for the columns c of L (p × r) in every gene.

    `ddf` as in `df`. The null hypothesis is |c'β| <= effect, or c'β <= effect ("greater"), c'β >= -effect ("less").
    """
    m, r = len(estimates.coef), L.shape[1]
    out = TTests(estimates.coef @ L, *(np.full((m, r), np.nan) for _ in range(4)))
    combos = Combinations.of(projection, L)
    fitted = estimates.fitted

    def work(part: slice) -> None:
        genes = fitted[part]
        theta = estimates.theta[genes]
        factor, variance, gradient = variances(projection, theta, combos)
        if ddf == "residual":
            df = np.full_like(variance, projection.n - projection.p)
        elif ddf == "satterthwaite":
            df = capped(satterthwaite(variance, gradient, estimates.theta_cov[genes]), theta, combos.cap)
        else:
            adjusted, theta_cov = kenward_roger_variance(projection, theta, factor, combos, variance)
            df = capped(satterthwaite(variance, gradient, theta_cov), theta, combos.cap)
            df, variance = np.where(np.isnan(adjusted), np.nan, df), adjusted  # containment's may be there nevertheless
        se = np.sqrt(np.where(variance > 0, variance, np.nan))
        out.se[genes], out.df[genes] = se, df
        out.t[genes], out.p[genes] = t_and_p(out.coef[genes], se, df, alternative, effect)

    gene_bytes = projection.S.gene_bytes(r, solved=ddf == "kenward-roger")
    for_gene_blocks(work, len(fitted), gene_bytes, n_jobs)
    return out


def t_and_p(
    coef: np.ndarray, se: np.ndarray, df: np.ndarray, alternative: Alternative, effect: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """t-values and p-values; with an effect the treat test (McCarthy & Smyth, Bioinformatics 2009)."""
    if effect == 0:
        t = coef / se
        return t, 2 * upper_tail(np.abs(t), df) if alternative == "two-sided" else _one_sided(t, df, alternative)
    if alternative == "two-sided":
        size = np.abs(coef)
        near, far = (size - effect) / se, (size + effect) / se
        p = _one_sided(near, df, "greater") + _one_sided(far, df, "greater")
        return np.sign(coef) * np.maximum(near, 0.0), np.minimum(p, 1.0)
    t = (coef - effect if alternative == "greater" else coef + effect) / se
    return t, _one_sided(t, df, alternative)


def _one_sided(t: np.ndarray, df: np.ndarray, alternative: Alternative) -> np.ndarray:
    return upper_tail(t if alternative == "greater" else -t, df)
