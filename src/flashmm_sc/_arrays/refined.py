"""Statistics with sums of residuals of the genes that need them, from a second pass over these."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from flashmm_sc._stats.refined import Refined, first_estimates, noise_of
from flashmm_sc._stream.accumulate import residual_sums

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashmm_sc._design.rows import Rows
    from flashmm_sc._stats.summary import SummaryStats
    from flashmm_sc._stream.sums import CellMatrix


def refined(stats: SummaryStats, parts: Sequence[CellMatrix], rows: Rows, **options: Any) -> SummaryStats:
    """The statistics, made from these matrices and design rows; `options` are those of the pass."""
    p, coef = len(stats.XX), first_estimates(stats.XX, stats.XY, stats.yy)
    genes = np.flatnonzero(coef.any(axis=0))
    if not genes.size:
        return stats
    coef = np.vstack([coef[:, genes], np.zeros((rows.shape[1] - p, len(genes)))])
    sums = residual_sums(parts, rows, genes, coef, **options)
    noise = noise_of(stats, genes, coef[:p], max(part.eps for part in parts))
    return replace(stats, refined=Refined.of(stats, genes, coef[:p], noise, (sums.WY[:p], sums.WY[p:], sums.yy[0])))
