"""Draw negative binomial counts block by block, into memory or into an h5ad file."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anndata as ad
import numba
import numpy as np
import pandas as pd
import scipy.sparse as sp

from flashmm_sc._base.files import appearing_whole
from flashmm_sc._base.progress import progress
from flashmm_sc._base.threads import Pool, n_threads
from flashmm_sc._stream.h5write import writable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

# Values (cells × genes) in a block. The blocks, not the threads, own the random streams: changing it changes the counts.
BLOCK_VALUES = 2**22
LANES = 128  # genes searched together


@dataclass(frozen=True)
class CountModel:
    """Cell i, gene g: NB with mean `scale[i] * mean[sample[i], g] * fold[effect[i], g]` and size `dispersion[g]`."""

    dispersion: np.ndarray  # (genes,)
    mean: np.ndarray  # (samples, genes): the gene's mean times its random effect in the sample
    fold: np.ndarray  # (clusters + 1, genes): treatment effects; the last row of ones is for cells without treatment
    sample: np.ndarray  # (cells,) row of `mean`
    effect: np.ndarray  # (cells,) row of `fold`
    scale: np.ndarray  # (cells,) library size over the geometric mean of library sizes

    @property
    def shape(self) -> tuple[int, int]:
        """Cells × genes."""
        return len(self.sample), len(self.dispersion)

    def draw(self, rng: np.random.Generator, start: int, stop: int) -> sp.csr_matrix:
        """Draw the counts of cells `start` to `stop`."""
        n_values = (stop - start) * self.shape[1]
        data, indices = np.empty(n_values, np.float32), np.empty(n_values, np.int32)
        indptr = np.zeros(stop - start + 1, np.int32)
        cells = slice(start, stop)
        _draw_block(
            rng,
            self.dispersion,
            self.mean,
            self.fold,
            self.sample[cells],
            self.effect[cells],
            self.scale[cells],
            data,
            indices,
            indptr,
        )
        nnz = indptr[-1]
        return sp.csr_matrix((data[:nnz].copy(), indices[:nnz].copy(), indptr), shape=(stop - start, self.shape[1]))


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _draw_block(  # type: ignore[no-untyped-def]  # pragma: no cover
    rng, dispersion, mean, fold, sample, effect, scale, data, indices, indptr
):
    left, count = np.empty(LANES), np.empty(LANES)
    p, q, a = np.empty(LANES), np.empty(LANES), np.empty(LANES)
    nnz = 0
    for i in range(sample.size):
        cell_mean, cell_fold = mean[sample[i]], fold[effect[i]]
        for first in range(0, dispersion.size, LANES):
            n = min(LANES, dispersion.size - first)
            for lane in range(n):
                size = dispersion[first + lane]
                mu = scale[i] * cell_mean[first + lane] * cell_fold[first + lane]
                if mu > 10.0:
                    count[lane] = rng.poisson(rng.standard_gamma(size) * mu / size)
                    left[lane] = -1.0
                else:
                    count[lane] = 0.0
                    left[lane] = rng.random()
                p[lane] = np.exp(-size * np.log(1.0 + mu / size))
                q[lane] = mu / (size + mu)
                a[lane] = q[lane] * (size - 1.0)
            _invert(n, left, p, q, a, count)
            for lane in range(n):  # a zero is overwritten by the next value: cheaper than a branch nobody can predict
                data[nnz] = count[lane]
                indices[nnz] = first + lane
                nnz += count[lane] > 0
        indptr[i + 1] = nnz


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _invert(n, left, p, q, a, count):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Find the smallest counts whose distribution function reaches `left`, from P(0) = p and P(k) = P(k-1)(q + a/k).

    All genes take a step together, without a branch, which the compiler turns into vector instructions; the last few
    go on alone. P(0) >= exp(-10), so a probability below 1e-20 lies far in the tail: there rounding could hold up the end.
    """
    k, searching = 0.0, n
    while searching > n // 16:
        k += 1.0
        inverse = 1.0 / k
        searching = 0
        for lane in range(n):
            rest = left[lane] - p[lane]
            more = (rest > 0.0) & (p[lane] > 1e-20)
            left[lane] = rest if more else -1.0
            count[lane] += more
            p[lane] *= q[lane] + a[lane] * inverse
            searching += more
    for lane in range(n):
        while left[lane] > p[lane] and p[lane] > 1e-20:
            left[lane] -= p[lane]
            count[lane] += 1.0
            p[lane] *= q[lane] + a[lane] / count[lane]


