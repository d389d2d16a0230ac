"""How many genes are found, in which group and direction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.errors import listed
from flashmm_sc._base.options import check_number
from flashmm_sc.pl._figure import DOWN, THIRD, UP, begin, check_figure, finished
from flashmm_sc.pl._rows import Rows
from flashmm_sc.pl._tables import found_tests, scale_of, shown_columns

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes


def hits(
    adata: AnnData,
    coefs: str | Sequence[str] | None = None,
    *,
    key: str | None = None,
    groups: str | Sequence[str] | None = None,
    alpha: float = 0.05,
    min_effect: float = 0.0,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | os.PathLike[str] | None = None,
) -> Axes | None:
    """Draw how many genes are significant, up and down, a row for each group of cells or contrast.

    Parameters
    ----------
    adata
        With results of `flashmm_sc.tl.lmm_de`, `flashmm_sc.tl.nbmm_de`, `flashmm_sc.tl.lmm_test` or
        `flashmm_sc.tl.lmm_anova`, whose F tests have no direction.
    coefs
        Coefficients, contrasts or terms to show, in this order; by default all but intercepts and means of levels.
    key
        Key of the results. By default that of the fit or tests that have all of `coefs`: ``"lmm_de"`` before others.
    groups
        Groups to show if the fit has any (`groupby`), in this order; by default all.
    alpha
        Bound of the adjusted p-values.
    min_effect
        Count only genes with at least this log2 fold change, or coefficient where the logarithm of the fitted values
        isn't known. To test for effects above a bound, see `lfc` of `flashmm_sc.tl.lmm_test`.
    ax
        Axes to draw on, by default those of a new figure.
    show
        Whether to show the figure and return nothing; by default `scanpy.settings.autoshow`, but not if `ax` is given.
    save
        Path to write the figure to.

    Returns
    -------
    None if the figure was shown, else the axes.

    Raises
    ------
    KeyError
        When there is no such result, coefficient or group.
    TypeError
        For arguments of a wrong type.
    ValueError
        When no gene has a result, `alpha` or `min_effect` is out of range, or there is a `min_effect` for F tests.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", size_factors="total")
    >>> ax = fsc.pl.hits(adata, show=False)
    """
    from matplotlib.ticker import MaxNLocator  # slow to import

    check_number("alpha", alpha, 0.0, 1.0, "It bounds adjusted p-values.", without=(0.0,))
    check_number("min_effect", min_effect, 0.0)
    check_figure(ax, show, save)
    result = found_tests(adata, key, coefs)
    if min_effect > 0 and result.what == "F tests":
        msg = f"The result {result.key!r} holds F tests, which have no effects; leave min_effect={min_effect:g} out."
        raise ValueError(msg)
    columns = shown_columns(result, coefs, groups)
    adjusted = result["pval_adj"][:, columns]
    fitted = np.isfinite(adjusted).any(axis=0)
    rows, found = Rows.of(result, columns), adjusted < alpha
    if not fitted.any():
        msg = f"No gene has a result for {listed([rows.title] if rows.title else rows.labels.values())}."
        raise ValueError(msg)
    factor, words = scale_of(result)
    effect = result["coef"][:, columns] * factor if "coef" in result.arrays else None

    axes = begin(ax, rows.size(4.2, 1.3))
    if effect is None:
        counts = {("genes", THIRD, 1): found}
    else:
        large = found & (np.abs(effect) >= min_effect)
        counts = {("down", DOWN, -1): large & (effect < 0), ("up", UP, 1): large & (effect > 0)}
    for (label, color, sign), those in counts.items():
        _draw_bars(axes, rows.at[fitted], those[:, fitted].sum(axis=0), sign, color, label)
    if effect is not None:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False, fontsize="small", borderpad=0)
    for y in rows.at[~fitted]:
        axes.text(0, y, " not fitted", color="0.4", fontsize="small", va="center")
    axes.axvline(0, color="0.4", linewidth=0.8)
    left, right = axes.dataLim.intervalx
    left, right = min(left, -1), max(right, 1)  # so that there are whole numbers on the axis where nothing is found
    room = 0.2 * max(-left, right)  # for numbers
    axes.set_xlim(left - room if effect is not None else 0, right + room)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):,.0f}")
    rows.label(axes)
    bound = f" and |{words}| ≥ {min_effect:g}" if min_effect > 0 else ""
    axes.set(xlabel=f"genes with adjusted p < {alpha:g}{bound}")
    axes.set_title(rows.title, pad=24 if effect is not None else None)
    return finished(axes, ax=ax, show=show, save=save)


def _draw_bars(ax: Axes, at: np.ndarray, numbers: np.ndarray, sign: int, color: str, label: str) -> None:
    ax.barh(at, sign * numbers, height=0.75, color=color, label=label)
    for y, number in zip(at, numbers, strict=True):
        ax.annotate(
            f"{number:,}",
            (sign * number, y),
            xytext=(3 * sign, 0),
            textcoords="offset points",
            ha="left" if sign > 0 else "right",
            va="center",
            fontsize="small",
            color="0.2",
        )
