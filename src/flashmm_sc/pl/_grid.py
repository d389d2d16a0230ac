"""A plot of one coefficient in one group, or a grid of such plots, a panel a group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flashmm_sc._base.errors import listed
from flashmm_sc.pl._figure import DOWN, OTHER, PANEL, UP, begin, panels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd
    from matplotlib.axes import Axes

SMALL_PANEL = (2.7, 2.5)
MANY = 9  # panels, from which on they are small


def draw_grid(
    key: str,
    shown: Mapping[str, pd.DataFrame],
    drawn: Mapping[str, pd.DataFrame],
    draw: Callable[[Axes, pd.DataFrame], None],
    *,
    grid: bool,
    ax: Axes | None,
    title: str | None,
    xlabel: str,
    ylabel: str,
    legend: bool = False,
) -> list[Axes]:
    """Draw what has a result of the tables; a panel of a grid has the name of its group, and the whole that of the coefficient.

    `legend` puts what the points mean above each panel. A panel without a result says so; a figure of such panels alone is refused.
    """
    if all(table.empty for table in drawn.values()):
        hint = f"see the column 'status' of fsc.get.lmm_de_df(adata, key={key!r})"
        msg = f"No gene has a result for {listed(drawn)}; {hint}."
        raise ValueError(msg)
    small = len(drawn) > MANY
    axes = panels(len(drawn), size=SMALL_PANEL if small else PANEL) if grid else [begin(ax)]
    for its, (name, table) in zip(axes, drawn.items(), strict=True):
        its.set_title(name if grid or title is None else title, fontsize="medium" if small else None)
        if len(table):
            draw(its, table)
            if legend:
                _legend_above(its, "x-small" if small else "small")
        else:
            its.text(0.5, 0.5, "no gene has a result", ha="center", color="0.4", transform=its.transAxes)
            its.set(xticks=[], yticks=[])
    if not grid:
        axes[0].set(xlabel=xlabel, ylabel=ylabel)
        return axes
    figure = axes[0].figure
    figure.supxlabel(xlabel)
    figure.supylabel(ylabel)
    figure.suptitle(next(iter(shown.values()))["contrast"].iloc[0] if title is None else title)
    return axes


def draw_points(ax: Axes, drawn: pd.DataFrame, effect: pd.Series) -> None:
    """Every gene at x and y; the significant ones by colours of the direction of the effect, all of them counted."""
    up, down = drawn["significant"] & (effect > 0), drawn["significant"] & (effect < 0)
    size = float(np.clip(20_000 / max(len(drawn), 1), 6, 20))
    for members, color, label in ((down, DOWN, "down"), (up, UP, "up"), (~(up | down), OTHER, "other")):
        points, zorder = drawn[members], 1.0 if label == "other" else 1.1
        style: dict[str, Any] = {"linewidths": 0, "rasterized": len(drawn) > 2000, "zorder": zorder}
        ax.scatter(points["x"], points["y"], s=size, color=color, label=f"{members.sum():,} {label}", **style)


def _legend_above(ax: Axes, fontsize: str) -> None:
    """What colours mean, in one row between axes and title."""
    import matplotlib.pyplot as plt

    how: dict[str, Any] = {"ncols": 3, "frameon": False, "borderpad": 0, "handletextpad": 0, "columnspacing": 0.6}
    legend = ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=fontsize, **how)
    plt.setp(legend.legend_handles, sizes=[24])
    ax.set_title(ax.get_title(), fontsize=ax.title.get_fontsize(), pad=6 + 1.7 * plt.rcParams["font.size"])
