"""Results in an AnnData: plain arrays and names that any file can hold, and that serve tests and tables read back."""

from __future__ import annotations

import logging
import re
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from containers import assert_same

import flashmm_sc as fsc
from flashmm_sc._gaussian.estimate import STATUS
from flashmm_sc._results.fitted import fitted_models
from flashmm_sc._results.packed import unpacked
from flashmm_sc._results.result import Result, check_key
from flashmm_sc._results.write import write

TYPES = ["CD4/CD8", "T cell (naive)", "a:b", "CD14+ Monocytes"]
"""Level names with characters that files or formulas have their own ideas of."""


@pytest.fixture(scope="module")
def named(counts, cells):
    """Each sample and treatment too is named as nobody should."""
    obs = cells.assign(
        type=pd.Categorical(np.array(TYPES)[np.arange(160) // 4 % 4], categories=TYPES),
        drug=cells["trt"].replace({"A": "0 nM/ctrl", "B": "IFN-β [1+1]"}),
        donor=[f"{name}/{name}: x|y" for name in cells["sam"]],
    )
    genes = pd.DataFrame(index=[f"HLA-{j}/x" for j in range(12)])
    return ad.AnnData(sp.csr_matrix(counts), obs.rename(columns={"drug": "drug given"}), genes)


JOINT = {"fixed": "~ 0 + type + type:`drug given`", "random": {"donor/s": "donor", "batch": "batch"}}
BY_TYPE = {"fixed": "~ `drug given`", "random": "donor", "groupby": "type"}
CALLS = {"joint": JOINT, "by type": BY_TYPE}
CONTRASTS = {
    "joint": {"CD4/CD8 - CD14+": "type[CD4/CD8]:drug given[T.IFN-β [1+1]] - type[CD14+ Monocytes]"},
    "by type": {"drug/ctrl": "2 * `drug given[T.IFN-β [1+1]]`"},
}


def fitted(adata, call, **options):
    adata = adata.copy()
    fsc.tl.lmm_de(adata, **CALLS[call], transform="log1p", ranef=True, **options)
    return adata


# What is written where


@pytest.mark.parametrize(("call", "p", "K", "n_groups"), [("joint", 8, 2, 1), ("by type", 8, 1, 4)])
def test_shapes_and_dtypes(named, call, p, K, n_groups):
    adata = fitted(named, call)
    q = adata.varm["lmm_de_ranef"].shape[1]
    widths = dict.fromkeys(("coef", "se", "t", "df", "pval", "pval_adj"), p) | {"ranef": q}
    widths |= dict.fromkeys(("theta", "theta_se", "theta_cov"), n_groups * (K + 1))
    widths |= dict.fromkeys(("status", "loglik", "n_iter"), n_groups)
    assert set(adata.varm) == {f"lmm_de_{name}" for name in widths}
    for name, width in widths.items():
        array = adata.varm[f"lmm_de_{name}"]
        assert type(array) is np.ndarray
        assert array.shape == ((12, width, K + 1) if name == "theta_cov" else (12, width))
        assert array.dtype == (np.int8 if name == "status" else np.float64)
    result = adata.uns["lmm_de"]
    lengths = {"coef_names": p, "column_names": p, "column_groups": p, "theta_names": n_groups * (K + 1)}
    for name, length in (lengths | {"groups": n_groups, "ranef_names": q}).items():
        assert len(result[name]) == length
    assert tuple(result["status_names"]) == STATUS
    assert STATUS[:4] == ("ok", "boundary", "constant", "masked")
    assert len(Result.read(adata, "lmm_de").models) == n_groups


def test_names_without_groups(named):
    result = fitted(named, "joint").uns["lmm_de"]
    drug = "drug given[T.IFN-β [1+1]]"
    assert result["coef_names"].tolist() == [f"type[{t}]" for t in TYPES] + [f"type[{t}]:{drug}" for t in TYPES]
    assert result["theta_names"].tolist() == ["donor/s", "batch", "residual"]
    assert result["ranef_names"].tolist()[7:] == ["donor/s[s7/s7: x|y]", "batch[x]", "batch[y]", "batch[z]"]
    assert result["groups"].tolist() == [""]
    model = unpacked(result["models"])["0"]
    assert model["factors"].tolist() == ["type", "drug given"]
    assert model["levels"]["0"].tolist() == TYPES
    assert model["levels"]["1"].tolist() == ["0 nM/ctrl", "IFN-β [1+1]"]


def test_names_with_groups(named):
    result = fitted(named, "by type").uns["lmm_de"]
    effects = ["Intercept", "drug given[T.IFN-β [1+1]]"]
    assert result["groups"].tolist() == TYPES
    assert result["coef_names"].tolist() == [f"{t}|{effect}" for t in TYPES for effect in effects]
    assert result["column_names"].tolist() == effects * 4
    assert result["column_groups"].tolist() == np.repeat(TYPES, 2).tolist()
    assert result["theta_names"].tolist() == [f"{t}|{name}" for t in TYPES for name in ("donor", "residual")]
    assert result["ranef_names"].tolist()[:2] == [f"CD4/CD8|donor[s{k}/s{k}: x|y]" for k in (0, 1)]


def test_parameters_are_noted(named):
    params = fitted(named, "by type", method="ML", ddf="satterthwaite", corr_method="bonferroni").uns["lmm_de"][
        "params"
    ]
    expected = {"fixed": "~ `drug given`", "groupby": "type", "transform": "log1p", "method": "ML", "layer": None}
    expected |= {"ddf": "satterthwaite", "nonnegative": True, "corr_method": "bonferroni", "use_raw": False}
    expected |= {"n_obs": 160, "log_base": np.e, "version": fsc.__version__, "mask_var": None, "max_iter": 100}
    assert {key: params[key] for key in expected} == expected
    assert params["random"].tolist() == ["donor"]


def test_only_what_files_can_hold(named):
    """Plain arrays, texts and numbers in uns; no tuple, set, Series, or key that is no text."""

    def check(value):
        if isinstance(value, dict):
            assert all(isinstance(key, str) and "/" not in key for key in value)
            for inner in value.values():
                check(inner)
        else:
            assert isinstance(value, np.ndarray | sp.csr_matrix | str | bool | int | float | None)

    adata = fitted(named, "by type", contrasts=CONTRASTS["by type"], mask_var=[True] * 11 + [False])
    for key in ("lmm_de", "lmm_de_contrasts"):
        check(adata.uns[key])


# Files


@pytest.fixture(scope="module", params=[(call, kind) for call in CALLS for kind in ("h5ad", "zarr")], ids="-".join)
def saved(request, named, tmp_path_factory):
    """A fit with some tests, and the same written to a file and read back, without the cells."""
    call, kind = request.param
    adata = fitted(named, call, contrasts=CONTRASTS[call], mask_var=[True] * 11 + [False])
    path = tmp_path_factory.mktemp("saved") / f"adata.{kind}"
    getattr(adata, f"write_{kind}")(path)
    back = getattr(ad, f"read_{kind}")(path)
    del back.X
    return call, adata, back


def test_results_read_back_are_the_same(saved):
    _, adata, back = saved
    assert set(back.varm) == set(adata.varm)
    for key, array in adata.varm.items():
        assert_same(back.varm[key], array)
    for key in ("lmm_de", "lmm_de_contrasts"):
        for name in ("coef_names", "column_names", "column_groups", "groups", "status_names"):
            assert [str(value) for value in back.uns[key][name]] == adata.uns[key][name].tolist()
        assert_tables(back, adata, key)
    for table in (fsc.get.variance_df, fsc.get.ranef_df):
        pd.testing.assert_frame_equal(table(back), table(adata), check_exact=True, check_dtype=False)


@pytest.mark.parametrize("ddf", [None, "satterthwaite", "kenward-roger", "residual"])
def test_tests_of_a_fit_read_back_are_the_same(saved, ddf, tmp_path):
    call, *both = (saved[0], saved[1].copy(), saved[2].copy())
    for each in both:
        fsc.tl.lmm_test(each, CONTRASTS[call], ddf=ddf, n_jobs=1)
    adata, back = both
    for name in ("coef", "se", "t", "df", "pval", "pval_adj", "status"):
        assert_same(back.varm[f"lmm_test_{name}"], adata.varm[f"lmm_test_{name}"])
    assert np.isfinite(adata.varm["lmm_test_pval"][:11]).all()
    back.write_h5ad(tmp_path / "again.h5ad")
    assert_tables(ad.read_h5ad(tmp_path / "again.h5ad"), adata, "lmm_test")


def assert_tables(a, b, key):
    left, right = fsc.get.lmm_de_df(a, key=key), fsc.get.lmm_de_df(b, key=key)
    pd.testing.assert_frame_equal(left, right, check_exact=True, check_dtype=False)


def test_chosen_genes_keep_their_results(named):
    adata = fitted(named, "by type")
    fsc.tl.lmm_test(adata, CONTRASTS["by type"])
    chosen = adata[:, [7, 2]].copy()
    assert_same(chosen.varm["lmm_test_pval"], adata.varm["lmm_test_pval"][[7, 2]])
    before = chosen.varm["lmm_test_coef"]
    fsc.tl.lmm_test(chosen, CONTRASTS["by type"])
    np.testing.assert_allclose(chosen.varm["lmm_test_coef"], before, rtol=1e-12)


# Parts


@pytest.mark.parametrize("key", ["", "a/b", 3, None])
def test_keys_that_files_cannot_hold_are_refused(named, key):
    with pytest.raises(ValueError, match="can't name results in a file"):
        check_key(named, key)


def test_keys_of_other_things_are_refused(named):
    adata = fitted(named, "joint", contrasts=CONTRASTS["joint"])
    adata.uns |= {"pca": {"params": {}}, "text": "x"}
    for key in ("pca", "text"):
        with pytest.raises(ValueError, match=rf"uns\['{key}'\] holds something else"):
            check_key(adata, key)
    with pytest.raises(ValueError, match="key_added='lmm_de' is the key of a fit"):
        check_key(adata, "lmm_de", tests=True)
    check_key(adata, "lmm_de")  # a fit may take the place of a fit
    check_key(adata, "lmm_de_contrasts", tests=True)


def test_remove_takes_one_result_only(named):
    adata = fitted(named, "joint", contrasts=CONTRASTS["joint"])
    fsc.tl.lmm_de(adata, **BY_TYPE, transform="log1p", key_added="other")
    write(adata, [], ["lmm_de"])
    left = {key.removeprefix("lmm_de_contrasts_").removeprefix("other_") for key in adata.varm}
    assert not [key for key in adata.varm if not key.startswith(("lmm_de_contrasts_", "other_"))]
    assert {"coef", "theta", "status"} <= left
    assert set(adata.uns) == {"lmm_de_contrasts", "other"}
    assert len(fitted_models(Result.read_fit(adata, "other"))) == 4


def test_missing_results_are_named(named):
    with pytest.raises(KeyError, match=r"uns\['lmm_de'\] holds no result .*Run fsc\.tl\.lmm_de first"):
        Result.read(named, "lmm_de")
    adata = fitted(named, "joint", contrasts=CONTRASTS["joint"], key_added="treated")
    with pytest.raises(KeyError, match="Did you mean 'treated'"):
        Result.read(adata, "treatd")
    adata.uns["mine"] = {"a": 1}
    with pytest.raises(KeyError, match=r"uns\['mine'\] holds no result.*There are: 'treated', 'treated_contrasts'"):
        Result.read(adata, "mine")
    with pytest.raises(KeyError, match="holds tests, not a fit"):
        fitted_models(Result.read_fit(adata, "treated_contrasts"))


def test_what_takes_the_place_of_another_says_so(named, caplog):
    adata = fitted(named, "joint")
    fsc.tl.lmm_test(adata, CONTRASTS["joint"])
    with caplog.at_level(logging.INFO, "flashmm_sc"):
        fsc.tl.lmm_test(adata, "type[a:b]", key_added="new")
        assert "replaces" not in caplog.text
        fsc.tl.lmm_test(adata, "type[a:b]")
        when = adata.uns["lmm_test"]["params"].pop("time")
        fsc.tl.lmm_de(adata, "~ type", "donor", transform="log1p", contrasts={"T": "type[T.a:b]"})
        fsc.tl.lmm_test(adata, "Intercept")
    told = [message.strip() for message in caplog.messages if "replaces" in message]
    assert re.fullmatch(r"lmm_test: replaces t tests of 'CD4/CD8 - CD14\+', made 20\d\d-.*T.*\+00:00", told[0])
    assert told[0][-25:-6] <= when[:19]
    assert told[1].startswith("lmm_de: replaces fit of ~ 0 + type + type:`drug given`, random: 'donor', 'batch', made ")
    assert told[2:] == ["lmm_test: replaces t tests of 'type[a:b]'"]  # one that notes no time


def test_what_an_earlier_version_stored_is_to_be_fitted_again(named):
    adata = fitted(named, "by type")
    adata.uns["lmm_de"]["models"] = unpacked(adata.uns["lmm_de"]["models"])
    del adata.uns["lmm_de"]["findings"]
    assert len(fsc.get.lmm_de_df(adata)) == 96
    for call in (lambda: fsc.tl.lmm_test(adata, "Intercept"), lambda: fsc.tl.shrink(adata)):
        with pytest.raises(KeyError, match=r"result 'lmm_de' was stored by an earlier version.*; run its call again"):
            call()
    adata.varm["lmm_de_zry"], adata.varm["lmm_de_mean"] = np.ones((12, 8)), np.ones((12, 4))  # as they were
    fsc.tl.forget(adata, "lmm_de")
    assert not adata.varm.keys()


# Findings


def findings(adata, key):
    return Result.read(adata, key).findings.tolist()


def test_intercepts_and_means_are_no_findings(named):
    adata = fitted(named, "joint")
    assert findings(adata, "lmm_de") == [False] * 4 + [True] * 4
    drug = "drug given[T.IFN-β [1+1]]"
    tests = {
        "mean": "type[a:b]",
        "mean of means": "(type[a:b] + type[CD4/CD8]) / 2",
        "difference": "type[a:b] - type[CD4/CD8]",
        "effect": f"type[a:b]:{drug}",
        "mean of the treated": f"type[a:b] + type[a:b]:{drug}",
        "thirds": "(type[a:b] + type[CD4/CD8] + type[CD14+ Monocytes]) / 3 - type[T cell (naive)]",
    }
    fsc.tl.lmm_test(adata, tests)
    assert findings(adata, "lmm_test") == [False, False, True, True, False, True]
    for names, is_finding in ((["difference", "effect"], True), (["difference", "mean"], False)):
        fsc.tl.lmm_test(adata, {name: tests[name] for name in names}, joint=True)
        assert findings(adata, "lmm_test") == [is_finding]
    fsc.tl.lmm_anova(adata)
    assert adata.uns["lmm_anova"]["coef_names"].tolist() == ["type", "type:drug given"]
    assert findings(adata, "lmm_anova") == [False, True]
    fsc.tl.lmm_variance_test(adata)
    assert findings(adata, "lmm_variance_test") == [True, True]


@pytest.mark.parametrize("fixed", ["~ 0 + type + type:`drug given`", "~ score + type", "~ 0 + score + `drug given`"])
def test_findings_are_what_a_constant_added_to_all_values_does_not_change(named, fixed):
    adata = named.copy()
    adata.X = np.log1p(named.X.toarray())
    fsc.tl.lmm_de(adata, fixed, "donor")
    adata.X = adata.X + 3.0
    fsc.tl.lmm_de(adata, fixed, "donor", key_added="moved")
    change = np.abs(adata.varm["moved_coef"] - adata.varm["lmm_de_coef"]).max(axis=0)
    np.testing.assert_allclose(change, np.where(findings(adata, "lmm_de"), 0, 3), atol=1e-6)


def test_findings_of_groups(named):
    adata = fitted(named, "by type", contrasts={"mean": "Intercept"})
    assert findings(adata, "lmm_de") == [False, True] * 4
    assert findings(adata, "lmm_de_contrasts") == [False] * 4


def test_what_was_made_from_a_fit_that_is_replaced_is_named(adata):
    run = lambda fixed, **options: fsc.tl.lmm_de(
        adata, fixed, "sam", transform="log1p", size_factors="total", **options
    )
    run("~ trt", contrasts={"half": "trt[T.B] / 2"})
    fsc.tl.lmm_test(adata, {"x": "trt[T.B]"})
    fsc.tl.shrink(adata, "x", key="lmm_test")
    with pytest.warns(fsc.AdviceWarning, match="'lmm_test' was made from the result that lay under 'lmm_de'") as caught:
        run("~ 1", contrasts="Intercept / 2")
    assert len(caught) == 1  # its own contrasts are replaced as well
    with pytest.warns(fsc.AdviceWarning, match="'lmm_shrink' was made from the result that lay under 'lmm_test'"):
        fsc.tl.lmm_test(adata, {"x": "Intercept"})
    fsc.tl.forget(adata, "lmm_test")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run("~ 1", key_added="other")
        run("~ trt")


@pytest.mark.parametrize("part", ["params", "column_names", "groups", "status_names", "findings", "status_columns"])
def test_an_entry_that_lacks_a_part(adata, part):
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p")
    del adata.uns["lmm_de"][part]
    with pytest.raises(KeyError, match="'lmm_de' was stored by an earlier version"):
        (fsc.get.summary(adata), fsc.get.lmm_de_df(adata))


@pytest.mark.parametrize("suffix", ["coef", "pval", "df"])
def test_arrays_that_do_not_fit_their_names(adata, suffix):
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p")
    adata.varm[f"lmm_de_{suffix}"] = adata.varm[f"lmm_de_{suffix}"][:, :1]
    with pytest.raises(
        ValueError, match=rf"lmm_de_{suffix}.* has shape \(12, 1\), .* names 2 columns; run its call again"
    ):
        fsc.get.lmm_de_df(adata)
