"""One statistic as a wide table: groups or contrasts × genes."""

from __future__ import annotations

import numpy as np
import pytest

import flashmm_sc as fsc


@pytest.fixture(scope="module")
def fitted():
    """Three cell types; `Gene7` is constant in all, `Gene3` in one."""
    adata = fsc.datasets.simu_rnaseq(n_genes=30, n_cells=600, n_samples=8, n_clusters=3, seed=1)
    values = adata.X.toarray()
    values[:, adata.var_names == "Gene7"] = 0
    values[np.ix_(adata.obs["cls"] == "2", adata.var_names == "Gene3")] = 0
    adata.X = values
    fsc.tl.lmm_de(adata, "~ trt + libsize", "sam", groupby="cls", transform="log1p")
    fsc.tl.lmm_de(adata, "~ 0 + cls + cls:trt", "sam", transform="log1p", key_added="whole")
    fsc.tl.lmm_anova(adata, key="whole", key_added="anova")
    fsc.tl.shrink(adata, "trt[T.B]", key="lmm_de", key_added="shrunk")
    return adata


@pytest.mark.parametrize("value", ["z", "t_value", "coef", "p_value", "df"])
def test_values_are_those_of_the_table(fitted, value):
    found = fsc.get.matrix(fitted, value, coefs="trt[T.B]")
    table = fsc.get.lmm_de_df(fitted, "trt[T.B]").pivot(index="group", columns="variable", values=value)
    assert found.index.tolist() == ["1", "2", "3"]
    assert found.columns.tolist() == [gene for gene in fitted.var_names if gene not in ("Gene3", "Gene7")]
    np.testing.assert_array_equal(found, table.loc[found.index, found.columns])
    assert found.dtypes.unique().tolist() == [np.dtype(float)]


def test_the_default_is_z_and_t_is_short(fitted):
    np.testing.assert_array_equal(fsc.get.matrix(fitted), fsc.get.matrix(fitted, "z"))
    np.testing.assert_array_equal(fsc.get.matrix(fitted, "t"), fsc.get.matrix(fitted, "t_value"))


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({}, [f"{group}|{name}" for group in "123" for name in ("trt[T.B]", "libsize")]),
        ({"coefs": "libsize", "groups": ["3", "1"]}, ["3", "1"]),
        ({"coefs": "2|libsize"}, ["2"]),
        ({"groups": "2"}, ["trt[T.B]", "libsize"]),
        ({"coefs": ["Intercept", "trt[T.B]"], "groups": "2"}, ["Intercept", "trt[T.B]"]),
        ({"key": "whole"}, ["cls[1]:trt[T.B]", "cls[2]:trt[T.B]", "cls[3]:trt[T.B]"]),
    ],
)
def test_rows(fitted, options, rows):
    assert fsc.get.matrix(fitted, **options).index.tolist() == rows


def test_genes_without_a_result(fitted):
    filled = fsc.get.matrix(fitted, coefs="trt[T.B]", fill_value=0)
    kept = fsc.get.matrix(fitted, coefs="trt[T.B]", fill_value=float("nan"))
    assert filled.columns.tolist() == kept.columns.tolist() == fitted.var_names.tolist()
    missing = kept.isna()
    assert missing["Gene7"].all()
    assert missing["Gene3"].tolist() == [False, True, False]
    assert missing.to_numpy().sum() == 4
    assert (filled.to_numpy()[missing] == 0).all()
    np.testing.assert_array_equal(filled[~missing], kept)
    assert "Gene3" in fsc.get.matrix(fitted, coefs="trt[T.B]", groups=["1", "3"])


def test_other_results(fitted):
    table = fsc.get.lmm_de_df(fitted, key="shrunk", groups="1").set_index("variable")
    found = fsc.get.matrix(fitted, "coef", key="shrunk", groups="1")
    np.testing.assert_array_equal(found.loc["1"], table.loc[found.columns, "coef"])
    assert fsc.get.matrix(fitted, "f_value", key="anova").index.tolist() == ["cls:trt"]


@pytest.mark.parametrize(
    ("value", "options", "error", "words"),
    [
        ("t_values", {}, ValueError, "has no 't_values'. Did you mean 't_value'"),
        ("status", {}, ValueError, "has no 'status'"),
        ("z", {"key": "shrunk"}, ValueError, "'shrunk', shrinkage, has no 'z'. There are: 'coef'"),
        (1, {}, TypeError, "value=1 must be a text"),
        ("z", {"coefs": "trt[T.C]"}, KeyError, "Did you mean 'trt[T.B]'"),
        ("z", {"groups": "4"}, KeyError, "has no '4'"),
        ("z", {"key": "lmm"}, KeyError, "Did you mean 'lmm_de'"),
        ("z", {"coefs": []}, ValueError, "Nothing of the result 'lmm_de' is chosen: coefs=[]"),
    ],
)
def test_bad_input(fitted, value, options, error, words):
    with pytest.raises(error) as caught:
        fsc.get.matrix(fitted, value, **options)
    assert words in str(caught.value)


def test_an_unknown_logarithm_matters_to_log_fc_alone(fitted):
    adata = fitted.copy()
    adata.X = np.log2(adata.X + 1.1)
    fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", key_added="unknown")
    assert fsc.get.matrix(adata, key="unknown").shape == (3, 28)
    with (
        pytest.warns(fsc.FlashmmWarning, match="log_fc is NaN"),
        pytest.raises(ValueError, match="No gene has 'log_fc' in"),
    ):
        fsc.get.matrix(adata, "log_fc", key="unknown")


def test_a_row_without_results_is_named(fitted):
    adata = fitted.copy()
    adata.varm["lmm_de_t"][:, 4] = np.nan
    with pytest.raises(ValueError, match="in all rows; '2' lack it everywhere: leave them out"):
        fsc.get.matrix(adata, "t", coefs="trt[T.B]")
