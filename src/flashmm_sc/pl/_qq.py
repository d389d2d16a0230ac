"""Quantile-quantile plot of p-values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import beta, chi2

from flashmm_sc._base.options import check_optional_texts
from flashmm_sc.pl._evidence import evidence
from flashmm_sc.pl._figure import DOWN, OTHER, check_figure, finished
from flashmm_sc.pl._grid import draw_grid
from flashmm_sc.pl._tables import found_tests, tables

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes

TOP = -math.log10(math.ulp(0.0))
"""Where the smallest positive number would be."""


def qq(
    adata: AnnData,
    coef: str | None = None,
    *,
    key: str | None = None,
    group: str | None = None,
    groups: str | Sequence[str] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | os.PathLike[str] | None = None,
) -> Axes | list[Axes] | None:
    """Draw observed p-values against those expected if no gene had an effect.

    The band holds each ordered p-value with a probability of 95 % if there are no effects and genes are independent. λ is
    the genomic inflation factor: the χ² of the median p-value over that expected. Near 1, with points that leave the line
    only at the far end, tests hold their level; genes with effects raise it, and so do tests that don't. F tests of
    which the p-value is too small for a number are triangles at the top.

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
    >>> axes = fsc.pl.qq(adata, groups="all", show=False)
    """
    check_optional_texts(coef=coef, group=group, title=title)
    check_figure(ax, show, save, grid=groups is not None)
    result, grid = found_tests(adata, key, coef, "coef"), groups is not None
    shown = tables(adata, result, coef, group, groups)
    drawn = {name: table.assign(y=evidence(table, result)).dropna(subset="y") for name, table in shown.items()}
    words = r"$-\log_{10}$ p-value, "
    x, y = f"{words}expected", f"{words}observed"
    axes = draw_grid(result.key, shown, drawn, _draw, grid=grid, ax=ax, title=title, xlabel=x, ylabel=y)
    return finished(axes if grid else axes[0], ax=ax, show=show, save=save)


def _draw(ax: Axes, table: pd.DataFrame) -> None:
    n = len(table)
    expected = -np.log10((np.arange(n) + 0.5) / n)
    observed = np.sort(table["y"].to_numpy())[::-1]
    some = np.unique(np.geomspace(1, n, 200).round().astype(int))
    low, high = (-np.log10(beta.ppf(tail, some, n + 1 - some)) for tail in (0.975, 0.025))
    ax.fill_between(expected[some - 1], low, high, color=OTHER, alpha=0.5, linewidth=0, label="95 % band")
    ax.plot(expected[[0, -1]], expected[[0, -1]], color="0.2", linestyle="--", linewidth=0.8)
    above = np.isinf(observed)
    style: dict[str, Any] = {"color": DOWN, "linewidths": 0, "rasterized": n > 2000}
    ax.scatter(expected[~above], observed[~above], s=8, **style)
    if above.any():
        ax.scatter(expected[above], np.full(above.sum(), observed[~above].max(initial=TOP)), s=24, marker="^", **style)
    inflation = chi2.isf(table["p_value"].median(), 1) / chi2.median(1)
    ax.text(0.04, 0.96, f"λ = {inflation:.2f}", ha="left", va="top", transform=ax.transAxes)
    ax.set(xlim=(0, None), ylim=(0, None))
