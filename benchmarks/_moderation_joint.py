"""Moderated F tests beside limma's, and contrasts across cell types: level, power and false discoveries.

Real donors get a random factor of three levels, or a random covariate with a cubic spline of 3 df: nothing to be found,
or effects put into a tenth of the genes. Across cell types: the donors' two random halves, one type's difference minus
another's, the donors being the same in both.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from _calibration_data import MIN_CELLS, Study, Task, make
from _moderation_data import DE_SHARE, NULL, SHIFT, SHIFTED, DataSet, data_sets, real
from _moderation_methods import run_r
from _scores import FDR, LEVELS, counted
from threadpoolctl import threadpool_limits

import flashmm_sc as fsc
from flashmm_sc._inference.across import across_tests

SIDES = [3, 4, 6, 10]
FACTOR, SPLINE, ACROSS = "3-level factor", "3-df spline", "across types"
MODERATED, SATTERTHWAITE, LIMMA = "moderated", "satterthwaite", "limma-trend, means"
MIN_COMMON = 150  # genes expressed in both of two cell types


def run_joint(folder: Path, work: Path, splits: int, jobs: int) -> pd.DataFrame:
    """Every test in every data set, summed up."""
    tasks = [task for task in real(folder, SIDES, splits) if task.data == "OneK1K" or 2 * task.repeat < splits]
    tasks.sort(key=lambda task: task.repeat)
    rows = []
    with ProcessPoolExecutor(jobs) as pool:
        for done, found in enumerate(pool.map(partial(analyse_joint, work=work), tasks), 1):
            rows += found
            print(f"\r{done} of {len(tasks)}", end="", flush=True)
    print()
    run_r(work)
    for info in sorted(work.glob("*/info.json")):
        p = pd.read_csv(info.with_name("p.csv"))
        if info.with_name("peers.csv").exists():
            p[LIMMA] = pd.read_csv(info.with_name("peers.csv"))[LIMMA]
        true = p.pop("true").to_numpy(bool)
        rows += [
            json.loads(info.read_text()) | {"method": name} | counted_finite(p[name].to_numpy(), true) for name in p
        ]
    return summed_up(pd.DataFrame(rows))


def analyse_joint(task: Task, work: Path) -> list[dict]:
    """F tests into folders, as R takes them; tests across cell types as rows."""
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", fsc.FlashmmWarning)
        for data in data_sets(task):
            for test in (FACTOR, SPLINE):
                analyse_f(data, test, work)
        return list(across_types(make(task, 0, 0), task))


def analyse_f(data: DataSet, test: str, work: Path) -> None:
    """Our F tests of a random design, null and with effects; what R needs."""
    donors = sorted(data.obs["sam"].unique())
    rng = data.rng(salt=7)
    if test == FACTOR:
        level = rng.permutation(np.arange(len(donors)) % 3)
        design = pd.DataFrame({"b": level == 1, "c": level == 2}, index=donors, dtype=float)
    else:
        x = rng.normal(size=len(donors))
        design = pd.DataFrame(np.vander(x / np.abs(x).max(), 4, increasing=True)[:, 1:], donors)
    _, means, samples = data.samples(MIN_CELLS)
    kept = np.column_stack([np.ones(len(samples)), design.loc[samples.index]])
    if np.linalg.matrix_rank(kept) < kept.shape[1] or len(kept) < kept.shape[1] + 2:
        return
    m, base = len(data.true), design - design.mean()
    weights = rng.normal(size=(base.shape[1], m))
    signal = base.to_numpy() @ weights
    signal *= SHIFT / signal.std(axis=0)
    true = rng.permutation(m) < round(DE_SHARE * m)
    for effect in (NULL, SHIFTED):
        shift = pd.DataFrame(signal * data.Y.std(axis=0) * true * (effect == SHIFTED), donors)
        folder = work / f"{data.name}_{test.replace(' ', '_')}_{effect}"
        folder.mkdir(parents=True, exist_ok=True)
        p = f_tests(data.Y + shift.loc[data.obs["sam"]].to_numpy(), data.obs["sam"], design)
        p.assign(true=true & (effect == SHIFTED)).to_csv(folder / "p.csv", index=False)
        np.savetxt(folder / "means.csv", (means + shift.loc[samples.index].to_numpy()).T, delimiter=",", fmt="%.9g")
        np.savetxt(folder / "design.csv", kept, delimiter=",", fmt="%.12g")
        info = {"data": data.data, "donors": data.donors, "repeat": data.repeat, "test": test, "effect": effect}
        (folder / "info.json").write_text(json.dumps(info | {"cls": data.cls}))


def f_tests(Y: np.ndarray, sam: pd.Series, design: pd.DataFrame) -> pd.DataFrame:
    """p-values of the joint test of all columns but the intercept."""
    X = design.loc[sam].set_axis([f"x{j}" for j in range(design.shape[1])], axis=1).reset_index(drop=True)
    X.insert(0, "one", 1.0)
    codes, names = pd.factorize(sam, sort=True)
    sums = fsc.sslmm(X, Y, np.eye(len(names))[codes], n_jobs=1)
    fits = {
        MODERATED: fsc.lmm(sums, nonnegative=True, moderate=True, n_jobs=1),
        SATTERTHWAITE: fsc.lmm(sums, nonnegative=True, ddf="satterthwaite", n_jobs=1),
    }
    columns = list(X.columns[1:])
    return pd.DataFrame(
        {name: fsc.lmmtest(fit, index=columns, joint=True)["p"].to_numpy() for name, fit in fits.items()}
    )


def across_types(study: Study | None, task: Task) -> Iterator[dict]:
    """Differences of the halves' difference between every two cell types, where nothing is to be found."""
    if study is None:
        return
    obs = study.adata.obs
    for pair in combinations(study.tested.columns, 2):
        genes = study.tested[list(pair)].all(axis=1).to_numpy()
        if genes.sum() < MIN_COMMON:
            continue
        fits = []
        for t in pair:
            here = (obs["cls"] == t).to_numpy()
            codes, names = pd.factorize(obs["sam"][here].astype(str), sort=True)
            X = pd.DataFrame({"one": 1.0, "trt": (obs["trt"][here] == "B").to_numpy(float)})
            sums = fsc.sslmm(X, study.adata.X[here][:, genes].toarray(), np.eye(len(names))[codes], n_jobs=1)
            fits.append(
                [
                    fsc.lmm(sums, nonnegative=True, ddf="satterthwaite", moderate=is_moderated, n_jobs=1)
                    for is_moderated in (True, False)
                ]
            )
        for method, *both in zip((MODERATED, SATTERTHWAITE), *fits, strict=True):
            c = np.array([0.0, 1.0])
            p = across_tests([(both[0].inference, c), (both[1].inference, -c)], n_jobs=1).p[:, 0]
            info = {"data": task.data, "donors": task.donors, "repeat": task.repeat, "test": ACROSS, "effect": NULL}
            yield info | {"method": method, "cls": " - ".join(pair)} | counted_finite(p, np.zeros(len(p), bool))


