"""Tests of the variance components of stored fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm

from flashmm_sc._base.errors import listed
from flashmm_sc._base.log import told
from flashmm_sc._base.options import one_of
from flashmm_sc._gaussian.estimate import FILTERED, MASKED
from flashmm_sc._inference.adjustment import Correction
from flashmm_sc._inference.likelihood_ratio import likelihood_ratio
from flashmm_sc._results.group_tests import GroupTests, tests_result
from flashmm_sc._results.result import Result, check_key, correlated_in, residuals_in, strings
from flashmm_sc._results.write import write
from flashmm_sc._stats.correlated import covariance_names, lacking_covariances

if TYPE_CHECKING:
    from anndata import AnnData

_SAME = (
    "fixed",
    "layer",
    "use_raw",
    "transform",
    "method",
    "nonnegative",
    "groupby",
    "n_obs",
    "weights",
    "residual_by",
)


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


@told("testing variance components")
def lmm_variance_test(
    adata: AnnData,
    *,
    key: str = "lmm_de",
    null: str | None = None,
    key_added: str = "lmm_variance_test",
    corr_method: Correction = "benjamini-hochberg",
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
        Key of another fit by `lmm_de`, the same but for fewer random components, or independent ones in the place of
        correlated ones: a likelihood-ratio test of the variances and covariances it lacks, together. None: a z test of each
        variance, estimate over standard error, one-sided, as FLASHMM does; quick, but rough where a component has few levels.
    key_added
        Key of the results.
    corr_method
        Correction for the number of genes, "benjamini-hochberg" or "bonferroni".

    Returns
    -------
    None. Sets, with `key_added` for ``lmm_variance_test``:

    `adata.varm['lmm_variance_test_stat' | '_pval' | '_pval_adj']` : float64, genes × components
        z, or twice the difference of the log-likelihoods, and p-values. Names in
        `adata.uns['lmm_variance_test']['coef_names']`; components tested together as ``"sam:cls + batch"``, covariances alone
        as ``"cov(sam, score|sam)"``. The covariances of variances tested are in the number, not in the name.
        `flashmm_sc.get.variance_test_df` gives them as a table.
    `adata.varm['lmm_variance_test_df']` : float64, genes × components
        Number of variances and covariances tested together; with `null` only.
    `adata.varm['lmm_variance_test_status']` : int8, genes × groups
        As in the fit.

    Raises
    ------
    KeyError
        When there is no fit under `key` or `null`.
    ValueError
        When a fit is of counts (`nbmm_de`); when the fit under `null` is of other cells, genes or options, or its components
        are not some of those of the other; and for unknown options.

    Notes
    -----
    The likelihood-ratio test is that of `flashmm_sc.lrt`: chi2_q for q covariances and free components; with components
    bounded at zero (`nonnegative`, the default of `lmm_de`) the mixture 1/2 chi2_(q-1) + 1/2 chi2_q, exact in large samples
    for one component, also with its covariances, as for the slope of ``(1 + x | g)`` against ``(1 | g)``, and conservative
    for more. The z test: Xu et al., Nature Communications 2026, doi 10.1038/s41467-026-69063-2.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> counts = {"transform": "log1p", "size_factors": "total"}
    >>> fsc.tl.lmm_de(adata, "~ cls + trt", "sam + sam:cls", **counts)
    >>> fsc.tl.lmm_de(adata, "~ cls + trt", "sam:cls", **counts, key_added="without")
    >>> fsc.tl.lmm_variance_test(adata, null="without")
    >>> list(adata.uns["lmm_variance_test"]["coef_names"])
    ['sam']
    """
    one_of("corr_method", corr_method, Correction)
    check_key(adata, key_added, tests=True)
    fit = Result.read_fit(adata, key)
    _check_of_cells(fit)
    params = {"key": key, "corr_method": corr_method, "corr_scope": "column"}
    if null is None:
        tested = _z_tests(fit)
    else:
        smaller = Result.read_fit(adata, null)
        _check_of_cells(smaller)
        tested = _likelihood_ratio_tests(fit, smaller)
        params |= {"null": null}
    write(adata, [tests_result(key_added, tested, params)], [key_added])


def _check_of_cells(fit: Result) -> None:
    if fit.of_counts:
        msg = (
            f"The fit {fit.key!r} is of counts by fsc.tl.nbmm_de, whose variance between samples is averaged over and not tested; "
            "fsc.get.variance_df shows it."
        )
        raise ValueError(msg)


