"""Sums over cells, and how a block of a matrix is added to them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from flashmm_sc._stream.kernel import Transform, add_columns, add_rows, kind_and_table, row_totals
from flashmm_sc._stream.residuals import add_residuals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

    import scipy.sparse as sp

    from flashmm_sc._stream.blocks import Block


Zeros: TypeAlias = "Callable[[tuple[int, int]], np.ndarray]"
"""Makes an array of zeros."""


@dataclass(frozen=True, eq=False)
class CellMatrix:
    """A matrix with some of the cells.

    Attributes
    ----------
    X
        Expression, cells × columns, any container that `blocks` knows.
    gene
        Position of each column of X in the result; columns with -1 are left out.
    start
        Number of the first cell.
    name
        What messages call it, where there are several.
    size
        What the values of each cell are divided by before the logarithm: its size factor, or where this is a number, its
        total over this number, as the cell is read (in row-major containers only); None for values as they are.
    precision
        What each cell counts in sums: its weight; None where all count alike.
    """

    X: Any
    gene: np.ndarray
    start: int = 0
    name: str = ""
    size: np.ndarray | float | None = None
    precision: np.ndarray | None = None

    @classmethod
    def of(cls, X: Any) -> CellMatrix:
        """All cells and genes."""
        return cls(X, np.arange(X.shape[1]))

    @property
    def eps(self) -> float:
        """Relative rounding of the values as they are stored."""
        dtype = np.dtype(getattr(self.X, "dtype", np.float64))
        return float(np.finfo(dtype).eps) if dtype.kind == "f" else 0.0


@dataclass(frozen=True, eq=False)
class Tally:
    """What to sum of the values as they are read, before any logarithm.

    Attributes
    ----------
    expressed
        Whether to count the cells of each model that express a gene.
    counts
        Whether to add up the values of each model as they are read.
    linear
        Columns of W to sum them with, divided by size factors.
    strata
        Whether models are strata, of which the sums of values are wanted, and with size factors those of values over them.
    weigh
        Whether size factors weigh the values of strata, and divide none.
    minus
        Coefficients b of each gene, columns of W × genes: W'Y and y'y are then of Y - W b, and nothing else is summed.
    """

    expressed: bool = False
    counts: bool = False
    linear: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    strata: bool = False
    weigh: bool = False
    minus: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over cells.

    Attributes
    ----------
    WY
        W'Y, columns of W × genes.
    yy
        Per model the sums of squares of its cells, models × genes.
    seen, counts
        Cells of each model that express a gene, and the sums of their values as read; without models if not asked for.
        Precisions play no part in these two.
    WC
        W'C of the columns asked for, where C are the values over size factors, before the logarithm.
    total
        Sums of the values, strata × genes; without strata if not asked for, as the others.
    weighted
        Sums of the values as read, over size factors or times them.
    sizes
        Sums of the size factors, and of their squares, strata × 2.
    """

    WY: np.ndarray
    yy: np.ndarray
    seen: np.ndarray
    counts: np.ndarray
    WC: np.ndarray
    total: np.ndarray
    weighted: np.ndarray
    sizes: np.ndarray

    @classmethod
    def zeros(
        cls,
        width: int,
        n_models: int,
        n_genes: int,
        tally: Tally | None = None,
        *,
        sized: bool = False,
        new: Zeros = np.zeros,
    ) -> Sums:
        """No cells yet; `sized` says whether they have size factors, `new` makes arrays."""
        tally = tally or Tally()
        weighted = tally.strata and sized
        asked = {"seen": tally.expressed or weighted, "counts": tally.counts, "total": tally.strata}
        asked |= {"weighted": weighted, "sizes": weighted}
        return cls._zeros(new, asked, width, n_models, n_genes, len(tally.linear))

    @classmethod
    def zeros_for(cls, several: Sequence[Sums], *lengths: int) -> Sums:
        """Zeros of so many columns, models, genes and linear columns, to which several sums can be added."""
        asked = {one.name: any(len(getattr(sums, one.name)) for sums in several) for one in fields(cls)}
        return cls._zeros(np.zeros, asked, *lengths)

    @classmethod
    def _zeros(cls, new: Zeros, asked: dict[str, bool], *lengths: int) -> Sums:
        columns, models, genes, linear = lengths
        heights = {"WY": columns, "WC": linear}
        shape = lambda name: (
            heights.get(name, models if asked.get(name, True) else 0),
            2 if name == "sizes" else genes,
        )
        return cls(**{one.name: new(shape(one.name)) for one in fields(cls)})

    def add(self, other: Sums, columns: np.ndarray, models: np.ndarray, genes: np.ndarray, linear: np.ndarray) -> None:
        """Add sums of some columns, models, genes and linear columns, whose positions here these are."""
        rows = {"WY": columns, "WC": linear}
        for name, more in vars(other).items():
            if more.size:
                getattr(self, name)[np.ix_(rows.get(name, models), np.arange(2) if name == "sizes" else genes)] += more


