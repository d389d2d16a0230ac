"""Volcano plot: effect and evidence of every gene."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from adjustText import adjust_text
from matplotlib import patheffects

from flashmm_sc._errors import FlashmmWarning, did_you_mean, listed
from flashmm_sc.get import lmm_de_df

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

UP, DOWN, OTHER = "#D55E00", "#0072B2", "#B3B3B3"  # vermillion and blue of Okabe and Ito
SMALLEST = math.ulp(0.0)


def volcano(
    adata: AnnData,
    coef: str | None = None,
    *,
    key: str = "lmm_de",
    group: str | None = None,
    labels: int | Sequence[str] = 10,
    alpha: float = 0.05,
    min_effect: float = 0.0,
    gene_symbols: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes | None:
    """Draw the effect of every gene against its p-value.

    Colours mark genes with an adjusted p-value below `alpha`; the dashed line is at the p-value where the adjusted one
    crosses it. Genes whose p-value is too small for a floating-point number are triangles at its smallest value.
    Genes without a result are left out.

    Parameters
    ----------
    adata
        With results of `flashmm_sc.tl.lmm_de` or `flashmm_sc.tl.lmm_test`.
    coef
        Coefficient or contrast; may be left out if there is only one.
    key
        Key of the results.
    group
        Group of cells, if the fit has several (`groupby`).
    labels
        How many genes to label, those with the smallest p-values among the significant ones, or names of genes.
    alpha
        Bound of the adjusted p-values.
    min_effect
        Colour and label only genes at least this far from zero on the x axis; drawn as dashed lines.
    gene_symbols
        Column of `adata.var` with the names to show, by default `var_names`.
    title
        By default the coefficient, and the group.
    ax
        Axes to draw on, by default those of a new figure.
    show
        Whether to show the figure and return nothing; by default `scanpy.settings.autoshow`, False if `ax` is given.

    Returns
    -------
    None if the figure was shown, else the axes. x is log2 fold change, or the coefficient where the logarithm that was
    fitted isn't known.

    Raises
    ------
    KeyError
        When there is no such result, coefficient, group, gene or column of `adata.var`.
    ValueError
        When `coef` or `group` is needed, no gene has a result, or `alpha` or `min_effect` is out of range.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ 0 + cls + cls:trt", "sam", transform="log1p")
    >>> ax = fsc.pl.volcano(adata, "cls[2]:trt[T.B]", labels=5, show=False)
    >>> ax.figure.savefig("volcano.pdf")  # doctest: +SKIP
    """
    if not (0 < alpha <= 1 and min_effect >= 0):
        msg = f"alpha={alpha!r} must be above 0 and at most 1, min_effect={min_effect!r} not negative."
        raise ValueError(msg)
    table = _one_test(adata, coef, key, group)
    name = " · ".join(dict.fromkeys(table.iloc[0][["group", "contrast"]])).strip(" ·")
    table["label"] = _names(adata, gene_symbols)
    labelled = None if isinstance(labels, (int, np.integer)) else _asked_for(table, labels)
    known_base = table["log_fc"].notna().any()
    table["x"] = table["log_fc" if known_base else "coef"]
    table = table[np.isfinite(table["x"]) & table["p_value"].notna()].sort_values("p_value", kind="stable")
    if table.empty:
        msg = f"No gene has a result for {name!r}; see the column 'status' of fsc.get.lmm_de_df."
        raise ValueError(msg)
    table["y"] = -np.log10(table["p_value"].clip(lower=SMALLEST))
    table["significant"] = (table["adj_p_value"] < alpha) & (table["x"].abs() >= min_effect)

    ax = plt.subplots(layout="constrained")[1] if ax is None else _keep_open(ax)
    _draw_points(ax, table)
    _draw_lines(ax, _threshold(table, alpha), min_effect)
    ax.set(xlabel="log2 fold change" if known_base else "coefficient", ylabel="$-\\log_{10}$ p-value")
    ax.set_title(name if title is None else title)
    return ax
