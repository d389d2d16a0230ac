"""Tests of a stored fit: linear combinations as if the model had been written for them, and nothing read again."""

from __future__ import annotations

import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp
from containers import assert_same, assert_unchanged
from scipy import stats

import flashmm_sc as fsc
from flashmm_sc import FlashmmWarning

DIFFERENCE = {"difference": "cls[NK]:trt[T.B] - cls[B]:trt[T.B]"}
TESTS = ("coef", "se", "t", "df", "pval", "pval_adj")


@pytest.fixture
def fitted(adata):
    fsc.tl.lmm_de(adata, "~ 0 + cls + cls:trt", "sam", transform="log1p")
    return adata


@pytest.fixture
def grouped(adata):
    fsc.tl.lmm_de(adata, "~ trt + score", "sam", groupby="cls", transform="log1p")
    return adata


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger", "residual"])
def test_a_contrast_is_the_coefficient_of_the_model_written_for_it(fitted, ddf):
    """The difference of effects is the interaction of cls * trt, which is the same model."""
    fsc.tl.lmm_test(fitted, DIFFERENCE, ddf=ddf)
    with_interaction = fitted.copy()
    fsc.tl.lmm_de(with_interaction, "~ cls * trt", "sam", transform="log1p", key_added="other")
    fsc.tl.lmm_test(with_interaction, "cls[T.NK]:trt[T.B]", key="other", key_added="other_test", ddf=ddf)
    for name in TESTS:
        expected = with_interaction.varm[f"other_test_{name}"]
        np.testing.assert_allclose(fitted.varm[f"lmm_test_{name}"], expected, rtol=1e-6, err_msg=name)
    assert_same(fitted.varm["lmm_test_status"], fitted.varm["lmm_de_status"])


def test_each_coefficient_is_tested_as_in_the_fit(fitted):
    names = fitted.uns["lmm_de"]["coef_names"].tolist()
    fsc.tl.lmm_test(fitted, [f"`{name}`" for name in names])
    for name in TESTS:
        np.testing.assert_allclose(fitted.varm[f"lmm_test_{name}"], fitted.varm[f"lmm_de_{name}"], rtol=1e-12)


def test_expressions_and_vectors_give_the_same(fitted):
    contrasts = {"text": "(cls[B]:trt[T.B] + cls[NK]:trt[T.B])/2 - cls[B]", "vector": [-1, 0, 0.5, 0.5]}
    fsc.tl.lmm_test(fitted, contrasts)
    for name in TESTS:
        np.testing.assert_array_equal(*fitted.varm[f"lmm_test_{name}"].T)
    coef = fitted.varm["lmm_de_coef"]
    np.testing.assert_allclose(fitted.varm["lmm_test_coef"][:, 0], coef[:, 2:].mean(axis=1) - coef[:, 0], rtol=1e-12)


def test_p_values_of_each_alternative(fitted):
    p = {}
    for alternative in ("two-sided", "less", "greater"):
        fsc.tl.lmm_test(fitted, DIFFERENCE, alternative=alternative, key_added=alternative)
        p[alternative] = fitted.varm[f"{alternative}_pval"]
    t, df = fitted.varm["less_t"], fitted.varm["less_df"]
    assert t.min() < 0 < t.max()
    np.testing.assert_allclose(p["less"], stats.t.cdf(t, df), rtol=1e-10)
    np.testing.assert_allclose(p["greater"], stats.t.sf(t, df), rtol=1e-10)
    np.testing.assert_allclose(p["two-sided"], 2 * stats.t.sf(np.abs(t), df), rtol=1e-10)


def test_degrees_of_freedom_are_those_of_the_fit_unless_told(adata):
    fsc.tl.lmm_de(adata, "~ score", "sam", transform="log1p", ddf="residual")
    fsc.tl.lmm_test(adata, "score")
    assert (adata.varm["lmm_test_df"] == 158).all()
    fsc.tl.lmm_test(adata, "score", ddf="satterthwaite")
    assert (adata.varm["lmm_test_df"] != 158).any()
    assert adata.uns["lmm_test"]["params"]["ddf"] == "satterthwaite"
    fsc.tl.lmm_de(adata, "~ score", "sam", transform="log1p")
    np.testing.assert_allclose(adata.varm["lmm_test_df"][:, 0], adata.varm["lmm_de_df"][:, 1], rtol=1e-12)


