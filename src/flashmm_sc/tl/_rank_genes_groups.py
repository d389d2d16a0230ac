"""Results in scanpy's format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flashmm_sc._base.errors import did_you_mean, listed
from flashmm_sc._base.log import detail, told
from flashmm_sc._base.options import check_flags, check_optional_texts
from flashmm_sc._results.categories import baseline, categories_of
from flashmm_sc._results.finding import columns_of, factors_of, fit_of, found
from flashmm_sc._results.quantities import quantity
from flashmm_sc._results.result import check_name, uns_to_write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from flashmm_sc._results.result import Result

_ARRAYS = {
    "scores": ("z", np.float32),
    "logfoldchanges": ("log_fc", np.float32),
    "pvals": ("p_value", np.float64),
    "pvals_adj": ("adj_p_value", np.float64),
}
"""scanpy's names, what they are in our tables, and their types."""
_UNDIRECTED = {
    "F tests": "F tests have no direction, by which genes could be ranked; test the contrasts singly, without joint=True.",
    "shrinkage": "local false sign rates are no p-values; give the key of the tests it was made from.",
    "variance tests": "variances have no direction; give the key of a fit, or of tests of contrasts.",
}


@told("ranking genes")
def rank_genes_groups(
    adata: AnnData,
    coefs: str | Sequence[str] | Mapping[str, str] | None = None,
    *,
    groupby: str | None = None,
    key: str | None = None,
    rankby_abs: bool = False,
    key_added: str = "rank_genes_groups",
) -> None:
    """Write results as `scanpy.tl.rank_genes_groups` does, for `scanpy.get.rank_genes_groups_df` and all of scanpy's plots.

    Each coefficient or contrast becomes a field, and each field has all genes. Fields are categories of a column of obs
    where they can be: the groups of a fit with `groupby`, each with the effect of one coefficient within it; or those that
    names are about, as ``cls[NK]:trt[T.stim]``, ``cls[T.NK]`` and the answers ``stim vs ctrl, cls=NK`` are of ``cls``.

    Parameters
    ----------
    adata
        With results of `lmm_de`, `nbmm_de` or `lmm_test`.
    coefs
        Coefficients or contrasts, in the order of the fields; one if the fit has groups. By default all but
        intercepts and means of levels. Or a dictionary from categories of `groupby` to the coefficient of each.
    groupby
        Column of `adata.obs` with the categories that plots show, by default that of the fit, or that which all names are
        about. If given, and they aren't about categories of it, fields are called as the coefficients are.
    key
        Key of the results. By default that of the fit or tests that have all of `coefs`: ``"lmm_de"`` before others.
    rankby_abs
        Rank by size whatever the direction, instead of from the most increased to the most decreased gene.
    key_added
        Key of the result in `adata.uns`.

    Returns
    -------
    None. Sets, with `key_added` for ``rank_genes_groups``:

    `adata.uns['rank_genes_groups']['names']` : structured array, a field a group, a row a gene
        Genes in order of their scores; those without a result last.
    `adata.uns['rank_genes_groups']['scores']` : the same of float32
        `z` of `flashmm_sc.get.lmm_de_df`: it can be compared where degrees of freedom differ.
    `adata.uns['rank_genes_groups']['logfoldchanges']` : the same of float32
        log2 fold changes: `log_fc` of that table, NaN with a warning where the base of the logarithm isn't known.
    `adata.uns['rank_genes_groups']['pvals' | 'pvals_adj']` : the same of float64
        p-values, and adjusted ones.
    `adata.uns['rank_genes_groups']['params']` : dict
        As scanpy's, with `key` and `coefs`. `reference`, after the "vs." in titles of plots, is the level that the effect is against,
        ``"ctrl"`` of ``trt[T.stim]``; "zero" where there is none, as for slopes.

    Raises
    ------
    KeyError
        When there is no such result, coefficient or column of `adata.obs`.
    TypeError
        For arguments of a wrong type.
    ValueError
        When `coefs` or `groupby` needs to be chosen, categories of `adata.obs` aren't those of the fit, the results have
        no direction (F tests) or no p-values (`shrink`), or `key_added` holds something else.

    Notes
    -----
    `scanpy.tl.filter_rank_genes_groups` takes its fold changes from the matrix, each group against the rest of the cells.
    To filter by the effects that were tested, use `pval_cutoff`, `log2fc_min` and `log2fc_max`
    of `scanpy.get.rank_genes_groups_df`.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> import scanpy as sc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", size_factors="total")
    >>> fsc.tl.rank_genes_groups(adata, "trt[T.B]")
    >>> sc.get.rank_genes_groups_df(adata, group="2").columns.to_list()
    ['names', 'scores', 'logfoldchanges', 'pvals', 'pvals_adj']
    """
    check_flags(rankby_abs=rankby_abs)
    check_optional_texts(groupby=groupby)
    _check_key(adata, key_added)
    result = found(adata, key, list(coefs.values()) if isinstance(coefs, Mapping) else coefs)
    if result.what in _UNDIRECTED:
        msg = f"The result {result.key!r} holds {result.what}: {_UNDIRECTED[result.what]}"
        raise ValueError(msg)
    fit = fit_of(adata, result)
    columns = _columns(result, coefs)
    names = [result.names("column_names")[j] for j in columns]
    groupby, fields = _fields(adata, result, fit, columns, coefs, groupby)
    values = {name: quantity(result, ours, columns) for name, (ours, _) in _ARRAYS.items()}
    scores = np.abs(values["scores"]) if rankby_abs else values["scores"]
    order = np.argsort(-scores, axis=0, kind="stable")  # NaN comes last
    ranked = {"names": _records(adata.var_names.to_numpy(dtype=object)[order], fields, object)}
    for name, (_, dtype) in _ARRAYS.items():
        ranked[name] = _records(np.take_along_axis(values[name], order, axis=0), fields, dtype)
    factors = factors_of(fit)
    against = {baseline(name, factors) for name in names}
    params = {
        "groupby": groupby,
        "reference": (against.pop() if len(against) == 1 else None) or "zero",
        "method": "flashmm_sc",
        "use_raw": bool(fit is not None and fit.params["use_raw"]),
        "layer": None if fit is None else fit.params["layer"],
        "corr_method": str(result.params["corr_method"]),
        "key": result.key,
        "coefs": np.array(names, dtype=object),
    }
    adata.uns[key_added] = {"params": params, **ranked}
    detail(f"added\n    {key_added!r}, ranked genes of {listed(fields)} (adata.uns)")


