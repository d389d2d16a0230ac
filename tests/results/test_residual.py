"""A residual variance for each level of a column of obs: nlme's numbers, and the same from any container, order and strata."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import reference_data as rd
import scipy.sparse as sp
from same_results import results

import flashmm_sc as fsc

FIXED, RANDOM = "~ 0 + cls + cls:trt", ["sam", "(0 + cls || sam)"]
LOGGED = {"transform": "log1p", "size_factors": "total", "target_sum": 100}
GENES = [f"y{j}" for j in range(1, 5)]


# R's numbers


@pytest.fixture(scope="module")
def theirs():
    table = pd.read_csv(rd.HERE / "residual.csv", index_col=["table", "gene", "name"])["value"]
    return lambda name: table.loc[name].unstack()  # noqa: PD010, two levels of an index


@pytest.fixture(scope="module")
def values():
    """The cells of R's fits."""
    data = pd.read_csv(rd.HERE / "residual.data.csv")
    data.index = data.index.astype(str)
    return ad.AnnData(data[GENES].to_numpy(), data.drop(columns=GENES), pd.DataFrame(index=GENES))


def of(adata, name, names="coef_names", key="lmm_de"):
    return pd.DataFrame(adata.varm[f"{key}_{name}"], adata.var_names, list(adata.uns[key][names]))


@pytest.mark.parametrize("method", ["REML", "ML"])
def test_numbers_are_nlmes(values, theirs, method):
    adata = values.copy()
    fsc.tl.lmm_de(adata, "~ 0 + cls + cls:trt + score", ["donor", "donor:cls"], residual_by="cls", method=method)
    np.testing.assert_allclose(adata.varm["lmm_de_loglik"][:, 0], theirs(f"{method}_loglik")["loglik"], atol=1e-7)
    if method == "ML":
        return
    rename = {f"cls[{t}]": f"cls{t}" for t in "ABC"} | {f"cls[{t}]:trt": f"cls{t}:trt" for t in "ABC"}
    for name in ("coef", "se"):
        expected = theirs(name)
        np.testing.assert_allclose(
            of(adata, name).rename(columns=rename)[list(expected)], expected, rtol=1e-5, atol=1e-6
        )
    expected = theirs("theta")
    rename = {f"residual[{t}]": t for t in "ABC"}
    ours = of(adata, "theta", "theta_names").rename(columns=rename)
    np.testing.assert_allclose(ours[list(expected)], expected, rtol=1e-4)


# The same by every way


@pytest.fixture(scope="module")
def counts():
    return fsc.datasets.simu_rnaseq(n_genes=12, n_cells=900, n_samples=6, n_clusters=3, seed=3)


def fitted(adata, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fsc.AdviceWarning)
        fsc.tl.lmm_de(adata, **({"fixed": FIXED, "random": RANDOM, "residual_by": "cls"} | LOGGED | options))
    return adata


@pytest.fixture(scope="module")
def fit(counts):
    return fitted(counts.copy())


def test_names_and_tables(fit):
    types = list(fit.obs["cls"].cat.categories)
    names = ["sam", *(f"cls[{t}]|sam" for t in types), *(f"residual[{t}]" for t in types)]
    assert list(fit.uns["lmm_de"]["theta_names"]) == names
    table = fsc.get.variance_df(fit)
    assert table["component"].unique().tolist() == names
    np.testing.assert_array_equal(table["variance"], fit.varm["lmm_de_theta"].T.ravel())
    assert fit.uns["lmm_de"]["params"]["residual_by"] == "cls"
    assert np.isfinite(fit.varm["lmm_de_log2_ratio"][:, len(types) :]).all()


