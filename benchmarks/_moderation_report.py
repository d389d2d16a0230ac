"""The figure and the tables of `moderation.py`."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from _plots import FLOOR, LEVELS, STYLE, draw, draw_level, dress, markdown, rows_of, shares
from _scores import paired_differences

MODERATED = "moderated"
LINES = {  # method → colour (Okabe and Ito's), marker, line
    "residual": ("#E69F00", "s", "-"),
    "satterthwaite": ("#56B4E9", "v", "-"),
    "t test": ("#999999", "x", "--"),
    "limma-trend, means": ("#009E73", "D", "-"),
    "limma-trend, log CPM": ("#009E73", "D", ":"),
    "limma-voom": ("#CC79A7", "^", "-"),
    "edgeR QL": ("#D55E00", "P", "-"),
    "PyDESeq2": ("black", "*", ":"),
    MODERATED: ("#0072B2", "o", "-"),
}
NAMES = {
    MODERATED: "moderated mixed model",
    "satterthwaite": "mixed model, Satterthwaite",
    "residual": "mixed model, n − p",
    "t test": "t test of sample means",
    "limma-trend, means": "limma-trend of sample means",
}
PEERS = ("limma-trend, means", "limma-trend, log CPM", "limma-voom", "edgeR QL")
LEVEL_PANELS = [  # title, data, effect
    ("OneK1K, 4 cell types, donors split at random", "OneK1K", "null"),
    ("Kang control, 8 cell types, donors split at random", "Kang control", "null"),
    ("simulated, 4 cell types, genes without effect", "simulated", "simulation"),
]
POWER_PANELS = [  # title, data, effect, cell type
    ("OneK1K, CD4 T cells\n(balanced), shift", "OneK1K", "shift", "cd4nc"),
    ("OneK1K, classical\nmonocytes (unbalanced), shift", "OneK1K", "shift", "monoc"),
    ("OneK1K, CD4 T cells\n(balanced), thinned counts", "OneK1K", "thinning", "cd4nc"),
    ("OneK1K, classical\nmonocytes, thinned counts", "OneK1K", "thinning", "monoc"),
    ("Kang control, 8 cell types,\nthinned counts", "Kang control", "thinning", "all"),
    ("simulated,\n4 cell types", "simulated", "simulation", "all"),
]


def write_figure(table: pd.DataFrame, path: Path) -> None:
    """Shares of small p-values of null genes relative to their level; power and false discovery proportion."""
    plt.rcParams.update(STYLE)
    figure = plt.figure(figsize=(15, 14))
    top = figure.add_gridspec(3, 3, top=0.96, bottom=0.49, left=0.06, right=0.99, hspace=0.12, wspace=0.1)
    low = figure.add_gridspec(2, 6, top=0.4, bottom=0.1, left=0.06, right=0.99, hspace=0.12, wspace=0.12)
    for j, (title, data, effect) in enumerate(LEVEL_PANELS):
        part = rows_of(table, data=data, effect=effect, cls="all")
        for i, (column, level) in enumerate(LEVELS.items()):
            axis = figure.add_subplot(top[i, j])
            draw_level(axis, part, column, LINES, MODERATED)
            if level > 0.001:
                margin = {0.05: 0.3, 0.01: 0.5}[level]
                axis.axhspan(1 - margin, 1 + margin, color="0.93", zorder=0)
            else:
                axis.axhspan(FLOOR * 0.85, 2, color="0.93", zorder=0)
            dress(axis, title if i == 0 else "", f"share of p < {level},\nrelative to {level}", i == 2, j == 0)
    for j, (title, data, effect, cls) in enumerate(POWER_PANELS):
        part = rows_of(table, data=data, effect=effect, cls=cls)
        for i, (column, name) in enumerate({"power": "power at BH 0.05", "fdp": "false discovery proportion"}.items()):
            axis = figure.add_subplot(low[i, j])
            draw(axis, part, column, LINES, MODERATED)
            axis.set_ylim(-0.02, 1.02 if i == 0 else 0.42)
            if i == 1:
                axis.axhline(0.05, color="0.6", lw=1, zorder=1)
                axis.axhspan(-0.02, 0.06, color="0.93", zorder=0)
            dress(axis, title if i == 0 else "", name, i == 1, j == 0)
    handles = [
        plt.Line2D([], [], color=color, marker=marker, ls=line, label=NAMES.get(name, f"{name} of pseudobulk counts"))
        for name, (color, marker, line) in reversed(LINES.items())
        if name in set(table["method"])
    ]
    handles.append(plt.Rectangle((0, 0), 1, 1, color="0.93", label="target of the moderated tests"))
    figure.legend(handles=handles, loc="lower center", ncols=4, frameon=False, fontsize=10)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def differences(rows: pd.DataFrame) -> pd.DataFrame:
    """Power of the moderated tests minus that of each peer in the same splits, by cell type and in all."""
    setting = ["data", "effect", "donors", "cls"]
    return paired_differences(pd.concat([rows, rows.assign(cls="all")]), setting, MODERATED, PEERS, "power")


def _methods(table: pd.DataFrame) -> list[str]:
    return [method for method in reversed(LINES) if method in set(table["method"])]


def _label(method: str) -> str:
    return NAMES.get(method, method)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Levels, and power with false discovery proportions, in Markdown."""
    methods = _methods(table)
    levels, found = [], []
    for _, data, effect in LEVEL_PANELS:
        for donors in sorted(rows_of(table, data=data, effect=effect)["donors"].unique()):
            part = rows_of(table, data=data, effect=effect, cls="all", donors=donors).set_index("method")
            levels.append([f"{data}, {donors}", *(shares(part, method) for method in methods)])
    kinds = [
        ("OneK1K", effect, cls) for effect in ("shift", "thinning") for cls in ("cd4nc", "bmem", "monoc", "mononc")
    ]
    kinds += [("Kang control", "shift", "all"), ("Kang control", "thinning", "all"), ("simulated", "simulation", "all")]
    for data, effect, cls in kinds:
        for donors in sorted(rows_of(table, data=data, effect=effect, cls=cls)["donors"].unique()):
            part = rows_of(table, data=data, effect=effect, cls=cls, donors=donors).set_index("method")
            name = " ".join([data, *([cls] if cls != "all" else []), *([effect] if effect != "simulation" else [])])
            found.append([f"{name}, {donors}", *(_found(part, method) for method in methods)])
    errors = rows_of(table, cls="all", method=MODERATED)
    errors = errors[errors["effect"].isin(["null", "simulation"])]
    text = [
        "Share of p < .05, < .01, < .001 among genes without effect (all cell types; donors in both groups together):",
        markdown(["data, donors", *map(_label, methods)], levels),
        "Monte-Carlo errors of the moderated shares (spread over splits, at most): "
        + ", ".join(f"{errors[f'se {name}'].max():.4f} ({name})" for name in LEVELS)
        + ". PyDESeq2 was run on one split of each size only, and on no Kang data.",
        "Power at Benjamini and Hochberg's 0.05 (mean false discovery proportion):",
        markdown(["data, cell type, effects, donors", *map(_label, methods)], found),
    ]
    path.write_text("\n\n".join(text) + "\n", encoding="utf-8")


