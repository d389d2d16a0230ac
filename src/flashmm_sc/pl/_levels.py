"""How levels of a factor are told apart in a plot, and which of them there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flashmm_sc._base.errors import did_you_mean, listed
from flashmm_sc._design.reference_grid import ReferenceGrid
from flashmm_sc._results.finding import selected
from flashmm_sc.pl._figure import DOWN, THIRD, UP
from flashmm_sc.pl._tables import several

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from flashmm_sc._results.result import Result

COLORS = (DOWN, UP, THIRD, "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, but for the yellow, which is too pale on white."""
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D")


def style(i: int) -> dict[str, Any]:
    """Colour, line and marker of the level at a position; no two of the first 28 are alike."""
    row, color = divmod(i, len(COLORS))
    kind = (color + row) % len(LINES)
    return {"color": COLORS[color], "linestyle": LINES[kind], "marker": MARKERS[kind]}


def label_levels(ax: Axes, names: list[str], *, crowded: bool) -> None:
    """Names on the x axis, aslant where they are many or long."""
    ax.set_xticks(range(len(names)), names)
    if crowded:
        for text in ax.get_xticklabels():
            text.set(rotation=45, ha="right", rotation_mode="anchor")


def one(argument: str, value: str | None, known: Sequence[str], key: str) -> str:
    """The one that is asked for, or the only one."""
    if value is None and len(known) == 1:
        return known[0]
    if value is None:
        raise ValueError(several(argument, known, key))
    selected(argument, value, known, key)
    return value


def grid_of(fit: Result, group: str) -> ReferenceGrid:
    """What the model of a group knows of the columns of its formula."""
    return ReferenceGrid.read(str(fit.models[fit.groups.index(group)].get("design", "")))


def levels_of(grid: ReferenceGrid, argument: str, name: str) -> list[str]:
    """Levels of a factor of the formula, the reference first.

    Raises
    ------
    ValueError
        For another column, or one of numbers.
    """
    if name in grid.covariates:
        msg = f"{argument}={name!r} is a column of numbers; fsc.pl.curve draws those on its x axis."
        raise ValueError(msg)
    _check(grid, argument, name, list(grid.factors))
    return list(grid.factors[name])


def check_number(grid: ReferenceGrid, argument: str, name: str) -> None:
    """Refuse what is no column of numbers of the formula."""
    if name in grid.factors:
        msg = f"{argument}={name!r} has levels, {listed(grid.factors[name])}, and is no column of numbers; use fsc.pl.samples."
        raise ValueError(msg)
    _check(grid, argument, name, list(grid.covariates))


def _check(grid: ReferenceGrid, argument: str, name: str, known: list[str]) -> None:
    if name not in known:
        msg = f"{argument}={name!r} is not in the model {grid.design.encoding.where}. {did_you_mean(name, known)}"
        raise ValueError(msg)
