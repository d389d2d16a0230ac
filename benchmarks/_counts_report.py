"""The table and the check of `counts.py`; `figures.py` draws its figure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from _counts_data import PAIRED, SIMULATED, UNEQUAL
from _counts_methods import ALL_SAMPLES, DESEQ, DREAM, NBMM, NEBULA, PSEUDOBULK
from _moderation_methods import MODERATED
from _plots import LEVELS, markdown, rows_of, shares

METHODS = [
    NBMM,
    "edgeR QL",
    ALL_SAMPLES,
    "limma-voom",
    "limma-trend, log CPM",
    MODERATED,
    DESEQ,
    NEBULA,
    DREAM,
]
NAMES = {MODERATED: "moderated linear mixed model", NBMM: "nbmm_de"}
NULL, THINNED, DRAWN = "null", "thinning", "simulation"
DATA = [  # and its effects
    ("OneK1K", THINNED),
    ("Kang control", THINNED),
    ("OneK1K" + UNEQUAL, THINNED),
    ("Kang control" + UNEQUAL, THINNED),
    (SIMULATED, DRAWN),
    (PAIRED, DRAWN),
]
FOUND = ["power", "fdp", "ranking"]
REAL = ["OneK1K", "Kang control"]
FDP = 0.07


def write_table(table: pd.DataFrame, gains: pd.DataFrame, path: Path) -> None:
    """Levels, what is found, and the differences in the same splits, in Markdown."""
    methods = [method for method in METHODS if method in set(table["method"])]
    names = [NAMES.get(method, method) for method in methods]
    levels, found, more = [], [], []
    for data, effect in DATA:
        for donors, part in rows_of(table, data=data, effect=NULL).groupby("donors"):
            part = part.set_index("method")
            levels.append([f"{data}, {donors}", *(shares(part, method) for method in methods)])
        for donors, part in rows_of(table, data=data, effect=effect).groupby("donors"):
            part = part.set_index("method")
            found.append([f"{data}, {donors}", *(_found(part, method) for method in methods)])
        for donors, part in rows_of(gains, data=data, effect=effect).groupby("donors"):
            more.append([f"{data}, {donors}", *(_gains(part, method) for method in methods if method != NBMM)])
    text = [
        "# Table: tests of counts",
        "Share of p < .05, < .01, < .001 where nothing is to be found (all cell types; donors in both groups together):",
        markdown(["data, donors", *names], levels),
        " ".join((_errors(table), *_few(table))),
        "Power at Benjamini and Hochberg's 0.05 (mean false discovery proportion), power at 1 % realised false positives:",
        markdown(["data, donors", *names], found),
        "What nbmm_de has more in the same splits, of power and of power at 1 % realised false positives (± Monte-Carlo "
        "error of the latter):",
        markdown(["data, donors", *(name for name in names if name != NBMM)], more),
    ]
    path.write_text("\n\n".join(text) + "\n", encoding="utf-8")


def _errors(table: pd.DataFrame) -> str:
    own = rows_of(table, effect=NULL, method=NBMM)
    largest = ", ".join(f"{own[f'se {name}'].max():.4f} ({name})" for name in LEVELS)
    return f"Monte-Carlo errors of nbmm_de's shares (spread over splits, at most): {largest}."


def _few(table: pd.DataFrame) -> list[str]:
    """Which methods were run on a part of the splits."""
    splits = table[table["effect"] == NULL].groupby("method")["splits"].max()
    return [
        f"{method}: {splits[method]} of {splits.max()} splits of each size"
        + (", only of paired data." if method == DREAM else ", and no data of Kang et al.")
        for method in (DESEQ, NEBULA, DREAM)
        if method in splits
    ]


def _found(part: pd.DataFrame, method: str) -> str:
    if method not in part.index:
        return ""
    power, fdp, ranking = part.loc[method, FOUND]
    return f"{power:.2f} ({fdp:.2f}) {ranking:.2f}"


def _gains(part: pd.DataFrame, peer: str) -> str:
    gain = part[part["peer"] == peer].set_index("measure")
    if gain.empty:
        return ""
    ranking = gain.loc["ranking"]
    error = "" if np.isnan(ranking["se"]) else f" ± {ranking['se']:.3f}"
    return f"{gain.loc['power', 'gain']:+.3f}, {ranking['gain']:+.3f}{error}"


def targets(table: pd.DataFrame, gains: pd.DataFrame) -> str:
    """Whether what nbmm_de was to reach is reached, line by line, with Monte-Carlo errors."""
    own = table[table["method"] == NBMM]
    if own.empty:
        return "nbmm_de was not run."
    null, thinned = (own[own["data"].isin(REAL) & (own["effect"] == effect)] for effect in (NULL, THINNED))
    lines = ["Level, real null splits:"]
    for name, most in (("p<0.05", 0.06), ("p<0.001", 0.0025)):
        lines += [
            _line(part[name].mean() <= most, f"{data} {name}, mean {_by_donors(part, name)}", f"<= {most}")
            for data, part in (("all", null), *null.groupby("data"))
        ]
    for name, most in (("p<0.05", 0.012), ("p<0.001", 0.0)):
        part = _of(gains, REAL, NULL, name)
        lines += _differences(part[part["peer"] == "edgeR QL"], lambda gain, most=most: gain <= most, f"<= {most}")
    lines.append("Thinned counts:")
    lines += _differences(_of(gains, REAL, THINNED, "power", least=8), lambda gain: gain > 0, "> 0")
    late = thinned[thinned["donors"] >= 8]
    lines += [
        _line(part["fdp"].mean() <= FDP, f"{data} fdp, mean {_by_donors(part, 'fdp')}", f"<= {FDP}")
        for data, part in (("all", late), *late.groupby("data"))
    ]
    lines += _differences(_of(gains, REAL, THINNED, "ranking", least=6), lambda gain: gain > 0, "> 0")
    lines += _differences(_of(gains, REAL, THINNED, "ranking", most=4), lambda gain: gain >= 0, ">= 0")
    lines.append("Unequal numbers of cells:")
    for measure in ("power", "ranking"):
        for data, effect in ((SIMULATED, DRAWN), *((name + UNEQUAL, THINNED) for name in REAL)):
            lines += _differences(_of(gains, [data], effect, measure), lambda gain: gain > 0, "> 0")
    return "\n".join(lines)


def _of(
    gains: pd.DataFrame, data: list[str], effect: str, measure: str, *, least: int = 0, most: int = 1000
) -> pd.DataFrame:
    """Differences to pseudobulk of some numbers of donors, by data set and in the mean of several."""
    part = gains[gains["data"].isin(data) & gains["peer"].isin(PSEUDOBULK) & gains["donors"].between(least, most)]
    part = part[(part["effect"] == effect) & (part["measure"] == measure)]
    if len(data) == 1:
        return part
    sets = part.groupby(["measure", "peer", "donors"])  # and the mean of the data sets that have this size
    both = sets.agg(gain=("gain", "mean"), se=("se", lambda se: np.hypot.reduce(se) / len(se))).reset_index()
    return pd.concat([part, both.assign(data="mean")])


def _differences(part: pd.DataFrame, holds: Callable[[pd.Series], pd.Series], wanted: str) -> list[str]:
    """A line a data set and peer."""
    return [
        _line(holds(rows["gain"]).all(), f"{data} {measure} minus that of {peer}: {_by_donors(rows, 'gain')}", wanted)
        for (data, measure, peer), rows in part.groupby(["data", "measure", "peer"])
    ]


def _by_donors(rows: pd.DataFrame, name: str) -> str:
    error = "se" if name == "gain" else f"se {name}"
    if len(set(rows["data"])) > 1:
        return f"{rows[name].mean():.4f} of all sizes"
    values = (f"{r['donors']}: {r[name]:.4f} ± {r[error]:.4f}" for _, r in rows.sort_values("donors").iterrows())
    return ("" if name == "gain" else f"{rows[name].mean():.4f} of ") + ", ".join(values)


def _line(held: bool, what: str, wanted: str) -> str:
    return f"  {'held' if held else 'NOT '} ({wanted})  {what}"
