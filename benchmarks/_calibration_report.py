"""The figure of `calibration.py`, and its tables between the markers of the guide."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from _calibration_methods import BY_CLS, MODERATED, UNBOUND

mpl.use("Agg")
import matplotlib.pyplot as plt

VARIED, PLAIN = "donor and donor × type variance", "donor variance"
NESTED, CROSSED, SAMPLES = "nested", "crossed", "crossed, samples vary"
PANELS = [  # title, data, design
    ("simulated: variance between donors,\nalike in all types; treatment nested", PLAIN, NESTED),
    ("simulated: also donor × type,\nby gene and type; nested", VARIED, NESTED),
    ("simulated: the same,\ntreatment crossed with donors", VARIED, CROSSED),
    ("simulated: crossed, and samples\n(donor × treatment) vary", VARIED, SAMPLES),
    ("OneK1K, 4 cell types,\ndonors split at random", "OneK1K", NESTED),
    ("Kang control, 8 cell types,\ndonors split at random", "Kang control", NESTED),
]
LINES = {  # model, ddf → label and style: Okabe and Ito's colours
    ("groupby, sam", "residual"): ("groupby, sam; n − p", "#E69F00", "s", "-"),
    ("groupby, sam", UNBOUND): ("groupby, sam; Satterthwaite without bound", "#56B4E9", "v", "--"),
    ("groupby, sam", "satterthwaite"): ("groupby, sam; Satterthwaite", "#0072B2", "o", "-"),
    ("groupby, sam", "kenward-roger"): ("groupby, sam; Kenward–Roger", "#0072B2", "x", ":"),
    ("groupby, sam", MODERATED): ("groupby, sam; moderated", "#009E73", "h", "-"),
    ("groupby, sam + sam:trt", "satterthwaite"): ("groupby, sam + sam:trt; Satterthwaite", "#CC79A7", "P", "-"),
    ("groupby, sam + sam:trt", MODERATED): ("groupby, sam + sam:trt; moderated", "#CC79A7", "X", "--"),
    ("joint, sam", "satterthwaite"): ("joint, sam; Satterthwaite", "#D55E00", "^", "-"),
    ("joint, sam + sam:cls", "satterthwaite"): ("joint, sam + sam:cls; Satterthwaite", "#D55E00", "D", "--"),
    (BY_CLS, "satterthwaite"): (f"{BY_CLS}; Satterthwaite", "#882255", "d", "-"),
    (f"{BY_CLS}, also samples", "satterthwaite"): (f"{BY_CLS}, also samples; Satterthwaite", "#882255", "p", "--"),
    ("pseudobulk, t test", ""): ("pseudobulk: t test of log CPM", "black", "o", "--"),
    ("pseudobulk, PyDESeq2", ""): ("pseudobulk: PyDESeq2", "black", "*", ":"),
    ("cells, Wilcoxon", ""): ("cells: Wilcoxon (scanpy)", "#999999", "s", ":"),
}
FLOOR = 0.08  # of shares relative to their level; smaller ones are drawn here


def _selected(table: pd.DataFrame, **where: str | int) -> pd.DataFrame:
    """Rows with these values, and of all cell types and variances together unless these are among them."""
    table = table.assign(ddf=table["ddf"].fillna(""))
    for column, value in ({"type": "all", "variance": "all"} | where).items():
        table = table[table[column] == value]
    return table.sort_values("donors")


def write_figure(table: pd.DataFrame, path: Path) -> None:
    """Shares of small p-values relative to their level, power and false discovery rate, by number of donors."""
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    rows = [("p<0.05", 0.05), ("p<0.01", 0.01), ("p<0.001", 0.001), ("power", None), ("fdr", None)]
    figure, axes = plt.subplots(len(rows), len(PANELS), figsize=(16, 13), sharex="col", sharey="row", squeeze=False)
    for j, (title, data, design) in enumerate(PANELS):
        axes[0, j].set_title(title, fontsize=9.5)
        for i, (column, level) in enumerate(rows):
            if level is None and j >= 4:
                axes[i, j].axis("off")
                continue
            effect = "effects" if level is None else "null"
            _panel(axes[i, j], _selected(table, data=data, design=design, effect=effect), column, level)
    for i, (column, level) in enumerate(rows):
        name = {"power": "power at FDR 0.05", "fdr": "false discovery rate"}.get(column)
        axes[i, 0].set_ylabel(name or f"share of null p < {level},\nrelative to {level}")
    for j in range(len(PANELS)):
        last = axes[-1 if j < 4 else 2, j]
        last.set_xlabel("donors")
        last.tick_params(labelbottom=True)
    handles = [
        plt.Line2D([], [], color=color, marker=marker, ls=line, label=label)
        for label, color, marker, line in LINES.values()
    ]
    handles.append(plt.Line2D([], [], color="0.6", lw=1, label="nominal level"))
    handles.append(plt.Line2D([], [], color="crimson", lw=1, ls=(0, (1, 1)), label="target for Satterthwaite"))
    figure.tight_layout(h_pad=1.2, w_pad=0.6)
    box = axes[3, 4].get_position()
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=(box.x0, box.y1 - 0.02), frameon=False, fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(axis: plt.Axes, rows: pd.DataFrame, column: str, level: float | None) -> None:
    axis.set_xscale("log")
    donors = sorted(rows["donors"].unique())
    axis.set_xticks(donors, [str(n) for n in donors])
    axis.minorticks_off()
    for (model, ddf), (_, color, marker, style) in LINES.items():
        part = rows[(rows["model"] == model) & (rows["ddf"] == ddf)].dropna(subset=column)
        scale = level or 1
        value = part[column].to_numpy() / scale
        error = np.nan_to_num(part[column.replace("p<", "se<") if level else f"se_{column}"].to_numpy()) / scale
        low, high = value - 2 * error, value + 2 * error
        if level:
            value, low, high = (np.maximum(v, FLOOR) for v in (value, low, high))
        front = 3 if ddf == "satterthwaite" else 2
        axis.plot(part["donors"], value, color=color, marker=marker, ls=style, ms=5, lw=1.4, zorder=front)
        axis.vlines(part["donors"], low, high, color=color, lw=0.8, alpha=0.6)
    if level is None:
        axis.set_ylim(-0.03, 1.03)
        if column == "fdr":
            axis.axhline(0.05, color="0.6", lw=1, zorder=1)
        return
    axis.set_yscale("log")
    axis.set_ylim(FLOOR * 0.85, 1.3 / level)
    axis.minorticks_off()
    ticks = [tick for tick in (0.1, 0.3, 1, 3, 10, 30, 100, 300) if tick < 1 / level]
    axis.set_yticks(ticks, [f"{tick:g}×" for tick in ticks])
    axis.axhline(1, color="0.6", lw=1, zorder=1)
    real = "donor" not in str(rows["data"].iloc[0]) if len(rows) else False
    target = {0.05: 1.1, 0.001: 1.0}.get(level) if real else {0.001: 3.0}.get(level)
    if target and donors:
        axis.hlines(target, donors[0] if real else 6, donors[-1], color="crimson", lw=1.2, ls=(0, (1, 1)), zorder=4)


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
    for (model, ddf), (label, *_) in LINES.items():
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
    header = ["treatment, donors", *(LINES[m][0].replace("; Satterthwaite", "") for m in methods)]
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
    for _, data, design in PANELS[1:]:
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
    for _, data, design in [*PANELS[:1], ("", PLAIN, CROSSED), *PANELS[1:]]:
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
