"""The tables of `calibration.py` between the markers of its page; `figures.py` draws its figures."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
from _calibration_methods import BY_CLS, MODERATED, UNBOUND

VARIED, PLAIN = "donor and donor × type variance", "donor variance"
NESTED, CROSSED, SAMPLES = "nested", "crossed", "crossed, samples vary"
DATA = [  # and its design
    (PLAIN, NESTED),
    (VARIED, NESTED),
    (VARIED, CROSSED),
    (VARIED, SAMPLES),
    ("OneK1K", NESTED),
    ("Kang control", NESTED),
]
NAMES = {  # model, ddf → label
    ("groupby, sam", "residual"): "groupby, sam; n − p",
    ("groupby, sam", UNBOUND): "groupby, sam; Satterthwaite without bound",
    ("groupby, sam", "satterthwaite"): "groupby, sam; Satterthwaite",
    ("groupby, sam", "kenward-roger"): "groupby, sam; Kenward–Roger",
    ("groupby, sam", MODERATED): "groupby, sam; moderated",
    ("groupby, sam + sam:trt", "satterthwaite"): "groupby, sam + sam:trt; Satterthwaite",
    ("groupby, sam + sam:trt", MODERATED): "groupby, sam + sam:trt; moderated",
    ("joint, sam", "satterthwaite"): "joint, sam; Satterthwaite",
    ("joint, sam + sam:cls", "satterthwaite"): "joint, sam + sam:cls; Satterthwaite",
    (BY_CLS, "satterthwaite"): f"{BY_CLS}; Satterthwaite",
    (f"{BY_CLS}, also samples", "satterthwaite"): f"{BY_CLS}, also samples; Satterthwaite",
    ("pseudobulk, t test", ""): "pseudobulk: t test of log CPM",
    ("pseudobulk, PyDESeq2", ""): "pseudobulk: PyDESeq2",
    ("cells, Wilcoxon", ""): "cells: Wilcoxon (scanpy)",
}


def _selected(table: pd.DataFrame, **where: str | int) -> pd.DataFrame:
    """Rows with these values, and of all cell types and variances together unless these are among them."""
    table = table.assign(ddf=table["ddf"].fillna(""))
    for column, value in ({"type": "all", "variance": "all"} | where).items():
        table = table[table[column] == value]
    return table.sort_values("donors")


def write_tables(table: pd.DataFrame, guide: Path | None) -> None:
    """Print the tables and, given the guide, put them between its markers `<!-- begin NAME -->` and `<!-- end NAME -->`."""
    tables = {
        "terms": _terms(table),
        "donors": _donors(table),
        "power": _power(table),
        "pooling": _pooling(table),
        "targets": _targets(table),
        "differences": _differences(table),
    }
    print("\n\n".join(tables.values()))
    if guide is None or not guide.exists():
        return
    text = guide.read_text(encoding="utf-8")
    for name, lines in tables.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        text = pattern.sub(lambda _, new=f"{begin}\n{lines}\n{end}": new, text)
    guide.write_text(text, encoding="utf-8")


def _shares(row: pd.DataFrame) -> str:
    if row.empty or not row["p_values"].iloc[0]:
        return ""
    row = row.iloc[0]
    return " ".join(
        f"{row[f'p<{level}']:.{digits}f}".lstrip("0") for level, digits in ((0.05, 3), (0.01, 3), (0.001, 4))
    )


def _found(row: pd.DataFrame) -> str:
    return (
        "" if row.empty or np.isnan(row["power"].iloc[0]) else f"{row['power'].iloc[0]:.2f} ({row['fdr'].iloc[0]:.2f})"
    )


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _terms(table: pd.DataFrame, donors: int = 8) -> str:
    """Models with Satterthwaite's df: null shares of each kind of data at one number of donors."""
    kinds = [
        (PLAIN, NESTED),
        (VARIED, NESTED),
        (VARIED, CROSSED),
        (VARIED, SAMPLES),
        ("OneK1K", NESTED),
        ("Kang control", NESTED),
    ]
    header = ["8 donors", "nested, donors alike in all types", "nested, donor × type", "crossed, donor × type"]
    header += ["crossed, samples vary", "OneK1K, 4 v 4", "Kang control, 4 v 4"]
    rows = []
    for (model, ddf), label in NAMES.items():
        if ddf not in ("satterthwaite", ""):
            continue
        cells = [
            _shares(_selected(table, data=data, design=design, effect="null", model=model, ddf=ddf, donors=donors))
            for data, design in kinds
        ]
        rows.append([label.replace("; Satterthwaite", ""), *cells])
    return _markdown(header, rows)


