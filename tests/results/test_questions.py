"""Questions to a fit, against emmeans on lmerTest fits; and where in contrasts they may stand."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import reference_data as rd
from containers import assert_unchanged

import flashmm_sc as fsc
from flashmm_sc._results.packed import packed, unpacked
from flashmm_sc.contrasts import each, means, pairwise, slope

ASKED = {"each": each, "means": means, "pairwise": pairwise, "slope": slope}
FIXED = {
    "crossed": "~ log(libsize) + cls * trt + batch",
    "cells": "~ 0 + log(libsize) + cls + cls:trt",
    "slopes": "~ score * cls + I(score**2) + log(libsize) * trt",
    "curves": "~ cr(score, knots=[-0.7, 0, 0.6], constraints='center') * trt + cls",
    "logical": "~ high * trt + cls",
}
TABLE = rd.emmeans()


def reference_cells(genes):
    obs = rd.obs()
    obs["high"] = obs["score"] > 0.2
    return ad.AnnData(rd.counts(), obs, pd.DataFrame(index=rd.genes()))[:, genes].copy()


def check(table, theirs, rtol=1e-6):
    """Estimates to a millionth of their standard errors; these, and degrees of freedom, to a millionth."""
    se = theirs["se"].to_numpy()
    np.testing.assert_allclose(table["coef"] / se, theirs["estimate"] / se, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(table["se"], se, rtol=rtol)
    np.testing.assert_allclose(table["df"], theirs["df"], rtol=rtol)


@pytest.mark.parametrize("model", FIXED)
def test_answers_are_those_of_emmeans(model):
    expected = TABLE[TABLE["model"] == model]
    adata = reference_cells(expected["gene"].unique())
    fsc.tl.lmm_de(adata, FIXED[model], "sam", transform="log2p1")
    for question, theirs in expected.groupby("question"):
        fsc.tl.lmm_test(adata, eval(question, ASKED))
        ours = fsc.get.lmm_de_df(adata, key="lmm_test").set_index(["variable", "contrast"])
        keys = pd.MultiIndex.from_frame(theirs[["gene", "name"]])
        assert set(ours.index) == set(keys)
        check(ours.loc[keys], theirs)


@pytest.fixture
def data(adata):
    rng = np.random.default_rng(3)
    adata.obs["day"] = rng.uniform(0, 10, adata.n_obs)
    adata.obs["dose"] = pd.Categorical(rng.choice(["low", "mid", "high"], adata.n_obs), ["low", "mid", "high"])
    return adata


def names(adata, key="lmm_test"):
    return adata.uns[key]["coef_names"].tolist()


def test_questions_stand_beside_expressions_and_under_names(data):
    fsc.tl.lmm_de(data, "~ trt * cls + dose", "sam", transform="log1p")
    fsc.tl.lmm_test(data, [each("trt"), "dose[T.mid] - dose[T.high]", pairwise("dose")])
    assert names(data) == ["B vs A", "dose[T.mid] - dose[T.high]", "mid vs low", "high vs low", "high vs mid"]
    estimates = data.varm["lmm_test_coef"]
    np.testing.assert_allclose(estimates[:, 1], -estimates[:, 4], rtol=1e-12)
    fsc.tl.lmm_test(data, {"treated": each("trt"), "dose": each("dose"), "vector": [0, 1, 0, 0, 0, 0.5]})
    assert names(data) == ["treated", "dose: mid vs low", "dose: high vs low", "vector"]
    np.testing.assert_allclose(data.varm["lmm_test_coef"][:, 0], data.varm["lmm_test_coef"][:, 3], rtol=1e-12)
    np.testing.assert_allclose(data.varm["lmm_test_coef"][:, 0], estimates[:, 0], rtol=1e-12)
    fsc.tl.lmm_test(data, each("dose"), joint=True)
    assert names(data) == ["mid vs low, high vs low"]


def test_levels_that_give_two_answers_one_name(data):
    names = np.array(["a", "b vs a", "b", "a vs b"], dtype=object)
    data.obs["batch"] = names[np.arange(data.n_obs) % 4]
    fsc.tl.lmm_de(data, "~ batch", "sam", transform="log1p")
    with pytest.raises(ValueError, match="Several contrasts are called 'b vs a vs b'"):
        fsc.tl.lmm_test(data, pairwise("batch"))


def test_the_fit_asks_as_the_test_does(data):
    questions = {"trt": each("trt", by="cls"), "day": slope("day", per=2)}
    fsc.tl.lmm_de(data, "~ trt * cls + bs(day, df=4)", "sam", transform="log1p", contrasts=questions)
    fsc.tl.lmm_test(data, questions)
    assert names(data) == names(data, "lmm_de_contrasts") == ["trt: B vs A, cls=B", "trt: B vs A, cls=NK", "day"]
    for name in ("coef", "se", "df", "pval_adj"):
        np.testing.assert_array_equal(data.varm[f"lmm_test_{name}"], data.varm[f"lmm_de_contrasts_{name}"])


def test_each_group_is_asked_for_the_levels_and_the_means_it_has(data):
    data.obs["dose"] = data.obs["dose"].where((data.obs["cls"] == "B") | (data.obs["dose"] != "high"), "low")
    fsc.tl.lmm_de(data, "~ dose + trt + day * trt", "sam", groupby="cls", transform="log1p")
    questions = [each("dose"), each("trt")]
    fsc.tl.lmm_test(data, questions)
    assert names(data) == ["B|mid vs low", "B|high vs low", "B|B vs A", "NK|mid vs low", "NK|B vs A"]
    for start, group in ((0, "B"), (3, "NK")):
        alone = data[data.obs["cls"] == group].copy()
        fsc.tl.lmm_de(alone, "~ dose + trt + day * trt", "sam", transform="log1p")
        fsc.tl.lmm_test(alone, questions)
        found = alone.varm["lmm_test_coef"]
        np.testing.assert_allclose(data.varm["lmm_test_coef"][:, start : start + found.shape[1]], found, rtol=1e-9)
    with pytest.warns(fsc.FlashmmWarning, match="Group 'NK' is not tested: .* 'dose' has no level 'high'"):
        fsc.tl.lmm_test(data, each("dose", ref="high"))
    with pytest.raises(
        ValueError, match=r"names 'cls', which is not in the model .* groupby= .* each group has its own"
    ):
        fsc.tl.lmm_test(data, each("trt", by="cls"))


def test_a_group_with_a_single_answer_calls_it_as_the_others_do(data):
    data.obs["dose"] = data.obs["dose"].where((data.obs["cls"] == "B") | (data.obs["dose"] != "high"), "low")
    questions = {"dose": each("dose"), "trt": each("trt")}
    fsc.tl.lmm_de(data, "~ dose + trt", "sam", groupby="cls", transform="log1p", contrasts=questions)
    expected = ["B|dose: mid vs low", "B|dose: high vs low", "B|trt", "NK|dose: mid vs low", "NK|trt"]
    assert names(data, "lmm_de_contrasts") == expected


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_files_are_asked_as_memory_is(data, tmp_path, ending):
    data.obs["dose"] = data.obs["dose"].cat.rename_categories({"high": "β/[high], CD4+"})
    fsc.tl.lmm_de(data, "~ trt * scale(day) + dose", "sam", transform="log1p", groupby="cls")
    path = tmp_path / f"fit.{ending}"
    getattr(data, f"write_{ending}")(path)
    read = getattr(ad, f"read_{ending}")(path)
    for one in (data, read):
        fsc.tl.lmm_test(one, [each("dose"), slope("day", by="trt")])
    assert names(read) == names(data)
    np.testing.assert_array_equal(read.varm["lmm_test_pval"], data.varm["lmm_test_pval"])


def test_moderated_fits_are_asked_as_well():
    adata = fsc.datasets.simu_rnaseq(n_genes=130, n_cells=800, n_samples=10, n_clusters=2, seed=1)
    fsc.tl.lmm_de(adata, "~ cls * trt", "sam", transform="log1p", moderate=True, contrasts=each("trt", by="cls"))
    fsc.tl.lmm_test(adata, {"1": "trt[T.B]", "2": "trt[T.B] + cls[T.2]:trt[T.B]"})
    np.testing.assert_allclose(adata.varm["lmm_test_pval"], adata.varm["lmm_de_contrasts_pval"], rtol=1e-12)


def test_fits_without_a_design_say_so(data):
    fsc.tl.lmm_de(data, "~ trt", "sam", transform="log1p")
    models = unpacked(data.uns["lmm_de"]["models"])
    del models["0"]["design"]
    data.uns["lmm_de"]["models"] = packed(models)
    with pytest.raises(ValueError, match=r"holds no design that could be asked: .* older version, .* fit again"):
        fsc.tl.lmm_test(data, each("trt"))
    fsc.tl.lmm_test(data, "trt[T.B]")


def test_levels_that_no_file_can_hold_are_refused_before_the_pass_and_only_if_asked(data):
    data.obs["age"] = pd.cut(data.obs["day"], 3)
    fsc.tl.lmm_de(data, "~ age", "sam", transform="log1p")
    before = data.copy()
    with pytest.raises(
        ValueError,
        match=r"neither texts nor numbers. Make them so, as with .astype\(str\), or with .cat.rename_categories\(str\), which",
    ):
        fsc.tl.lmm_de(data, "~ age", "sam", transform="log1p", contrasts=each("age"))
    assert_unchanged(data, before)


@pytest.mark.parametrize(
    ("contrasts", "error", "message"),
    [
        (
            lambda: each("trd"),
            ValueError,
            r"each\('trd'\) names 'trd', which is not in the model .* Did you mean 'trt'",
        ),
        (lambda: each("trt", by="dose"), ValueError, "names 'dose', which is not in the model"),
        (lambda: each("trt", by="trt"), ValueError, "names 'trt' more than once"),
        (lambda: each("trt", by=3), TypeError, "by=3 must be the name of a column of obs, or several in a list"),
        (lambda: each("trt", by=["cls", 3]), TypeError, "name a column of obs"),
        (lambda: each("trt", ref="C"), ValueError, "'trt' has no level 'C'. There are: 'A', 'B'"),
        (lambda: each("day"), ValueError, "'day' is a covariate, without levels"),
        (
            lambda: means("trt", at={"day": 100}),
            ValueError,
            "100 is outside of what 'day' is in the cells of the model",
        ),
        (lambda: pairwise("trt", at={"cls": "T"}), ValueError, "'cls' has no level 'T'"),
        (lambda: slope("day", per=0), ValueError, r"per=0 must be above 0\. "),
        (lambda: slope("day", per=-1), ValueError, "per=-1 must be"),
        (lambda: slope("cls"), ValueError, "'cls' is a factor, with levels 'B', 'NK'"),
        (lambda: [each("trt"), "trd"], ValueError, "unknown coefficient 'trd'"),
        (lambda: [each("trt"), means("trt"), each("trt")], ValueError, r"called 'B vs A'; name the questions"),
        (lambda: [each("trt"), [0, 1, 0, 0, 0]], ValueError, "A vector in a list with questions has no name"),
        (lambda: {"a": 3, "b": each("trt")}, ValueError, "'a' has shape"),
    ],
)
def test_bad_questions_are_refused_before_the_pass_and_nothing_changes(data, contrasts, error, message):
    before = data.copy()
    with pytest.raises(error, match=message):
        fsc.tl.lmm_de(data, "~ trt * cls + day", "sam", transform="log1p", contrasts=contrasts())
    assert_unchanged(data, before)
