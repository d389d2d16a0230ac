"""Fitted curves over a number, with their bands, and the means of samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flashmm_sc._base.options import check_level, check_optional_texts, names_given
from flashmm_sc._results.finding import found_fit
from flashmm_sc._results.sample_means import lacking, sample_means, scale
from flashmm_sc.get._fitted import fitted_at
from flashmm_sc.pl._figure import begin, check_figure, finished, panels
from flashmm_sc.pl._levels import check_number, grid_of, levels_of, one, style
from flashmm_sc.pl._samples import areas, check_fitted
from flashmm_sc.pl._tables import gene_position

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes

    from flashmm_sc._results.sample_means import Means

POINTS = 100
"""Points of a curve."""


def curve(
    adata: AnnData,
    genes: str | Sequence[str],
    x: str,
    *,
    hue: str | None = None,
    sample: str | None = None,
    key: str | None = None,
    group: str | None = None,
    conf_level: float = 0.95,
    gene_symbols: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | os.PathLike[str] | None = None,
) -> Axes | list[Axes] | None:
    """Draw fitted curves of genes over a number, such as age, dose or time, with their confidence bands.

    Curves are fitted means (`flashmm_sc.get.fitted`) over the range that the cells have. Points, if the cells are there, are
    means over the cells of each sample, the larger the more cells.

    Parameters
    ----------
    adata
        With results of `flashmm_sc.tl.lmm_de` or `flashmm_sc.tl.nbmm_de`.
    genes
        One gene, or several in a list, which get a panel each.
    x
        Column of numbers of the formula, as in ``"~ age"``, ``"~ poly(age, 2)"`` or ``"~ bs(age, df=4)"``.
    hue
        Factor of the formula, whose levels get a curve each.
    sample
        Column of obs that tells samples apart, as in `flashmm_sc.pl.samples`. Where `x` varies within them, each has a point for
        every value, or, of more than 10 values, for every tenth of the range.
    key
        Key of the fit, by default ``"lmm_de"`` or that of the only fit.
    group
        Group of cells, if the fit has several (`groupby`).
    conf_level
        Level of the bands, for each point by itself.
    gene_symbols
        Column of `adata.var` with the names of genes, by default `var_names`.
    title
        By default the gene, and the group; of several genes, a title of the figure.
    ax
        Axes to draw one gene on, by default those of a new figure.
    show
        Whether to show the figure and return nothing; by default `scanpy.settings.autoshow`, but not if `ax` is given.
    save
        Path to write the figure to.

    Returns
    -------
    None if the figure was shown, else the axes, or a list of them for several genes.

    Raises
    ------
    KeyError
        When there is no such fit, group, gene or column.
    TypeError
        For arguments of a wrong type.
    ValueError
        When `x` is no number or `hue` no factor of the formula, `group` is needed, or a gene was not fitted.

    Notes
    -----
    Other columns of the formula are averaged over, as in `flashmm_sc.get.fitted`; samples' means contain whatever their cells
    have.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ trt * bs(libsize, df=4) + cls", "sam + sam:cls", transform="log1p")
    >>> ax = fsc.pl.curve(adata, "Gene3", "libsize", hue="trt", show=False)
    """
    check_optional_texts(x=x, hue=hue, sample=sample, group=group, gene_symbols=gene_symbols, title=title)
    check_level(conf_level)
    several, names = not isinstance(genes, str), list(dict.fromkeys(names_given("genes", genes) or []))
    if not names or (several and ax is not None):
        msg = (
            f"genes={genes} asks for no gene; give one or more."
            if not names
            else "ax= takes one gene; several get a figure."
        )
        raise ValueError(msg)
    check_figure(ax, show, save)
    fit = found_fit(adata, key)
    places = np.array([gene_position(adata, gene, gene_symbols) for gene in names])
    group = one("group", group, fit.groups, fit.key)
    grid = grid_of(fit, group)
    check_number(grid, "x", x)
    levels = [] if hue is None else levels_of(grid, "hue", hue)
    check_fitted(fit, places, group, names)
    factors = [] if hue is None else [hue]
    means = None if lacking(adata, fit) else sample_means(adata, fit, places, group, factors, sample=sample, x=x)
    low, high = grid.covariates[x].low, grid.covariates[x].high
    points: dict[str, Any] = {x: np.linspace(low, high, POINTS)} | ({} if hue is None else {hue: levels})
    model = fitted_at(fit, adata.var_names, places, points, conf_level, group or None)

    axes = panels(len(names)) if several else [begin(ax)]
    for j, (its, name) in enumerate(zip(axes, names, strict=True)):
        own = model.iloc[j * len(model) // len(names) : (j + 1) * len(model) // len(names)]
        for i, level in enumerate(levels or [""]):
            _draw(its, own.iloc[i :: max(len(levels), 1)], points[x], i, level)
            if means is not None:
                cells = (means.levels[hue] == level).to_numpy() if hue else np.ones(len(means.n), bool)
                _draw_means(its, means, cells, j, i)
        its.set(xlabel=x, ylabel=scale(fit), title=f"{group}: {name}" if group else name)
    _explain(axes, hue, several)
    if title is not None:
        axes[0].figure.suptitle(title) if several else axes[0].set_title(title)
    return finished(axes if several else axes[0], ax=ax, show=show, save=save)


def _draw(ax: Axes, model: pd.DataFrame, x: np.ndarray, i: int, level: str) -> None:
    """The curve of a level and its band."""
    look = style(i)
    ax.plot(x, model["fit"], color=look["color"], linestyle=look["linestyle"], label=level, zorder=3)
    ax.fill_between(x, model["ci_low"], model["ci_high"], color=look["color"], alpha=0.2, linewidth=0, zorder=2)


def _draw_means(ax: Axes, means: Means, own: np.ndarray, gene: int, i: int) -> None:
    """Means of samples at a level."""
    color = style(i)["color"]
    y, size = means.mean[own, gene], areas(means.n)[own] / 2
    ax.scatter(means.x[own], y, s=size, color=color, alpha=0.5, linewidths=0, zorder=1)


def _explain(axes: list[Axes], hue: str | None, several: bool) -> None:
    """What colours mean, once; and no y below zero where nothing is."""
    for ax in axes:
        if ax.get_ylim()[0] < 0 <= ax.dataLim.y0:
            ax.set_ylim(bottom=-0.02 * ax.get_ylim()[1])
    if hue is None:
        return
    handles, labels = axes[0].get_legend_handles_labels()
    how: dict[str, Any] = {"title": hue, "frameon": False, "fontsize": "small"}
    if several:
        axes[0].figure.legend(handles, labels, loc="outside right upper", **how)
    else:
        axes[0].legend(loc="upper left", bbox_to_anchor=(1, 1), **how)
