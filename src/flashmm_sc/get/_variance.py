"""Variance components, their tests, and random effects as DataFrames."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from flashmm_sc._base.selection import correlated_pairs
from flashmm_sc._results.finding import found_fit, selected
from flashmm_sc._results.result import Result, correlated_in, residuals_in, strings
from flashmm_sc._stats.correlated import covariance_names
from flashmm_sc._stats.residual import residual_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


def variance_df(
    adata: AnnData,
    *,
    key: str | None = None,
    groups: str | Sequence[str] | None = None,
) -> pd.DataFrame:
    """Variance components as a tidy table, one row per gene and component.

    Parameters
    ----------
    adata
        With results of `flashmm_sc.tl.lmm_de` or `flashmm_sc.tl.nbmm_de`.
    key
        Key of the fit, by default ``"lmm_de"`` or that of the only fit.
    groups
        Groups to show if the fit has any (`groupby`), in this order; by default all.

    Returns
    -------
    DataFrame with `variable` (gene), `component` (the residual last; with `residual_by` ``residual[B cells]`` of each
    level), `group` if the fit has groups, and `variance`
    and `se` on the squared scale of the fitted values. Where effects are correlated, rows such as ``cov(sam, score|sam)``
    have the covariance for the variance, and a column `correlation` has what it is over both standard deviations: NaN in
    other rows, and where one of them is zero. Of counts, the components are that of the samples, τ², whose root is
    the coefficient of variation between them, with its posterior standard deviation as `se`; and ``phi``, the dispersion of
    cells, without one.

    Raises
    ------
    KeyError
        When there is no fit under `key`, or it lacks a group asked for.
    TypeError
        For arguments of a wrong type.
    ValueError
        For a damaged result.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", size_factors="total")
    >>> fsc.get.variance_df(adata, groups="1").pivot(index="variable", columns="component", values="variance").shape
    (50, 2)
    """
    result = found_fit(adata, key)
    last = "phi" if result.of_counts else "residual"
    names, correlations, start = [], [], 0
    for model in result.models:
        components, correlated = strings(model["component_names"]), correlated_in(model)
        residuals = residual_names(residuals_in(model)) or [last]
        names.append([*components, *covariance_names(components, correlated), *residuals])
        theta = result["theta"][:, start : start + len(names[-1])]
        correlations.append(_correlations(theta, len(components), correlated))
        start += theta.shape[1]
    values = {"variance": result["theta"], "se": result["theta_se"]}
    if any(correlated_in(model) for model in result.models):
        values["correlation"] = np.concatenate(correlations, axis=1)
    return _tidy(adata.var_names, result, groups, {"component": names}, values)


def _correlations(theta: np.ndarray, K: int, correlated: list[list[int]]) -> np.ndarray:
    """γ_kl / √(γ_k γ_l) in the places of covariances, NaN elsewhere; within 1 but for rounding."""
    out = np.full_like(theta, np.nan)
    for j, (k, l) in enumerate(correlated_pairs(correlated), start=K):
        with np.errstate(invalid="ignore", divide="ignore"):
            out[:, j] = np.clip(theta[:, j] / np.sqrt(theta[:, k] * theta[:, l]), -1.0, 1.0)
    return out


def variance_test_df(
    adata: AnnData,
    *,
    key: str = "lmm_variance_test",
    groups: str | Sequence[str] | None = None,
) -> pd.DataFrame:
    """Tests of variance components as a tidy table, one row per gene and component.

    Parameters
    ----------
    adata
        With results of `flashmm_sc.tl.lmm_variance_test`.
    key
        Key of the results.
    groups
        Groups to show if the fit has any (`groupby`), in this order; by default all.

    Returns
    -------
    DataFrame with `variable` (gene), `component` (those tested together as ``"sam:cls + batch"``), `group` if the fit
    has groups, `stat` (z, or the likelihood-ratio statistic with `df`, the number of components), `p_value`,
    `adj_p_value` (over the genes) and `status` as in the fit.

    Raises
    ------
    KeyError
        When there is no such result under `key`, or it lacks a group asked for.
    TypeError
        For arguments of a wrong type.
    ValueError
        For a damaged result.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", size_factors="total")
    >>> fsc.tl.lmm_variance_test(adata)
    >>> fsc.get.variance_test_df(adata).columns.to_list()
    ['variable', 'component', 'group', 'stat', 'p_value', 'adj_p_value', 'status']
    """
    result = Result.read(adata, key)
    if "stat" not in result.arrays:
        msg = f"adata.uns[{key!r}] holds no tests of variance components; run fsc.tl.lmm_variance_test."
        raise KeyError(msg)
    in_group = result.names("column_groups")
    pairs = list(zip(result.names("column_names"), in_group, strict=True))
    by_group = [[name for name, its in pairs if its == group] for group in result.groups]
    suffixes = {"stat": "stat", "df": "df", "p_value": "pval", "adj_p_value": "pval_adj"}
    values = {name: result[suffix] for name, suffix in suffixes.items() if suffix in result.arrays}
    codes = result["status"][:, result.status_columns].astype(int)
    values["status"] = np.array(result.names("status_names"), dtype=object)[codes]
    return _tidy(adata.var_names, result, groups, {"component": by_group}, values)


def ranef_df(
    adata: AnnData,
    components: str | Sequence[str] | None = None,
    *,
    key: str | None = None,
    groups: str | Sequence[str] | None = None,
) -> pd.DataFrame:
    """Predicted random effects (BLUPs) as a tidy table, one row per gene and level.

    Parameters
    ----------
    adata
        With results of `flashmm_sc.tl.lmm_de`, run with ``ranef=True``.
    components
        Random components to show, in this order; by default all.
    key
        Key of the fit, by default ``"lmm_de"`` or that of the only fit.
    groups
        Groups to show if the fit has any (`groupby`), in this order; by default all.

    Returns
    -------
    DataFrame with `variable` (gene), `component`, `level`, `group` if the fit has groups, and `value` on the scale of
    the fitted values.

    Raises
    ------
    KeyError
        When there is no fit under `key`, it was made without ``ranef=True``, or it lacks a component or group asked
        for.
    TypeError
        For arguments of a wrong type.
    ValueError
        For a damaged result.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ cls * trt", "sam + sam:cls", transform="log1p", size_factors="total", ranef=True)
    >>> fsc.get.ranef_df(adata, "sam:cls").columns.to_list()
    ['variable', 'component', 'level', 'value']
    """
    return ranef_of(found_fit(adata, key), adata.var_names, components, groups)


def ranef_of(
    result: Result, var_names: pd.Index, components: str | Sequence[str] | None, groups: str | Sequence[str] | None
) -> pd.DataFrame:
    """The same of a fit of these genes."""
    if result.of_counts:
        msg = f"The fit {result.key!r} is of counts by fsc.tl.nbmm_de, which predicts no random effects; fsc.tl.lmm_de does."
        raise KeyError(msg)
    if "ranef" not in result.arrays:
        msg = f"The fit {result.key!r} was stored without random effects; run fsc.tl.lmm_de again with ranef=True."
        raise KeyError(msg)
    of_level, levels = [], []
    for model in result.models:
        names = np.repeat(strings(model["component_names"]), np.asarray(model["d"], dtype=int)).tolist()
        of_level.append(names)
        pairs = zip(names, strings(model["ranef_names"]), strict=True)
        levels.append([full[len(name) + 1 : -1] for name, full in pairs])  # component[level]
    known = list(dict.fromkeys(chain(*of_level)))
    keep = selected("components", components, known, result.key)
    labels = {"component": of_level, "level": levels}
    return _tidy(var_names, result, groups, labels, {"value": result["ranef"]}, keep=keep)


def _tidy(
    var_names: pd.Index,
    result: Result,
    groups: str | Sequence[str] | None,
    labels: dict[str, list[list[str]]],
    values: dict[str, np.ndarray],
    keep: list[str] | None = None,
) -> pd.DataFrame:
    """Stack genes × columns arrays, groups side by side; `labels` has the texts of the columns of each group."""
    wanted = result.groups if groups is None else selected("groups", groups, result.groups, result.key)
    names = next(iter(labels.values()))
    columns = pd.DataFrame({name: list(chain(*texts)) for name, texts in labels.items()}, dtype=object)
    columns["group"] = np.repeat(np.array(result.groups, dtype=object), [len(texts) for texts in names])
    for name, asked in (("component", keep), ("group", wanted)):  # sorted by groups last: they stay together
        if asked is not None:
            columns = columns[columns[name].isin(asked)].sort_values(
                name, key=lambda its: its.map(asked.index), kind="stable"
            )
    labelled = columns if result.n_groups else columns.drop(columns="group")
    table = {"variable": np.tile(var_names.to_numpy(), len(columns))}
    table |= {name: np.repeat(labelled[name].to_numpy(), len(var_names)) for name in labelled.columns}
    taken = {name: array[:, columns.index].T.reshape(-1) for name, array in values.items()}
    return pd.DataFrame(table | taken)
