"""The learned prior of the variance ratios, beside what single genes say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flashmm_sc._base.errors import listed
from flashmm_sc._base.options import check_optional_texts
from flashmm_sc._inference.inference import Inference
from flashmm_sc._results.finding import found_fit, selected
from flashmm_sc._results.fitted import fitted_models
from flashmm_sc.pl._figure import DOWN, OTHER, UP, begin, check_figure, finished

if TYPE_CHECKING:
    import os

    from anndata import AnnData
    from matplotlib.axes import Axes

    from flashmm_sc._inference.moderated import Moderated

PRIOR, SHRUNKEN, SINGLE = DOWN, UP, OTHER


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

    Bars show the prior within each bin of mean expression, the wider the more probable a ratio. Grey points are the
    ratios s_k / s_0 as estimated from each gene alone, orange ones those of the posterior means. Ratios of zero stand at
    the lower edge.

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
    model = models[_chosen("group", group, list(models), key)]
    names = list(model.component_names)
    k = names.index(_chosen("component", component, names, key))
    if not isinstance(model.inference, Inference) or model.inference.moderated is None:
        msg = f"The fit {key!r} is not moderated here; run fsc.tl.lmm_de with moderate=True."
        raise ValueError(msg)
    axes = begin(ax)
    _draw(axes, model.inference, model.inference.moderated, k)
    axes.set_title(f"{model.group}: {names[k]}" if model.group else names[k])
    return finished(axes, ax=ax, show=show, save=save)


def _chosen(argument: str, value: str | None, known: list[str], key: str) -> str:
    if value is None and len(known) == 1:
        return known[0]
    if value is None:
        msg = f"The fit {key!r} has more than one {argument}; choose {argument}= among {listed(known, 20)}."
        raise ValueError(msg)
    selected(argument, value, known, key)
    return value


def _draw(ax: Axes, inference: Inference, moderated: Moderated, k: int) -> None:
    theta, x = inference.estimates.theta, moderated.covariate
    fitted = inference.estimates.fitted
    shrunken = moderated.theta(inference.projection)
    axis = np.unique(moderated.prior.gamma[:, k])
    floor = axis[1] / 3
    ratio = lambda values: np.maximum(values[fitted, k] / values[fitted, -1], floor)
    points: dict[str, Any] = {"s": 6, "linewidths": 0, "rasterized": True}
    ax.scatter(x[fitted], ratio(theta), color=SINGLE, label="single gene", **points)
    ax.scatter(x[fitted], ratio(shrunken), color=SHRUNKEN, label="posterior mean", **points)
    edges = np.concatenate([[x[fitted].min()], moderated.prior.edges, [x[fitted].max()]])
    weights = moderated.prior.weights @ (moderated.prior.gamma[:, [k]] == axis)
    for left, right, prior in zip(edges[:-1], edges[1:], weights, strict=True):
        shown = prior > 1e-3
        share = 0.9 * prior[shown] / prior.max()
        end = left * (right / left) ** share if left > 0 else left + (right - left) * share
        ax.hlines(np.maximum(axis[shown], floor), left, end, color=PRIOR, lw=2, alpha=0.8)
        ax.axvline(left, color=PRIOR, lw=0.5, alpha=0.4)
    ax.plot([], [], color=PRIOR, lw=2, label="prior")
    ax.set_yscale("log")
    if edges[0] > 0:
        ax.set_xscale("log")
    ax.set(xlabel="mean expression", ylabel="variance ratio $s_k / s_0$ (lower edge: 0)")
    ax.legend(frameon=False, markerscale=2)