def _donors(table: pd.DataFrame) -> str:
    """Degrees of freedom, one model per cell type: null shares by number of donors of real data."""
    methods = [("groupby, sam", "residual"), ("groupby, sam", UNBOUND), ("groupby, sam", "satterthwaite")]
    methods += [("groupby, sam", "kenward-roger"), ("groupby, sam", MODERATED), ("pseudobulk, t test", "")]
    header = ["donors", "n − p", "Satterthwaite without bound", "Satterthwaite", "Kenward–Roger", "moderated"]
    header += ["t test of log CPM"]
    rows = []
    for data in ("OneK1K", "Kang control"):
        part = _selected(table, data=data)
        for n in part["donors"].unique():
            cells = [_selected(part, donors=n, model=m, ddf=d) for m, d in methods]
            rows.append([f"{data}, {n // 2} v {n // 2}", *map(_shares, cells)])
    return _markdown(header, rows)


def _power(table: pd.DataFrame) -> str:
    """Power (false discovery rate) by number of donors."""
    models = ["groupby, sam", "groupby, sam + sam:trt"]
    methods = [(model, ddf) for model in models for ddf in ("satterthwaite", MODERATED)]
    methods += [("joint, sam + sam:cls", "satterthwaite"), (BY_CLS, "satterthwaite")]
    methods += [(f"{BY_CLS}, also samples", "satterthwaite"), ("pseudobulk, t test", ""), ("pseudobulk, PyDESeq2", "")]
    header = ["treatment, donors", *(NAMES[m].replace("; Satterthwaite", "") for m in methods)]
    rows = []
    for design in (NESTED, CROSSED, SAMPLES):
        part = _selected(table, data=VARIED, design=design, effect="effects")
        for n in part["donors"].unique():
            cells = [_selected(part, donors=n, model=m, ddf=d) for m, d in methods]
            rows.append([f"{design}, {n}", *map(_found, cells)])
    return _markdown(header, rows)


def _pooling(table: pd.DataFrame) -> str:
    """Null shares by how much a gene varies in the cell type tested, relative to all types together."""
    models = ["joint, sam", "joint, sam + sam:cls", BY_CLS, "groupby, sam"]
    rows = []
    for data, donors, name in ((VARIED, 8, "simulated, nested, 8 donors"), ("OneK1K", 40, "OneK1K, 20 v 20")):
        for variance in ("< 0.8", "0.8 to 1.25", "> 1.25"):
            where = {"design": NESTED, "donors": donors, "effect": "null", "ddf": "satterthwaite"}
            part = _selected(table, data=data, variance=variance, **where)
            rows.append([name, variance, *(_shares(part[part["model"] == model]) for model in models)])
    return _markdown(["data", "variance in the type / within all types", *models], rows)


def _differences(table: pd.DataFrame) -> str:
    """The joint model with variances by type: null shares of effects in types, and of their differences."""
    rows = []
    for data, design in DATA[1:]:
        model = f"{BY_CLS}, also samples" if design == SAMPLES else BY_CLS
        part = _selected(table, data=data, design=design, effect="null", ddf="satterthwaite")
        name = f"simulated, {design}" if data in (VARIED, PLAIN) else data
        for n in part.loc[part["model"] == model, "donors"].unique():
            own = part[part["donors"] == n]
            cells = [_shares(own[own["model"] == one]) for one in (model, f"{model}: differences")]
            rows.append([name, str(n), *cells])
    return _markdown(["data", "donors", "effects in types", "differences between types"], rows)


def _targets(table: pd.DataFrame) -> str:
    """The targets of Satterthwaite's df, and the largest share found at any number of donors."""
    models = ["groupby, sam", "groupby, sam + sam:trt", "joint, sam", "joint, sam + sam:cls", BY_CLS]
    models += [f"{BY_CLS}, also samples"]
    null = _selected(table, effect="null", ddf="satterthwaite")
    rows = []
    for data, design in [*DATA[:1], (PLAIN, CROSSED), *DATA[1:]]:
        part = _selected(null, data=data, design=design)
        real = data not in (VARIED, PLAIN)
        for level, target in ((0.001, 0.001), (0.05, 0.055)) if real else ((0.001, 0.003),):
            kept = part if real else part[part["donors"] >= 6]
            name = data if real else f"simulated, {data}, {design}"
            cells = [_worst(kept[kept["model"] == model], level, target) for model in models]
            rows.append([name, f"p < {level}: {target}", *cells])
    return _markdown(["data", "target", *models], rows)


def _worst(rows: pd.DataFrame, level: float, target: float) -> str:
    """The largest share ± its Monte-Carlo error (donors), bold where over the target."""
    if rows.empty:
        return ""
    worst = rows.loc[rows[f"p<{level}"].idxmax()]
    share, error = worst[f"p<{level}"], worst[f"se<{level}"]
    text = f"{share:.4f} ± {error:.4f} ({worst['donors']})"
    return f"**{text}**" if share > target else text
