"""MA plot: effect against mean expression of every gene."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.options import check_number, check_optional_texts
from flashmm_sc._results.finding import fit_of
from flashmm_sc.pl._figure import check_figure, finished
from flashmm_sc.pl._grid import draw_grid, draw_points
from flashmm_sc.pl._tables import found_tests, scale_of, tables

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes

    from flashmm_sc._results.result import Result


def ma(
    adata: AnnData,
    coef: str | None = None,
    *,
    key: str | None = None,
    group: str | None = None,
    groups: str | Sequence[str] | None = None,
    alpha: float = 0.05,
    min_effect: float = 0.0,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | os.PathLike[str] | None = None,
) -> Axes | list[Axes] | None:
    """Draw the effect of every gene against its mean expression.

    Colours mark genes with an adjusted p-value below `alpha`. The mean is that of the fixed effects over the cells of the
    group, on the scale of the fitted values; of counts it is log2 of the mean count of a cell of mean depth.

    Parameters
    ----------
    adata
        With results of `flashmm_sc.tl.lmm_de`, `flashmm_sc.tl.nbmm_de` or `flashmm_sc.tl.lmm_test`, and the fit that tests
        were made from.
    coef
        Coefficient or contrast; may be left out if there is only one besides intercepts and means of levels.
    key
        Key of the results. By default that of the fit or tests that have the coefficient: ``"lmm_de"`` before others.
    group
        Group of cells, if the fit has several (`groupby`).
    groups
        ``"all"``, or names of groups, to draw a grid with one panel a group, in this order.
    alpha
        Bound of the adjusted p-values.
    min_effect
        Colour only genes at least this far from zero on the y axis, marked by dashed lines.
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
    None if the figure was shown, else the axes, or with `groups` a list of them. y is the log2 fold change, or the
    coefficient where the logarithm of the fitted values isn't known.

    Raises
    ------
    KeyError
        When there is no such result, coefficient or group.
    TypeError
        For arguments of a wrong type.
    ValueError
        When `coef` or `group` is needed, no gene has a result, the results are F tests, for contrasts across groups, and
        when a design can't tell means of cells.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", size_factors="total")
    >>> axes = fsc.pl.ma(adata, groups="all", show=False)
    """
    check_optional_texts(coef=coef, group=group, title=title)
    check_number("alpha", alpha, 0.0, 1.0, "It bounds adjusted p-values.", without=(0.0,))
    check_number("min_effect", min_effect, 0.0)
    check_figure(ax, show, save, grid=groups is not None)
    result, grid = found_tests(adata, key, coef, "coef", effects=True), groups is not None
    fit = fit_of(adata, result)
    if fit is None:
        msg = (
            f"The fit that {result.key!r} was made from is gone or replaced, and with it the means; run its call again."
        )
        raise ValueError(msg)
    shown = tables(adata, result, coef, group, groups)
    drawn = {}
    for name, table in shown.items():
        known = table.assign(y=table["x"], x=_means(fit, str(table["group"].iloc[0]) if "group" in table else ""))
        known["significant"] = (known["adj_p_value"] < alpha) & (known["y"].abs() >= min_effect)
        drawn[name] = known[known["y"].notna() & known["p_value"].notna()]

    def draw(its: Axes, table: pd.DataFrame) -> None:
        draw_points(its, table, table["y"])
        its.axhline(0, color="0.4", linewidth=0.8, zorder=0)
        for bound in {-min_effect, min_effect} - {0}:
            its.axhline(bound, color="0.4", linestyle="--", linewidth=0.8, zorder=0)

    xlabel = r"$\log_2$ mean count" if fit.of_counts else "mean of fitted values"
    axes = draw_grid(
        result.key,
        shown,
        drawn,
        draw,
        grid=grid,
        ax=ax,
        title=title,
        legend=True,
        xlabel=xlabel,
        ylabel=scale_of(result)[1],
    )
    return finished(axes if grid else axes[0], ax=ax, show=show, save=save)


def _means(fit: Result, group: str) -> np.ndarray:
    """Mean expression of every gene over the cells of a group."""
    if group not in fit.groups:
        msg = "A contrast across groups has no cells of its own, and so no mean expression; choose one within groups."
        raise ValueError(msg)
    i = fit.groups.index(group)
    described = fit.models[i]
    if fit.of_counts:
        start = sum(len(model["size"]) for model in fit.models[:i])
        sums = fit["sums"][:, start : start + len(described["size"])]
        with np.errstate(divide="ignore"):  # of genes that were not fitted
            return np.log2(sums.sum(axis=1, dtype=float) / described["size"].sum())
    constant = np.asarray(
        described["constant"], dtype=float
    )  # X constant = 1, so that constant'X'X β is a sum over cells
    if not constant.any():
        msg = f"The design {fit.params['fixed']!r} has no intercept, so that it can't tell means of cells."
        raise ValueError(msg)
    columns = [j for j, place in enumerate(fit.status_columns) if place == i]
    sums = described["XX"] @ constant
    return fit["coef"][:, columns] @ sums / (constant @ sums)
