"""How the fit of all genes went, group by group."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from flashmm_sc._base.options import check_optional_texts
from flashmm_sc._results.finding import found_fit
from flashmm_sc._results.fits import DECADES
from flashmm_sc.pl._figure import DOWN, THIRD, UP, check_figure, finished

if TYPE_CHECKING:
    import os

    from anndata import AnnData
    from matplotlib.axes import Axes

    from flashmm_sc._results.result import Result

COLORS = {
    "ok": THIRD,
    "boundary": "#56B4E9",
    "not converged": UP,
    "indefinite": "#CC79A7",
    "no df": "#E69F00",
    "no residual": "#8C510A",
    "constant": "#777777",
    "filtered": "#AAAAAA",
    "masked": "#DDDDDD",
}
"""Of each status: those with results cool, those that failed warm, those that were not fitted grey."""
NOT_FITTED = ("constant", "filtered", "masked")
BINS = 30
"""Most bins of iterations."""


def fit_diagnostics(
    adata: AnnData,
    *,
    key: str | None = None,
    title: str | None = None,
    show: bool | None = None,
    save: str | os.PathLike[str] | None = None,
) -> list[Axes] | None:
    """Draw what became of the genes in each group: their status, how many iterations their fits took, and their gradients.

    Genes with the statuses ``ok`` and ``boundary`` (a variance component at zero) have valid results; grey ones were not
    fitted. Iterations are many where the likelihood is flat; a gene that fixed and random effects explain exactly, as in a few
    cells, has ``no residual``. The gradient is that of the log-likelihood with respect to the variance components where the
    optimiser stopped, zero at an optimum but for rounding: drawn is the order of magnitude of its largest component, of all
    genes that were fitted or did not converge. Variances at zero count if the likelihood rises from there. (Of correlated
    random effects it is that with respect to the Cholesky factor of their covariance.)

    Parameters
    ----------
    adata
        With results of `flashmm_sc.tl.lmm_de`, or of `flashmm_sc.tl.nbmm_de`, which has neither iterations nor gradients. Fits
        of older versions hold no gradients, and none are drawn where genes of the fit are gone. For those of single genes see
        `grad` of `flashmm_sc.LMMFit`.
    key
        Key of the fit, by default ``"lmm_de"`` or that of the only fit.
    title
        By default the formula.
    show
        Whether to show the figure and return nothing; by default `scanpy.settings.autoshow`.
    save
        Path to write the figure to.

    Returns
    -------
    None if the figure was shown, else a list of its axes.

    Raises
    ------
    KeyError
        When there is no such fit.
    TypeError
        For arguments of a wrong type.
    ValueError
        For a damaged result.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", size_factors="total")
    >>> axes = fsc.pl.fit_diagnostics(adata, show=False)
    """
    import matplotlib.pyplot as plt

    check_optional_texts(title=title)
    check_figure(None, show, save)
    fit = found_fit(adata, key)
    gradients = _gradients(fit)
    panels = 1 + ("n_iter" in fit.arrays) + bool(gradients)
    size = (1.2 + 3.8 * panels, max(2.4, 1.5 + 0.24 * len(fit.groups)))
    figure, grid = plt.subplots(1, panels, figsize=size, layout="constrained", squeeze=False)
    axes: list[Axes] = list(grid[0])
    _draw_status(axes[0], fit)
    if panels > 1:
        _draw_iterations(axes[1], fit)
    if gradients:
        _draw_gradients(axes[2], np.array(gradients))
    figure.suptitle(fill(fit.formula, 20 + 40 * panels) if title is None else title, fontsize="medium")
    return finished(axes, ax=None, show=show, save=save)


def _gradients(fit: Result) -> list[np.ndarray]:
    """The counts of gradients of each group, which are of all genes of the fit; none where some of these are gone."""
    counts = [model["gradients"] for model in fit.models if "gradients" in model]
    if len(counts) < len(fit.models):
        return []
    grey = [code for code, name in enumerate(fit.names("status_names")) if name in NOT_FITTED]
    there = (~np.isin(fit["status"], grey)).sum(axis=0)
    return counts if all(its.sum() <= n for its, n in zip(counts, there, strict=True)) else []


def _draw_status(ax: Axes, fit: Result) -> None:
    """Stacked bars, one a group."""
    names = fit.names("status_names")
    codes = fit["status"].astype(int)
    left = np.zeros(codes.shape[1])
    for name in sorted(names, key=list(COLORS).index):
        count = (codes == names.index(name)).sum(axis=0)
        if count.any():
            ax.barh(np.arange(len(left)), count, left=left, color=COLORS[name], label=f"{name} ({count.sum():,})")
        left += count
    _order(ax, fit.groups if fit.n_groups else [])
    ax.set(xlabel="genes", xlim=(0, left.max()))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False, fontsize="small")


def _draw_iterations(ax: Axes, fit: Result) -> None:
    """How many genes took so many iterations."""
    n_iter = fit["n_iter"]
    fitted = np.isfinite(n_iter) & np.isfinite(fit["loglik"])
    first, last = (int(end) for end in (n_iter[fitted].min(initial=1), n_iter[fitted].max(initial=1)))
    step = -(-(last + 1 - first) // BINS)
    edges = np.arange(first, last + step + 1, step) - 0.5
    _draw_counts(
        ax, edges, np.array([np.histogram(its[own], edges)[0] for its, own in zip(n_iter.T, fitted.T, strict=True)])
    )
    ax.set_xlabel("iterations")
    ax.locator_params(axis="x", integer=True, min_n_ticks=1)


def _draw_gradients(ax: Axes, counts: np.ndarray) -> None:
    """How many genes have a gradient of so many decades."""
    (found,) = counts.sum(axis=0).nonzero()
    shown = slice(found.min(initial=len(DECADES) - 1), found.max(initial=0) + 1)
    edges = np.append(DECADES[shown], DECADES[shown][-1] + 1)
    _draw_counts(ax, edges, counts[:, shown])
    ticks = edges[:: -(-len(edges) // 7)]
    ax.set_xticks(ticks, [f"$10^{{{tick}}}$" for tick in ticks])
    ax.set_xlabel(r"largest $|\partial\,\log L\,/\,\partial\,$variance$|$")


def _draw_counts(ax: Axes, edges: np.ndarray, counts: np.ndarray) -> None:
    """A histogram; of several groups each in a row of its own, the darker the more of its genes."""
    ax.set_xlim(edges[0], edges[-1])
    if len(counts) == 1:
        ax.bar(edges[:-1], counts[0], np.diff(edges), align="edge", color=DOWN, edgecolor="white", linewidth=0.5)
        ax.set_ylabel("genes")
        return
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    look: dict[str, Any] = {"cmap": "Blues", "vmin": 0, "edgecolors": "white", "linewidth": 0.4, "rasterized": True}
    mesh = ax.pcolormesh(edges, np.arange(len(counts) + 1) - 0.5, share, **look)
    ax.figure.colorbar(mesh, ax=ax, label="share of the group's genes")
    _order(ax, [""] * len(counts))


def _order(ax: Axes, groups: list[str]) -> None:
    """Rows of groups, the first on top, and their names."""
    ax.set_yticks(range(len(groups)), groups)
    ax.set_ylim(max(len(groups), 1) - 0.5, -0.5)
