"""How do time and memory of the fit grow with genes, donors, fixed columns, batches and threads?

Each line varies one of them from a study of 500,000 cells, 259 donors, 29 cell types (63 fixed columns) and 11,596 genes,
in a process of its own; memory is the peak of what a fit allocates, without the statistics, measured in a fit of its own.
Writes results/scaling.csv.

    python benchmarks/scaling.py [--repeats 3]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import study

import flashmm_sc as fsc

BASE = {"n": 500_000, "genes": 11_596, "donors": 259, "types": 29, "batches": 0, "threads": os.cpu_count()}
VARIED = {
    "genes": [1_000, 3_000, 11_596, 30_000],
    "donors": [32, 64, 128, 259, 518, 1036],
    "types": [2, 7, 29, 60],
    "batches": [0, 12, 23, 46, 92],
    "threads": sorted({1, os.cpu_count() or 1}),
}


def measure(setting: dict[str, int], repeats: int) -> dict[str, float]:
    """Best time of a fit, and its peak memory."""
    design = study.donors_and_batches(setting["n"], setting["donors"], setting["types"], setting["batches"])
    stats = study.statistics(design, setting["genes"])
    fit = lambda some: fsc.lmm(some, ddf="satterthwaite", n_jobs=setting["threads"])
    fit(stats.select(genes=np.arange(10)))  # compile
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        fit(stats)
        times.append(time.perf_counter() - start)
    tracemalloc.start()
    fit(stats)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    us = min(times) / setting["genes"] * 1e6
    return {"p": len(stats.XX), "seconds": min(times), "us_per_gene": us, "memory_mb": peak}


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    rows = []
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        for what, values in VARIED.items():
            for value in values:
                setting = BASE | {what: value}
                rows.append({"varied": what, **setting, **pool.submit(measure, setting, repeats).result()})
                print(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1), flush=True)
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / "scaling.csv", index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
