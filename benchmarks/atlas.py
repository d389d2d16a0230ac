"""How long does `flashmm-sc de` take on 10 million cells, beside merely reading their blocks, and how much memory?

The file is one of stream.py's, drawn by blocks: cells of random donors × 2,000 genes, 50 stored values a cell, with columns
of obs that the models don't need, as atlases have. Each measurement is a process of its own, whose time begins with its
start; they take turns, the file in the page cache, or (`--cold`) out of it. Where others use the cores too, processor time
tells more. Results go to results/atlas.csv.

    python benchmarks/atlas.py [--cells 10000000] [--storage none lzf gzip] [--repeats 3] [--cold] ...
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata.io import sparse_dataset, write_elem
from stream import read_blocks, resident, write

from flashmm_sc.cli._main import main as command

RESULTS = Path(__file__).parent / "results" / "atlas.csv"
MODELS = {
    "de": ["--fixed", "~ trt", "--random", "donor"],
    "de, 16 columns": ["--fixed", "~ 0 + cls + cls:trt", "--random", "donor"],
    "de, groupby": ["--fixed", "~ trt", "--random", "donor", "--groupby", "cls"],
}
MORE = 12
"""Columns of obs that no model needs."""


def draw(path: Path, args: argparse.Namespace, storage: str) -> None:
    """The file, with columns beside those of the models."""
    write(path, args.cells, args.genes, args.per_cell, None if storage == "none" else storage)
    rng = np.random.default_rng(1)
    with h5py.File(path, "r+") as file:
        obs, names = file["obs"], [f"score{k}" for k in range(MORE)]
        for name in names:
            write_elem(obs, name, rng.normal(size=args.cells))
        obs.attrs["column-order"] = np.array([*obs.attrs["column-order"], *names], dtype=object)


def forget(path: Path) -> None:
    """Put the file out of the page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(path: Path, what: str, threads: int) -> None:
    """Do it, then print the processor time of this process and its peak in megabytes."""
    if what == "blocks":
        with h5py.File(path) as file:
            read_blocks(sparse_dataset(file["X"]), threads)
    else:
        values = ["--transform", "log1p", "--table", str(path.with_suffix(".csv")), "--n-jobs", str(threads)]
        if code := command(["de", str(path), *MODELS[what], *values]):
            sys.exit(code)
    print(time.process_time(), resident())


def rows(path: Path, storage: str, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rows of the table: the shortest time of each, and the largest peak."""
    found: dict[str, list[np.ndarray]] = {what: [] for what in ["blocks", *args.models]}
    for _ in range(args.repeats):
        for what, its in found.items():
            if args.cold:
                forget(path)
            start = time.perf_counter()
            asked = [sys.executable, __file__, "--measure", str(path), what, str(args.threads)]
            done = subprocess.run(asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
            its.append(np.array([time.perf_counter() - start, *map(float, done.stdout.split()[-2:])]))
            print(storage, what, *map("{:.4g}".format, its[-1]), flush=True)
    for what, its in found.items():
        seconds, cpu, _ = np.min(its, axis=0)
        blocks = np.min(found["blocks"], axis=0)
        yield {
            "cells": args.cells,
            "values": args.cells * args.per_cell,
            "storage": storage,
            "cached": not args.cold,
            "threads": args.threads,
            "what": what,
            "seconds": seconds,
            "over blocks": seconds / blocks[0],
            "cpu": cpu,
            "cpu over blocks": cpu / blocks[1],
            "peak MB": np.max(its, axis=0)[2],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000_000)
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--per-cell", type=int, default=50, help="stored values")
    parser.add_argument("--storage", nargs="*", default=["none", "lzf", "gzip"])
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=MODELS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cold", action="store_true", help="out of the page cache")
    parser.add_argument("--folder", help="where the temporary file goes")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        path, what, threads = args.measure
        measure(Path(path), what, int(threads))
        return
    done: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "atlas.h5ad"
        for storage in args.storage:
            draw(path, args, storage)
            done += rows(path, storage, args)
    table = pd.DataFrame(done)
    table.to_csv(args.output, index=False, float_format="%.4g")
    print(table.to_string(index=False, float_format="%.3g"))


if __name__ == "__main__":
    main()