def test_bonferroni(fitted):
    fsc.tl.lmm_test(fitted, DIFFERENCE, corr_method="bonferroni")
    p = fitted.varm["lmm_test_pval"]
    np.testing.assert_array_equal(fitted.varm["lmm_test_pval_adj"], np.minimum(12 * p, 1))


def test_contrasts_are_tested_within_every_group(grouped):
    contrasts = {"trt": "trt[T.B]", "both": "trt[T.B] + 2*score"}
    fsc.tl.lmm_test(grouped, contrasts)
    result = grouped.uns["lmm_test"]
    assert result["coef_names"].tolist() == ["B|trt", "B|both", "NK|trt", "NK|both"]
    assert result["groups"].tolist() == ["B", "NK"]
    for i, group in enumerate(["B", "NK"]):
        alone = grouped[grouped.obs["cls"] == group].copy()
        fsc.tl.lmm_de(alone, "~ trt + score", "sam", transform="log1p")
        fsc.tl.lmm_test(alone, contrasts)
        for name in TESTS:
            found = grouped.varm[f"lmm_test_{name}"][:, 2 * i : 2 * i + 2]
            np.testing.assert_allclose(found, alone.varm[f"lmm_test_{name}"], rtol=1e-10)


def test_a_group_that_lacks_a_coefficient_is_named(adata):
    adata.obs["trt"] = adata.obs["trt"].where((adata.obs["cls"] == "B") | (adata.obs["sam"] != "s2"), "C")
    fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p")
    with pytest.warns(FlashmmWarning, match="Group 'B' is not tested") as caught:
        fsc.tl.lmm_test(adata, "trt[T.C]")
    assert caught[0].filename == __file__
    assert adata.uns["lmm_test"]["coef_names"].tolist() == ["NK|trt[T.C]"]
    assert adata.varm["lmm_test_status"].shape == (12, 1)


def test_genes_that_were_not_fitted_stay_so(adata):
    adata.X = adata.X @ sp.diags(np.arange(12) != 4, dtype=np.float32)
    adata.var["use"] = adata.var_names != "gene7"
    fsc.tl.lmm_de(adata, "~ trt", "sam", mask_var="use", transform="log1p")
    fsc.tl.lmm_test(adata, {"d": "trt[T.B]"})
    table = fsc.get.lmm_de_df(adata, key="lmm_test").set_index("variable")
    assert table.loc[["gene4", "gene7"], "status"].tolist() == ["constant", "masked"]
    missing = table[["coef", "se", "t_value", "df", "p_value", "adj_p_value"]].isna()
    assert missing.all(axis=1).to_numpy().nonzero()[0].tolist() == [4, 7]
    assert missing.any(axis=1).sum() == 2


def test_only_its_own_key_is_written(fitted):
    fsc.tl.lmm_test(fitted, DIFFERENCE, key_added="mine")
    before = fitted.copy()
    fsc.tl.lmm_test(fitted, {"a": "cls[B]", "b": "cls[NK]"}, key_added="mine")
    assert fitted.varm["mine_coef"].shape == (12, 2)
    for key in [key for key in fitted.varm if key.startswith("mine_")] + ["mine"]:
        for each in (fitted, before):
            (each.uns if key == "mine" else each.varm).pop(key)
    assert_unchanged(fitted, before)


def test_the_cells_are_not_read(fitted, monkeypatch):
    fsc.tl.lmm_test(fitted, DIFFERENCE, key_added="before")
    del fitted.X
    fitted.obs = fitted.obs[[]]
    fsc.tl.lmm_test(fitted, DIFFERENCE)
    assert_same(fitted.varm["lmm_test_pval"], fitted.varm["before_pval"])


def test_joint_test_of_one_contrast_is_the_square_of_its_t(fitted):
    fsc.tl.lmm_test(fitted, DIFFERENCE)
    fsc.tl.lmm_test(fitted, DIFFERENCE, joint=True, key_added="joint")
    np.testing.assert_allclose(fitted.varm["joint_F"], fitted.varm["lmm_test_t"] ** 2, rtol=1e-9)
    np.testing.assert_allclose(fitted.varm["joint_pval"], fitted.varm["lmm_test_pval"], rtol=1e-7)
    fsc.tl.lmm_test(fitted, DIFFERENCE, key_added="joint")
    assert "joint_F" not in fitted.varm


