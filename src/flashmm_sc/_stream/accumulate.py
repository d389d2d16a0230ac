"""One pass over the data: blocks of X and the design rows of their cells become sums."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from flashmm_sc._base.errors import named
from flashmm_sc._base.progress import progress
from flashmm_sc._base.threads import Pool, n_threads
from flashmm_sc._stream.blocks import BLOCK_BYTES, Block, blocks, is_lazy, read_ahead
from flashmm_sc._stream.sums import CellMatrix, Sums, Tally, UnusableValueError, Zeros, add_block, cell_totals, of_cells

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flashmm_sc._design.rows import Rows, StratumRows
    from flashmm_sc._stream.kernel import Transform


def accumulate(
    parts: Sequence[CellMatrix],
    rows: Rows | StratumRows,
    *,
    transform: Transform = None,
    tally: Tally | None = None,
    n_jobs: int | None = None,
    block_bytes: int = BLOCK_BYTES,
    show_progress: bool | None = False,
    describe: Callable[[int, int], str] = "row {}, column {}".format,
    new: Zeros = np.zeros,
) -> Sums:
    """Sum W'Y and y² over the cells, reading each matrix once.

    Parameters
    ----------
    parts
        Matrices with the cells of `rows`, in their order.
    rows
        Design rows of all cells.
    transform
        Applied to each value before it is used: None, "log1p" or "log2p1".
    tally
        What else to sum, of the values as they are read.
    describe
        Words for a cell and a column in an error message; for a cell where the column is -1.
    new
        Makes the arrays of the sums.

    Raises
    ------
    ValueError
        For a value that is NaN, infinite, or negative under a logarithm, and a cell whose total it can't be divided by.
    OSError
        When a matrix can't be read.
    """
    n_genes = max(int(part.gene.max(initial=-1)) + 1 for part in parts)
    tally = tally or Tally()
    sized = any(part.size is not None for part in parts)
    sums = Sums.zeros(rows.shape[1], rows.n_models, n_genes, tally, sized=sized, new=new)
    threads = n_threads(n_jobs)
    bar_of = progress("summing over cells", rows.shape[0], "cells", show_progress)
    with bar_of as bar, Pool(threads) as pool:
        for part in parts:
            try:
                with named(part.name):
                    if is_lazy(part.X):
                        from flashmm_sc._stream.dask import add_lazy  # dask is optional

                        add_lazy(part, rows, transform, tally, sums, bar.update)
                        bar.update(part.start + part.X.shape[0] - bar.n)
                        continue
                    for block in read_ahead(blocks(part.X, block_bytes, threads)):
                        bar.update(_add(block, part, rows, (transform, tally), sums, pool, threads))
            except UnusableValueError as error:  # whose cell says what part it is of
                raise ValueError(_complaint(part, error, transform, describe)) from None
    return sums


def residual_sums(parts: Sequence[CellMatrix], rows: Rows, genes: np.ndarray, coef: np.ndarray, **options: Any) -> Sums:
    """`accumulate` for y - W b in the place of y, of genes at these positions; b (columns of W × genes) are their `coef`."""
    place = np.full(max(int(part.gene.max(initial=-1)) for part in parts) + 1, -1)
    place[genes] = np.arange(len(genes))
    some = [replace(part, gene=np.where(part.gene < 0, -1, place[part.gene])) for part in parts]
    return accumulate(some, rows, tally=Tally(minus=coef), **options)


def _add(
    block: Block,
    part: CellMatrix,
    rows: Rows | StratumRows,
    what: tuple[Transform, Tally],
    sums: Sums,
    pool: Pool,
    threads: int,
) -> float:
    """Add a block with the rows of its cells; return how many cells that is, or is as good as."""
    height = block.values.shape[0]
    first = part.start + (block.start if block.by_rows else 0)
    design = rows.cut(first, first + height)
    own = slice(first - part.start, first - part.start + height)
    size, precision = (of_cells(each, own) for each in (part.size, part.precision))
    transform, tally = what
    add_block(block, design, part.gene, transform, sums, pool, threads, size=size, precision=precision, tally=tally)
    return _cells_in(block, part.X)


def _cells_in(block: Block, X: Any) -> float:
    """How many cells of a matrix a block holds, or is as good as."""
    height, width = block.values.shape
    return height if block.by_rows else height * width / X.shape[1]


def _complaint(
    part: CellMatrix, error: UnusableValueError, transform: Transform, describe: Callable[[int, int], str]
) -> str:
    where = describe(part.start + error.cell, error.column)
    if error.column < 0:
        return (
            f"The values at {where} add up to {error.value:g}, by which they can't be divided; replace or remove values that "
            "are NaN, infinite or negative first."
        )
    if not np.isfinite(error.value):
        return f"The expression matrix holds {error.value} at {where}; replace or remove such values first."
    return (
        f"The expression matrix holds the negative value {error.value:g} at {where}, of which transform={transform!r} "
        "has no logarithm; give raw counts or normalised values, or use transform=None for values already logged."
    )


def totals(X: Any, n_jobs: int | None = None, *, show_progress: bool | None = False) -> np.ndarray:
    """Sum of the values of each cell, in one pass over a matrix.

    Raises
    ------
    OSError, ValueError
        When the matrix can't be read.
    """
    if is_lazy(X):
        from flashmm_sc._stream.dask import lazy_totals  # dask is optional

        return lazy_totals(X)
    out = np.zeros(X.shape[0])
    with progress("totals of cells", X.shape[0], "cells", show_progress) as bar:
        for block in read_ahead(blocks(X, BLOCK_BYTES, n_threads(n_jobs))):
            start = block.start if block.by_rows else 0
            out[start : start + block.values.shape[0]] += cell_totals(block)
            bar.update(_cells_in(block, X))
    return out
