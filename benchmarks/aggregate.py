"""How fast does `pp.aggregate` sum up a file, beside merely reading it and beside `lmm_de` of its cells?

The files are those of stream.py: cells of random donors in random order, uncompressed, lzf and gzip, and in memory; strata
are donors × cell types. Times are the best of several repeats that take turns, so ratios are those of one run; where others
use the cores too, processor time tells more. Results go to results/aggregate.csv.

    python benchmarks/aggregate.py [--cells 50000] [--threads 1 2] [--storage none lzf gzip memory] ...
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from stream import by_turns, read_anndata, read_blocks, row, write

import flashmm_sc as fsc

RESULTS = Path(__file__).parent / "results" / "aggregate.csv"
LOGGED: dict[str, Any] = {"transform": "log1p", "size_factors": "total", "target_sum": 1e4}
BY = ["donor", "cls"]
MODELS: dict[str, dict[str, Any]] = {
    "lmm_de": {"fixed": "~ 0 + cls + cls:trt", "random": "donor"},
    "lmm_de, groupby": {"fixed": "~ trt", "random": "donor", "groupby": "cls"},
}


def times(path: Path, storage: str, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rows of the table: reading alone, strata, and models of the cells and of their strata."""
    adata = ad.read_h5ad(path, backed=None if storage == "memory" else "r")
    strata = fsc.pp.aggregate(adata, BY, **LOGGED, show_progress=False)
    calls: dict[tuple[str, int], Callable[[], object]] = {}
    if storage != "memory":
        calls["anndata", 1] = lambda: read_anndata(adata.X, args.per_cell)
    for n in args.threads:
        how: dict[str, Any] = {"n_jobs": n, "show_progress": False}
        if storage != "memory":
            calls["blocks", n] = lambda n=n: read_blocks(adata.X, n)
        calls["aggregate, counts", n] = lambda how=how: fsc.pp.aggregate(adata, BY, **how)
        calls["aggregate, counts and totals", n] = lambda how=how: fsc.pp.aggregate(
            adata, BY, size_factors="total", **how
        )
        calls["aggregate, log1p over totals", n] = lambda how=how: fsc.pp.aggregate(adata, BY, **LOGGED, **how)
        for name, model in MODELS.items():
            calls[f"{name} of cells", n] = lambda how=how, model=model: fsc.tl.lmm_de(adata, **model, **LOGGED, **how)
            calls[f"{name} of strata", n] = lambda how=how, model=model: fsc.tl.lmm_de(strata, **model, **how)
    best = by_turns(calls, args.repeats)
    reading = best.get(("anndata", 1), [np.nan])[0]
    for (what, threads), (seconds, cpu) in best.items():
        one = row(adata, storage, what, threads, seconds)
        core = {"cpu": cpu, "cpu ns/value": cpu / one["values"] * 1e9, "over anndata": seconds / reading}
        yield one | core
    if adata.isbacked:
        adata.file.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="*", default=[50_000])
    parser.add_argument("--genes", type=int, default=8000)
    parser.add_argument("--per-cell", type=int, default=800, help="stored values")
    parser.add_argument("--storage", nargs="*", default=["none", "lzf", "gzip", "memory"])
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--folder", help="where the temporary files go")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    warnings.simplefilter("ignore", fsc.AdviceWarning)
    done = []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "cells.h5ad"
        for cells in args.cells:
            for storage in args.storage:
                write(path, cells, args.genes, args.per_cell, storage if storage in ("lzf", "gzip") else None)
                for result in times(path, storage, args):
                    done.append(result)
                    print(*(f"{x:.3g}" if isinstance(x, float) else x for x in result.values()), flush=True)
    table = pd.DataFrame(done)
    table.to_csv(args.output, index=False, float_format="%.4g")
    print(table.to_string(index=False, float_format="%.3g", na_rep=""))


if __name__ == "__main__":
    main()
