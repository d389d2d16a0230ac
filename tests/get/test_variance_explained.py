"""Shares of variance of stored fits: by the definition over the cells, as the array function's, whatever the coding."""

from __future__ import annotations

import re

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import flashmm_sc as fsc


def shares(adata, fixed, random="sam", groups=None, **options):
    fsc.tl.lmm_de(adata, fixed, random, transform="log1p", **options)
    table = fsc.get.variance_explained_df(adata, groups=groups)
    wide = table.pivot_table("share", "variable", "term").loc[adata.var_names]
    np.testing.assert_allclose(wide.sum(axis=1), 1)
    assert (wide >= 0).all(axis=None)
    return wide


def indicators(values):
    return pd.get_dummies(values).to_numpy(float)


def spread(M, w=None):
    """Σ of squares about the mean, over n - 1, of each column; weighted, if there are weights."""
    w = np.ones(len(M)) if w is None else w
    return (w[:, None] * (M - np.average(M, axis=0, weights=w)) ** 2).sum(axis=0) / (len(M) - 1)


def by_definition(adata, X, Z, w=None, residual=None):
    """Shares of terms of X (columns and positions of coefficients), of random components Z and the residual."""
    coef, theta = adata.varm["lmm_de_coef"], adata.varm["lmm_de_theta"]
    each = {name: spread(columns @ coef[:, j].T, w) for name, (columns, j) in X.items()}
    total = spread(sum(columns @ coef[:, j].T for columns, j in X.values()), w)
    parts = {name: value / sum(each.values()) * total for name, value in each.items()}
    parts |= {name: theta[:, k] * spread(columns, w).sum() for k, (name, columns) in enumerate(Z.items())}
    parts["residual"] = theta[:, -1] if residual is None else residual
    table = pd.DataFrame(parts, index=adata.var_names)
    return table.div(table.sum(axis=1), axis=0)


def assert_same(found, expected):
    pd.testing.assert_frame_equal(found[list(expected)], expected, check_names=False, rtol=1e-9)
    assert found.shape == expected.shape


@pytest.fixture
def weighted(adata):
    adata.obs["w"] = np.random.default_rng(4).uniform(0.5, 3, adata.n_obs)
    return adata


@pytest.mark.parametrize("weights", [None, "w"])
def test_by_definition_over_the_cells(weighted, weights):
    obs = weighted.obs
    found = shares(weighted, "~ score + cls * trt", ["sam", "sam:cls", "(0 + score|sam)"], weights=weights)
    cls, trt, score = (obs["cls"] == "NK") * 1.0, (obs["trt"] == "B") * 1.0, obs["score"]
    column = lambda values: np.asarray(values)[:, None]
    names = list(weighted.uns["lmm_de"]["coef_names"])
    at = lambda name: [names.index(name)]
    X = {
        "score": (column(score), at("score")),
        "cls": (column(cls), at("cls[T.NK]")),
        "trt": (column(trt), at("trt[T.B]")),
        "cls:trt": (column(cls * trt), at("cls[T.NK]:trt[T.B]")),
    }
    sam = indicators(obs["sam"])
    Z = {"sam": sam, "sam:cls": indicators(obs["sam"] + obs["cls"]), "score|sam": sam * column(score)}
    assert_same(found, by_definition(weighted, X, Z, None if weights is None else obs["w"].to_numpy()))


def test_as_the_array_function(adata):
    found = shares(adata, "~ score + cls", ["sam", "batch"])
    design = fsc.Design.of(adata.obs, "~ score + cls", ["sam", "batch"])
    fit = fsc.lmm(fsc.summarize(adata, design, transform="log1p"), nonnegative=True)
    expected = fsc.variance_explained(fit, {"cls": "cls[T.NK]"})
    pd.testing.assert_frame_equal(found[list(expected)], expected, check_names=False, rtol=1e-6, atol=1e-9)


def test_correlated_effects_share_a_row(adata):
    found = shares(adata, "~ score", "(1 + score|sam)")
    assert set(found) == {"score", "sam + score|sam", "residual"}
    theta, score = adata.varm["lmm_de_theta"], adata.obs["score"].to_numpy()[:, None]
    sam = indicators(adata.obs["sam"])
    one, slope = sam - sam.mean(axis=0), sam * score - (sam * score).mean(axis=0)
    size = [(one**2).sum(), (slope**2).sum(), 2 * (one * slope).sum()]
    random = theta[:, :3] @ size / (adata.n_obs - 1)
    fixed = adata.varm["lmm_de_coef"][:, 1] ** 2 * spread(score)
    np.testing.assert_allclose(found["sam + score|sam"], random / (random + fixed + theta[:, 3]))


