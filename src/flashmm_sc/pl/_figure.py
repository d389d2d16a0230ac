"""Where a plot is drawn, and whether it is shown."""

from __future__ import annotations

from flashmm_sc._base.options import check_optional_flags


def check_figure(ax: object, show: object) -> None:
    """Refuse what are no axes, and no answer to whether to show them."""
    from matplotlib.axes import Axes  # slow to import

    check_optional_flags(show=show)
    if ax is not None and not isinstance(ax, Axes):
        msg = f"ax={ax!r} must be axes of matplotlib, one such as plt.subplots()[1] gives, or None."
        raise TypeError(msg)
