"""What the figures and tables of `moderation.py` and `counts.py` share."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd

mpl.use("Agg")
import matplotlib.pyplot as plt

STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
LEVELS = {"p<0.05": 0.05, "p<0.01": 0.01, "p<0.001": 0.001}
FLOOR = 0.1  # of shares relative to their level; smaller ones are drawn here
Lines = dict[str, tuple[str, str, str]]  # method → colour (Okabe and Ito's), marker, line


def rows_of(table: pd.DataFrame, **where: object) -> pd.DataFrame:
    """Rows with these values, by number of donors."""
    keep = np.logical_and.reduce([table[column] == value for column, value in where.items()])
    return table[keep].sort_values("donors")


def draw(axis: plt.Axes, rows: pd.DataFrame, column: str, lines: Lines, own: str, scale: float = 1.0) -> None:
    """A line a method, with two Monte-Carlo errors; the one that is looked at thick and in front."""
    for place, (method, (color, marker, line)) in enumerate(lines.items()):
        part = rows[rows["method"] == method].dropna(subset=column)
        x = part["donors"] * 1.012 ** (place - len(lines) / 2)  # side by side
        value, error = part[column] * scale, part[f"se {column}"].fillna(0) * scale
        low, high = value - 2 * error, value + 2 * error
        if column.startswith("p<"):
            value, low = value.clip(lower=FLOOR), low.clip(lower=FLOOR)
        front = 4 if method == own else 2
        axis.plot(x, value, color=color, marker=marker, ls=line, ms=5, lw=2.2 if front == 4 else 1.2, zorder=front)
        axis.vlines(x, low, high, color=color, lw=0.8, alpha=0.6, zorder=front)


def draw_level(axis: plt.Axes, rows: pd.DataFrame, column: str, lines: Lines, own: str) -> None:
    """Shares of small p-values relative to their level, in logs."""
    draw(axis, rows, column, lines, own, 1 / LEVELS[column])
    axis.set_yscale("log")
    axis.set_ylim(FLOOR * 0.85, 25)
    ticks = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20)
    axis.set_yticks(ticks, [f"{tick:g}×" for tick in ticks])
    axis.minorticks_off()
    axis.axhline(1, color="0.6", lw=1, zorder=1)


def dress(axis: plt.Axes, title: str, ylabel: str, bottom: bool, left: bool) -> None:
    """Title above, donors below, and what is shown on the left."""
    axis.set_xscale("log")
    donors = [4, 6, 8, 12, 20, 40]
    axis.set_xlim(3.6, 45)
    axis.set_xticks(donors, [str(n) for n in donors] if bottom else [])
    axis.xaxis.minorticks_off()
    if title:
        axis.set_title(title, fontsize=9.5)
    if bottom:
        axis.set_xlabel("donors")
    if left:
        axis.set_ylabel(ylabel)
    else:
        axis.tick_params(labelleft=False)


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, ["---"] * len(header), *rows))


def shares(part: pd.DataFrame, method: str) -> str:
    """Shares of small p-values of a method."""
    if method not in part.index:
        return ""
    row = part.loc[method]
    return " ".join(f"{row[name]:.{3 + (level < 0.01)}f}".removeprefix("0") for name, level in LEVELS.items())