def test_residual_by_has_the_mean_of_its_variances(adata):
    found = shares(adata, "~ trt", "sam", residual_by="cls")
    n, theta = adata.obs["cls"].value_counts(), adata.varm["lmm_de_theta"]
    residual = (theta[:, 1] * n["B"] + theta[:, 2] * n["NK"]) / adata.n_obs
    trt = (adata.obs["trt"] == "B").to_numpy(float)[:, None]
    expected = by_definition(adata, {"trt": (trt, [1])}, {"sam": indicators(adata.obs["sam"])}, residual=residual)
    assert_same(found, expected)


@pytest.mark.parametrize("groups", ["NK", ["B"]])
def test_each_group_is_a_fit_of_its_own(adata, groups):
    found = shares(adata, "~ trt * score", groupby="cls", groups=groups)
    alone = adata[adata.obs["cls"] == np.ravel(groups)[0]].copy()
    assert_same(found, shares(alone, "~ trt * score"))
    both = fsc.get.variance_explained_df(adata)
    assert list(both) == ["variable", "term", "group", "share"]
    assert both.groupby(["group", "term"], sort=False).size().index.to_list()[:2] == [("B", "trt"), ("B", "score")]


@pytest.mark.parametrize("fixed", ["~ cls + trt", "~ 0 + cls + trt", "~ C(cls, contr.sum) + C(trt, contr.sum)"])
def test_coding_of_main_effects_makes_no_difference(adata, fixed):
    expected = shares(adata, "~ cls + trt")
    adata.obs["cls"] = pd.Categorical(adata.obs["cls"], ["NK", "B"])
    found = shares(adata, fixed)
    found.columns = [re.sub(r"C\((\w+), contr.sum\)", r"\1", name) for name in found]
    pd.testing.assert_frame_equal(found[list(expected)], expected, check_names=False, rtol=1e-7)


def test_coding_makes_no_difference_to_all_fixed_terms_together(adata):
    random = lambda table: table[["sam", "residual"]]
    expected = random(shares(adata, "~ cls * trt"))
    pd.testing.assert_frame_equal(random(shares(adata, "~ 0 + cls + cls:trt")), expected, rtol=1e-7)


def test_columns_of_a_spline_are_one_term(adata):
    assert set(shares(adata, "~ bs(score, df=4) + trt")) == {"bs(score, df=4)", "trt", "sam", "residual"}


def test_without_an_intercept_the_random_one_centres(adata):
    found = shares(adata, "~ 0 + score")
    score = adata.obs["score"].to_numpy()[:, None]
    expected = by_definition(adata, {"score": (score, [0])}, {"sam": indicators(adata.obs["sam"])})
    assert_same(found, expected)
    fsc.tl.lmm_de(adata, "~ 0 + score", "(0 + score|sam)", transform="log1p")
    with pytest.raises(ValueError, match="neither an intercept nor a random one"):
        fsc.get.variance_explained_df(adata)


def test_genes_without_fit_are_nan(adata):
    adata.X = adata.X.toarray()
    adata.X[:, 4] = 0
    found = fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p")
    found = fsc.get.variance_explained_df(adata)
    assert found.loc[found["share"].isna(), "variable"].tolist() == ["gene4"] * 3
    assert len(found) == 3 * adata.n_vars


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_from_a_file(adata, tmp_path, ending):
    fsc.tl.lmm_de(adata, "~ trt * cls", ["sam", "batch"], transform="log1p", weights=None)
    getattr(adata, f"write_{ending}")(tmp_path / f"a.{ending}")
    read = getattr(ad, f"read_{ending}")(tmp_path / f"a.{ending}")
    pd.testing.assert_frame_equal(fsc.get.variance_explained_df(read), fsc.get.variance_explained_df(adata))


def test_what_can_not_be_had(adata):
    fsc.tl.lmm_de(adata, "~ trt", {"trt": "sam"}, transform="log1p", groupby="cls")
    with pytest.raises(ValueError, match="'trt' names two terms of the fit 'lmm_de'"):
        fsc.get.variance_explained_df(adata)
    with pytest.raises(KeyError, match="groups: the result 'lmm_de' has no 'nk'"):
        fsc.get.variance_explained_df(adata, groups="nk")
    with pytest.raises(KeyError, match="holds no result"):
        fsc.get.variance_explained_df(adata, key="other")
    with pytest.warns(fsc.FlashmmWarning, match="Only 12 genes"):
        fsc.tl.nbmm_de(adata, "~ trt", "sam")
    with pytest.raises(ValueError, match=r"is of counts by fsc\.tl\.nbmm_de: how much single cells vary"):
        fsc.get.variance_explained_df(adata, key="nbmm_de")
