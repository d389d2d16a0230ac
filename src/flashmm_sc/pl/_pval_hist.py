"""Histogram of p-values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.options import check_optional_texts, check_whole
from flashmm_sc.pl._figure import OTHER, check_figure, finished
from flashmm_sc.pl._grid import draw_grid
from flashmm_sc.pl._tables import found_tests, tables

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes


def pval_hist(
    adata: AnnData,
    coef: str | None = None,
    *,
    key: str | None = None,
    group: str | None = None,
    groups: str | Sequence[str] | None = None,
    bins: int = 20,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | os.PathLike[str] | None = None,
) -> Axes | list[Axes] | None:
    """Draw the histogram of p-values before adjustment.

    The dashed line is where it would be if no gene had an effect. A peak at the left over a flat rest is what is hoped
    for; a rest that rises to the right, or falls all the way, says that the tests don't fit the data.

    Parameters
    ----------
    adata
        With results of `flashmm_sc.tl.lmm_de`, `flashmm_sc.tl.nbmm_de`, `flashmm_sc.tl.lmm_test` or
        `flashmm_sc.tl.lmm_anova`.
    coef
        Coefficient, contrast or term; may be left out if there is only one besides intercepts and means of levels.
    key
        Key of the results. By default that of the fit or tests that have the coefficient: ``"lmm_de"`` before others.
    group
        Group of cells, if the fit has several (`groupby`).
    groups
        ``"all"``, or names of groups, to draw a grid with one panel a group, in this order.
    bins
        Number of bars.
    title
        By default the coefficient, and the group.
    ax
        Axes to draw on, by default those of a new figure.
    show
        Whether to show the figure and return nothing; by default `scanpy.settings.autoshow`, but not if `ax` is given.
    save
        Path to write the figure to.

    Returns
    -------
    None if the figure was shown, else the axes, or with `groups` a list of them.

    Raises
    ------
    KeyError
        When there is no such result, coefficient or group.
    TypeError
        For arguments of a wrong type.
    ValueError
        When `coef` or `group` is needed, or no gene has a result.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", size_factors="total")
    >>> axes = fsc.pl.pval_hist(adata, groups="all", show=False)
    """
    check_optional_texts(coef=coef, group=group, title=title)
    check_whole("bins", bins, 1)
    check_figure(ax, show, save, grid=groups is not None)
    result, grid = found_tests(adata, key, coef, "coef"), groups is not None
    shown = tables(adata, result, coef, group, groups)
    drawn = {name: table[table["p_value"].notna()] for name, table in shown.items()}

    def draw(its: Axes, table: pd.DataFrame) -> None:
        its.hist(table["p_value"], np.linspace(0, 1, bins + 1).tolist(), color=OTHER, edgecolor="white", linewidth=0.5)
        its.axhline(len(table) / bins, color="0.2", linestyle="--", linewidth=0.8, label="no effects")
        its.set_xlim(0, 1)

    axes = draw_grid(result.key, shown, drawn, draw, grid=grid, ax=ax, title=title, xlabel="p-value", ylabel="genes")
    axes[0].legend(frameon=False, fontsize="small")
    return finished(axes if grid else axes[0], ax=ax, show=show, save=save)
