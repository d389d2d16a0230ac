"""Genes whose values are far from zero: their residuals are summed in a second pass (see `_stats.refined`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from flashmm_sc._base.log import detail
from flashmm_sc._stats.refined import Refined, first_estimates, noise_of
from flashmm_sc._stream.accumulate import residual_sums

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashmm_sc._design.rows import Rows
    from flashmm_sc._results.models import Model
    from flashmm_sc._results.study import Study
    from flashmm_sc._stats.summary import SummaryStats
    from flashmm_sc._stream.sums import Sums


@dataclass(frozen=True, eq=False)
class Residuals:
    """Sums of residuals of some genes of a study, for all models.

    Attributes
    ----------
    genes
        Positions of the genes among those of the study, ascending.
    coef
        Coefficients whose fitted values are subtracted, columns of W × genes.
    sums
        Sums of what is left.
    eps
        Relative rounding of the values as they are stored.
    """

    genes: np.ndarray
    coef: np.ndarray
    sums: Sums
    eps: float

    @classmethod
    def of(cls, study: Study, models: Sequence[Model], rows: Rows, sums: Sums, **options: Any) -> Residuals | None:
        """A pass over the genes that need it in any model; None where none does, and where there are no cells."""
        if study.of_strata:
            return None
        found = []
        for i, (model, start) in enumerate(zip(models, rows.encoder.start, strict=not models[0].groups)):
            at, which = model.fixed_columns(start)
            XY = np.zeros((model.p, sums.WY.shape[1]))
            np.add.at(XY, which, sums.WY[at])
            yy = sums.yy.sum(axis=0) if model.groups else sums.yy[i]
            found.append((at, first_estimates(model.cross.XX, XY, yy)[which]))
        genes = np.flatnonzero(np.any([own.any(axis=0) for _, own in found], axis=0))
        if not genes.size:
            return None
        coef = np.zeros((len(sums.WY), len(genes)))
        for at, own in found:
            coef[at] = own[:, genes]
        detail(f"{len(genes):,} genes far from zero were summed again, less their fitted values")
        less = residual_sums(study.matrices, rows, genes, coef, describe=study.describe, **options)
        return cls(genes, coef, less, max(part.eps for part in study.matrices))

    def refining(
        self, stats: SummaryStats, model: Model, start: int, index: int, genes: np.ndarray, gene_names: list[str]
    ) -> SummaryStats:
        """Statistics of a model, of genes at these positions of the study, with what there is of their residuals."""
        at, which = model.fixed_columns(start)
        coef = np.zeros((model.p, len(self.genes)))
        coef[which] = self.coef[at]
        its = np.flatnonzero(np.isin(self.genes, genes) & coef.any(axis=0))
        if not its.size:
            return stats
        place = np.searchsorted(genes, self.genes[its])
        own = model.stats(self.sums, start, index, its, [gene_names[j] for j in self.genes])
        noise = noise_of(stats, place, coef[:, its], self.eps)
        return replace(stats, refined=Refined(place, coef[:, its], own, noise))