def _check_key(adata: AnnData, key: str) -> None:
    """Refuse to overwrite what is no such result."""
    check_name(key)
    held = uns_to_write(adata).get(key)
    if held is not None and not (isinstance(held, Mapping) and {"names", "params"} <= set(held)):
        msg = f"adata.uns[{key!r}] holds something else than ranked genes, which key_added={key!r} would overwrite; give another key."
        raise ValueError(msg)


def _columns(result: Result, coefs: Any) -> list[int]:
    """Columns to write, one for each entry of a dictionary."""
    if isinstance(coefs, Mapping):
        columns = [_one_column(result, name) for name in coefs.values()]
    else:
        columns = columns_of(result, coefs, None)
    if coefs is None:
        columns = [j for j in columns if result.findings[j]]
    if not columns:
        msg = f"The result {result.key!r} has no effects, only intercepts and means: choose coefs=."
        raise ValueError(msg if coefs is None else f"coefs={coefs!r} names nothing to rank.")
    return columns


def _one_column(result: Result, name: str) -> int:
    columns = columns_of(result, name, None)
    if len(columns) > 1:
        full = listed(result.names("coef_names")[j] for j in columns)
        msg = f"coefs: {name!r} is in several groups; give one of {full}."
        raise ValueError(msg)
    return columns[0]


def _fields(
    adata: AnnData, result: Result, fit: Result | None, columns: list[int], coefs: Any, groupby: str | None
) -> tuple[str, list[str]]:
    """The column of obs, and the name of each field."""
    names, groups = ([result.names(name)[j] for j in columns] for name in ("column_names", "column_groups"))
    if isinstance(coefs, Mapping):
        if groupby is None:
            msg = "groupby: say of which column of obs the keys of coefs= are categories."
            raise ValueError(msg)
        return groupby, _known(adata, groupby, list(map(str, coefs)))
    if any(groups):
        if len(set(groups)) < len(groups) or not all(groups):
            msg = (
                f"coefs: the result {result.key!r} has several coefficients a group; choose one of "
                f"{listed(dict.fromkeys(names), 20)}."
            )
            raise ValueError(msg)
        column = groupby or (fit.params["groupby"] if fit is not None else None)
        if column is None:
            msg = f"groupby: name the column of obs with the groups {listed(groups)}; the fit that knew it is gone."
            raise ValueError(msg)
        return column, _known(adata, column, groups)
    if groupby is not None:
        return groupby, categories_of(names, groupby, _categories(adata, groupby)) or names
    levels = {name: known for name, known in factors_of(fit).items() if name in adata.obs}
    about = {name: these for name, known in levels.items() if (these := categories_of(names, name, known))}
    if len(about) != 1:
        which = f"could be categories of {listed(about)}" if about else "aren't categories of a column of obs"
        msg = f"groupby: {listed(names)} {which}; name the column that plots are to show."
        raise ValueError(msg)
    column, fields = about.popitem()
    return column, _known(adata, column, fields)


def _known(adata: AnnData, column: str, fields: list[str]) -> list[str]:
    """The fields, which are to be categories of a column."""
    known = _categories(adata, column)
    for field in fields:
        if field not in known:
            msg = f"groupby: adata.obs[{column!r}] has no category {field!r}. {did_you_mean(field, known)}"
            raise ValueError(msg)
    return fields


def _categories(adata: AnnData, column: str) -> list[str]:
    if column not in adata.obs:
        msg = f"groupby={column!r} is not a column of adata.obs. {did_you_mean(column, adata.obs)}"
        raise KeyError(msg)
    values = adata.obs[column]
    if not isinstance(values.dtype, pd.CategoricalDtype) and pd.api.types.is_numeric_dtype(values):
        msg = (
            f"groupby: adata.obs[{column!r}] has numbers, no categories; "
            f"use adata.obs[{column!r}] = adata.obs[{column!r}].astype(str).astype('category')."
        )
        raise ValueError(msg)
    return [str(value) for value in values.astype("category").cat.categories]


def _records(values: np.ndarray, fields: list[str], dtype: Any) -> np.recarray:
    """Columns as the fields of a structured array."""
    return np.rec.fromarrays(values.T.astype(dtype), dtype=[(field, dtype) for field in fields])
