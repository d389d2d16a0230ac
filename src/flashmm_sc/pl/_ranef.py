"""Caterpillar of a gene's predicted random effects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import norm

from flashmm_sc._base.options import check_level, check_optional_texts
from flashmm_sc._base.selection import component_slices
from flashmm_sc._gaussian.prediction import prediction_variance
from flashmm_sc._results.finding import found_fit
from flashmm_sc._results.fits import StoredDesign
from flashmm_sc._results.result import strings
from flashmm_sc.get._variance import ranef_of
from flashmm_sc.pl._figure import DOWN, begin, check_figure, finished
from flashmm_sc.pl._levels import one
from flashmm_sc.pl._samples import check_fitted
from flashmm_sc.pl._tables import gene_position

if TYPE_CHECKING:
    import os

    from anndata import AnnData
    from matplotlib.axes import Axes

    from flashmm_sc._results.result import Result

NAMED = 40
"""Most levels whose names are written."""
MOST = 2000
"""Most random effects of the model for intervals, which take dense matrices of them."""


def ranef(
    adata: AnnData,
    gene: str,
    component: str | None = None,
    *,
    key: str | None = None,
    group: str | None = None,
    conf_level: float = 0.95,
    gene_symbols: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | os.PathLike[str] | None = None,
) -> Axes | None:
    """Draw the predicted random effects of a gene, such as those of donors, in order of their size.

    Lines are prediction intervals, b̂ ± z √Var(b̂ - b), with the variance components taken for known; models with more than 2,000
    random effects have points only. Names of levels are written if there are at most 40.

    Parameters
    ----------
    adata
        With results of `flashmm_sc.tl.lmm_de`, run with ``ranef=True``.
    gene
        The gene.
    component
        Random component; may be left out if there is only one.
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
        When there is no such fit, group, component or gene, or the fit was made without ``ranef=True``.
    TypeError
        For arguments of a wrong type.
    ValueError
        When `component` or `group` is needed, or the gene was not fitted.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p", size_factors="total", ranef=True)
    >>> ax = fsc.pl.ranef(adata, "Gene3", show=False)
    """
    check_optional_texts(component=component, group=group, gene_symbols=gene_symbols, title=title)
    check_level(conf_level)
    check_figure(ax, show, save)
    fit = found_fit(adata, key)
    place = gene_position(adata, gene, gene_symbols)
    group = one("group", group, fit.groups, fit.key)
    names = strings(fit.models[fit.groups.index(group)]["component_names"])
    component = one("component", component, names, fit.key)
    table = ranef_of(fit.of_genes(np.array([place])), adata.var_names[[place]], component, group)
    check_fitted(fit, np.array([place]), group, [gene])
    error = _errors(fit, place, group, names.index(component))
    half = None if error is None else norm.isf((1 - conf_level) / 2) * error
    order = np.argsort(table["value"].to_numpy(), kind="stable")
    levels, values = table["level"].to_numpy()[order], table["value"].to_numpy()[order]

    few = len(levels) <= NAMED
    axes = begin(ax, (4.5, max(2.2, 1.2 + 0.2 * len(levels)) if few else 5.0))
    y = np.arange(len(levels))
    style: dict[str, Any] = {"markersize": 5 if few else 2, "linewidth": 1.2 if few else 0.5, "color": DOWN}
    axes.axvline(0, color="0.6", linewidth=0.8, zorder=0)
    axes.errorbar(values, y, xerr=None if half is None else half[order], fmt="o", **style)
    axes.set_yticks(y if few else [], levels if few else [])
    axes.locator_params(axis="x", nbins=6)
    axes.set(xlabel=f"random effect of {component}", ylim=(-0.7, len(levels) - 0.3))
    if not few:
        axes.set_ylabel(f"{len(levels):,} levels")
    axes.set_title(title if title is not None else f"{group}: {gene}" if group else gene)
    return finished(axes, ax=ax, show=show, save=save)


def _errors(fit: Result, gene: int, group: str, k: int) -> np.ndarray | None:
    """Standard deviations of b̂ - b of a component, None where they would take too long."""
    design = StoredDesign.all(fit)[fit.groups.index(group)]
    if sum(design.d) > MOST:
        return None
    theta = fit["theta"][gene, design.theta]
    variance = prediction_variance(design.cross, design.d, design.structure, design.groups, theta)
    return np.sqrt(np.maximum(variance[component_slices(design.d)[k]], 0.0))
