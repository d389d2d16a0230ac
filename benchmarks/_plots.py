"""What the figures and tables of several scripts share."""

from __future__ import annotations

import numpy as np
import pandas as pd

STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
LEVELS = {"p<0.05": 0.05, "p<0.01": 0.01, "p<0.001": 0.001}


def rows_of(table: pd.DataFrame, **where: object) -> pd.DataFrame:
    """Rows with these values, by number of donors."""
    keep = np.logical_and.reduce([table[column] == value for column, value in where.items()])
    return table[keep].sort_values("donors")


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, ["---"] * len(header), *rows))


def shares(part: pd.DataFrame, method: str) -> str:
    """Shares of small p-values of a method."""
    if method not in part.index:
        return ""
    row = part.loc[method]
    return " ".join(f"{row[name]:.{3 + (level < 0.01)}f}".removeprefix("0") for name, level in LEVELS.items())