def test_each_type_by_itself_has_the_same_coefficients_and_nearly_the_same_residual(fit, counts):
    """Without an effect that types share, the joint model falls into one for each type."""
    joint = fitted(counts.copy(), random="(0 + cls || sam)")
    alone = fitted(counts.copy(), fixed="~ trt", random="sam", groupby="cls", residual_by=None)
    for t in counts.obs["cls"].cat.categories:
        for name in ("coef", "se", "t", "pval"):
            np.testing.assert_allclose(
                of(joint, name)[f"cls[{t}]:trt[T.B]"], of(alone, name)[f"{t}|trt[T.B]"], rtol=1e-5, err_msg=name
            )
        theta = of(joint, "theta", "theta_names")[[f"cls[{t}]|sam", f"residual[{t}]"]]
        np.testing.assert_allclose(
            theta, of(alone, "theta", "theta_names")[[f"{t}|sam", f"{t}|residual"]], rtol=1e-5, atol=1e-9
        )
    np.testing.assert_allclose(of(fit, "log2_ratio"), of(joint, "log2_ratio"), rtol=1e-9)


@pytest.mark.parametrize("way", ["csc", "dense", "order", "threads", "strata", "list", "file"])
def test_the_same_by_every_way(fit, counts, way, tmp_path):
    other = counts.copy()
    options = {}
    if way == "csc":
        other.X = sp.csc_matrix(other.X)
    elif way == "dense":
        other.X = other.X.toarray()
    elif way == "order":
        other = other[np.random.default_rng(0).permutation(other.n_obs)].copy()
    elif way == "threads":
        options = {"n_jobs": 3}
    elif way == "strata":
        other = fsc.pp.aggregate(other, ["sam", "cls", "trt"], **LOGGED)
        options = {"transform": None, "size_factors": None, "target_sum": None}
    elif way == "file":
        other.write_h5ad(tmp_path / "cells.h5ad")
        other = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    if way == "list":
        halves = [other[: other.n_obs // 2].copy(), other[other.n_obs // 2 :].copy()]
        other = fsc.tl.lmm_de(halves, FIXED, RANDOM, residual_by="cls", **LOGGED)
    else:
        fitted(other, **options)
    for name in ("coef", "se", "df", "theta", "loglik"):
        np.testing.assert_allclose(
            other.varm[f"lmm_de_{name}"], fit.varm[f"lmm_de_{name}"], rtol=1e-6, atol=1e-9, err_msg=name
        )


def test_weights_are_those_of_repeated_cells(counts):
    """But for the number of cells: twice each cell with half the weight changes nothing of what the sums say."""
    rng = np.random.default_rng(2)
    one = counts.copy()
    one.obs["w"] = rng.uniform(0.5, 2.0, one.n_obs)
    fitted(one, weights="w")
    scaled = one.copy()
    scaled.obs["w"] *= 3.0
    fitted(scaled, weights="w")
    residual = slice(4, 7)
    np.testing.assert_allclose(
        scaled.varm["lmm_de_theta"][:, residual], 3 * one.varm["lmm_de_theta"][:, residual], rtol=1e-6
    )
    np.testing.assert_allclose(scaled.varm["lmm_de_pval"], one.varm["lmm_de_pval"], rtol=1e-5)
    np.testing.assert_allclose(scaled.varm["lmm_de_loglik"], one.varm["lmm_de_loglik"], rtol=1e-9)
    plain = fitted(counts.copy())
    assert not np.allclose(one.varm["lmm_de_coef"], plain.varm["lmm_de_coef"])


# Tests of stored fits


def test_tests_work_from_files(fit, tmp_path):
    fit.write_h5ad(tmp_path / "fit.h5ad")
    again = ad.read_h5ad(tmp_path / "fit.h5ad")
    a, b = (f"cls[{t}]:trt[T.B]" for t in fit.obs["cls"].cat.categories[:2])
    for adata in (fit, again):
        fsc.tl.lmm_test(adata, {"difference": f"`{a}` - `{b}`", "a": f"`{a}`"})
        fsc.tl.lmm_anova(adata)
        fsc.tl.lmm_variance_test(adata)
    for key in ("lmm_test", "lmm_anova", "lmm_variance_test"):
        ours, theirs = results(again, key), results(fit, key)
        assert ours.keys() == theirs.keys()
        np.testing.assert_allclose(np.hstack(list(ours.values())), np.hstack(list(theirs.values())), rtol=1e-10)
    for name in ("se", "df", "pval"):
        np.testing.assert_allclose(fit.varm[f"lmm_test_{name}"][:, 1], of(fit, name)[a], rtol=1e-9)
    assert fsc.get.variance_test_df(fit)["component"].nunique() == 4
    F = of(fit, "F", key="lmm_anova")
    assert (F > 0).to_numpy().all()


def test_anova_of_one_column_is_its_t_test(counts):
    adata = fitted(counts.copy(), fixed="~ cls + trt")
    fsc.tl.lmm_anova(adata)
    np.testing.assert_allclose(of(adata, "F", key="lmm_anova")["trt"], of(adata, "t")["trt[T.B]"] ** 2, rtol=1e-7)
    np.testing.assert_allclose(of(adata, "pval", key="lmm_anova")["trt"], of(adata, "pval")["trt[T.B]"], rtol=1e-7)


def test_likelihood_ratio_of_a_variance(fit):
    adata = fitted(fit.copy(), random="(0 + cls || sam)", key_added="without")
    fsc.tl.lmm_variance_test(adata, null="without")
    assert list(adata.uns["lmm_variance_test"]["coef_names"]) == ["sam"]
    stat = 2 * (adata.varm["lmm_de_loglik"] - adata.varm["without_loglik"])
    np.testing.assert_allclose(adata.varm["lmm_variance_test_stat"], np.maximum(stat, 0.0), atol=1e-6)
    fitted(adata, residual_by=None, key_added="one")
    with pytest.raises(ValueError, match="residual_by is 'cls' in the fit 'lmm_de' and None in 'one'"):
        fsc.tl.lmm_variance_test(adata, null="one")


def test_random_effects(counts):
    adata = fitted(counts.copy(), ranef=True)
    table = fsc.get.ranef_df(adata, "sam")
    assert len(table) == 6 * adata.n_vars
    assert np.isfinite(table["value"]).all()


def test_filters_count_all_cells(counts):
    share = np.asarray((counts.X > 0).mean(axis=0)).ravel()
    least = float(np.median(share))
    adata = fitted(counts.copy(), min_fraction=least)
    filtered = list(adata.uns["lmm_de"]["status_names"]).index("filtered")
    np.testing.assert_array_equal(adata.varm["lmm_de_status"][:, 0] == filtered, share < least)


# What is refused and advised


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"residual_by": "clss"}, "clss"),
        ({"residual_by": "one"}, "residual_by='one' has one level only"),
        ({"residual_by": "few"}, "the 3 cells of 'x' are too few for a residual variance of their own"),
        ({"residual_by": "gaps"}, "is NaN in 5 of 900 cells"),
        ({"groupby": "cls"}, "can't be combined with groupby"),
        ({"moderate": True}, "can't be combined with moderate=True"),
        ({"nonnegative": False}, "can't be combined with nonnegative=False"),
        ({"ddf": "kenward-roger"}, "can't be combined with ddf='kenward-roger'"),
        ({"random": "(0 + cls | sam)"}, "can't be combined with correlated random effects"),
    ],
)
def test_what_is_refused_before_the_pass(counts, options, words):
    adata = counts.copy()
    adata.obs["one"] = "all"
    adata.obs["few"] = np.where(np.arange(900) < 3, "x", "y")
    adata.obs["gaps"] = pd.Series(adata.obs["cls"]).where(np.arange(900) >= 5)
    adata.X.data[0] = np.nan  # a pass over the cells would say so
    with pytest.raises((ValueError, KeyError), match=words.replace("(", r"\(")):
        fitted(adata, **options)
    assert not adata.varm


def test_kenward_roger_of_a_stored_fit_is_refused(fit):
    with pytest.raises(ValueError, match="can't be had with residual variances by group"):
        fsc.tl.lmm_test(fit, [fit.uns["lmm_de"]["coef_names"][0]], ddf="kenward-roger")
