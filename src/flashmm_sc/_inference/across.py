"""Contrasts across separate fits, such as a treatment's effect in one cell type minus that in another.

Estimates of fits to different cells add up, and so do their variances. At known variances each is a t, and their sum is one
with df by Welch and Satterthwaite,

    df = (Σ_g v_g)² / Σ_g (v_g² / df_g)

Of moderated fits it is known with probability ω_gk which t each estimate has, and the sum is a mixture over all
combinations of the grid points of the groups. Groups of the same donors are taken for independent here.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._inference.mixture import Mixture, mixture_tests
from flashmm_sc._inference.moderated import NEGLIGIBLE
from flashmm_sc._inference.t_tests import Alternative, TTests, t_and_p, with_intervals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashmm_sc._inference.df import Ddf
    from flashmm_sc._inference.inference import Tester

_STEP = 0.1  # width of the cells, in log variance and in se, whose components become two
_ENOUGH = 200  # components of a gene up to which they are left alone


def across_tests(
    parts: Sequence[tuple[Tester, np.ndarray]],
    *,
    ddf: Ddf | None = None,
    alternative: Alternative = "two-sided",
    effect: float = 0.0,
    conf_level: float | None = None,
    n_jobs: int | None = None,
) -> TTests:
    """Test Σ_g c_g'β_g of fits and combinations c_g (p_g); options as in `Tester.t_tests`. Arrays are genes × 1."""
    if not any(inference.mixed for inference, _ in parts):
        tests = [inference.t_tests(c[:, None], ddf=ddf, n_jobs=n_jobs) for inference, c in parts]
        coef = np.sum([test.coef for test in tests], axis=0)
        se, df = welch(np.stack([test.se for test in tests]), np.stack([test.df for test in tests]))
        t, p = t_and_p(coef, se, df, alternative, effect)
        summed = TTests(coef, se, t, df, p)
        return summed if conf_level is None else with_intervals(summed, conf_level)
    sources = [inference.mixtures(c, n_jobs) for inference, c in parts]
    sizes = sorted(size for _, _, size in sources)
    pairs = np.prod(sizes[-2:]) if len(sizes) < 3 else 2 * _ENOUGH * sizes[-1]
    return mixture_tests(
        lambda genes: reduce(added, [of(genes) for _, of, _ in sources]),
        reduce(np.intersect1d, [fitted for fitted, _, _ in sources]),
        (parts[0][0].n_genes, 1),
        int(100 * pairs),
        alternative=alternative,
        effect=effect,
        conf_level=conf_level,
        n_jobs=n_jobs,
    )


def welch(se: np.ndarray, df: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard error and df of sums of independent estimates, along the first axis."""
    variance = se**2
    total = variance.sum(axis=0)
    with np.errstate(divide="ignore"):  # df may be infinite
        return np.sqrt(total), total**2 / (variance**2 / df).sum(axis=0)


def added(one: Mixture, other: Mixture) -> Mixture:
    """The sum of independent quantities: every component of one with every of the other, at Welch's df."""
    one = merged(one)
    order = np.argsort(other.gene, kind="stable")
    counts = np.bincount(other.gene, minlength=other.m)
    repeats = counts[one.gene]
    i = np.repeat(np.arange(len(one.gene)), repeats)
    first = np.cumsum(counts) - counts
    within = np.arange(len(i)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    j = order[first[one.gene][i] + within]
    weight = one.weight[i] * other.weight[j]
    keep = weight > NEGLIGIBLE
    i, j, weight = i[keep], j[keep], weight[keep]
    nu = np.stack([np.broadcast_to(a.nu, a.se.shape)[at] for a, at in ((one, i), (other, j))])
    se, df = welch(np.stack([one.se[i], other.se[j]]), nu)
    return Mixture(one.m, one.gene[i], weight, one.beta[i] + other.beta[j], se, df, one.most + other.most)


def merged(mixture: Mixture) -> Mixture:
    """Components with nearly the same centre and variance as two, in genes that have many."""
    many = (np.bincount(mixture.gene, minlength=mixture.m) > _ENOUGH)[mixture.gene]
    if not many.any():
        return mixture
    nu = np.broadcast_to(mixture.nu, mixture.se.shape)
    parts = mixture.gene, mixture.weight, mixture.beta, mixture.se, nu
    kept, taken = ([part[those] for part in parts] for those in (~many, many))
    gene, weight, beta, se, nu = map(np.concatenate, zip(kept, _as_two(*taken), strict=True))
    return Mixture(mixture.m, gene, weight, beta, se, nu, mixture.most)


def _as_two(
    gene: np.ndarray, weight: np.ndarray, beta: np.ndarray, se: np.ndarray, nu: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Components of a gene with nearly the same centre and variance v as two.

    The two have the mean and the spread of v, their centres lie on the regression of centres on v, and what the centres
    spread about it goes into their variance.
    """
    v, beta = se[:, 0] ** 2, beta[:, 0]
    level = np.floor(np.log(v) / _STEP)
    rows, columns = (
        np.unique(x, return_inverse=True)[1] for x in (level, np.floor(beta / np.exp(level * _STEP / 2) / _STEP))
    )
    key = (gene * (rows.max() + 1) + rows) * (columns.max() + 1) + columns
    _, first, cell = np.unique(key, return_index=True, return_inverse=True)
    total = np.bincount(cell, weight)
    mean = lambda x: np.bincount(cell, weight * x) / total
    centre, variance = mean(beta), mean(v)
    apart, off = v - variance[cell], beta - centre[cell]
    spread, joint = np.sqrt(mean(apart**2)), mean(apart * off)
    slope = np.divide(joint, spread**2, out=np.zeros_like(joint), where=spread > 1e-6 * variance)
    left = mean(off**2) - slope * joint
    two = lambda x, step: np.concatenate([x - step, x + step])[:, None]
    with np.errstate(divide="ignore"):  # df may be infinite
        df = 1 / mean(1 / nu[:, 0])
    return (
        np.tile(gene[first], 2),
        np.tile(total / 2, 2),
        two(centre, slope * spread),
        np.sqrt(two(variance + left, spread)),
        two(df, 0),
    )
