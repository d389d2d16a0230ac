"""One pass over the data: blocks of X and the design rows of their cells become sums."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse as sp
from tqdm import tqdm

from flashmm_sc._blocks import BLOCK_BYTES, Block, blocks
from flashmm_sc._kernel import TRANSFORMS, add_columns, add_rows, log_table
from flashmm_sc._parallel import n_threads


@dataclass(frozen=True)
class Sums:
    """W'Y (columns of W × genes) and, per group of cells, the sums of squares (groups × genes)."""

    WY: np.ndarray
    yy: np.ndarray


def accumulate(
    X: Any,
    W: sp.csr_array,
    *,
    group: np.ndarray | None = None,
    gene: np.ndarray | None = None,
    transform: str | None = None,
    n_jobs: int | None = None,
    block_bytes: int = BLOCK_BYTES,
    show_progress: bool = False,
    describe: Callable[[int, int], str] = "row {}, column {}".format,
) -> Sums:
    """Sum W'Y and y² over the cells, reading X once.

    Parameters
    ----------
    X
        Expression, cells × genes, any container that `blocks` knows.
    W
        Design rows of all cells (cells × columns): fixed and random, of all groups side by side.
    group
        Group of each cell (0, 1, ...); cells with -1 are left out. By default one group.
    gene
        Position of each column of X in the result; columns with -1 are left out. By default all, in order.
    transform
        Applied to each value before it is used: None, "log1p" or "log2p1".
    describe
        Words for a (cell, gene) position in an error message.

    Raises
    ------
    ValueError
        For a value that is NaN, infinite, or negative under a logarithm.
    """
    n, n_columns = X.shape
    group = np.zeros(n, np.int32) if group is None else group.astype(np.int32)
    gene = np.arange(n_columns) if gene is None else gene
    W = sp.csr_array(W)
    design = (W.indptr.astype(np.int64), W.indices.astype(np.int32), W.data.astype(np.float64))
    fixed = (TRANSFORMS[transform], log_table(transform))
    n_genes = int(gene.max(initial=-1)) + 1
    sums = Sums(np.zeros((W.shape[1], n_genes)), np.zeros((int(group.max(initial=0)) + 1, n_genes)))
    threads = n_threads(n_jobs)
    with ThreadPoolExecutor(threads) as pool, tqdm(total=n * n_columns, disable=not show_progress, **_BAR) as bar:
        for block in blocks(X, block_bytes):
            bad = _add(block, group, gene, design, fixed, sums, pool, threads)
            if bad is not None:
                raise ValueError(_complaint(block, *bad, transform, describe))
            bar.update(block.values.shape[0] * block.values.shape[1])
    return sums


_BAR: dict[str, Any] = {"desc": "summing over cells", "unit": "value", "unit_scale": True}


def _add(
    block: Block,
    group: np.ndarray,
    gene: np.ndarray,
    design: tuple[np.ndarray, np.ndarray, np.ndarray],
    fixed: tuple[int, np.ndarray],
    sums: Sums,
    pool: ThreadPoolExecutor,
    threads: int,
) -> tuple[int, int] | None:
    """Add one block, each thread its own range of genes; return the first unusable position in the block, if any."""
    values = block.values
    data = values.data if values.data.dtype in (np.float32, np.float64) else values.data.astype(np.float64)
    stored = (values.indptr.astype(np.int64), values.indices.astype(np.int32, copy=False), data)
    Wp, Wi, Wx = design
    rows = slice(block.start, block.start + values.shape[0]) if block.by_rows else slice(None)
    cols = slice(None) if block.by_rows else slice(block.start, block.start + values.shape[1])
    Wp = Wp[rows.start : rows.stop + 1] if block.by_rows else Wp
    kernel: Callable[..., tuple[int, int]] = add_rows if block.by_rows else add_columns
    edges = np.linspace(0, values.shape[1], threads + 1).astype(np.int64)
    calls = [
        pool.submit(kernel, *stored, *genes, gene[cols], group[rows], Wp, Wi, Wx, *fixed, sums.WY, sums.yy)
        for genes in pairwise(edges)
    ]
    bad = [position for position in (call.result() for call in calls) if position[0] >= 0]
    return min(bad) if bad else None


def _complaint(block: Block, i: int, j: int, transform: str | None, describe: Callable[[int, int], str]) -> str:
    value = block.values[[i], [j]].item()
    where = describe(i + block.start, j) if block.by_rows else describe(i, j + block.start)
    if not np.isfinite(value):
        return f"The expression matrix holds {value} at {where}; replace or remove such values first."
    return (
        f"The expression matrix holds the negative value {value:g} at {where}, of which transform={transform!r} "
        "has no logarithm; give raw counts or normalised values, or use transform=None for values already logged."
    )
