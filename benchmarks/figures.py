"""The figures of the documentation, from the tables in `results/`: `python benchmarks/figures.py [--out FOLDER]`.

One message a figure, a few lines a panel; all methods and all numbers are in the tables of the pages that show them. Vertical
lines are two Monte-Carlo errors.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from _plots import STYLE

RESULTS = Path(__file__).parent / "results"
CELLS, FREE, OWN, COUNTS, PEER, OTHER = "#D55E00", "#E69F00", "#0072B2", "#009E73", "0.35", "#CC79A7"  # Okabe and Ito's
ONEK1K, KANG = "OneK1K, 4 cell types", "Kang control, 8 cell types"


@dataclass(frozen=True)
class Line:
    """Some rows of a table by their number of donors."""

    label: str
    color: str
    table: str
    where: dict[str, str]
    marker: str = "o"


@dataclass(frozen=True)
class Panel:
    """What is drawn of the lines' rows that also have these values."""

    title: str
    column: str
    where: dict[str, str]
    ylabel: str = ""
    limits: tuple[float, float] = (0, 1)
    log: bool = False
    nominal: float | None = None
    only: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Figure:
    """A message in a few panels."""

    lines: list[Line]
    panels: list[Panel] = field(default_factory=list)


def of_models(label: str, color: str, model: str, ddf: str, marker: str = "o") -> Line:
    """A line from `calibration.csv`."""
    where = {"model": model, "ddf": ddf, "type": "all", "variance": "all"}
    return Line(label, color, "calibration", where, marker)


def of(label: str, color: str, table: str, method: str, marker: str = "o") -> Line:
    """A line from one of the other tables."""
    return Line(label, color, table, {"method": method}, marker)


def levels(title: str, data: str, ylabel: str = "", level: float = 0.001) -> Panel:
    """Shares of null p-values under a level, in logarithms."""
    where = {"data": data, "effect": "null", "cls": "all", "design": "nested"}
    limits = (level / 10, 0.2 if level < 0.01 else 0.6)
    return Panel(title, f"p<{level}", where, ylabel, limits, log=True, nominal=level)


LEVEL = Figure(
    [
        of_models("Wilcoxon test of cells", CELLS, "cells, Wilcoxon", "", "s"),
        of("lmm_de, n − p df", FREE, "moderation", "residual", "^"),
        of("lmm_de, moderated", OWN, "moderation", "moderated"),
        of("nbmm_de", COUNTS, "counts", "nbmm_de", "D"),
        of("edgeR QL, pseudobulk", PEER, "counts", "edgeR QL", "x"),
    ],
    [levels(ONEK1K, "OneK1K", "share of null genes with p < .001"), levels(KANG, "Kang control")],
)
SAMPLES = {"data": "donor and donor × type variance", "design": "crossed, samples vary"}
SAMPLE_TERM = Figure(
    [
        of_models('random="donor"', CELLS, "groupby, sam", "satterthwaite", "s"),
        of_models('["donor", "donor:treatment"]', OWN, "groupby, sam + sam:trt", "satterthwaite"),
        of_models("the same, moderated", COUNTS, "groupby, sam + sam:trt", "moderated", "D"),
    ],
    [
        Panel(
            "genes without effect",
            "p<0.001",
            SAMPLES | {"effect": "null"},
            "share with p < .001",
            (1e-4, 0.5),
            log=True,
            nominal=0.001,
        ),
        Panel(
            "genes called at 5 % FDR", "fdr", SAMPLES | {"effect": "effects"}, "share that has no effect", nominal=0.05
        ),
        Panel("genes with effect", "power", SAMPLES | {"effect": "effects"}, "share found at 5 % FDR"),
    ],
)
FEW_DONORS = Figure(
    [
        of("n − p df", FREE, "moderation", "residual", "^"),
        of("moderated", OWN, "moderation", "moderated"),
        of("limma-trend of donors' means", PEER, "moderation", "limma-trend, means", "x"),
        of("Satterthwaite's df", OTHER, "moderation", "satterthwaite", "v"),
    ],
    [
        levels("null genes, " + ONEK1K, "OneK1K", "share with p < .05", 0.05),
        Panel(
            "effects, CD4 T cells\n(balanced)",
            "power",
            {"data": "OneK1K", "effect": "shift", "cls": "cd4nc"},
            "share found at 5 % FDR",
            only=("moderated", "limma-trend of donors' means", "Satterthwaite's df"),
        ),
        Panel(
            "effects, monocytes\n(few cells of some donors)",
            "power",
            {"data": "OneK1K", "effect": "shift", "cls": "monoc"},
            only=("moderated", "limma-trend of donors' means", "Satterthwaite's df"),
        ),
    ],
)
RANKING = Figure(
    [
        of("nbmm_de", COUNTS, "counts", "nbmm_de", "D"),
        of("lmm_de, moderated", OWN, "counts", "moderated"),
        of("edgeR QL", PEER, "counts", "edgeR QL", "x"),
        of("limma-voom", OTHER, "counts", "limma-voom", "v"),
    ],
    [
        Panel(
            ONEK1K,
            "ranking",
            {"data": "OneK1K", "effect": "thinning"},
            "share of changed genes found\nwhere 1 % of the others are",
            (0, 0.8),
        ),
        Panel(KANG, "ranking", {"data": "Kang control", "effect": "thinning"}, limits=(0, 0.8)),
        Panel(
            "OneK1K, donors of\nunequal cell numbers",
            "ranking",
            {"data": "OneK1K, unequal", "effect": "thinning"},
            limits=(0, 0.8),
        ),
    ],
)
F_TESTS = Figure(
    [
        of("moderated", OWN, "moderation_joint", "moderated"),
        of("limma-trend of donors' means", PEER, "moderation_joint", "limma-trend, means", "x"),
        of("Satterthwaite's df", OTHER, "moderation_joint", "satterthwaite", "v"),
    ],
    [
        Panel(
            title,
            "p<0.05",
            {"data": "OneK1K", "effect": "null", "test": test},
            ylabel,
            (0, 0.1),
            nominal=0.05,
        )
        for title, test, ylabel in [
            ("F test of three groups", "3-level factor", "share of null genes with p < .05"),
            ("F test of a curve", "3-df spline", ""),
            ("difference of two cell types", "across types", ""),
        ]
    ],
)
FIGURES = {
    "level": LEVEL,
    "sample_term": SAMPLE_TERM,
    "few_donors": FEW_DONORS,
    "ranking": RANKING,
    "f_tests": F_TESTS,
}


