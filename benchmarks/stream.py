"""How fast, and in how much memory, does `lmm_de` stream a file, beside merely reading it?

Counts with skewed gene frequencies, cells of random donors, in h5ad files as anndata writes them: uncompressed, lzf and
gzip; and in zarr stores of format 3, in chunks and in shards (zstd). Times are the best of several repeats that take turns, in one process and with the file in the page cache; where
others use the cores too, processor time tells more. Peak memory is that of a fresh process. The files are temporary, 8
bytes a value at most: 17 GB for the largest of the defaults. Results go to results/stream.csv.

    python benchmarks/stream.py [--cells 50000 100000 200000] [--threads 1 2] [--memory-cells 1000000 2000000] ...
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
import zarr

import flashmm_sc as fsc
from flashmm_sc._stream.blocks import BLOCK_BYTES, blocks

RESULTS = Path(__file__).parent / "results" / "stream.csv"
MODEL = {"fixed": "~ 0 + cls + cls:trt", "random": "donor", "transform": "log1p"}
SIZED: dict[str, dict[str, Any]] = {
    "lmm_de": {},
    "lmm_de, totals over 1e4": {"size_factors": "total", "target_sum": 1e4},
    "lmm_de, totals over their median": {"size_factors": "total"},
}
DONORS, TYPES, POOL, PIECE, FEW = 50, 8, 4000, 20_000, 1000


def counts(genes: int, per_cell: int, rng: np.random.Generator) -> sp.csr_matrix:
    """Poisson counts of some cells: a few genes are in nearly all of them, most in few."""
    means = rng.lognormal(sigma=1.6, size=genes)
    scale = np.geomspace(1e-9, 1e3, 2000)
    detected = [(1 - np.exp(-s * means)).sum() for s in scale]
    means *= np.interp(per_cell, detected, scale)
    depth = rng.lognormal(sigma=0.4, size=(POOL, 1))
    return sp.vstack([sp.csr_matrix(rng.poisson(part * means), dtype="f4") for part in np.split(depth, 20)], "csr")


def write(path: Path, cells: int, genes: int, per_cell: int, compression: str | None) -> None:
    """An h5ad file of cells drawn from a pool, piece by piece, each array in the chunks that anndata would choose."""
    rng = np.random.default_rng(0)
    pool = counts(genes, per_cell, rng)
    donor = rng.integers(DONORS, size=cells)
    codes = {"donor": donor, "cls": rng.integers(TYPES, size=cells), "trt": donor % 2}
    levels = {"donor": range(DONORS), "cls": range(TYPES), "trt": ["ctrl", "stim"]}
    obs = {name: pd.Categorical.from_codes(codes[name], list(map(str, own))) for name, own in levels.items()}
    frame = pd.DataFrame(obs, index=[f"cell{i}" for i in range(cells)])
    var = pd.DataFrame(index=[f"gene{j}" for j in range(genes)])
    ad.AnnData(obs=frame, var=var, shape=None).write_h5ad(path)
    drawn = rng.integers(POOL, size=cells)
    ends = np.append(0, np.cumsum(np.diff(pool.indptr)[drawn], dtype=np.int64))
    with h5py.File(path, "r+") as file:
        file.pop("X", None)
        X = file.create_group("X")
        X.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": (cells, genes)})
        X["indptr"] = ends
        for name, dtype in (("data", "f4"), ("indices", "i4")):
            X.create_dataset(name, (ends[-1],), dtype, maxshape=(None,), compression=compression)
        for a in range(0, cells, PIECE):
            piece = pool[drawn[a : a + PIECE]]
            X["data"][ends[a] : ends[a] + piece.nnz] = piece.data
            X["indices"][ends[a] : ends[a] + piece.nnz] = piece.indices


def write_store(path: Path, file: Path, *, shards: bool) -> None:
    """A zarr store of format 3 with what is in an h5ad file."""
    with warnings.catch_warnings(), ad.settings.override(zarr_write_format=3, auto_shard_zarr_v3=shards):
        warnings.simplefilter("ignore")
        ad.read_h5ad(file).write_zarr(path)


def opened(path: Path, storage: str) -> ad.AnnData:
    """Cells whose matrix stays on disk, or does not."""
    if not storage.startswith("zarr"):
        return ad.read_h5ad(path, backed=None if storage == "memory" else "r")
    store = zarr.open_group(str(path), mode="r")
    return ad.AnnData(ad.io.sparse_dataset(store["X"]), ad.io.read_elem(store["obs"]), ad.io.read_elem(store["var"]))


def by_turns(calls: dict[tuple[str, int], Callable[[], object]], repeats: int) -> dict[tuple[str, int], np.ndarray]:
    """Shortest wall time and processor time of each call in seconds, the calls taking turns."""
    best = {name: np.full(2, np.inf) for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = np.array([time.perf_counter(), time.process_time()])
            call()
            best[name] = np.minimum(best[name], [time.perf_counter(), time.process_time()] - start)
    return best


def read_blocks(X: Any, threads: int) -> None:
    """The blocks that `lmm_de` reads."""
    for _ in blocks(X, threads=threads):
        pass


def read_anndata(X: Any, per_cell: int) -> None:
    """Blocks of the same size in anndata's own way."""
    step = BLOCK_BYTES // (12 * per_cell)
    for a in range(0, X.shape[0], step):
        X[a : a + step]