def counted_finite(p: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Counts of the genes that were tested."""
    tested = np.isfinite(p)
    return counted(p[tested], true[tested])


def summed_up(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over splits (all cell types of a split together) and their Monte-Carlo errors."""
    out = []
    for key, part in rows.groupby(["data", "test", "effect", "donors", "method"], sort=True):
        splits = part.groupby("repeat")
        n = splits["n"].sum()
        row = dict(zip(("data", "test", "effect", "donors", "method"), key, strict=True)) | {
            "splits": len(n),
            "n": n.sum(),
        }
        for name in (f"p<{level}" for level in LEVELS):
            counts = splits[name].sum()
            row |= {name: counts.sum() / n.sum(), f"se {name}": (counts / n).std() / np.sqrt(len(n))}
        for name in ("power", "fdp"):
            values = splits[name].mean()
            row |= {name: values.mean(), f"se {name}": values.std() / np.sqrt(len(values))}
        out.append(row)
    return pd.DataFrame(out)


def write_joint(table: pd.DataFrame, md: Path) -> None:
    """Tables of levels and of what was found."""
    null, shifted = (table[table["effect"] == effect] for effect in (NULL, SHIFTED))
    md.write_text("\n".join([*_levels(null), "", *_found(shifted)]) + "\n", encoding="utf-8")


def _levels(null: pd.DataFrame) -> list[str]:
    text = [
        "# Table: moderated F tests and differences of cell types",
        "",
        "Share of null p < .05, < .01, < .001 (Monte-Carlo errors over splits):",
        "",
        "| test, data, donors | moderated | Satterthwaite's df | limma-trend of sample means |",
        "|---|---|---|---|",
    ]
    for (test, data, donors), part in null.groupby(["test", "data", "donors"]):
        by = part.set_index("method")
        cells = [_shares(by.loc[name]) if name in by.index else "" for name in (MODERATED, SATTERTHWAITE, LIMMA)]
        text.append(f"| {test}, {data}, {donors} | {' | '.join(cells)} |")
    return text


def _shares(row: pd.Series) -> str:
    digits = dict(zip(LEVELS, (3, 3, 4), strict=True))
    values = [
        f"{row[f'p<{level}']:.{d}f} ± {row[f'se p<{level}']:.{d}f}".replace("0.", ".") for level, d in digits.items()
    ]
    return ", ".join(values)


def _found(table: pd.DataFrame) -> list[str]:
    text = [
        f"Power at Benjamini and Hochberg's {FDR} ± Monte-Carlo error (mean false discovery proportion):",
        "",
        "| test, data, donors | moderated | Satterthwaite's df | limma-trend of sample means |",
        "|---|---|---|---|",
    ]
    for (test, data, donors), part in table.groupby(["test", "data", "donors"]):
        by = part.set_index("method")
        cells = [
            f"{by.loc[name, 'power']:.2f} ± {by.loc[name, 'se power']:.2f} ({by.loc[name, 'fdp']:.2f})"
            if name in by.index
            else ""
            for name in (MODERATED, SATTERTHWAITE, LIMMA)
        ]
        text.append(f"| {test}, {data}, {donors} | {' | '.join(cells)} |")
    return text
