"""Moderated tests beside pseudobulk peers: level, power and false discoveries by number of donors.

Real data in which nobody was treated (donors split at random), the same with effects put in (values shifted; counts
thinned), and simulations. Writes results/moderation.csv here and docs/_moderation_table.md.

    python benchmarks/moderation.py [--splits 8] [--repeats 2] [--data ../shared/data] [--work FOLDER]
    python benchmarks/moderation.py --report      table from the csv there is
    python benchmarks/moderation.py --probe       what the choices within moderation change
    python benchmarks/moderation.py --joint       F tests, and contrasts across cell types (results/moderation_joint.*)

edgeR, limma and lmerTest need Rscript, PyDESeq2 the package pydeseq2; each is left out where it is not installed. What
is done lies in the work folder, from which an interrupted run goes on.
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
from _calibration_data import Task
from _moderation_data import NULL, SHIFTED, THINNED, DataSet, data_sets, real, simulations
from _moderation_joint import run_joint, write_joint
from _moderation_methods import HAS_DESEQ, deseq, mixed_models, run_r, t_test, write_for_r
from _moderation_probe import probe, read
from _moderation_report import differences, targets, write_table
from _scores import counted, means_over_splits
from threadpoolctl import threadpool_limits

HERE = Path(__file__).resolve().parent
RESULTS, DOCS = HERE / "results", HERE.parent / "docs"
SIDES = [2, 3, 4, 6, 10, 20]
FEWER = {"Kang control": (0.75, 0.35)}  # share of the splits: null, and with effects; eight cell types cost more
MORE = {4: 4, 6: 2, 8: 2}  # times as many null splits of few donors of OneK1K, which vary most
DESEQ = 1  # repeats that PyDESeq2 is run on; it takes seconds for each cell type
LMER_GENES, LMER_DONORS = 100, 8


def main() -> None:
    """Run, write, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two numbers of donors, two splits")
    parser.add_argument("--splits", type=int, default=8, help="random splits of real donors of each size")
    parser.add_argument("--repeats", type=int, default=2, help="simulations of each size")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data", help="folder of real data")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "flashmm_moderation")
    parser.add_argument("--out", type=Path, help="folder of the results; the docs are then left alone")
    parser.add_argument("--report", action="store_true", help="table from the csv there is")
    parser.add_argument("--probe", nargs="*", metavar="NAME", help="probe the choices made within moderation")
    parser.add_argument("--joint", action="store_true", help="F tests, and contrasts across cell types")
    options = parser.parse_args()
    if options.joint:
        joint(options)
        return
    if options.probe is not None:
        with threadpool_limits(1):
            probe(options.data, options.probe, options.out or RESULTS)
        return
    out = options.out or RESULTS
    out.mkdir(parents=True, exist_ok=True)
    if not options.report:
        start = time.perf_counter()
        run(options)
        run_r(options.work)
        rows = collected(options.work)
        summarised(rows).to_csv(out / "moderation.csv", index=False, float_format="%.5g")
        differences(rows).to_csv(out / "moderation_power.csv", index=False, float_format="%.5g")
        print(f"{time.perf_counter() - start:.0f} s")
    table, gains = (read(out / name) for name in ("moderation.csv", "moderation_power.csv"))
    write_table(table, (out if options.out else DOCS) / "_moderation_table.md")
    print(targets(table, gains))


def joint(options: argparse.Namespace) -> None:
    """F tests and contrasts across cell types: csv and table."""
    out = options.out or RESULTS
    out.mkdir(parents=True, exist_ok=True)
    if not options.report:
        found = run_joint(options.data, options.work / "joint", options.splits, options.jobs)
        found.to_csv(out / "moderation_joint.csv", index=False, float_format="%.5g")
    table = read(out / "moderation_joint.csv")
    write_joint(table, (out if options.out else DOCS) / "_moderation_joint_table.md")


def run(options: argparse.Namespace) -> None:
    """Python's methods on every data set, and the files for R."""
    sides, splits, repeats = ([2, 4], 2, 1) if options.quick else (SIDES, options.splits, options.repeats)
    tasks = [
        task
        for task in real(options.data, sides, splits * max(MORE.values()))
        if task.repeat < splits * (MORE.get(task.donors, 1) if task.data == "OneK1K" else 1)
    ]
    tasks += simulations([2 * side for side in sides], repeats)
    tasks.sort(key=lambda task: task.repeat)  # whatever is done so far has all sizes
    if not HAS_DESEQ:
        print("PyDESeq2 is left out: it is not installed.")
    work = partial(analyse_all, splits=splits, folder=options.work)
    with ProcessPoolExecutor(options.jobs) as pool:
        for done, _ in enumerate(pool.map(work, tasks), 1):
            print(f"\r{done} of {len(tasks)}", end="", flush=True)
    print()


def analyse_all(task: Task, splits: int, folder: Path) -> None:
    """All cell types of a task, as they are and with effects."""
    null, effects = FEWER.get(task.data, (np.inf, 1.0))
    if task.split and task.repeat >= null * splits:
        return
    with threadpool_limits(1):
        for data in data_sets(task):
            if not task.split:
                analyse(data, task, folder)
                continue
            for kind in (NULL, SHIFTED, THINNED) if task.repeat < effects * splits else (NULL,):
                analyse(data.with_effect(kind), task, folder)


def analyse(data: DataSet, task: Task, work: Path) -> None:
    """Write the p-values of Python's methods, and what R needs, into the folder of a data set."""
    folder = work / data.name
    if (folder / "info.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    p = mixed_models(data) | {"t test": t_test(data)}
    if HAS_DESEQ and data.counts is not None and task.repeat < DESEQ and data.data != "Kang control":
        counts, _, obs = data.samples()
        p["PyDESeq2"] = deseq(counts, obs)
    pd.DataFrame({name: np.asarray(values) for name, values in p.items()} | {"true": data.true}).to_csv(
        folder / "p.csv", index=False
    )
    lmer = task.repeat == 0 and data.donors == LMER_DONORS and data.data == "OneK1K" and data.effect == NULL
    write_for_r(data, folder, LMER_GENES * lmer)
    info = {name: getattr(data, name) for name in ("data", "donors", "effect", "repeat", "cls")}
    (folder / "info.json").write_text(json.dumps(info))


def collected(work: Path) -> pd.DataFrame:
    """Counts of small p-values and of discoveries, one row a data set and method."""
    rows = []
    for info in sorted(work.glob("*/info.json")):
        p = pd.read_csv(info.with_name("p.csv"))
        true = p.pop("true").to_numpy(bool)
        for name in ("peers.csv", "lmer.csv"):
            if info.with_name(name).exists():
                p = pd.concat([p, pd.read_csv(info.with_name(name))], axis=1)
        setting = json.loads(info.read_text())
        for method, values in p.items():
            tested = values.notna().to_numpy()
            rows.append(setting | {"method": method} | counted(values.to_numpy()[tested], true[tested]))
    return pd.DataFrame(rows)


def summarised(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over splits and their Monte-Carlo errors, of each cell type and of all."""
    setting = ["data", "effect", "donors", "method", "cls"]
    out = []
    for key, part in pd.concat([rows, rows.assign(cls="all")]).groupby(setting, sort=True):
        out.append(dict(zip(setting, key, strict=True)) | means_over_splits(part))
    return pd.DataFrame(out)


if __name__ == "__main__":
    main()
