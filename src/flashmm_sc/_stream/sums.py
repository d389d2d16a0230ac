"""Sums over cells, and how a block of a matrix is added to them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from flashmm_sc._stream.kernel import Transform, add_columns, add_rows, kind_and_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor

    import scipy.sparse as sp

    from flashmm_sc._stream.blocks import Block


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
    """

    X: Any
    gene: np.ndarray
    start: int = 0
    name: str = ""

    @classmethod
    def of(cls, X: Any) -> CellMatrix:
        """All cells and genes."""
        return cls(X, np.arange(X.shape[1]))


@dataclass(frozen=True, eq=False)
class Sums:
    """W'Y (columns of W × genes) and, per model, the sums of squares of its cells (models × genes)."""

    WY: np.ndarray
    yy: np.ndarray

    @classmethod
    def zeros(cls, width: int, n_models: int, n_genes: int) -> Sums:
        """No cells yet."""
        return cls(np.zeros((width, n_genes)), np.zeros((n_models, n_genes)))


class UnusableValueError(ValueError):
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
    pool: ThreadPoolExecutor | None = None,
    threads: int = 1,
) -> None:
    """Add a block, each thread its own range of genes.

    Parameters
    ----------
    design
        Design rows of the cells of the block, and the numbers of their models.
    gene
        Position of each column of the whole matrix in the sums, or -1.

    Raises
    ------
    UnusableValueError
        For the first value that can't be used.
    """
    values, (W, number) = block.values, design
    stored = (values.indptr.astype(np.int64), values.indices.astype(np.int32, copy=False), values.data)
    rows = (W.indptr.astype(np.int64), W.indices.astype(np.int32, copy=False), W.data)
    gene = gene if block.by_rows else gene[block.start : block.start + values.shape[1]]
    fixed = (*kind_and_table(transform), sums.WY, sums.yy)
    kernel: Callable[..., tuple[int, int]] = add_rows if block.by_rows else add_columns
    call = lambda genes: kernel(*stored, *genes, gene, number, *rows, *fixed)
    ranges = pairwise(np.linspace(0, values.shape[1], threads + 1).astype(np.int64))
    bad = [position for position in (pool.map if pool else map)(call, ranges) if position[0] >= 0]
    if bad:
        i, j = min(bad)
        value = values[[i], [j]].item()
        raise UnusableValueError(*((i + block.start, j) if block.by_rows else (i, j + block.start)), value)
