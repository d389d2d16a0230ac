"""Moderated t tests: averaged over the posterior of the variance ratios.

At a given γ, (c'β̂ - c'β) / se is exactly t with ν = n - p df, so that what is known of c'β is a `Mixture`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._inference.mixture import Mixture, mixture_tests
from flashmm_sc._inference.moderated import NEGLIGIBLE, Point, grid_points

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashmm_sc._gaussian.genes import Genes
    from flashmm_sc._gaussian.projection import Projection
    from flashmm_sc._inference.moderated import Moderated
    from flashmm_sc._inference.t_tests import Alternative, TTests


def moderated_tests(
    projection: Projection,
    moderated: Moderated,
    L: np.ndarray,
    *,
    alternative: Alternative,
    effect: float,
    conf_level: float | None,
    n_jobs: int | None,
) -> TTests:
    """Test the combinations c'β for the columns c of L (p × r) in every gene; options as in `t_tests`."""
    m, r, nu = len(moderated.weights), L.shape[1], projection.n - projection.p
    points, fitted = grid_points(projection, moderated, L), moderated.fitted
    per_gene = np.count_nonzero(moderated.weights[fitted] > NEGLIGIBLE) // max(len(fitted), 1) + 1
    return mixture_tests(
        lambda genes: mixture_of(points, moderated.genes[genes], moderated.weights[genes], nu),
        fitted,
        (m, r),
        projection.S.gene_bytes(4 * r) + 64 * per_gene * r,
        alternative=alternative,
        effect=effect,
        conf_level=conf_level,
        n_jobs=n_jobs,
    )


def mixture_of(points: Sequence[Point], genes: Genes, weights: np.ndarray, nu: int) -> Mixture:
    """What the points of a grid and their posterior probabilities (m × G) say of r combinations in m genes."""
    uses = [np.flatnonzero(column > NEGLIGIBLE) for column in weights.T]
    estimates = [point.estimates(genes[use]) for point, use in zip(points, uses, strict=True)]
    beta = np.concatenate([coef for coef, _ in estimates])
    se = np.concatenate([np.sqrt(s0 * np.diag(point.cov)) for (_, s0), point in zip(estimates, points, strict=True)])
    weight = np.concatenate([weights[use, k] for k, use in enumerate(uses)])
    return Mixture(len(weights), np.concatenate(uses), weight, beta, se, nu, nu)