def rows(table: pd.DataFrame, where: dict[str, str]) -> pd.DataFrame:
    """Rows with these values, of columns that the table has, by number of donors."""
    for column, value in where.items():
        if column in table:
            table = table[table[column].fillna("") == value]
    return table.sort_values("donors")


def draw(axis: plt.Axes, panel: Panel, lines: list[Line], tables: dict[str, pd.DataFrame]) -> None:
    """One panel."""
    for line in lines:
        if panel.only and line.label not in panel.only:
            continue
        part = rows(tables[line.table], panel.where | line.where)
        if part.empty:
            continue
        named = (f"se {panel.column}", f"se_{panel.column}", f"se{panel.column.removeprefix('p')}")
        error = next(name for name in named if name in part)
        y = part[panel.column].clip(lower=panel.limits[0])
        axis.plot(
            part["donors"], y, color=line.color, marker=line.marker, ms=5, lw=1.8, label=line.label, clip_on=False
        )
        axis.errorbar(part["donors"], y, 2 * part[error], fmt="none", ecolor=line.color, elinewidth=0.8, alpha=0.7)
    if panel.nominal:
        axis.axhline(panel.nominal, color="0.6", lw=1, ls="--", zorder=0)
    axis.set_xscale("log")
    donors = sorted({int(x) for line in axis.get_lines() for x in line.get_xdata() if x > 1})
    axis.set_xticks(donors, map(str, donors))
    if panel.log:
        axis.set_yscale("log")
        ticks = [f"{panel.nominal * 10.0**k:g}" for k in range(-1, 3)]
        ticks = [tick for tick in ticks if panel.limits[0] <= float(tick) <= panel.limits[1]]
        axis.set_yticks([float(tick) for tick in ticks], ticks)
    axis.minorticks_off()
    axis.set(title=panel.title, ylabel=panel.ylabel, xlabel="donors", ylim=panel.limits)


def main() -> None:
    """All figures, or those named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(FIGURES)}; by default all")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the figures")
    options = parser.parse_args()
    plt.rcParams.update(STYLE | {"font.size": 10, "axes.titlesize": 10})
    names = {line.table for figure in FIGURES.values() for line in figure.lines}
    tables = {name: pd.read_csv(RESULTS / f"{name}.csv", keep_default_na=False, na_values=[""]) for name in names}
    for name in options.names or FIGURES:
        figure = FIGURES[name]
        size = (3.1 * len(figure.panels) + 0.4, 3.6)
        drawn, axes = plt.subplots(1, len(figure.panels), figsize=size, layout="constrained", squeeze=False)
        for axis, panel in zip(axes[0], figure.panels, strict=True):
            draw(axis, panel, figure.lines, tables)
        drawn.legend(
            *axes[0, 0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=3 if len(axes[0]) == 2 else 5,
            frameon=False,
        )
        drawn.savefig(options.out / f"{name}.png", dpi=110)
        plt.close(drawn)


if __name__ == "__main__":
    main()
