"""Negative binomial mixed models beside peers on counts: level, power, false discoveries, and how well genes are ranked.

Real data in which nobody was treated (donors split at random) and the same with a tenth of the genes' counts thinned in
one group; the same with very unequal numbers of cells a donor; simulations of such donors, and of donors that have both
treatments. Writes results/counts.csv and counts_gains.csv here, and docs/_counts_table.md.

    python benchmarks/counts.py [--quick] [--splits 16] [--data ../shared/data] [--work FOLDER]
    python benchmarks/counts.py --own         `nbmm_de` anew in the work folder; peers as they are there
    python benchmarks/counts.py --report      table from the csv there is

Power and false discovery proportions are Benjamini and Hochberg's at 0.05 in each cell type, means over the types of a
split. "ranking" is power at 1 % realised false positives: of all cell types of a split together, the share of genes with
effects whose p is below the one that 1 % of the genes without effect fall below. It does not depend on a method's level.

edgeR, limma, NEBULA and dream need Rscript, PyDESeq2 the package pydeseq2; each is left out where it is not installed.
What is done lies in the work folder, from which an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from _counts_data import data_sets_of, write
from _counts_methods import HAS_NBMM, NBMM, PEERS, deseq_sums, nbmm, p_values, run_mixed_r, written
from _counts_report import targets, write_table
from _moderation_methods import HAS_DESEQ, run_r
from _moderation_probe import read
from _scores import LEVELS, counted, means_over_splits, paired_differences, ranking
from threadpoolctl import threadpool_limits

HERE = Path(__file__).resolve().parent
RESULTS, DOCS = HERE / "results", HERE.parent / "docs"
SIDES = [2, 3, 4, 6, 10]
SETTING = ["data", "effect", "donors"]
MEASURES = [*(f"p<{level}" for level in LEVELS), "power", "fdp", "ranking"]


def main() -> None:
    """Run, write, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two numbers of donors, two splits")
    parser.add_argument("--splits", type=int, default=16, help="random splits of real donors, and simulations")
    parser.add_argument("--slow", type=int, default=4, help="repeats that PyDESeq2 and NEBULA are run on; dream on one")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data", help="folder of real data")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "flashmm_counts")
    parser.add_argument("--out", type=Path, help="folder of the results; the docs are then left alone")
    parser.add_argument("--own", action="store_true", help="only nbmm_de, anew on the data sets of the work folder")
    parser.add_argument("--report", action="store_true", help="table from the csv there is")
    options = parser.parse_args()
    out = options.out or RESULTS
    out.mkdir(parents=True, exist_ok=True)
    if not options.report:
        start = time.perf_counter()
        run(options)
        rows = collected(options.work)
        summarised(rows).to_csv(out / "counts.csv", index=False, float_format="%.5g")
        gains(rows).to_csv(out / "counts_gains.csv", index=False, float_format="%.5g")
        print(f"{time.perf_counter() - start:.0f} s")
    table, differences = (read(out / name) for name in ("counts.csv", "counts_gains.csv"))
    write_table(table, differences, (out if options.out else DOCS) / "_counts_table.md")
    print(targets(table, differences))


def run(options: argparse.Namespace) -> None:
    """Every method on every data set, a repeat at a time; then what is slow, on some."""
    sides, splits = ([2, 4], 2) if options.quick else (SIDES, options.splits)
    if not HAS_NBMM:
        print("nbmm_de is left out: this version has none.")
    if not HAS_DESEQ:
        print("PyDESeq2 is left out: it is not installed.")
    work = partial(run_repeat, sides=sides, splits=splits, options=options)
    with ProcessPoolExecutor(options.jobs) as pool:
        for done, _ in enumerate(pool.map(work, range(splits)), 1):
            print(f"{done} of {splits} repeats", flush=True)
        if not (options.own or options.quick):
            list(pool.map(partial(run_slow, work=options.work), range(options.slow)))


def run_repeat(repeat: int, sides: list[int], splits: int, options: argparse.Namespace) -> None:
    """The data sets of a repeat and the quick methods on them."""
    work = options.work / f"{repeat:02d}"
    with threadpool_limits(1):
        if not options.own:
            for data in data_sets_of(repeat, sides, splits, options.data):
                write(data, options.work)
            run_r(work)
        if HAS_NBMM:
            for info in sorted(work.glob("*/info.json")):
                written(nbmm, info.parent, "nbmm.csv", again=options.own)


def run_slow(repeat: int, work: Path) -> None:
    """What takes seconds for each cell type, on all but the data of Kang et al.; once dream, which takes a minute."""
    infos = sorted((work / f"{repeat:02d}").glob("*/info.json"))
    folders = [info.parent for info in infos if "Kang" not in json.loads(info.read_text())["data"]]
    with threadpool_limits(1):
        for folder in folders if HAS_DESEQ else ():
            written(deseq_sums, folder, "deseq.csv")
    run_mixed_r(work / f"{repeat:02d}", folders, dream=repeat == 0)


def collected(work: Path) -> pd.DataFrame:
    """One row a split (or simulation) and method: shares, power, false discoveries, ranking over its cell types."""
    infos = [json.loads(info.read_text()) | {"folder": info.parent} for info in sorted(work.glob("*/*/info.json"))]
    rows = []
    for key, sets in pd.DataFrame(infos).groupby([*SETTING, "repeat"], sort=True):
        p = [p_values(folder) for folder in sets["folder"]]
        true = [np.load(folder / "true.npy") for folder in sets["folder"]]
        setting = dict(zip([*SETTING, "repeat"], key, strict=True))
        for method in {name: None for part in p for name in part}:
            both = [(part[method].to_numpy(), t) for part, t in zip(p, true, strict=True) if method in part]
            rows.append(setting | {"method": method} | scores(both))
    return pd.DataFrame(rows)


def scores(both: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Of a method's p-values and the true effects of the cell types of a split. What is not tested (NaN) is not found."""
    types = pd.DataFrame([found(p, true) for p, true in both])
    counts = [name for name in types if name not in ("power", "fdp")]
    p, true = (np.concatenate(parts) for parts in zip(*both, strict=True))
    row = types[counts].sum().to_dict() | types[["power", "fdp"]].mean().to_dict()
    return row | {"ranking": ranking(np.where(np.isnan(p), 1.0, p), true)}


def found(p: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Levels and discoveries among tested genes, power among all."""
    tested = np.isfinite(p)
    row = counted(p[tested], true[tested])
    return row | {"power": row["power"] * tested[true].mean() if true.any() else np.nan}


def summarised(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over splits and their Monte-Carlo errors."""
    setting = [*SETTING, "method"]
    groups = rows.groupby(setting, sort=True)
    return pd.DataFrame([dict(zip(setting, key, strict=True)) | means_over_splits(part) for key, part in groups])


def gains(rows: pd.DataFrame) -> pd.DataFrame:
    """What nbmm_de has more than each peer in the same splits, of every measure."""
    rows = rows.assign(**{name: rows[name] / rows["n"] for name in MEASURES if name.startswith("p<")})
    parts = [paired_differences(rows, SETTING, NBMM, PEERS, name).assign(measure=name) for name in MEASURES]
    return pd.concat(parts)


if __name__ == "__main__":
    main()
