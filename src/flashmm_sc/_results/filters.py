"""Which genes of which groups are fitted, by how many of a group's cells express them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.options import check_number, check_whole

if TYPE_CHECKING:
    from flashmm_sc._results.models import Model
    from flashmm_sc._stream.sums import Sums


@dataclass(frozen=True)
class Filter:
    """What a group and a gene in it need to be fitted.

    Attributes
    ----------
    min_cells
        Cells of a group.
    min_fraction
        Share of the group's cells in which the gene's value isn't zero.
    min_counts
        Sum of the gene's values, as they are read, over the group's cells.
    """

    min_cells: int = 10
    min_fraction: float = 0.0
    min_counts: float = 0.0

    def __post_init__(self) -> None:
        check_whole("min_cells", self.min_cells, 0)
        check_number(
            "min_fraction", self.min_fraction, 0.0, 1.0, "It is a share of the cells of a group, such as 0.05."
        )
        check_number("min_counts", self.min_counts, 0.0, hint="It is a sum of counts over the cells of a group.")

    @property
    def of_genes(self) -> bool:
        """Whether any gene can be left out."""
        return self.min_fraction > 0 or self.min_counts > 0

    def passing(self, sums: Sums, index: int, model: Model) -> np.ndarray:
        """Positions of the genes to fit in the model whose rows these are of the sums."""
        if not self.of_genes:
            return np.arange(sums.yy.shape[1])
        enough = sums.seen[index] / model.n >= self.min_fraction
        return np.flatnonzero(enough & (sums.counts[index] >= self.min_counts))
