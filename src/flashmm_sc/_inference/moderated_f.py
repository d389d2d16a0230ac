"""Moderated F tests: averaged over the posterior of the variance ratios.

At a given γ, with V = L'cov(β̂)L, which is s_0 times a matrix that all genes share,

    F = β̂'L V⁻¹ L'β̂ / r

is exactly F with (r, ν = n - p) df under L'β = 0, so that p = Σ_k ω_k P(F_rν > F_k) over the posterior ω on a grid. The
F reported is the F_rν quantile that has this p (Σ_k ω_k F_k where p is below all floating-point numbers).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.threads import for_gene_blocks
from flashmm_sc._inference.f_tests import FTests
from flashmm_sc._inference.moderated import NEGLIGIBLE, grid_points
from flashmm_sc._inference.tails import f_quantile, f_upper_tail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashmm_sc._gaussian.projection import Projection
    from flashmm_sc._inference.moderated import Moderated


def moderated_f_tests(
    projection: Projection, moderated: Moderated, hypotheses: Sequence[np.ndarray], *, n_jobs: int | None = None
) -> FTests:
    """Test L'β = 0 in every gene for each hypothesis L (p × r, independent columns)."""
    m, nu, ranks = len(moderated.weights), projection.n - projection.p, [L.shape[1] for L in hypotheses]
    F, p = np.full((2, m, len(ranks)), np.nan)
    ends = np.cumsum(ranks)
    columns = [slice(end - r, end) for end, r in zip(ends, ranks, strict=True)]
    points, fitted = grid_points(projection, moderated, np.hstack(hypotheses)), moderated.fitted
    whiteners = [[_whitener(point.cov[own, own]) for own in columns] for point in points]

    def work(part: slice) -> None:
        index = fitted[part]
        genes, weights = moderated.genes[index], moderated.weights[index]
        mean_p, mean_F = np.zeros((2, len(index), len(ranks)))
        for k, (point, whitener) in enumerate(zip(points, whiteners, strict=True)):
            use = np.flatnonzero(weights[:, k] > NEGLIGIBLE)
            beta, s0 = point.estimates(genes[use])
            f = np.column_stack(
                [((beta[:, own] @ W) ** 2).mean(axis=1) for own, W in zip(columns, whitener, strict=True)]
            )
            f /= s0
            mean_F[use] += weights[use, k, None] * f
            for j, r in enumerate(ranks):
                mean_p[use, j] += weights[use, k] * f_upper_tail(f[:, j], r, nu)
        p[index] = mean_p = np.minimum(mean_p, 1.0)
        for j, r in enumerate(ranks):
            F[index, j] = np.where(mean_p[:, j] > 0, f_quantile(mean_p[:, j], r, nu), mean_F[:, j])

    for_gene_blocks(work, len(fitted), projection.S.gene_bytes(4 * ends[-1]), n_jobs)
    return FTests(F, np.tile(np.array(ranks, float), (m, 1)), np.where(np.isnan(p), np.nan, float(nu)), p)


def _whitener(V: np.ndarray) -> np.ndarray:
    """W with V⁻¹ = W W'."""
    return np.linalg.inv(np.linalg.cholesky(V)).T
