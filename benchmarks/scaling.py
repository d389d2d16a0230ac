"""How do time and memory grow with cells, groups, genes, donors, fixed columns, batches and threads?

Cells and groups are those of `lmm_de` in memory, values and all: 100,000 cells × 2,000 genes, 200 stored values a cell, 40
donors, one model. The others are of the fit alone, from ready statistics: 500,000 cells, 259 donors, 29 cell types (63 fixed
columns) and 11,596 genes. Each line varies one of them, in a process of its own. Memory is the peak of what is allocated
beside what is given, measured in a call of its own. Slopes are on log-log axes: 1 is proportional to, 0 doesn't matter;
those of time are of processor time, which others on the machine change less, but for threads.

Writes results/scaling.csv and results/scaling.png, and prints the table of README.md.

    python benchmarks/scaling.py [--repeats 3] [--plot]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
import tracemalloc
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import study
from _plots import STYLE, markdown
from stream import POOL, counts

import flashmm_sc as fsc

RESULTS = Path(__file__).parent / "results"
CORES = os.cpu_count() or 1
FIT = {"n": 500_000, "genes": 11_596, "donors": 259, "types": 29, "batches": 0, "threads": CORES}
STREAM = {"n": 100_000, "genes": 2000, "donors": 40, "groups": 1, "threads": CORES}
VARIED: dict[str, tuple[str, list[int]]] = {
    "cells": ("n", [50_000, 100_000, 200_000, 400_000]),
    "groups": ("groups", [1, 4, 16]),
    "genes": ("genes", [1_500, 6_000, 24_000]),
    "donors": ("donors", [65, 259, 1036]),
    "p": ("types", [7, 29, 60]),
    "batches": ("batches", [12, 46, 92]),
    "threads": ("threads", sorted({2**k for k in range(CORES.bit_length())} | {CORES})),
}
STREAMED = ("cells", "groups")


def fitting(setting: dict[str, int]) -> tuple[Callable[[], object], int]:
    """A fit from ready statistics, and its number of fixed columns."""
    design = study.donors_and_batches(setting["n"], setting["donors"], setting["types"], setting["batches"])
    stats = study.statistics(design, setting["genes"])
    fit = lambda some: fsc.lmm(some, ddf="satterthwaite", n_jobs=setting["threads"])
    fit(stats.select(genes=np.arange(10)))  # compile
    return lambda: fit(stats), len(stats.XX)


def streaming(setting: dict[str, int]) -> tuple[Callable[[], object], int]:
    """`lmm_de` of cells in memory, and its number of fixed columns."""
    rng = np.random.default_rng(0)
    n, donor = setting["n"], rng.integers(setting["donors"], size=setting["n"])
    codes = {"donor": donor, "trt": donor % 2, "group": rng.integers(setting["groups"], size=n)}
    obs = pd.DataFrame({name: pd.Categorical(its.astype(str)) for name, its in codes.items()}, map(str, range(n)))
    adata = ad.AnnData(counts(setting["genes"], 200, rng)[rng.integers(POOL, size=n)], obs)
    how = {"fixed": "~ trt", "random": "donor", "groupby": "group", "transform": "log1p", "n_jobs": setting["threads"]}
    run = lambda some: fsc.tl.lmm_de(some, **how, show_progress=False)
    run(adata[:10_000].copy())  # compile
    return lambda: run(adata), 2


def measure(what: str, setting: dict[str, int], repeats: int) -> dict[str, float]:
    """Best time of a call, and its peak memory."""
    warnings.simplefilter("ignore", fsc.AdviceWarning)
    call, p = (streaming if what in STREAMED else fitting)(setting)
    best = np.full(2, np.inf)
    for _ in range(repeats):
        start = np.array([time.perf_counter(), time.process_time()])
        call()
        best = np.minimum(best, [time.perf_counter(), time.process_time()] - start)
    tracemalloc.start()
    call()
    memory = tracemalloc.get_traced_memory()[1] / 2**20
    return {"p": p, "seconds": best[0], "cpu": best[1], "memory_mb": memory}


def run(repeats: int) -> pd.DataFrame:
    """All lines, each in a process of its own."""
    rows: list[dict[str, object]] = []
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        for what, (name, values) in VARIED.items():
            for value in values:
                setting = (STREAM if what in STREAMED else FIT) | {name: value}
                found = pool.submit(measure, what, setting, repeats).result()
                rows.append({"varied": what, "value": found["p"] if what == "p" else value, **setting, **found})
                print(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1), flush=True)
    return pd.DataFrame(rows)


def timed(what: object) -> str:
    """The column whose slope tells how time grows."""
    return "seconds" if what == "threads" else "cpu"


def slope(part: pd.DataFrame, column: str) -> float:
    """Of a line through the points on log-log axes."""
    return float(np.polyfit(np.log(part["value"]), np.log(part[column]), 1)[0])


def table(found: pd.DataFrame) -> str:
    """A line for what is varied: from where to where, seconds, megabytes, and slopes."""
    lines = []
    for what, part in found.groupby("varied", sort=False):
        ends = [f"{part['value'].iloc[k]:,}" for k in (0, -1)]
        of = "`lmm_de`" if what in STREAMED else "fit"
        time, memory = (f"{slope(part, name):.2f}" for name in (timed(what), "memory_mb"))
        first, last = part.iloc[0], part.iloc[-1]
        seconds, cpu = (f"{first[name]:.2f} – {last[name]:.2f}" for name in ("seconds", "cpu"))
        peak = f"{first['memory_mb']:.0f} – {last['memory_mb']:.0f}"
        lines.append([of, str(what), " – ".join(ends), seconds, cpu, time, peak, memory])
    return markdown(["of", "varied", "from – to", "s", "s of processors", "slope", "MB", "slope"], lines)


COLORS = {"time": "#0072B2", "memory": "#D55E00"}  # Okabe and Ito's


def plot(found: pd.DataFrame, path: Path) -> None:
    """Time and memory relative to the first point, on log-log axes, a panel for what is varied."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, 4, figsize=(10, 5), layout="constrained")
        for axis, (what, part) in zip(axes.flat, found.groupby("varied", sort=False), strict=False):
            x = part["value"] / part["value"].iloc[0]
            axis.plot(x, 1 / x if what == "threads" else x, color="0.75", lw=1, ls="--", zorder=1)
            for (word, color), name in zip(COLORS.items(), (timed(what), "memory_mb"), strict=True):
                label = f"{word}, slope {slope(part, name):.2f}"
                axis.plot(x, part[name] / part[name].iloc[0], color=color, marker="o", ms=4, lw=1.6, label=label)
            axis.set_xscale("log", base=2)
            axis.set_yscale("log", base=2)
            axis.set_xticks(x, [f"{value:,}" for value in part["value"]], rotation=40, ha="right", fontsize=7.5)
            axis.xaxis.minorticks_off()
            axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}×")
            axis.set_title(f"{what} ({'lmm_de' if what in STREAMED else 'fit'})", fontsize=9.5)
            axis.legend(frameon=False, fontsize=7.5)
        for axis in axes.flat[found["varied"].nunique() :]:
            axis.set_axis_off()
        for axis in axes[:, 0]:
            axis.set_ylabel("relative to the first")
        figure.savefig(path, dpi=130)


def main() -> None:
    """Run, print, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plot", action="store_true", help="draw what was measured before")
    parser.add_argument("--output", type=Path, default=RESULTS / "scaling.csv")
    args = parser.parse_args()
    found = pd.read_csv(args.output) if args.plot else run(args.repeats)
    found.to_csv(args.output, index=False, float_format="%.4g")
    plot(found, args.output.with_suffix(".png"))
    print(table(found))


if __name__ == "__main__":
    main()