def test_smallest_effect_that_counts_is_a_log2_fold_change(adata):
    """Values in ln and log2 ask the same question."""
    for transform in ("log1p", "log2p1"):
        fsc.tl.lmm_de(adata, "~ trt", "sam", transform=transform, key_added=transform)
        fsc.tl.lmm_test(adata, "trt[T.B]", key=transform, key_added=f"{transform}_test", lfc=0.3, alternative="greater")
    np.testing.assert_allclose(adata.varm["log1p_test_pval"], adata.varm["log2p1_test_pval"], rtol=1e-6)
    fsc.tl.lmm_test(adata, "trt[T.B]", key="log2p1", alternative="greater")
    t = (adata.varm["lmm_test_coef"] - 0.3) / adata.varm["lmm_test_se"]
    np.testing.assert_allclose(adata.varm["log2p1_test_pval"], stats.t.sf(t, adata.varm["lmm_test_df"]), rtol=1e-9)


# Bad input

BAD = {
    "key": ({"key": "lmm_d"}, KeyError, ["uns['lmm_d'] holds no result", "Did you mean 'lmm_de'"]),
    "coefficient": ({"contrasts": "cls[B]:trt[T.A]"}, ValueError, ["unknown coefficient", "'cls[B]:trt[T.B]'"]),
    "zero": ({"contrasts": {"d": "cls[B] - cls[B]"}}, ValueError, ["'d' is zero"]),
    "constant": ({"contrasts": "cls[B] + 1"}, ValueError, ["no constant term"]),
    "product": ({"contrasts": "cls[B] * cls[NK]"}, ValueError, ["can't be multiplied"]),
    "vector": ({"contrasts": {"d": np.ones(3)}}, ValueError, ["there are 4 coefficients"]),
    "names": ({"contrasts": ["cls[B]", "cls[B]"]}, ValueError, ["Duplicate contrast names: 'cls[B]'"]),
    "alternative": ({"alternative": "both"}, ValueError, ["alternative='both'", "'two-sided', 'less', 'greater'"]),
    "ddf": ({"ddf": "kr"}, ValueError, ["ddf='kr' is unknown"]),
    "corr_method": ({"corr_method": "holm"}, ValueError, ["corr_method='holm' is unknown"]),
    "key_added": ({"key_added": "a/b"}, ValueError, ["key_added='a/b'"]),
    "lfc": ({"lfc": -1}, ValueError, ["lfc=-1", "alternative="]),
    "joint": ({"joint": True, "alternative": "less"}, ValueError, ["joint=True is an F test"]),
    "dependent": (
        {"joint": True, "contrasts": {"a": "cls[B]", "b": "2*cls[B]"}},
        ValueError,
        ["'b'"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(fitted, case):
    options, error, words = BAD[case]
    fsc.tl.lmm_test(fitted, DIFFERENCE, key_added="earlier")
    before = fitted.copy()
    with pytest.raises(error) as caught:
        fsc.tl.lmm_test(fitted, **({"contrasts": DIFFERENCE} | options))
    message = str(caught.value.args[0])
    assert [word for word in words if word not in message] == []
    assert_unchanged(fitted, before)


def test_tests_are_not_a_fit(fitted):
    fsc.tl.lmm_test(fitted, DIFFERENCE)
    with pytest.raises(KeyError, match="holds tests, not a fit"):
        fsc.tl.lmm_test(fitted, DIFFERENCE, key="lmm_test", key_added="again")


def test_no_fit_at_all(adata):
    with pytest.raises(KeyError, match=r"Run fsc\.tl\.lmm_de first"):
        fsc.tl.lmm_test(adata, DIFFERENCE)


@pytest.mark.filterwarnings("ignore:log_fc is NaN")
def test_smallest_effect_needs_a_known_logarithm(adata):
    adata.X = adata.X.log1p()
    fsc.tl.lmm_de(adata, "~ trt", "sam")
    with pytest.raises(ValueError, match="the logarithm that the fitted values are on isn't known"):
        fsc.tl.lmm_test(adata, "trt[T.B]", lfc=1)
    sc.pp.log1p(adata)
    fsc.tl.lmm_de(adata, "~ trt", "sam")
    fsc.tl.lmm_test(adata, "trt[T.B]", lfc=1)


def test_a_fit_is_not_overwritten_by_its_tests(fitted):
    with pytest.raises(ValueError, match="key_added"):
        fsc.tl.lmm_test(fitted, DIFFERENCE, key_added="lmm_de")
