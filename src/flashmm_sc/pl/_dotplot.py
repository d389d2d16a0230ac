"""Dot plot: effects and evidence of several genes in every group, or by every contrast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pandas.api.types import is_list_like

from flashmm_sc._base.errors import listed
from flashmm_sc._base.options import check_number, check_optional_texts, check_whole
from flashmm_sc.pl._figure import DIVERGING, begin, check_figure, finished
from flashmm_sc.pl._rows import CHARACTER, ROW, Rows
from flashmm_sc.pl._tables import found_tests, gene_names, gene_position, scale_of, shown_columns

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

SEQUENTIAL = "YlGnBu"
"""Colour map of F, which has no sign."""
TOP = 10
"""Most -log10 of adjusted p-values that sizes of dots tell apart."""
LARGEST = 170.0
"""Area of a dot in square points."""


def dotplot(
    adata: AnnData,
    genes: int | str | Sequence[str] = 5,
    coefs: str | Sequence[str] | None = None,
    *,
    key: str | None = None,
    groups: str | Sequence[str] | None = None,
    alpha: float = 0.05,
    gene_symbols: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | os.PathLike[str] | None = None,
) -> Axes | None:
    """Draw the effects on several genes as dots, a row for each group of cells or contrast.

    The colour is the effect, the size the evidence, -log10 of the adjusted p-value, up to 10. Dots of significant genes
    have a dark edge. A cross stands where a gene has no result. For F tests the colour is F.

    Parameters
    ----------
    adata
        With results of `flashmm_sc.tl.lmm_de`, `flashmm_sc.tl.nbmm_de`, `flashmm_sc.tl.lmm_test` or
        `flashmm_sc.tl.lmm_anova`.
    genes
        Names of genes, or how many of those with the smallest p-values to show of each row.
    coefs
        Coefficients, contrasts or terms to show, in this order; by default all but intercepts and means of levels.
    key
        Key of the results. By default that of the fit or tests that have all of `coefs`: ``"lmm_de"`` before others.
    groups
        Groups to show if the fit has any (`groupby`), in this order; by default all.
    alpha
        Bound of the adjusted p-values.
    gene_symbols
        Column of `adata.var` with the names of genes, by default `var_names`.
    ax
        Axes to draw on, by default those of a new figure, the larger the more dots there are.
    show
        Whether to show the figure and return nothing; by default `scanpy.settings.autoshow`, but not if `ax` is given.
    save
        Path to write the figure to.

    Returns
    -------
    None if the figure was shown, else the axes. Effects are log2 fold changes, or coefficients where the logarithm of the
    fitted values isn't known.

    Raises
    ------
    KeyError
        When there is no such result, coefficient, group, gene or column of `adata.var`.
    TypeError
        For arguments of a wrong type.
    ValueError
        When no gene is asked for, or none has a result.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", size_factors="total")
    >>> ax = fsc.pl.dotplot(adata, 3, show=False)
    """
    check_optional_texts(gene_symbols=gene_symbols)
    check_number("alpha", alpha, 0.0, 1.0, "It bounds adjusted p-values.", without=(0.0,))
    check_figure(ax, show, save)
    result = found_tests(adata, key, coefs)
    columns = shown_columns(result, coefs, groups)
    rows, names = Rows.of(result, columns), gene_names(adata, gene_symbols)
    asked: Any = [genes] if isinstance(genes, str) else genes
    if is_list_like(asked):
        chosen = list(dict.fromkeys(gene_position(adata, gene, gene_symbols) for gene in asked))
    else:
        check_whole("genes", asked, 1)
        chosen = _best(result["pval"][:, columns], _strength(result.arrays)[:, columns], asked)
    adjusted = result["pval_adj"][np.ix_(chosen, columns)].T
    if not np.isfinite(adjusted).any():
        what = f"The genes {listed(names[chosen])} have" if chosen else "No gene was asked for, or they all have"
        msg = f"{what} no result in {result.key!r}; see the column 'status' of fsc.get.lmm_de_df."
        raise ValueError(msg)
    effects, (factor, words) = "coef" in result.arrays, scale_of(result)
    color = (result["coef"] * factor if effects else result["F"])[np.ix_(chosen, columns)].T

    axes = begin(
        ax, rows.size(max(2.0, ROW * len(chosen)) + 2.0, 1.0 + CHARACTER * max(map(len, map(str, names[chosen]))))
    )
    with np.errstate(divide="ignore"):
        evidence = -np.log10(adjusted)
    top = int(np.clip(np.ceil(np.nanmax(evidence)), 3, TOP))
    points = _draw_dots(axes, rows.at, color, evidence / top, adjusted < alpha, signed=effects)
    axes.set_xticks(range(len(chosen)), names[chosen], rotation=90)
    axes.set(xlim=(-0.6, len(chosen) - 0.4))
    axes.set_title(rows.title)
    rows.label(axes)
    _draw_legends(axes, points, color, top, alpha, words if effects else "F")
    return finished(axes, ax=ax, show=show, save=save)


def _strength(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """What tells genes apart whose p-values are zero."""
    return np.abs(arrays["t"]) if "t" in arrays else arrays["F"]


def _best(p: np.ndarray, strength: np.ndarray, n: int) -> list[int]:
    """The n genes with the smallest p-values of each column, each once."""
    best = [np.lexsort((-strength[:, j], p[:, j]))[: min(n, np.isfinite(p[:, j]).sum())] for j in range(p.shape[1])]
    return list(dict.fromkeys(map(int, np.concatenate(best))))


def _draw_dots(
    ax: Axes, at: np.ndarray, color: np.ndarray, share: np.ndarray, significant: np.ndarray, *, signed: bool
) -> PathCollection:
    """Dots of rows × genes, of a share of the largest."""
    y, x = np.broadcast_arrays(at[:, None], np.arange(color.shape[1]))
    known = np.isfinite(color) & ~np.isnan(share)
    most = float(np.quantile(np.abs(color[known]), 0.98)) or 1.0
    style: dict[str, Any] = {"cmap": DIVERGING if signed else SEQUENTIAL, "vmin": -most if signed else 0, "vmax": most}
    points = ax.scatter(
        x[known],
        y[known],
        s=_area(share[known]),
        c=color[known],
        edgecolors=np.where(significant, "black", "0.75")[known].tolist(),
        linewidths=np.where(significant, 1.0, 0.5)[known].tolist(),
        zorder=2,
        **style,
    )
    ax.scatter(x[~known], y[~known], s=12, marker="x", color="0.75", linewidths=0.8)
    ax.grid(color="0.93", linewidth=0.6)
    ax.set_axisbelow(True)
    return points


def _area(share: np.ndarray) -> np.ndarray:
    return LARGEST * (0.05 + 0.95 * np.minimum(share, 1.0))


def _draw_legends(ax: Axes, points: PathCollection, color: np.ndarray, top: int, alpha: float, words: str) -> None:
    """What sizes and colours mean, at the right."""
    values = np.unique(np.round(np.array([0, 0.2, 0.5, 1]) * top).astype(int))
    for value, area in zip(values, _area(values / top), strict=True):
        label = f"≥ {value}" if value == TOP else f"{value}"
        ax.scatter([], [], s=area, color="0.8", edgecolors="0.5", linewidths=0.5, label=label)
    ax.scatter([], [], s=LARGEST / 2, facecolors="none", edgecolors="black", linewidths=1.0, label=f"p < {alpha:g}")
    title = "$-\\log_{10}$\nadjusted p"
    small: dict[str, Any] = {"frameon": False, "fontsize": "small", "title_fontsize": "small", "borderpad": 0}
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), title=title, **small)
    low, high = points.get_clim()
    beyond = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    known, box = color[np.isfinite(color)], ax.get_window_extent().transformed(ax.figure.dpi_scale_trans.inverted())
    bar = ax.figure.colorbar(
        points,
        ax=ax,
        label=words,
        extend=beyond[bool(known.min() < low), bool(known.max() > high)],
        shrink=min(1.0, 1.8 / box.height),
        pad=0.15 / box.width,
        aspect=12,
        anchor=(0.0, 1.0),
    )
    bar.outline.set_visible(False)