class UnusableValueError(Exception):
    """A stored value that can't be summed: its cell, column and itself."""

    def __init__(self, cell: int, column: int, value: float) -> None:
        super().__init__(cell, column, value)
        self.cell, self.column, self.value = cell, column, value


def add_block(
    block: Block,
    design: tuple[sp.csr_array, np.ndarray],
    gene: np.ndarray,
    transform: Transform,
    sums: Sums,
    pool: Executor | None = None,
    threads: int = 1,
    *,
    size: np.ndarray | float | None = None,
    precision: np.ndarray | None = None,
    tally: Tally | None = None,
) -> None:
    """Add a block, each thread its own range of genes.

    Parameters
    ----------
    design
        Design rows of the cells of the block, and the numbers of their models.
    gene
        Position of each column of the whole matrix in the sums, or -1.
    size, precision
        As in `CellMatrix`, of the cells of the block.
    tally
        What is summed beside.

    Raises
    ------
    UnusableValueError
        For the first value that can't be used.
    """
    values, (W, number) = block.values, design
    stored = (values.indptr.astype(np.int64), values.indices.astype(np.int32, copy=False), values.data)
    rows = (W.indptr.astype(np.int64), W.indices.astype(np.int32, copy=False), W.data)
    gene = gene if block.by_rows else gene[block.start : block.start + values.shape[1]]
    tally = tally or Tally()
    place = np.full(W.shape[1], -1)
    place[tally.linear] = np.arange(len(tally.linear))
    if size is not None and not isinstance(size, np.ndarray):
        size = _sizes(block.start, cell_totals(block, pool, threads), size, number, tally.weigh)
    sizes, precisions = (np.require([] if one is None else one, float, ["C", "W"]) for one in (size, precision))
    if tally.minus is not None:
        add_residuals(values, design, gene, transform, tally.minus, (sizes, precisions), (sums.WY, sums.yy))
        return
    weight = np.empty(0)
    order = np.flatnonzero(number >= 0)
    if tally.strata:
        order = order[np.argsort(number[order], kind="stable")]  # so that the sums of a stratum stay at hand
    if sums.sizes.size:
        weight = sizes if tally.weigh else 1 / sizes
        if block.by_rows or block.start == 0:
            np.add.at(sums.sizes, number[order], np.column_stack([sizes, sizes**2])[order])
    fixed = (*kind_and_table(transform), np.empty(0) if tally.weigh else sizes, place, weight, precisions)
    sums_of = sums.WY, sums.yy, sums.seen, sums.counts, sums.WC, sums.total, sums.weighted
    kernel: Callable[..., tuple[int, int]] = add_rows if block.by_rows else add_columns
    ranges = list(pairwise(np.linspace(0, values.shape[1], threads + 1).astype(np.int64)))

    def bad(order: np.ndarray) -> list[tuple[int, int]]:
        call = lambda genes: kernel(*stored, *genes, gene, number, order, *rows, *fixed, *sums_of)
        return [position for position in (pool.map if pool else map)(call, ranges) if position[0] >= 0]

    if found := bad(order):
        i, j = min(bad(np.sort(order)) if tally.strata else found)  # the first cell, of whatever stratum
        value = values[[i], [j]].item()
        raise UnusableValueError(*((i + block.start, j) if block.by_rows else (i, j + block.start)), value)


def _sizes(start: int, totals: np.ndarray, target: float, number: np.ndarray, weigh: bool) -> np.ndarray:
    """Totals over the target of the cells from `start` on; those of cells of no model may be anything.

    A cell without counts has the size factor 1, as there is nothing to divide, or no weight.
    """
    if (bad := np.flatnonzero((number >= 0) & ~((totals >= 0) & np.isfinite(totals)))).size:
        raise UnusableValueError(bad[0] + start, -1, totals[bad[0]])
    return np.where(totals > 0, totals, 0.0 if weigh else target) / target


def of_cells(each: Any, own: slice) -> Any:
    """Those of some cells, where there is one a cell."""
    return each[own] if isinstance(each, np.ndarray) else each


def cell_totals(block: Block, pool: Executor | None = None, threads: int = 1) -> np.ndarray:
    """Sum of the values of each cell in a block, in double precision."""
    matrix = block.values
    if not block.by_rows:
        return matrix @ np.ones(matrix.shape[1])
    totals = np.empty(matrix.shape[0])
    cells = pairwise(np.linspace(0, len(totals), threads + 1).astype(np.int64))
    list((pool.map if pool else map)(lambda its: row_totals(matrix.indptr, matrix.data, *its, totals), cells))
    return totals
