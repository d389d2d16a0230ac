"""The tables of `moderation.py`; `figures.py` draws its figures."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from _plots import LEVELS, markdown, rows_of, shares
from _scores import paired_differences

MODERATED = "moderated"
METHODS = [
    MODERATED,
    "PyDESeq2",
    "edgeR QL",
    "limma-voom",
    "limma-trend, log CPM",
    "limma-trend, means",
    "t test",
    "satterthwaite",
    "residual",
]
NAMES = {
    MODERATED: "moderated mixed model",
    "satterthwaite": "mixed model, Satterthwaite",
    "residual": "mixed model, n − p",
    "t test": "t test of sample means",
    "limma-trend, means": "limma-trend of sample means",
}
PEERS = ("limma-trend, means", "limma-trend, log CPM", "limma-voom", "edgeR QL")
NULL_DATA = [("OneK1K", "null"), ("Kang control", "null"), ("simulated", "simulation")]  # data, effect
POWER_PANELS = [  # title, data, effect, cell type
    ("OneK1K, CD4 T cells\n(balanced), shift", "OneK1K", "shift", "cd4nc"),
    ("OneK1K, classical\nmonocytes (unbalanced), shift", "OneK1K", "shift", "monoc"),
    ("OneK1K, CD4 T cells\n(balanced), thinned counts", "OneK1K", "thinning", "cd4nc"),
    ("OneK1K, classical\nmonocytes, thinned counts", "OneK1K", "thinning", "monoc"),
    ("Kang control, 8 cell types,\nthinned counts", "Kang control", "thinning", "all"),
    ("simulated,\n4 cell types", "simulated", "simulation", "all"),
]


def differences(rows: pd.DataFrame) -> pd.DataFrame:
    """Power of the moderated tests minus that of each peer in the same splits, by cell type and in all."""
    setting = ["data", "effect", "donors", "cls"]
    return paired_differences(pd.concat([rows, rows.assign(cls="all")]), setting, MODERATED, PEERS, "power")


def _methods(table: pd.DataFrame) -> list[str]:
    return [method for method in METHODS if method in set(table["method"])]


def _label(method: str) -> str:
    return NAMES.get(method, method)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Levels, and power with false discovery proportions, in Markdown."""
    methods = _methods(table)
    levels, found = [], []
    for data, effect in NULL_DATA:
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
        "# Table: moderated tests",
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