def _z_tests(fit: Result) -> list[GroupTests]:
    tested, start = [], 0
    for i, (group, model) in enumerate(zip(fit.groups, fit.models, strict=True)):
        names = strings(model["component_names"])
        columns = slice(start, start + len(names))
        z = fit["theta"][:, columns] / fit["theta_se"][:, columns]
        tested.append(GroupTests(group, names, np.ones(len(names), bool), ZTests(z, norm.sf(z)), fit["status"][:, i]))
        start += len(names) + len(covariance_names(names, correlated_in(model))) + max(len(residuals_in(model)), 1)
    return tested


def _likelihood_ratio_tests(fit: Result, null: Result) -> list[GroupTests]:
    _check_alike(fit, null)
    nonnegative = bool(fit.params["nonnegative"])
    tested = []
    for i, group in enumerate(fit.groups):
        extra, joint = _extra_parameters(fit, null, i)
        n, bounded = len(extra) + len(joint), nonnegative and len(extra) > 0
        stat, p = likelihood_ratio(fit["loglik"][:, i], null["loglik"][:, i], n, bounded=bounded)
        df = np.where(np.isnan(stat), np.nan, float(n))
        tests = LRTests(stat[:, None], df[:, None], p[:, None])
        name = " + ".join(extra or joint)
        tested.append(GroupTests(group, [name], np.ones(1, bool), tests, fit["status"][:, i]))
    return tested


def _check_alike(fit: Result, null: Result) -> None:
    for name in _SAME:
        one, other = fit.params[name], null.params[name]
        if str(one) != str(other):
            msg = f"{name} is {one!r} in the fit {fit.key!r} and {other!r} in {null.key!r}; only random may differ."
            raise ValueError(msg)
    if fit.groups != null.groups:
        one, other = listed(fit.groups), listed(null.groups)
        msg = f"The fits {fit.key!r} and {null.key!r} are of different groups: {one} and {other}."
        raise ValueError(msg)
    used, same = (~np.isin(one["status"], (MASKED, FILTERED)) for one in (fit, null))
    if not np.array_equal(used, same):
        msg = f"The fits {fit.key!r} and {null.key!r} are of different genes; give both the same mask_var and min_*."
        raise ValueError(msg)


def _extra_parameters(fit: Result, null: Result, i: int) -> tuple[list[str], list[str]]:
    """Random components that the smaller model of a group lacks, and covariances."""
    larger, smaller = fit.models[i], null.models[i]
    sizes, fewer = (
        dict(zip(strings(model["component_names"]), np.asarray(model["d"]).tolist(), strict=True))
        for model in (larger, smaller)
    )
    unknown = [name for name in fewer if name not in sizes]
    one, other = ((strings(model["component_names"]), correlated_in(model)) for model in (larger, smaller))
    joint = lacking_covariances(one, other)
    if not unknown and (extra := lacking_covariances(other, one)):
        msg = f"The fit {null.key!r} isn't nested in {fit.key!r}, which has no {listed(extra)}; swap them if it is the larger."
        raise ValueError(msg)
    if unknown or (len(fewer) == len(sizes) and not joint):
        msg = (
            f"The fit {null.key!r} should have some, not all, of the random components {listed(sizes)} of {fit.key!r}; it "
            f"has {listed(fewer)}.{_with_intercept(fit, unknown)}"
        )
        raise ValueError(msg)
    same_levels = all(sizes[name] == size for name, size in fewer.items())
    XX, theirs = (np.asarray(model["XX"]) for model in (larger, smaller))
    if not same_levels or XX.shape != theirs.shape or not np.allclose(XX, theirs, rtol=1e-9):
        msg = (
            f"The cells or their columns of obs changed between the fits {null.key!r} and {fit.key!r}; fit both again."
        )
        raise ValueError(msg)
    return [name for name in sizes if name not in fewer], joint


def _with_intercept(fit: Result, unknown: list[str]) -> str:
    """A larger model that has the intercepts which the smaller one has beside slopes without."""
    for term in strings(fit.params["random"]):
        if term.startswith("(0 + ") and term.endswith(tuple(f"|{name})" for name in unknown)):
            return f" An intercept is a part of {term.replace('(0 + ', '(1 + ', 1)!r}, not of {term!r}: fit that as the larger."
    return ""
