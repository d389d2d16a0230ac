"""Means of a gene in each sample, beside what the model fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flashmm_sc._base.options import check_level, check_optional_texts
from flashmm_sc._results.finding import found_fit
from flashmm_sc._results.sample_means import lacking, sample_means, scale
from flashmm_sc.get._fitted import fitted_at
from flashmm_sc.pl._figure import OTHER, begin, check_figure, finished
from flashmm_sc.pl._levels import grid_of, label_levels, levels_of, one, style
from flashmm_sc.pl._tables import gene_position

if TYPE_CHECKING:
    import os

    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes

    from flashmm_sc._results.result import Result
    from flashmm_sc._results.sample_means import Means

WIDTH = 0.8
"""Width of the place of a level, which levels of hue share."""
LARGEST, SMALLEST = 90.0, 6.0
"""Areas of the point with most cells and of the smallest, in square points."""


def samples(
    adata: AnnData,
    gene: str,
    by: str,
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
) -> Axes | None:
    """Draw a gene's mean in each sample against the levels of a factor, beside the fitted means.

    A point is the mean over the cells that a sample has at a level, on the scale of the fitted values, its area the number of
    these cells. Grey lines join the points of one sample, as those of a donor in both arms of a paired design. Diamonds are
    fitted means (`flashmm_sc.get.fitted`) with confidence intervals.

    Parameters
    ----------
    adata
        With results of `flashmm_sc.tl.lmm_de` and the cells, or strata, that were fitted; or of `flashmm_sc.tl.nbmm_de`, which
        stores the sums of its samples.
    gene
        The gene.
    by
        Factor of the formula whose levels are on the x axis.
    hue
        Another factor of the formula, whose levels get a colour each.
    sample
        Column of obs that tells samples apart, such as donors. By default the grouping of the random terms, or `sample` of
        `flashmm_sc.tl.nbmm_de`, without `by` and `hue`; of several the one with most levels.
    key
        Key of the fit, by default ``"lmm_de"`` or that of the only fit.
    group
        Group of cells, if the fit has several (`groupby`).
    conf_level
        Level of the intervals.
    gene_symbols
        Column of `adata.var` with the names of genes, by default `var_names`.
    title
        By default the gene, and the group.
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
        When there is no such fit, group, gene or column.
    TypeError
        For arguments of a wrong type.
    ValueError
        When `by` or `hue` is no factor of the formula, `group` is needed, the gene was not fitted, or the cells are not there.

    Notes
    -----
    The fitted means are those of a sample whose random effects are zero, other columns of the formula averaged over with
    equal weights; samples' means contain whatever their cells have.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", size_factors="total")
    >>> ax = fsc.pl.samples(adata, "Gene3", by="trt", group="2", show=False)
    """
    check_optional_texts(by=by, hue=hue, sample=sample, group=group, gene_symbols=gene_symbols, title=title)
    check_level(conf_level)
    check_figure(ax, show, save)
    fit = found_fit(adata, key)
    place = gene_position(adata, gene, gene_symbols)
    group = one("group", group, fit.groups, fit.key)
    grid = grid_of(fit, group)
    names = [by] if hue is None else [by, hue]
    if by == hue:
        msg = f"by={by!r} and hue={hue!r} are the same column; leave hue out."
        raise ValueError(msg)
    levels = [levels_of(grid, argument, name) for argument, name in zip(("by", "hue"), names, strict=False)]
    check_fitted(fit, np.array([place]), group, [gene])
    if reason := lacking(adata, fit):
        raise ValueError(reason)
    means = sample_means(adata, fit, np.array([place]), group, names, sample=sample)
    points = dict(zip(names, levels, strict=True))
    model = fitted_at(fit, adata.var_names, np.array([place]), points, conf_level, group or None)

    n_by, n_hue = len(levels[0]), len(levels[1]) if hue else 1
    crowded = sum(map(len, levels[0])) > 10 * n_by * max(0.5, 0.35 * n_hue)
    height = 3.8 + (0.06 * max(map(len, levels[0])) if crowded else 0.0)
    axes = begin(ax, (max(4.0, 3 + n_by * max(0.5, 0.35 * n_hue)), height))
    for h in range(n_hue):
        own = np.ones(len(means.n), bool) if hue is None else (means.levels[hue] == levels[1][h]).to_numpy()
        _draw_samples(axes, means, own, np.array([levels[0].index(level) for level in means.levels[by]]), h, n_hue)
        _draw_fitted(axes, model.iloc[h::n_hue], h, n_hue)
    label_levels(axes, levels[0], crowded=crowded)
    _explain(axes, levels[1:], means.n, conf_level)
    axes.set(
        xlabel=by,
        xlim=(-0.6, n_by - 0.4),
        ylabel=scale(fit),
        title=title if title is not None else f"{group}: {gene}" if group else gene,
    )
    return finished(axes, ax=ax, show=show, save=save)


def check_fitted(fit: Result, genes: np.ndarray, group: str, names: list[str]) -> None:
    """Refuse genes that were not fitted in a group, by these names."""
    status = fit["status"][genes, fit.groups.index(group)].astype(int)
    coef = fit["coef"][genes][:, [name == group for name in fit.names("column_groups")]]
    where = f" in {group!r}" if group else ""
    for name, code, its in zip(names, status, coef, strict=True):
        if np.isnan(its).any():
            msg = f"The gene {name!r} was not fitted{where}: its status is {fit.names('status_names')[code]!r}."
            raise ValueError(msg)


def _slot(h: int, n_hue: int) -> tuple[float, float]:
    """Middle, from that of a level, and width of the place of a level of hue."""
    width = WIDTH / n_hue
    return (h - (n_hue - 1) / 2) * width, width


def _draw_samples(ax: Axes, means: Means, own: np.ndarray, level: np.ndarray, h: int, n_hue: int) -> None:
    """Points of the samples, each at the same place within a level, and lines between those of one sample."""
    middle, width = _slot(h, n_hue)
    known = sorted(set(means.sample[own]))
    spread = dict(zip(known, np.linspace(-0.2, 0.2, len(known)) if len(known) > 1 else [0.0], strict=True))
    x = level + middle - 0.12 * width + np.array([spread.get(name, 0.0) for name in means.sample]) * width
    y, look = means.mean[:, 0], style(h)
    for name in known:
        its = np.flatnonzero(own & (means.sample == name))
        if len(its) > 1:
            its = its[np.argsort(x[its])]
            ax.plot(x[its], y[its], color=look["color"] if n_hue > 1 else OTHER, linewidth=0.8, alpha=0.6, zorder=1)
    ax.scatter(
        x[own],
        y[own],
        s=areas(means.n)[own],
        color=look["color"],
        marker=look["marker"],
        alpha=0.65,
        linewidths=0,
        zorder=2,
    )


def _draw_fitted(ax: Axes, model: pd.DataFrame, h: int, n_hue: int) -> None:
    """Fitted means and their intervals, right of the samples."""
    middle, width = _slot(h, n_hue)
    x, y = np.arange(len(model)) + middle + 0.25 * width, model["fit"].to_numpy()
    bars = np.abs(model[["ci_low", "ci_high"]].to_numpy().T - y)
    color = style(h)["color"] if n_hue > 1 else "black"
    ax.errorbar(x, y, yerr=bars, fmt="D", color=color, markersize=4.5, capsize=2.5, linewidth=1.2, zorder=3)


def areas(n: np.ndarray) -> np.ndarray:
    """Areas of points by numbers of cells, none too small to be seen."""
    return np.maximum(LARGEST * n / n.max(), SMALLEST)


def _explain(ax: Axes, hues: list[list[str]], n: np.ndarray, conf_level: float) -> None:
    """Beside the axes, what sizes and colours mean; and no y below zero where nothing is."""
    if ax.get_ylim()[0] < 0 <= ax.dataLim.y0:
        ax.set_ylim(bottom=-0.02 * ax.get_ylim()[1])
    blank: dict[str, Any] = {"color": OTHER if hues else style(0)["color"], "linewidths": 0}
    ends = np.array(list(dict.fromkeys([n.max(), n.min()])))
    handles: list[Any] = [
        ax.scatter([], [], s=area, label=f"{size:,.0f} cell{'' if size == 1 else 's'}", **blank)
        for size, area in zip(ends, areas(ends), strict=True)
    ]
    handles.append(
        ax.errorbar(
            [],
            [],
            yerr=[],
            fmt="D",
            color="0.4" if hues else "black",
            markersize=4.5,
            label=f"fitted, {100 * conf_level:g} %",
        )
    )
    for h, level in enumerate(hues[0] if hues else []):
        look = style(h)
        handles.append(ax.scatter([], [], s=40, color=look["color"], marker=look["marker"], linewidths=0, label=level))
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize="small")
