"""Are the p-values right? Type I error and power of the models and degrees of freedom, beside pseudobulk and Wilcoxon.

Simulated studies with and without effects, and real data in which nobody was treated: donors split at random. Writes
results/calibration.csv here, and the tables between the markers of docs/calibration_models.md.

    python benchmarks/calibration.py [--quick] [--repeats 5] [--splits 20] [--jobs 2] [--data ../shared/data]

PyDESeq2 is left out where it is not installed, real data where they are not found. From a finished table alone, and some of
the mixed models anew, beside what is in the table of others:

    python benchmarks/calibration.py --report
    python benchmarks/calibration.py --only "joint, variances by type"
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from _calibration_data import Study, Task, make, real_splits, simulated
from _calibration_methods import HAS_DESEQ, MODELS, PEERS, mixed_models
from _calibration_report import write_tables
from scipy.stats import false_discovery_control
from threadpoolctl import threadpool_limits

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
GUIDE = HERE.parent / "docs" / "calibration_models.md"
LEVELS = (0.05, 0.01, 0.001)
FDR = 0.05
DONORS, SIDES = [4, 6, 8, 12, 24], [2, 3, 4, 6, 10, 20]
PEER_REPEATS = {"pseudobulk, PyDESeq2": 1, "cells, Wilcoxon": 2}  # of simulations; three times as many real splits
SETTING = ["data", "design", "donors", "effect", "model", "ddf", "type", "variance"]
VARIANCE = {"all": (0, np.inf), "< 0.8": (0, 0.8), "0.8 to 1.25": (0.8, 1.25), "> 1.25": (1.25, np.inf)}


def main() -> None:
    """Run, write, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer donor numbers, genes and repeats; about a minute")
    parser.add_argument("--repeats", type=int, default=5, help="null simulations of each kind; half with effects")
    parser.add_argument("--splits", type=int, default=20, help="random splits of real donors of each size")
    parser.add_argument("--genes", type=int, default=1000)
    parser.add_argument("--cells", type=int, default=5000, help="in all, however many donors")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument(
        "--data", type=Path, default=HERE.parents[1] / "shared" / "data", help="folder of the real data"
    )
    parser.add_argument("--out", type=Path, help="folder of the table; the page is then left alone")
    parser.add_argument("--report", action="store_true", help="tables from the csv there is")
    parser.add_argument(
        "--only", nargs="+", choices=MODELS, help="mixed models to run; the rest stays as it is in the csv"
    )
    options = parser.parse_args()
    out = options.out or RESULTS
    out.mkdir(parents=True, exist_ok=True)
    if not options.report:
        start = time.perf_counter()
        table = run(options)
        if options.only:
            former = pd.read_csv(out / "calibration.csv", keep_default_na=False, na_values=[""])
            table = pd.concat([former[~former["model"].isin(table["model"])], table]).sort_values(
                SETTING, kind="stable"
            )
        table.to_csv(out / "calibration.csv", index=False, float_format="%.5g")
        print(f"{time.perf_counter() - start:.0f} s")
    table = pd.read_csv(out / "calibration.csv", keep_default_na=False, na_values=[""])
    write_tables(table, None if options.out else GUIDE)


def run(options: argparse.Namespace) -> pd.DataFrame:
    """All tasks, summed up over repeats."""
    donors, sides, genes, repeats, splits = DONORS, SIDES, options.genes, options.repeats, options.splits
    if options.quick:
        donors, sides, genes, repeats, splits = [4, 8], [2, 4], min(genes, 300), min(repeats, 2), min(splits, 3)
    peers = [name for name in PEERS if "DESeq" not in name or (HAS_DESEQ and not options.quick)]
    if options.only:
        peers = []
    elif len(peers) < len(PEERS):
        print(
            "PyDESeq2 is left out: " + ("it is slow." if HAS_DESEQ else "it is not installed (pip install pydeseq2).")
        )
    tasks = [*real_splits(options.data, sides, splits), *simulated(donors, repeats)]
    counts = []
    work = partial(analysed, genes=genes, cells=options.cells, peers=peers, models=options.only or MODELS)
    with ProcessPoolExecutor(options.jobs) as pool:
        for done, rows in enumerate(pool.map(work, tasks), 1):
            counts += rows
            print(f"\r{done} of {len(tasks)} data sets", end="", flush=True)
    print()
    return summarised(pd.DataFrame(counts))


def analysed(task: Task, genes: int, cells: int, peers: list[str], models: Collection[str]) -> list[dict]:
    """Counts of small p-values and of discoveries of every method in one data set, one row a cell type."""
    with threadpool_limits(1):
        study = make(task, genes, cells)
        if study is None:
            return []
        setting = {name: getattr(task, name) for name in ("data", "design", "donors", "effect", "repeat")}
        rows = []
        for model, ddf, p, zero in _results(task, study, peers, models):
            bins = VARIANCE if ddf == "satterthwaite" and task.effect == "null" else ["all"]
            for t, variance in product(study.tested.columns, bins):
                low, high = VARIANCE[variance]
                tested = study.tested[t] & p[t].notna() & study.variance[t].between(low, high, inclusive="left")
                row = _counted(p.loc[tested, t].to_numpy(), study.true.loc[tested, t].to_numpy())
                row |= {"model": model, "ddf": ddf, "type": t, "variance": variance}
                rows.append(setting | row | {"zero": zero.loc[tested, t].sum()})
    return rows


def _results(
    task: Task, study: Study, peers: list[str], models: Collection[str]
) -> Iterator[tuple[str, str, pd.DataFrame, pd.DataFrame]]:
    yield from mixed_models(study, task.design, models)
    for name in peers:
        if task.repeat < PEER_REPEATS.get(name, np.inf) * (3 if task.split else 1):
            p = PEERS[name](study, task.design)
            yield name, "", p, pd.DataFrame(False, p.index, p.columns)


def _counted(p: np.ndarray, true: np.ndarray) -> dict[str, float]:
    null = p[~true]
    row = {"n": null.size} | {f"under_{level}": (null < level).sum() for level in LEVELS}
    found = (false_discovery_control(p) if p.size else p) < FDR
    row["power"] = found[true].mean() if true.any() else np.nan
    return row | {"fdp": (found & ~true).sum() / max(found.sum(), 1)}


def summarised(counts: pd.DataFrame) -> pd.DataFrame:
    """Means over repeats with Monte-Carlo errors; real data also by cell type.

    The error of a share is its spread over data sets, or the binomial one where that is larger (few data sets).
    """
    real = ~counts["data"].str.contains("donor") & (counts["variance"] == "all")
    table = pd.concat([_means(counts.assign(type="all")), _means(counts[real])])
    return table.sort_values(SETTING, kind="stable")


def _means(counts: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for setting, part in counts.groupby(SETTING, sort=False):
        sets = part.groupby("repeat")
        n, total = sets["n"].sum(), part["n"].sum()
        row = dict(zip(SETTING, setting, strict=True))
        row |= {"data_sets": len(n), "p_values": total, "zero_variance": part["zero"].sum() / max(total, 1)}
        for level in LEVELS:
            share = part[f"under_{level}"].sum() / total if total else np.nan
            spread = (sets[f"under_{level}"].sum() / n).std() / np.sqrt(len(n))
            row |= {f"p<{level}": share, f"se<{level}": np.fmax(spread, np.sqrt(share * (1 - share) / max(total, 1)))}
        if row["effect"] != "null":
            for name, column in {"power": "power", "fdr": "fdp"}.items():
                values = sets[column].mean()
                row |= {name: values.mean(), f"se_{name}": values.std() / np.sqrt(len(values))}
        rows.append(row)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