def times(path: Path, storage: str, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rows of the table: reading alone, `lmm_de` by threads, and what of it doesn't grow with the cells."""
    adata = opened(path, storage)
    few = ad.AnnData(adata.X[:FEW], adata.obs[:FEW], adata.var)
    calls: dict[tuple[str, int], Callable[[], object]] = {}
    if storage != "memory":
        calls["anndata", 1] = lambda: read_anndata(adata.X, args.per_cell)
    for n in args.threads:
        calls["blocks", n] = lambda n=n: read_blocks(adata.X, n)
        for what, sized in SIZED.items():
            options = MODEL | sized | {"n_jobs": n, "show_progress": False}
            calls[what, n] = lambda options=options: fsc.tl.lmm_de(adata, **options)
        calls[f"lmm_de, {FEW} cells", n] = lambda n=n: fsc.tl.lmm_de(few, **MODEL, n_jobs=n, show_progress=False)
    best = by_turns(calls, args.repeats)
    for (what, threads), (seconds, cpu) in best.items():
        others = {"blocks": best["blocks", threads][0], "anndata": best.get(("anndata", 1), [np.nan])[0]}
        ratios = {f"over {other}": seconds / reading for other, reading in others.items() if what in SIZED}
        yield row(adata, storage, what, threads, seconds) | {"cpu": cpu} | ratios
    if adata.isbacked:
        adata.file.close()


def row(adata: ad.AnnData, storage: str, what: str, threads: int, seconds: float) -> dict[str, Any]:
    values = adata.X.group["data"].shape[0] if hasattr(adata.X, "group") else adata.X.nnz
    size = {"cells": adata.n_obs, "genes": adata.n_vars, "values": values, "storage": storage}
    return size | {"what": what, "threads": threads, "seconds": seconds, "s/100M": seconds / values * 1e8}


def peak(path: Path, storage: str, threads: int) -> dict[str, Any]:
    """The row of a fresh process that opens the file and calls `lmm_de`."""
    command = [sys.executable, __file__, "--measure", str(path), storage, str(threads)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def measure(path: str, storage: str, threads: int) -> dict[str, Any]:
    adata = ad.read_h5ad(path, backed="r")
    opened = resident()
    start = time.perf_counter()
    fsc.tl.lmm_de(adata, **MODEL, n_jobs=threads, show_progress=False)
    seconds = time.perf_counter() - start
    return row(adata, storage, "lmm_de", threads, seconds) | {"opened MB": opened, "peak MB": resident()}


def resident() -> float:
    """Peak resident megabytes of this process; getrusage would count its parent's before the start."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1000


def rows(args: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    path = folder / "stream.h5ad"
    for cells in args.cells:
        for storage in args.storage:
            write(path, cells, args.genes, args.per_cell, storage if storage in ("lzf", "gzip") else None)
            where = path
            if storage.startswith("zarr"):
                write_store(where := folder / f"{storage}.zarr", path, shards=storage == "zarr shards")
            yield from times(where, storage, args)
        yield from times(path, "memory", args)
    for cells in args.memory_cells:
        write(path, cells, args.memory_genes, args.memory_per_cell, None)
        for threads in args.threads:
            yield peak(path, "none", threads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="*", default=[50_000, 100_000, 200_000])
    parser.add_argument("--genes", type=int, default=8000)
    parser.add_argument("--per-cell", type=int, default=800, help="stored values")
    parser.add_argument("--storage", nargs="*", default=["none", "lzf", "gzip", "zarr", "zarr shards"])
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--memory-cells", type=int, nargs="*", default=[1_000_000, 2_000_000])
    parser.add_argument("--memory-genes", type=int, default=20_000)
    parser.add_argument("--memory-per-cell", type=int, default=1000)
    parser.add_argument("--folder", help="where the temporary files go")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.simplefilter("ignore", fsc.AdviceWarning)
    if args.measure:
        path, storage, threads = args.measure
        print(json.dumps(measure(path, storage, int(threads))))
        return
    done = []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for result in rows(args, Path(folder)):
            done.append(result)
            print(*(f"{x:.3g}" if isinstance(x, float) else x for x in result.values()), flush=True)
    table = pd.DataFrame(done)
    table.to_csv(args.output, index=False, float_format="%.4g")
    print(table.to_string(index=False, float_format="%.3g", na_rep=""))


if __name__ == "__main__":
    main()
