"""Volcano plot: effect and evidence of every gene."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.api.types import is_list_like

from flashmm_sc._base.errors import did_you_mean, listed, warn
from flashmm_sc._base.options import check_number, check_optional_texts, check_whole
from flashmm_sc.pl._evidence import evidence
from flashmm_sc.pl._figure import check_figure, finished
from flashmm_sc.pl._grid import MANY, draw_grid, draw_points
from flashmm_sc.pl._tables import found_tests, scale_of, tables

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes

    from flashmm_sc._results.result import Result

CROWD = 150  # points that labels keep clear of; adjustText's memory grows with their square


def volcano(
    adata: AnnData,
    coef: str | None = None,
    *,
    key: str | None = None,
    group: str | None = None,
    groups: str | Sequence[str] | None = None,
    labels: int | Sequence[str] = 10,
    alpha: float = 0.05,
    min_effect: float = 0.0,
    gene_symbols: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | os.PathLike[str] | None = None,
) -> Axes | list[Axes] | None:
    """Draw the effect of every gene against its p-value.

    Colours mark genes with an adjusted p-value below `alpha`; the dashed line is where the adjusted p-value crosses it.
    Genes without a result are left out.

    Parameters
    ----------
    adata
        With results of `flashmm_sc.tl.lmm_de`, `flashmm_sc.tl.nbmm_de` or `flashmm_sc.tl.lmm_test`.
    coef
        Coefficient or contrast; may be left out if there is only one besides intercepts and means of levels.
    key
        Key of the results. By default that of the fit or tests that have the coefficient: ``"lmm_de"`` before others.
    group
        Group of cells, if the fit has several (`groupby`).
    groups
        ``"all"``, or names of groups, to draw a grid with one panel a group, in this order.
    labels
        How many genes to label, those with the smallest p-values among the significant ones, or names of genes.
    alpha
        Bound of the adjusted p-values.
    min_effect
        Colour and label only genes at least this far from zero on the x axis, marked by dashed lines. To test for
        effects above a bound, see `lfc` of `flashmm_sc.tl.lmm_test`.
    gene_symbols
        Column of `adata.var` with the names to show, by default `var_names`.
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
    None if the figure was shown, else the axes, or with `groups` a list of them. x is the log2 fold change, or the
    coefficient where the logarithm of the fitted values isn't known.

    Raises
    ------
    KeyError
        When there is no such result, coefficient, group, gene or column of `adata.var`.
    TypeError
        For arguments of a wrong type.
    ValueError
        When `coef` or `group` is needed, no gene has a result, the results are F tests, or `alpha` or `min_effect` is
        out of range.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", size_factors="total")
    >>> ax = fsc.pl.volcano(adata, "trt[T.B]", group="2", labels=5, show=False)
    >>> axes = fsc.pl.volcano(adata, "trt[T.B]", groups="all", save="volcano.pdf")  # doctest: +SKIP
    """
    check_optional_texts(coef=coef, group=group, gene_symbols=gene_symbols, title=title)
    check_number("alpha", alpha, 0.0, 1.0, "It bounds adjusted p-values.", without=(0.0,))
    check_number("min_effect", min_effect, 0.0)
    if not is_list_like(labels) and not isinstance(labels, str):
        check_whole("labels", labels, 0)
    check_figure(ax, show, save, grid=groups is not None)
    result, grid = found_tests(adata, key, coef, "coef", effects=True), groups is not None
    shown = tables(adata, result, coef, group, groups, gene_symbols)
    drawn = {name: _drawn(table, result, alpha, min_effect) for name, table in shown.items()}
    labelled = [_labelled(table, labels, shown[name]["gene"]) for name, table in drawn.items()]

    def draw(its: Axes, table: pd.DataFrame) -> None:
        draw_points(its, table, table["x"])
        _draw_lines(its, _threshold(table, alpha), min_effect)
        its.margins(0.1)
        its.set_ylim(bottom=0)

    xlabel, ylabel = scale_of(result)[1], r"$-\log_{10}$ p-value"
    axes = draw_grid(
        result.key, shown, drawn, draw, grid=grid, ax=ax, title=title, legend=True, xlabel=xlabel, ylabel=ylabel
    )
    _draw_labels(axes, list(drawn.values()), labelled)
    return finished(axes if grid else axes[0], ax=ax, show=show, save=save)


def _drawn(table: pd.DataFrame, result: Result, alpha: float, min_effect: float) -> pd.DataFrame:
    """Genes that have a result: how high they are, and whether they are coloured."""
    table = table.assign(y=evidence(table, result))
    drawn = table[table["x"].notna() & np.isfinite(table["y"])]
    return drawn.assign(significant=(drawn["adj_p_value"] < alpha) & (drawn["x"].abs() >= min_effect))


def _labelled(drawn: pd.DataFrame, labels: int | Sequence[str], genes: pd.Series) -> pd.DataFrame:
    """Choose the genes to label: the best, or those asked for, of which some may have no result."""
    if isinstance(labels, (int, np.integer)):
        best = drawn[drawn["significant"]].sort_values("z", key=abs, ascending=False, kind="stable")
        return best.head(labels)
    labels = [labels] if isinstance(labels, str) else [str(label) for label in labels]
    known, with_result = set(genes), set(drawn["gene"])
    if unknown := [label for label in labels if label not in known]:
        msg = f"labels: there is no gene {listed(unknown)}. {did_you_mean(unknown[0], known)}"
        raise KeyError(msg)
    if absent := [label for label in labels if label not in with_result]:
        msg = f"labels: {listed(absent)} can't be drawn for lack of a result."
        warn(msg)
    return drawn[drawn["gene"].isin(labels)]


def _draw_lines(ax: Axes, threshold: float | None, min_effect: float) -> None:
    style: dict[str, Any] = {"color": "0.4", "linestyle": "--", "linewidth": 0.8, "zorder": 0}
    if threshold is not None:
        ax.axhline(threshold, **style)
    if min_effect > 0:
        ax.axvline(-min_effect, **style)
        ax.axvline(min_effect, **style)


def _threshold(drawn: pd.DataFrame, alpha: float) -> float | None:
    """Height at which the adjusted p-value crosses alpha, between the last gene below alpha and the first above."""
    below = drawn["adj_p_value"] < alpha
    if below.all() or not below.any():
        return None
    around = pd.concat([drawn[below].nsmallest(1, "y"), drawn[~below].nlargest(1, "y")])
    return float(np.interp(math.log(alpha), np.log(around["adj_p_value"].clip(lower=math.ulp(0.0))), around["y"]))


def _draw_labels(axes: Sequence[Axes], drawn: Sequence[pd.DataFrame], labelled: Sequence[pd.DataFrame]) -> None:
    """Label genes, in axes which from here on stay where they are; in a grid adjustText draws no other panel."""
    figure = axes[0].figure.canvas.figure  # all of it, where axes are in a part
    figure.draw_without_rendering()
    layout = figure.get_layout_engine()
    figure.set_layout_engine("none")
    for ax, table, genes in zip(axes, drawn, labelled, strict=True):
        for other in axes:
            other.set_visible(other is ax)
        _label(ax, table, genes, "small" if len(axes) <= MANY else "x-small")
    for ax in axes:
        ax.set_visible(True)
    figure.set_layout_engine(layout)


def _label(ax: Axes, drawn: pd.DataFrame, labelled: pd.DataFrame, fontsize: str) -> None:
    """Label genes towards the middle, where a volcano has room, then move labels apart; rings tell whose they are."""
    from adjustText import adjust_text
    from matplotlib import patheffects

    ax.scatter(labelled["x"], labelled["y"], s=14, facecolors="none", edgecolors="0.2", linewidths=0.6, zorder=1.2)
    outline = [patheffects.withStroke(linewidth=2, foreground="white")]
    texts = [
        ax.text(x, y, gene, ha="left" if x < 0 else "right", va="center", fontsize=fontsize, path_effects=outline)
        for gene, x, y in labelled[["gene", "x", "y"]].itertuples(index=False)
    ]
    nearby = drawn.nlargest(CROWD, "y")
    options: dict[str, Any] = {"ax": ax, "explode_radius": 0, "expand": (1.15, 1.4), "iter_lim": 200}
    adjust_text(
        texts,
        nearby["x"].to_numpy(),
        nearby["y"].to_numpy(),
        force_text=(0.3, 0.8),
        force_static=(0.2, 0.5),
        max_move=(30, 30),
        **options,
    )
    adjust_text(  # once more with fewer points, of which many can hold labels on top of each other
        texts,
        labelled["x"].to_numpy(),
        labelled["y"].to_numpy(),
        target_x=labelled["x"].to_numpy(),
        target_y=labelled["y"].to_numpy(),
        avoid_self=False,
        force_static=(0.6, 1.0),
        force_pull=(0, 0),
        min_arrow_len=2,
        arrowprops={"arrowstyle": "-", "color": "0.4", "linewidth": 0.5},
        **options,
    )
