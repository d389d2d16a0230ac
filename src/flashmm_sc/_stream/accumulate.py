"""One pass over the data: blocks of X and the design rows of their cells become sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse as sp
from tqdm import tqdm

from flashmm_sc._base.threads import n_threads
from flashmm_sc._design.rows import Rows
from flashmm_sc._stream.blocks import BLOCK_BYTES, Block, blocks, is_lazy, read_ahead
from flashmm_sc._stream.kernel import TRANSFORMS, add_columns, add_rows, log_table


@dataclass(frozen=True, eq=False)
class Part:
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
    def of(cls, X: Any) -> Part:
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


def accumulate(
    parts: Sequence[Part],
    rows: Rows,
    *,
    transform: str | None = None,
    n_jobs: int | None = None,
    block_bytes: int = BLOCK_BYTES,
    show_progress: bool = False,
    describe: Callable[[int, int], str] = "row {}, column {}".format,
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
    describe
        Words for a cell and a column in an error message.

    Raises
    ------
    ValueError
        For a value that is NaN, infinite, or negative under a logarithm.
    OSError
        When a matrix can't be read.
    """
    n_genes = max(int(part.gene.max(initial=-1)) + 1 for part in parts)
    sums = Sums.zeros(rows.shape[1], len(rows.parts), n_genes)
    threads = n_threads(n_jobs)
    with tqdm(total=rows.shape[0], disable=not show_progress, **_BAR) as bar, ThreadPoolExecutor(threads) as pool:
        for part in parts:
            try:
                if is_lazy(part.X):
                    from flashmm_sc._stream.dask import add_lazy  # dask is optional

                    add_lazy(part, rows, transform, sums, bar.update)
                    bar.update(part.start + part.X.shape[0] - bar.n)
                    continue
                for block in read_ahead(blocks(part.X, block_bytes, threads)):
                    bar.update(_add(block, part, rows, transform, sums, pool, threads))
            except UnusableValueError as error:
                raise ValueError(_complaint(part, error, transform, describe)) from None
            except OSError as error:
                if not part.name:
                    raise
                msg = f"{part.name}: {error}"
                raise OSError(msg) from error
    return sums


_BAR: dict[str, Any] = {"desc": "summing over cells", "unit": " cells", "unit_scale": True}


def _add(
    block: Block, part: Part, rows: Rows, transform: str | None, sums: Sums, pool: ThreadPoolExecutor, threads: int
) -> float:
    """Add a block with the rows of its cells; return how many cells that is, or is as good as."""
    n, m = part.X.shape
    height, width = block.values.shape
    first = part.start + (block.start if block.by_rows else 0)
    design = rows.cut(first, first + height)
    add_block(block, design, part.gene, transform, sums, pool, threads)
    return height if block.by_rows else n * width / m


def add_block(
    block: Block,
    design: tuple[sp.csr_array, np.ndarray],
    gene: np.ndarray,
    transform: str | None,
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
    fixed = (TRANSFORMS[transform], log_table(transform), sums.WY, sums.yy)
    kernel: Callable[..., tuple[int, int]] = add_rows if block.by_rows else add_columns
    call = lambda genes: kernel(*stored, *genes, gene, number, *rows, *fixed)
    ranges = pairwise(np.linspace(0, values.shape[1], threads + 1).astype(np.int64))
    bad = [position for position in (pool.map if pool else map)(call, ranges) if position[0] >= 0]
    if bad:
        i, j = min(bad)
        value = values[[i], [j]].item()
        raise UnusableValueError(*((i + block.start, j) if block.by_rows else (i, j + block.start)), value)


def _complaint(
    part: Part, error: UnusableValueError, transform: str | None, describe: Callable[[int, int], str]
) -> str:
    where = describe(part.start + error.cell, error.column)
    if not np.isfinite(error.value):
        return f"The expression matrix holds {error.value} at {where}; replace or remove such values first."
    return (
        f"The expression matrix holds the negative value {error.value:g} at {where}, of which transform={transform!r} "
        "has no logarithm; give raw counts or normalised values, or use transform=None for values already logged."
    )