def _found(part: pd.DataFrame, method: str) -> str:
    return f"{part.loc[method, 'power']:.2f} ({part.loc[method, 'fdp']:.2f})" if method in part.index else ""


def targets(table: pd.DataFrame, gains: pd.DataFrame) -> str:
    """Where the targets of the moderated tests hold; the worst cases first."""
    own = table[(table["method"] == MODERATED) & (table["cls"] == "all")]
    lines = []
    null = own[own["effect"] == "null"]
    for name, low, high in (("p<0.05", 0.035, 0.065), ("p<0.01", 0.005, 0.015), ("p<0.001", 0.0, 0.002)):
        out = null[(null[name] < low) | (null[name] > high)]
        worst = [f"{r['data']} {r['donors']}: {r[name]:.4f} ± {r[f'se {name}']:.4f}" for _, r in out.iterrows()]
        lines.append(f"{name} within {low} to {high}: " + ("; ".join(worst) or "held in all"))
    planted = own[(own["effect"] != "null") & (own["donors"] >= 8)]
    out = planted[planted["fdp"] > 0.06]
    worst = [f"{r['data']} {r['effect']} {r['donors']}: {r['fdp']:.3f} ± {r['se fdp']:.3f}" for _, r in out.iterrows()]
    lines.append("FDP at most 0.06: " + ("; ".join(worst) or "held in all"))
    for peer, part in gains[gains["donors"] >= 8].groupby("peer"):
        lines.append(f"power minus that of {peer}:")
        for (data, effect, cls), rows in part.groupby(["data", "effect", "cls"]):
            values = ", ".join(f"{r['donors']}: {r['gain']:+.3f} ± {r['se']:.3f}" for _, r in rows.iterrows())
            lines.append(f"  {data} {effect} {cls}: {values}")
    return "\n".join(lines)
