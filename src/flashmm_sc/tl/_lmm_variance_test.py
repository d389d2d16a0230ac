"""Tests of the variance components of stored fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData
from scipy.stats import norm

from flashmm_sc._base.errors import listed, one_of
from flashmm_sc._gaussian.estimate import MASKED
from flashmm_sc._inference.adjustment import CORRECTIONS
from flashmm_sc._inference.likelihood_ratio import likelihood_ratio
from flashmm_sc._results.store import Table, check_key, read_fit, strings, write_tables

_SAME = ("fixed", "layer", "use_raw", "transform", "method", "nonnegative", "groupby", "n_obs")


@dataclass(frozen=True, eq=False)
class ZTests:
    """Tests of r components in m genes; every array is m × r."""

    stat: np.ndarray
    p: np.ndarray


@dataclass(frozen=True, eq=False)
class LRTests:
    """Likelihood-ratio tests in m genes; every array is m × 1."""

    stat: np.ndarray
    df: np.ndarray
    p: np.ndarray


def lmm_variance_test(
    adata: AnnData,
    *,
    key: str = "lmm_de",
    null: str | None = None,
    key_added: str = "lmm_variance_test",
    corr_method: str = "benjamini-hochberg",
) -> None:
    """Test the variance components of a fit by `lmm_de`: do samples, donors or batches differ at all?

    Works from what is stored in `adata`; the cells are not read again.

    Parameters
    ----------
    adata
        With results of `lmm_de`.
    key
        Key of the fit.
    null
        Key of another fit by `lmm_de`, the same but for fewer random components: a likelihood-ratio test of those it
        lacks, together. None: a z test of each component, estimate over standard error, one-sided, as FLASHMM does;
        quick, but rough where a component has few levels.
    key_added
        Key of the results.
    corr_method
        Correction for the number of genes, "benjamini-hochberg" or "bonferroni".

    Returns
    -------
    None. Sets, with `key_added` for ``lmm_variance_test``:

    `adata.varm['lmm_variance_test_stat' | '_pval' | '_pval_adj']` : float64, genes × components
        z, or twice the difference of the log-likelihoods, and p-values. Names in
        `adata.uns['lmm_variance_test']['coef_names']`; components tested together as ``"sam:cls + batch"``.
        `flashmm_sc.get.variance_test_df` gives them as a table.
    `adata.varm['lmm_variance_test_df']` : float64, genes × components
        Number of components tested together; with `null` only.
    `adata.varm['lmm_variance_test_status']` : int8, genes × groups
        As in the fit.

    Raises
    ------
    KeyError
        When there is no fit under `key` or `null`.
    ValueError
        When the fit under `null` is of other cells, genes or options, or its components are not some of those of the
        other; and for unknown options.

    Notes
    -----
    The likelihood-ratio test is that of `flashmm_sc.lrt`: chi2_q for q free components; for components bounded at zero
    (`nonnegative`, the default of `lmm_de`) the mixture 1/2 chi2_(q-1) + 1/2 chi2_q, exact in large samples for q = 1
    and conservative for more. The z test: Xu et al., Nature Communications 2026, doi 10.1038/s41467-026-69063-2.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ 0 + cls + cls:trt", "sam + sam:cls", transform="log1p")
    >>> fsc.tl.lmm_de(adata, "~ 0 + cls + cls:trt", "sam", transform="log1p", key_added="without")
    >>> fsc.tl.lmm_variance_test(adata, null="without")
    >>> list(adata.uns["lmm_variance_test"]["coef_names"])
    ['sam:cls']
    """
    one_of("corr_method", corr_method, CORRECTIONS)
    check_key(adata, key_added, tests=True)
    fitted = read_fit(adata, key)
    params = {"key": key, "corr_method": corr_method}
    if null is None:
        tables = _z_tests(adata, key, fitted)
    else:
        tables = _likelihood_ratio_tests(adata, key, fitted, null, read_fit(adata, null))
        params |= {"null": null}
    write_tables(adata, key_added, tables, corr_method, params)


def _z_tests(adata: AnnData, key: str, fitted: dict[str, Any]) -> list[Table]:
    theta, se, status = (np.asarray(adata.varm[f"{key}_{name}"]) for name in ("theta", "theta_se", "status"))
    tables, start = [], 0
    for i, group in enumerate(strings(fitted["groups"])):
        names = strings(fitted["models"][str(i)]["component_names"])
        columns = slice(start, start + len(names))
        z = theta[:, columns] / se[:, columns]
        tables.append(Table(group, names, ZTests(z, norm.sf(z)), status[:, i]))
        start += len(names) + 1
    return tables


def _likelihood_ratio_tests(
    adata: AnnData, key: str, fitted: dict[str, Any], null: str, smaller: dict[str, Any]
) -> list[Table]:
    _check_alike(adata, key, fitted, null, smaller)
    status = np.asarray(adata.varm[f"{key}_status"])
    nonnegative = bool(fitted["params"]["nonnegative"])
    tables = []
    for i, group in enumerate(strings(fitted["groups"])):
        extra = _extra_components(key, fitted["models"][str(i)], null, smaller["models"][str(i)])
        full, reduced = (np.asarray(adata.varm[f"{name}_loglik"])[:, i] for name in (key, null))
        stat, p = likelihood_ratio(full, reduced, 0, len(extra), nonnegative)
        df = np.where(np.isnan(stat), np.nan, float(len(extra)))
        tests = LRTests(stat[:, None], df[:, None], p[:, None])
        tables.append(Table(group, [" + ".join(extra)], tests, status[:, i]))
    return tables


def _check_alike(adata: AnnData, key: str, fitted: dict[str, Any], null: str, smaller: dict[str, Any]) -> None:
    for name in _SAME:
        one, other = fitted["params"][name], smaller["params"][name]
        if str(one) != str(other):
            msg = f"{name} is {one!r} in the fit {key!r} and {other!r} in {null!r}; only random may differ."
            raise ValueError(msg)
    groups = [strings(result["groups"]) for result in (fitted, smaller)]
    if groups[0] != groups[1]:
        msg = f"The fits {key!r} and {null!r} are of different groups: {listed(groups[0])} and {listed(groups[1])}."
        raise ValueError(msg)
    masked = [np.asarray(adata.varm[f"{name}_status"]) == MASKED for name in (key, null)]
    if not np.array_equal(*masked):
        msg = f"The fits {key!r} and {null!r} are of different genes; give both the same mask_var."
        raise ValueError(msg)


def _extra_components(key: str, larger: dict[str, Any], null: str, smaller: dict[str, Any]) -> list[str]:
    """Random components that the smaller model of a group lacks."""
    names = strings(larger["component_names"])
    sizes, fewer = (
        dict(zip(strings(model["component_names"]), np.asarray(model["d"]).tolist(), strict=True))
        for model in (larger, smaller)
    )
    unknown = [name for name in fewer if name not in sizes]
    if unknown or len(fewer) == len(sizes):
        msg = (
            f"The fit {null!r} should have some, not all, of the random components {listed(names)} of {key!r}; it has "
            f"{listed(fewer)}."
        )
        raise ValueError(msg)
    same_levels = all(sizes[name] == size for name, size in fewer.items())
    one, other = (np.asarray(model["XX"]) for model in (larger, smaller))
    if not same_levels or one.shape != other.shape or not np.allclose(one, other, rtol=1e-9):
        msg = f"The cells or their columns of obs changed between the fits {null!r} and {key!r}; fit both again."
        raise ValueError(msg)
    return [name for name in names if name not in fewer]