def count_model(
    rng: np.random.Generator, genes: pd.DataFrame, cells: pd.DataFrame, treatment: str, var_random_effects: float
) -> CountModel:
    """Draw the random effects; gather all that the counts of the cells depend on."""
    samples, clusters = cells["sam"].cat.categories, cells["cls"].cat.categories
    random_effects = rng.normal(0, np.sqrt(var_random_effects), (len(samples), len(genes)))
    fold = np.ones((len(clusters) + 1, len(genes)))
    de = np.flatnonzero(genes["beta"])
    fold[clusters.get_indexer(pd.Index(genes["de_cluster"].iloc[de])), de] = np.exp(genes["beta"].iloc[de])
    log_libsize = np.log(cells["libsize"].to_numpy())
    return CountModel(
        dispersion=genes["dispersion"].to_numpy(),
        mean=genes["mean"].to_numpy() * np.exp(random_effects),
        fold=fold,
        sample=cells["sam"].cat.codes.to_numpy(np.int32),
        effect=np.where(cells["trt"] == treatment, cells["cls"].cat.codes, len(clusters)).astype(np.int32),
        scale=np.exp(log_libsize - log_libsize.mean()),
    )


def _blocks(model: CountModel, rng: np.random.Generator, *, show_progress: bool) -> Iterator[sp.csr_matrix]:
    """Yield the counts in blocks of cells, in order; each has its own random stream, whatever the number of threads."""
    n_cells, n_genes = model.shape
    step = max(1, BLOCK_VALUES // n_genes)
    starts = range(0, n_cells, step)
    threads = n_threads(None)
    pending: deque[Future[sp.csr_matrix]] = deque()
    with progress("simu_rnaseq", n_cells, "cells", show_progress) as bar, Pool(threads) as pool:

        def first_pending() -> sp.csr_matrix:
            block = pending.popleft().result()
            bar.update(block.shape[0])
            return block

        for start, child in zip(starts, rng.spawn(len(starts)), strict=True):
            pending.append(pool.submit(model.draw, child, start, min(start + step, n_cells)))
            if len(pending) > threads:
                yield first_pending()
        while pending:
            yield first_pending()


def counts_in_memory(model: CountModel, rng: np.random.Generator, *, show_progress: bool) -> sp.csr_matrix:
    """Draw all counts into one CSR matrix of float32."""
    n_cells = model.shape[0]
    data, indices = np.empty(0, np.float32), np.empty(0, np.int32)
    indptr, row, nnz = np.zeros(n_cells + 1, np.int64), 0, 0
    for block in _blocks(model, rng, show_progress=show_progress):
        next_row, next_nnz = row + block.shape[0], nnz + block.nnz
        if next_nnz > data.size:  # make room for all cells, by those so far; in place, never holding two copies
            room = int(1.02 * next_nnz * n_cells / next_row)
            data.resize(room, refcheck=False)
            indices.resize(room, refcheck=False)
        data[nnz:next_nnz], indices[nnz:next_nnz] = block.data, block.indices
        indptr[row + 1 : next_row + 1] = nnz + block.indptr[1:]
        row, nnz = next_row, next_nnz
    data.resize(nnz, refcheck=False)
    indices.resize(nnz, refcheck=False)
    index_dtype = _index_dtype(nnz)
    arrays = data, indices.astype(index_dtype, copy=False), indptr.astype(index_dtype)
    return sp.csr_matrix(arrays, shape=model.shape)


def counts_on_disk(
    path: Path, annotation: ad.AnnData, model: CountModel, rng: np.random.Generator, *, show_progress: bool
) -> None:
    """Write `annotation` with the drawn counts as X to an h5ad file, one block in memory at a time."""
    with appearing_whole(path) as part, writable(part, "w") as (file, check):
        ad.io.write_elem(file, "/", annotation)
        file.pop("raw", None)  # a null, which a backed AnnData takes for a raw without matrix
        blocks = _blocks(model, rng, show_progress=show_progress)
        first = next(blocks)
        first.indptr = first.indptr.astype(_index_dtype(model.shape[0] * model.shape[1]))
        ad.io.write_elem(file, "X", first)
        X: Any = ad.io.sparse_dataset(file["X"])
        for block in blocks:
            X.append(block)
            check()


def _index_dtype(n_values: int) -> type[np.integer]:
    return np.int32 if n_values <= np.iinfo(np.int32).max else np.int64
