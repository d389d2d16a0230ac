"""Shares of variance of stored fits, as a DataFrame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.errors import listed
from flashmm_sc._design.columns import repeated
from flashmm_sc._design.reference_grid import ReferenceGrid
from flashmm_sc._gaussian.shares import Centred
from flashmm_sc._results.finding import found_fit, selected
from flashmm_sc._results.fits import StoredDesign
from flashmm_sc._results.result import strings
from flashmm_sc._stats.summary import SummaryStats
from flashmm_sc._stats.totals import column_totals
from flashmm_sc.get._variance import _tidy

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData


def variance_explained_df(
    adata: AnnData,
    *,
    key: str | None = None,
    groups: str | Sequence[str] | None = None,
) -> pd.DataFrame:
    """How much of each gene's variance over the cells the terms of the model explain.

    Works from what is stored in `adata`; the cells are not read again.

    Parameters
    ----------
    adata
        With results of `flashmm_sc.tl.lmm_de`.
    key
        Key of the fit, by default ``"lmm_de"`` or that of the only fit.
    groups
        Groups to show if the fit has any (`groupby`), in this order; by default all.

    Returns
    -------
    DataFrame with `variable` (gene), `term`, `group` if the fit has groups, and `share`: of the terms of the fixed formula, the
    random components (those of a correlated term together, ``sam + score|sam``) and the ``residual``. The shares of a gene add
    up to 1 in each group; NaN for genes that were not fitted. What is the same in all cells, as an intercept, explains nothing
    and is no term here.

    Raises
    ------
    KeyError
        When there is no fit under `key`, or it lacks a group asked for.
    TypeError
        For arguments of a wrong type.
    ValueError
        For fits of counts by `flashmm_sc.tl.nbmm_de`; for fits that hold no design, as those of older versions; and for
        terms of the same name.

    Notes
    -----
    The definition is that of `flashmm_sc.variance_explained`: the variance of X β over the cells is the part of all fixed
    terms, which share it in proportion to the variances of X_t β_t. The share of an interaction and its main effects so
    depends on how their factors are coded, that of all fixed terms together does not. With `residual_by` the residual is
    the mean of its variances over the cells.

    A fit holds its formula, which is code: ask only fits from files that you trust.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ cls * trt", "sam + sam:cls", transform="log1p", size_factors="total")
    >>> shares = fsc.get.variance_explained_df(adata)
    >>> shares.pivot(index="variable", columns="term", values="share").columns.to_list()
    ['cls', 'cls:trt', 'residual', 'sam', 'sam:cls', 'trt']
    """
    result = found_fit(adata, key)
    if result.of_counts:
        msg = (
            f"The fit {result.key!r} is of counts by fsc.tl.nbmm_de: how much single cells vary depends on their depth, and has no "
            "variance on the scale of its logarithms that terms could have shares of. Fit with fsc.tl.lmm_de."
        )
        raise ValueError(msg)
    selected("groups", groups, result.groups, result.key)
    names, shares = [], []
    for design in StoredDesign.all(result):
        described, centred = design.described, _centred(design, result.key)
        coef, theta = result["coef"][:, design.coef], result["theta"][:, design.theta]
        terms = ReferenceGrid.read(str(described.get("design", ""))).design.terms
        varying = {name: np.array(columns) for name, columns in terms.items() if centred.varies[columns].any()}
        names.append([*varying, *centred.random_terms(strings(described["component_names"])), "residual"])
        if twice := repeated(names[-1]):
            msg = f"{listed(twice)} names two terms of the fit {result.key!r}; give the random term another name and fit again."
            raise ValueError(msg)
        shares.append(centred.shares(coef, theta, list(varying.values())))
    return _tidy(adata.var_names, result, groups, {"term": names}, {"share": np.concatenate(shares, axis=1)})


def _centred(design: StoredDesign, key: str) -> Centred:
    """The design of a group, centred over its cells."""
    described, cross, n = design.described, design.cross, int(design.described["n"])
    weight_sum = float(described.get("weight_sum", n))
    constant = np.asarray(described["constant"])
    own = constant if cross.basis is None else np.linalg.solve(cross.basis, constant)
    totals = (cross.XX @ own, cross.ZX @ own)  # as X c = 1, where there is such a c
    if not constant.any():
        labels = {"coef_names": strings(described["coef_names"]), "d": tuple(design.d), "weight_sum": weight_sum}
        found = column_totals(SummaryStats.of(cross, np.empty((cross.width, 0)), np.empty(0), n, **labels))
        if found is None:
            msg = (
                f"The fit {key!r} has neither an intercept nor a random one, by which designs are centred over the cells, as shares of "
                "variance need. Add one to the model."
            )
            raise ValueError(msg)
        totals = found[:2]
    return Centred.of(cross, totals, weight_sum, design.d, design.structure, [one.n for one in design.groups] or n)
