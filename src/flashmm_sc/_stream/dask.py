"""Sums over a dask array: chunks are summed where they are computed, and only their sums travel.

Whatever scheduler is active carries it out, threads or a cluster of processes. A task sums a few chunks over the columns
of W that their cells touch; the sums of the tasks are added up as a tree. Tasks are pure, so that those of a worker that
dies are done again elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from dask.callbacks import Callback
from dask.delayed import delayed

from flashmm_sc._stream.blocks import chunk_blocks, computed, lazy_chunks
from flashmm_sc._stream.sums import CellMatrix, Sums, Tally, add_block, of_cells

if TYPE_CHECKING:
    from collections.abc import Callable

    from flashmm_sc._design.rows import Rows, StratumRows
    from flashmm_sc._stream.kernel import Transform

_TASK_BYTES = 2**26
_TASKS = 16
"""Least number of tasks, if there are as many chunks."""
_AT_ONCE = 2
"""Sums that are added up at a time."""


@dataclass(frozen=True, eq=False)
class PartialSums:
    """Sums over some cells and genes: those of these columns of W, models and genes; `done` cells are new in them.

    Of `tally`, `linear` are those of its columns that are among these.
    """

    columns: np.ndarray
    models: np.ndarray
    genes: np.ndarray
    linear: np.ndarray
    sums: Sums
    done: float

    @property
    def axes(self) -> tuple[np.ndarray, ...]:
        """What the sums are of."""
        return self.columns, self.models, self.genes, self.linear

    def add_to(self, sums: Sums, axes: tuple[np.ndarray, ...]) -> None:
        """Add to sums of these columns, models, genes and linear columns, among which are all of this."""
        sums.add(self.sums, *(np.searchsorted(all_, own) for all_, own in zip(axes, self.axes, strict=True)))


def add_lazy(
    part: CellMatrix,
    rows: Rows | StratumRows,
    transform: Transform,
    tally: Tally,
    sums: Sums,
    progress: Callable[[float], object],
) -> None:
    """Add the sums over a matrix that is a dask array; `progress` is told of cells done, by dask's local schedulers.

    Raises
    ------
    UnusableValueError
        For a value that can't be used.
    RuntimeError
        When workers die again and again.
    """
    by_rows, X, starts = lazy_chunks(part.X)
    encoder, all_genes = (delayed(one, pure=False, traverse=False) for one in (rows.encoder, part.gene))
    n = X.shape[0]
    encoded = lambda a, b: delayed(_encoded)(encoder, delayed(rows.piece(a, b), pure=False, traverse=False))
    whole = None if by_rows else encoded(part.start, part.start + n)
    stops = [*starts[1:], X.shape[0 if by_rows else 1]]
    chunks = X.to_delayed().ravel()
    tasks = []
    for few in _few(starts, stops, _slice_bytes(X, by_rows), sum(array.nbytes for array in vars(sums).values())):
        a, b = starts[few.start], stops[few.stop - 1]
        design = whole if whole is not None else encoded(part.start + a, part.start + b)
        gene = all_genes if by_rows else part.gene[a:b]
        cells = b - a if by_rows else n * (b - a) / X.shape[1]
        own = slice(a, b) if by_rows else slice(n)
        size, precision = (of_cells(each, own) for each in (part.size, part.precision))
        options = {"transform": transform, "tally": tally, "size": size, "precision": precision}
        options |= {"by_rows": by_rows, "cells": cells}
        tasks.append(delayed(_partial)(list(chunks[few]), starts[few], design, gene, **options))
    with Callback(posttask=lambda key, result, *_: _told(result, progress)):
        total = computed(_tree(tasks))
    total.add_to(sums, (*(np.arange(size) for size in (*sums.WY.shape[:1], *sums.yy.shape)), tally.linear))


def lazy_totals(X: Any) -> np.ndarray:
    """Sum of the values of each cell of a dask array."""
    by_rows, X, _ = lazy_chunks(X)
    found = computed(delayed(list)([delayed(_totals)(chunk) for chunk in X.to_delayed().ravel()]))
    return np.concatenate(found) if by_rows else np.sum(found, axis=0)


def _told(result: Any, progress: Callable[[float], object]) -> None:
    if isinstance(result, PartialSums) and result.done:
        progress(result.done)


def _slice_bytes(X: Any, by_rows: bool) -> int:
    """Guess of the bytes of a row or column; of sparse chunks a tenth is taken to be stored."""
    across = X.shape[1 if by_rows else 0]
    return int(across * (X.dtype.itemsize if isinstance(X._meta, np.ndarray) else 1.2))


def _few(starts: list[int], stops: list[int], slice_bytes: int, sum_bytes: int) -> list[slice]:
    """Consecutive chunks of about as many bytes as a task should have: no fewer than its sums, within reason."""
    task_bytes = min(max(_TASK_BYTES, sum_bytes), 8 * _TASK_BYTES)
    task = np.asarray(starts) // max(1, min(task_bytes // max(slice_bytes, 1), stops[-1] // _TASKS))
    edges = [0, *(np.flatnonzero(np.diff(task)) + 1).tolist(), len(stops)]
    return [slice(a, b) for a, b in pairwise(edges) if b > a]


def _tree(tasks: list[Any]) -> Any:
    """One task that adds up those of others, a few at a time."""
    while len(tasks) > 1:
        tasks = [delayed(_added)(tasks[i : i + _AT_ONCE]) for i in range(0, len(tasks), _AT_ONCE)]
    return tasks[0]


# What follows is carried out by workers.


def _encoded(encoder: Callable[[Any], tuple[sp.csr_array, np.ndarray]], piece: Any) -> tuple[sp.csr_array, np.ndarray]:
    return encoder(piece)


def _partial(
    chunks: list[Any],
    starts: list[int],
    design: tuple[sp.csr_array, np.ndarray],
    gene: np.ndarray,
    *,
    transform: Transform,
    tally: Tally,
    size: np.ndarray | float | None,
    precision: np.ndarray | None,
    by_rows: bool,
    cells: float,
) -> PartialSums:
    """Sum over consecutive chunks; `design` and `gene` are of their cells and columns."""
    W, number = design
    columns, indices = np.unique(W.indices, return_inverse=True)
    models = np.unique(number[number >= 0])
    genes = np.unique(gene[gene >= 0])
    W = sp.csr_array((W.data, indices, W.indptr), shape=(W.shape[0], len(columns)))
    number = np.where(number < 0, -1, np.searchsorted(models, number)).astype(np.int32)
    linear = np.flatnonzero(np.isin(columns, tally.linear))
    minus = None if tally.minus is None else tally.minus[np.ix_(columns, genes)]
    tally = replace(tally, linear=linear, minus=minus)
    sums = Sums.zeros(len(columns), len(models), len(genes), tally, sized=size is not None)
    local = np.full(starts[0] + len(gene), -1) if not by_rows else np.full(len(gene), -1)
    local[-len(gene) :] = np.where(gene < 0, -1, np.searchsorted(genes, gene))
    for start, chunk in zip(starts, chunks, strict=True):
        for block in chunk_blocks(chunk, by_rows, start):
            first = block.start - starts[0] if by_rows else 0
            own = slice(first, first + block.values.shape[0])
            each = {"size": of_cells(size, own), "precision": of_cells(precision, own)}
            add_block(block, (W[own], number[own]), local, transform, sums, tally=tally, **each)
    return PartialSums(columns, models, genes, columns[linear], sums, cells)


def _added(several: list[PartialSums]) -> PartialSums:
    axes = tuple(np.unique(np.concatenate(each)) for each in zip(*(one.axes for one in several), strict=True))
    columns, models, genes, linear = axes
    sums = Sums.zeros_for([one.sums for one in several], *map(len, axes))
    for one in several:
        one.add_to(sums, axes)
    return PartialSums(columns, models, genes, linear, sums, 0.0)


def _totals(chunk: Any) -> np.ndarray:
    return np.asarray(chunk @ np.ones(chunk.shape[1])).reshape(-1)
