"""Moderated t tests: averaged over the posterior of the variance ratios.

At a given γ, (c'β̂ - c'β) / se is exactly t with ν = n - p df, so that what is known of c'β is a `Mixture`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.threads import for_gene_blocks
from flashmm_sc._inference.mixture import Mixture
from flashmm_sc._inference.moderated import NEGLIGIBLE, Point, grid_points
from flashmm_sc._inference.t_tests import Alternative, Intervals, TTests

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashmm_sc._gaussian.genes import Genes
    from flashmm_sc._gaussian.projection import Projection
    from flashmm_sc._inference.moderated import Moderated


def moderated_tests(
    projection: Projection,
    moderated: Moderated,
    L: np.ndarray,
    *,
    alternative: Alternative = "two-sided",
    effect: float = 0.0,
    conf_level: float | None = None,
    n_jobs: int | None = None,
) -> TTests:
    """Test the combinations c'β for the columns c of L (p × r) in every gene; options as in `t_tests`."""
    m, r, nu = len(moderated.weights), L.shape[1], projection.n - projection.p
    points, fitted = grid_points(projection, moderated, L), moderated.fitted
    kind, names = (TTests, 5) if conf_level is None else (Intervals, 7)
    out = kind(*(np.full((m, r), np.nan) for _ in range(names)))

    def work(part: slice) -> None:
        index = fitted[part]
        mixture = mixture_of(points, moderated.genes[index], moderated.weights[index], nu)
        tests = mixture.tests(alternative, effect)
        if conf_level is not None:
            tests = mixture.intervals(tests, conf_level)
        for name, values in vars(tests).items():
            getattr(out, name)[index] = values

    per_gene = np.count_nonzero(moderated.weights[fitted] > NEGLIGIBLE) // max(len(fitted), 1) + 1
    for_gene_blocks(work, len(fitted), projection.S.gene_bytes(4 * r) + 64 * per_gene * r, n_jobs)
    return out


def mixture_of(points: Sequence[Point], genes: Genes, weights: np.ndarray, nu: int) -> Mixture:
    """What the points of a grid and their posterior probabilities (m × G) say of r combinations in m genes."""
    uses = [np.flatnonzero(column > NEGLIGIBLE) for column in weights.T]
    estimates = [point.estimates(genes[use]) for point, use in zip(points, uses, strict=True)]
    beta = np.concatenate([coef for coef, _ in estimates])
    se = np.concatenate([np.sqrt(s0 * np.diag(point.cov)) for (_, s0), point in zip(estimates, points, strict=True)])
    weight = np.concatenate([weights[use, k] for k, use in enumerate(uses)])
    return Mixture(len(weights), np.concatenate(uses), weight, beta, se, nu, nu)
