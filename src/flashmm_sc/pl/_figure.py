"""Where a plot is drawn, and whether it is shown, saved or returned; the colours of all plots."""

from __future__ import annotations

import math
import os
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashmm_sc._base.files import appearing_whole, as_path, check_file, check_folder
from flashmm_sc._base.options import check_optional_flags

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

UP, DOWN, OTHER = "#D55E00", "#0072B2", "#B3B3B3"
"""Okabe and Ito's vermillion and blue, and grey: distinct to all eyes, and in print."""
THIRD = "#009E73"
"""Their bluish green, where two colours don't do."""
DIVERGING = "RdBu_r"
"""Colour map of effects, white at zero."""
PANEL = (4.0, 3.6)
"""Width and height in inches of one panel of a grid."""


def check_figure(ax: object, show: object, save: object, *, grid: bool = False) -> None:
    """Refuse what are no axes, no answer to whether to show them, and places where no figure can be written."""
    from matplotlib.axes import Axes  # slow to import
    from matplotlib.figure import Figure

    check_optional_flags(show=show)
    if ax is not None and not isinstance(ax, Axes):
        msg = f"ax={ax!r} must be axes of matplotlib, one such as plt.subplots()[1] gives, or None."
        raise TypeError(msg)
    if ax is not None and grid:
        msg = "groups= draws a grid of panels, in a figure of its own; use group= to draw one group on ax."
        raise ValueError(msg)
    if save is None:
        return
    if not isinstance(save, str | os.PathLike):
        msg = f"save={save!r} must be the path of a file to write the figure to, such as 'figure.pdf', or None."
        raise TypeError(msg)
    path, known = as_path("save", save), Figure().canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in known:
        msg = f"save={str(save)!r} must end in one of .{', .'.join(sorted(known))}, which says how to write the figure."
        raise ValueError(msg)
    check_folder(path, f"save={str(save)!r}", ValueError)
    check_file(path)


def begin(ax: Axes | None, size: tuple[float, float] | None = None) -> Axes:
    """Axes to draw on: those given, or those of a new figure."""
    import matplotlib.pyplot as plt

    axes = plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax
    axes.set_axisbelow(True)  # grids, as scanpy's settings ask for, lie under points
    return axes


def panels(n: int, *, size: tuple[float, float] = PANEL, **sharing: Any) -> list[Axes]:
    """Axes of n panels in a new figure, in rows about as long as there are rows."""
    import matplotlib.pyplot as plt

    columns = n if n <= 3 else math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(size[0] * columns, size[1] * rows), layout="constrained", squeeze=False, **sharing
    )
    axes: list[Axes] = list(grid.flat)
    for one in axes[:n]:
        one.set_axisbelow(True)
    for empty in axes[n:]:
        figure.delaxes(empty)
    return axes[:n]


def saved(figure: Any, path: str | os.PathLike[str], **how: Any) -> None:
    """Write a figure in the format that its name says; it is drawn first, since each format has its own word for a full disk."""
    drawn, path = BytesIO(), Path(path)
    figure.canvas.figure.savefig(drawn, format=path.suffix[1:], **how)
    with appearing_whole(path) as part:
        part.write_bytes(drawn.getvalue())


def finished(
    axes: Axes | Sequence[Axes], *, ax: Axes | None, show: bool | None, save: str | os.PathLike[str] | None
) -> Any:
    """Save the figure if asked to, then show it, or give back its axes.

    As in scanpy, it is shown if `scanpy.settings.autoshow` says so, but not on axes that the caller gave (`ax`).
    """
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
    from scanpy import settings

    if save is not None:
        first = axes if isinstance(axes, Axes) else axes[0]
        saved(first.figure, save, dpi=200, bbox_inches="tight")
    if not ((settings.autoshow and ax is None) if show is None else show):
        return axes
    plt.show()
    return None
