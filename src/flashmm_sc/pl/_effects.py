"""Forest plot: the effect on one gene in every group, or by every contrast."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtrit

from flashmm_sc._base.options import check_level, check_number, check_optional_texts
from flashmm_sc._results.fitted import fitted_models
from flashmm_sc.pl._figure import DOWN, UP, begin, check_figure, finished
from flashmm_sc.pl._rows import Rows
from flashmm_sc.pl._tables import found_tests, gene_position, scale_of, shown_columns

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes

    from flashmm_sc._results.result import Result


def effects(
    adata: AnnData,
    gene: str,
    coefs: str | Sequence[str] | None = None,
    *,
    key: str | None = None,
    groups: str | Sequence[str] | None = None,
    conf_level: float = 0.95,
    alpha: float = 0.05,
    gene_symbols: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | os.PathLike[str] | None = None,
) -> Axes | None:
    """Draw the estimates for one gene with their confidence intervals, a row for each group of cells or contrast.

    Filled points have an adjusted p-value below `alpha`.

    Parameters
    ----------
    adata
        With results of `flashmm_sc.tl.lmm_de`, `flashmm_sc.tl.nbmm_de` or `flashmm_sc.tl.lmm_test`.
    gene
        The gene.
    coefs
        Coefficients or contrasts to show, in this order; by default all but intercepts and means of levels.
    key
        Key of the results. By default that of the fit or tests that have all of `coefs`: ``"lmm_de"`` before others.
    groups
        Groups to show if the fit has any (`groupby`), in this order; by default all.
    conf_level
        Level of the intervals, for each row by itself.
    alpha
        Bound of the adjusted p-values, which are those over all genes.
    gene_symbols
        Column of `adata.var` with the names of genes, by default `var_names`.
    ax
        Axes to draw on, by default those of a new figure.
    show
        Whether to show the figure and return nothing; by default `scanpy.settings.autoshow`, but not if `ax` is given.
    save
        Path to write the figure to.

    Returns
    -------
    None if the figure was shown, else the axes. x is the log2 fold change, or the coefficient where the logarithm of the
    fitted values isn't known.

    Raises
    ------
    KeyError
        When there is no such result, coefficient, group, gene or column of `adata.var`.
    TypeError
        For arguments of a wrong type.
    ValueError
        When the gene has no result, the results are F tests, or tests of a moderated fit or one of counts that hold no
        intervals of this level.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", size_factors="total")
    >>> ax = fsc.pl.effects(adata, "Gene7", show=False)
    """
    check_optional_texts(gene_symbols=gene_symbols)
    check_level(conf_level)
    check_number("alpha", alpha, 0.0, 1.0, "It bounds adjusted p-values.", without=(0.0,))
    check_figure(ax, show, save)
    result = found_tests(adata, key, coefs, effects=True)
    at, columns = gene_position(adata, gene, gene_symbols), shown_columns(result, coefs, groups)
    of_gene = result.of_genes(np.array([at]))
    factor, words = scale_of(result)
    ends = _intervals(of_gene, conf_level)
    x, low, high = (values[columns] * factor for values in (of_gene["coef"][0], *ends))
    if np.isnan(x).all():
        code = of_gene["status"][0, result.status_columns[columns[0]]]
        status = result.names("status_names")[int(code)]
        msg = f"The gene {gene!r} has no result in {result.key!r}: {status!r}."
        raise ValueError(msg)
    significant = of_gene["pval_adj"][0, columns] < alpha

    rows = Rows.of(result, columns)
    axes = begin(ax, rows.size(4.2, 1.3))
    axes.axvline(0, color="0.4", linewidth=0.8, zorder=0)
    colors = np.where(significant, np.where(x > 0, UP, DOWN), "0.4").tolist()
    faces = np.where(significant, colors, "white").tolist()
    axes.hlines(rows.at, low, high, colors=colors, linewidth=1.5, zorder=1)
    axes.scatter(x, rows.at, s=30, facecolors=faces, edgecolors=colors, zorder=2)
    for y in rows.at[np.isnan(x)]:
        axes.text(0, y, " no result", color="0.4", fontsize="small", va="center")
    rows.label(axes)
    for face, label in (("0.4", f"adjusted p < {alpha:g}"), ("white", "other")):
        axes.scatter([], [], s=30, facecolors=face, edgecolors="0.4", label=label)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize="small", borderpad=0)
    axes.set(xlabel=f"{words}, {100 * conf_level:g} % interval")
    axes.set_title(f"{gene}: {rows.title}" if rows.title else gene, pad=24)
    return finished(axes, ax=ax, show=show, save=save)


def _intervals(result: Result, conf_level: float) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the intervals of the columns of a result of one gene."""
    if result.what == "fit":
        models = fitted_models(result)
        tests = [
            model.inference.t_tests(np.eye(len(model.coef_names)), conf_level=conf_level, n_jobs=1) for model in models
        ]
        low, high = (np.concatenate([getattr(one, name)[0] for one in tests]) for name in ("ci_low", "ci_high"))
        return low, high
    if result.params.get("conf_level") == conf_level:
        return result["ci_low"][0], result["ci_high"][0]
    if result.params["ddf"] == "likelihood ratio" or result.params.get("moderate", True):
        msg = (
            f"The tests {result.key!r} hold no intervals of level {conf_level:g}, which those of a moderated fit or of counts "
            f"can't do without; run fsc.tl.lmm_test again with conf_level={conf_level:g}."
        )
        raise ValueError(msg)
    half = stdtrit(result["df"][0], (1 + conf_level) / 2) * result["se"][0]
    return result["coef"][0] - half, result["coef"][0] + half
