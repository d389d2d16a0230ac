"""Shares of variance of all genes, a violin a term."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flashmm_sc._base.options import check_optional_texts
from flashmm_sc._results.finding import found_fit
from flashmm_sc.get import variance_explained_df
from flashmm_sc.pl._figure import DOWN, OTHER, begin, check_figure, finished
from flashmm_sc.pl._levels import label_levels, one

if TYPE_CHECKING:
    import os

    from anndata import AnnData
    from matplotlib.axes import Axes

TICKS = (0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1)


def variance(
    adata: AnnData,
    *,
    key: str | None = None,
    group: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | os.PathLike[str] | None = None,
) -> Axes | None:
    """Draw how much of the genes' variance the terms of the model explain: a violin a term, as variancePartition's.

    Terms are ordered by their medians, the residual last. Within a violin the bar goes from the first to the third quartile of
    the genes, and the white dot is the median. The scale is that of square roots, as most shares are small in single cells. See `flashmm_sc.get.variance_explained_df` for what the shares are.

    Parameters
    ----------
    adata
        With results of `flashmm_sc.tl.lmm_de`.
    key
        Key of the fit, by default ``"lmm_de"`` or that of the only fit.
    group
        Group of cells, if the fit has several (`groupby`).
    title
        By default the group, and the number of genes that were fitted.
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
        When there is no such fit or group.
    TypeError
        For arguments of a wrong type.
    ValueError
        When `group` is needed, no gene was fitted, or shares can't be had, as of fits of counts.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ cls * trt", "sam + sam:cls", transform="log1p", size_factors="total")
    >>> ax = fsc.pl.variance(adata, show=False)
    """
    check_optional_texts(group=group, title=title)
    check_figure(ax, show, save)
    fit = found_fit(adata, key)
    group = one("group", group, fit.groups, fit.key)
    shares = variance_explained_df(adata, key=fit.key, groups=group).dropna()
    if shares.empty:
        where = f" in {group!r}" if group else ""
        msg = f"No gene was fitted{where}; see the column 'status' of fsc.get.lmm_de_df(adata, key={fit.key!r})."
        raise ValueError(msg)
    by_term = {str(term): its.to_numpy() for term, its in shares.groupby("term", sort=False)["share"]}
    terms = sorted(by_term, key=lambda term: (term == "residual", -np.median(by_term[term])))
    crowded = sum(map(len, terms)) > 9 * len(terms)
    height = 3.8 + (0.055 * max(map(len, terms)) if crowded else 0.0)
    axes = begin(ax, (max(3.2, 1.2 + 0.62 * len(terms)), height))
    _draw(axes, [by_term[term] for term in terms])
    label_levels(axes, terms, crowded=crowded)
    axes.set_yticks(np.sqrt(TICKS), [f"{tick:g}" for tick in TICKS])
    n = f"{len(by_term['residual']):,} genes"
    axes.set(
        ylabel="share of variance (square-root scale)",
        ylim=(-0.02, 1.02),
        title=title or (f"{group}: {n}" if group else n),
    )
    return finished(axes, ax=ax, show=show, save=save)


def _draw(ax: Axes, shares: list[np.ndarray]) -> None:
    """Violins of the roots of shares, their quartiles and medians; the last in grey."""
    places, roots = np.arange(len(shares)), [np.sqrt(one) for one in shares]
    parts: dict[str, Any] = ax.violinplot(roots, places, widths=0.85, showextrema=False)
    for body, color in zip(parts["bodies"], [DOWN] * (len(shares) - 1) + [OTHER], strict=True):
        body.set(facecolor=color, edgecolor=color, alpha=0.6)
    low, middle, high = np.transpose([np.quantile(one, [0.25, 0.5, 0.75]) for one in roots])
    ax.vlines(places, low, high, color="0.2", linewidth=4)
    ax.scatter(places, middle, s=14, color="white", edgecolors="0.2", linewidths=0.8, zorder=3)
