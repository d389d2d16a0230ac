"""The learned prior of the variance ratios, beside what single genes say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flashmm_sc._base.options import check_optional_texts
from flashmm_sc._inference.inference import Inference
from flashmm_sc._results.finding import found_fit
from flashmm_sc._results.fitted import fitted_models
from flashmm_sc.pl._figure import DOWN, OTHER, UP, begin, check_figure, finished
from flashmm_sc.pl._levels import one

if TYPE_CHECKING:
    import os

    from anndata import AnnData
    from matplotlib.axes import Axes

    from flashmm_sc._inference.moderated import Moderated

PRIOR, SHRUNKEN, SINGLE = DOWN, UP, OTHER
BARS = 0.3
"""Share of the width of a bin that is the prior's."""


def variance_prior(
    adata: AnnData,
    component: str | None = None,
    *,
    key: str | None = None,
    group: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | os.PathLike[str] | None = None,
) -> Axes | None:
    """Draw the prior of a moderated fit, posterior means and single genes' estimates against mean expression.

    The prior is learned in bins of mean expression, which stand side by side: in each, bars show the prior, the longer the more
    probable a ratio, and points beside them the genes, in order of mean expression. Grey ones are the ratios s_k / s_0 as estimated
    from each gene alone, orange ones those of the posterior means.

    Parameters
    ----------
    adata
        With results of `flashmm_sc.tl.lmm_de` with ``moderate=True``.
    component
        Random component; may be left out if there is only one.
    key
        Key of the fit, by default ``"lmm_de"`` or that of the only fit.
    group
        Group of cells, if the fit has several (`groupby`).
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
        When there is no fit under `key`, or no such group or component.
    TypeError
        For arguments of a wrong type.
    ValueError
        When the fit, or this group of it, is not moderated, or `component` or `group` is needed.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=200, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p", size_factors="total", moderate=True)
    >>> ax = fsc.pl.variance_prior(adata, show=False)
    """
    check_optional_texts(component=component, group=group)
    check_figure(ax, show, save)
    fit = found_fit(adata, key)
    if fit.of_counts:
        msg = f"The fit {fit.key!r} is of counts by fsc.tl.nbmm_de; this draws moderated fits of fsc.tl.lmm_de."
        raise ValueError(msg)
    key, models = fit.key, {model.group: model for model in fitted_models(fit)}
    model = models[one("group", group, list(models), key)]
    names = list(model.component_names)
    k = names.index(one("component", component, names, key))
    if not isinstance(model.inference, Inference) or model.inference.moderated is None:
        msg = f"The fit {key!r} is not moderated here; run fsc.tl.lmm_de with moderate=True."
        raise ValueError(msg)
    axes = begin(ax, (8.0, 4.5))
    _draw(axes, model.inference, model.inference.moderated, k)
    axes.set_title(f"{model.group}: {names[k]}" if model.group else names[k])
    return finished(axes, ax=ax, show=show, save=save)


def _draw(ax: Axes, inference: Inference, moderated: Moderated, k: int) -> None:
    """Bins of mean expression side by side: of each the prior as bars, and beside them its genes by rank."""
    theta, fitted = inference.estimates.theta, inference.estimates.fitted
    x, prior = moderated.covariate[fitted], moderated.prior
    axis = np.unique(prior.gamma[:, k])
    floor, step = axis[1] / 3, axis[2] / axis[1] if len(axis) > 2 else 2.0
    ratio = lambda values: np.maximum(values[fitted, k] / values[fitted, -1], floor)
    edges = np.concatenate([[x.min()], prior.edges, [x.max()]])
    bins = np.searchsorted(prior.edges, x, side="right")
    weights = prior.weights @ (prior.gamma[:, [k]] == axis)
    place = np.empty(len(x))
    for i, weight in enumerate(weights):
        (own,) = np.nonzero(bins == i)
        rank = np.argsort(np.argsort(x[own], kind="stable"))
        place[own] = i + BARS + 0.04 + (0.92 - BARS) * (rank + 0.5) / max(len(own), 1)
        shown = weight > 1e-3
        low = np.maximum(axis[shown], floor) * step**-0.42
        length, height = BARS * weight[shown] / weights.max(), low * (step**0.84 - 1)
        ax.barh(low, length, height, left=i, align="edge", color=PRIOR, linewidth=0)
        ax.axvline(i, color="0.85", linewidth=0.8, zorder=0)
    points: dict[str, Any] = {"s": 6, "linewidths": 0, "rasterized": True}
    ax.scatter(place, ratio(theta), color=SINGLE, label="single gene", **points)
    ax.scatter(place, ratio(moderated.theta(inference.projection)), color=SHRUNKEN, label="posterior mean", **points)
    ax.barh([], [], color=PRIOR, label="prior")
    _label(ax, edges, floor)


def _label(ax: Axes, edges: np.ndarray, floor: float) -> None:
    """Mean expression at the edges of bins; zero where it is drawn."""
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    decades = [10.0**i for i in range(-12, 13) if max(low, 2 * floor) <= 10.0**i <= high]
    ax.set_yticks([floor, *decades], ["0", *(f"$10^{{{np.log10(one):.0f}}}$" for one in decades)])
    ax.set_xticks(range(len(edges)), [f"{edge:.2g}" for edge in edges])
    ax.set(xlim=(0, len(edges) - 1), xlabel="mean expression", ylabel="variance ratio $s_k / s_0$")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, markerscale=2, fontsize="small")
