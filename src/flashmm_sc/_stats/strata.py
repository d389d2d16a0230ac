"""Sums of strata of cells, such as those of one donor and cell type: what outlives any formula that is constant in them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from flashmm_sc._stream.sums import Sums


@dataclass(frozen=True, eq=False)
class Strata:
    """Sums over the cells of each stratum, in double precision; u is a value as it is read, v = u or its transform.

    With weights w of the cells all sums over v and u / s are weighted, those of u, and numbers of cells, are not.

    Attributes
    ----------
    n
        Number of cells, of each stratum.
    sums, squares
        Σ v and Σ v², strata × genes.
    expressed
        Number of cells with u ≠ 0, strata × genes.
    counts
        Σ u, strata × genes; `sums` itself where nothing is transformed or weighted.
    size, size_sq
        Σ s and Σ s² of the cells' size factors s, of each stratum; None without size factors.
    size_sum
        Σ s u, strata × genes, where size factors weigh counts; else None.
    ratios
        Σ u / s, strata × genes, where values were divided by size factors before their logarithm; else None.
    weight_sum, log_weight_sum
        Σ w and Σ log w, of each stratum; None without weights.
    """

    n: np.ndarray
    sums: np.ndarray
    squares: np.ndarray
    expressed: np.ndarray
    counts: np.ndarray
    size: np.ndarray | None = None
    size_sq: np.ndarray | None = None
    size_sum: np.ndarray | None = None
    ratios: np.ndarray | None = None
    weight_sum: np.ndarray | None = None
    log_weight_sum: np.ndarray | None = None

    @classmethod
    def of(cls, n: np.ndarray, sums: Sums, *, apart: bool, weigh: bool, **weights: np.ndarray) -> Strata:
        """From the sums of a pass over the cells, of which there are n in each stratum; and of their weights.

        `apart` says whether values as they are read have sums of their own.
        """
        sized = sums.sizes.size > 0
        return cls(
            n=np.asarray(n, dtype=np.float64),
            sums=sums.total,
            squares=sums.yy,
            expressed=sums.seen,
            counts=sums.counts if apart else sums.total,
            size=sums.sizes[:, 0] if sized else None,
            size_sq=sums.sizes[:, 1] if sized else None,
            size_sum=sums.weighted if sized and weigh else None,
            ratios=sums.weighted if sized and not weigh else None,
            **weights,
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Strata × genes."""
        n_strata, n_genes = self.sums.shape
        return n_strata, n_genes

    def select(self, rows: np.ndarray | slice = slice(None), genes: np.ndarray | slice = slice(None)) -> Strata:
        """The sums of some strata, and of some genes; what is kept whole is not copied."""
        return self._each(lambda array: array[rows] if array.ndim == 1 else array[rows][:, genes])

    def _each(self, change: Any) -> Strata:
        changed: dict[int, np.ndarray] = {}  # one array may have two names
        values: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(self)}
        for array in values.values():
            if array is not None and id(array) not in changed:
                changed[id(array)] = change(array)
        new: dict[str, Any] = {name: None if array is None else changed[id(array)] for name, array in values.items()}
        return Strata(**new)
