"""Adaptive shrinkage of stored effects."""

from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pytest
from containers import assert_same, assert_unchanged

import flashmm_sc as fsc
from flashmm_sc._inference.shrinkage import learn, normal_errors, shrink

EFFECTS = ["cls[B]:trt[T.B]", "cls[NK]:trt[T.B]"]
ARRAYS = ("coef", "sd", "lfsr", "svalue")


@pytest.fixture
def fitted(adata):
    fsc.tl.lmm_de(adata, "~ 0 + cls + cls:trt", "sam", transform="log1p", mask_var=[True] * 11 + [False])
    return adata


def by_hand(adata, key, j):
    coef, se, t, df = (adata.varm[f"{key}_{name}"][:, j] for name in ("coef", "se", "t", "df"))
    genes = np.isfinite(t)
    coef, s = coef[genes], normal_errors(coef, se, t, df)[genes]
    prior = learn(coef, s)
    return prior, genes, shrink(prior, coef, s)


def test_each_effect_is_shrunken_by_itself(fitted, caplog):
    with caplog.at_level(logging.INFO, "flashmm_sc"):
        fsc.tl.shrink(fitted)
    assert "lmm_shrink, at a false" in caplog.messages[-2]
    entry = fitted.uns["lmm_shrink"]
    assert entry["coef_names"].tolist() == EFFECTS
    for i in range(2):
        prior, genes, expected = by_hand(fitted, "lmm_de", 2 + i)
        assert genes.sum() == 11
        for name in ARRAYS:
            ours = fitted.varm[f"lmm_shrink_{name}"][:, i]
            assert_same(ours[genes], getattr(expected, name))
            assert np.isnan(ours[~genes]).all()
        assert entry["pi0"][i] == prior.weights[0]
        assert_same(entry["mixtures"][str(i)]["sd"], prior.sd)
        assert_same(entry["mixtures"][str(i)]["weights"], prior.weights)
    assert_same(fitted.varm["lmm_shrink_status"], fitted.varm["lmm_de_status"])


def test_table(fitted):
    fsc.tl.shrink(fitted)
    table = fsc.get.lmm_de_df(fitted, key="lmm_shrink")
    shown = ["variable", "contrast", "coef", "log_fc", "sd", "lfsr", "s_value", "status"]
    assert table.columns.tolist() == shown
    for column, name in {"coef": "coef", "sd": "sd", "lfsr": "lfsr", "s_value": "svalue"}.items():
        assert_same(table[column].to_numpy(), fitted.varm[f"lmm_shrink_{name}"].T.ravel())
    np.testing.assert_allclose(table["log_fc"], table["coef"] / np.log(2))
    assert set(table["status"]) == {"ok", "boundary", "masked"}
    assert fsc.get.lmm_de_df(fitted, EFFECTS[0])["p_value"].notna().any()  # that of the fit


def test_effects_of_contrasts_and_groups(adata):
    fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p")
    fsc.tl.lmm_test(adata, {"down": "-trt[T.B]"}, alternative="less")
    fsc.tl.shrink(adata, "down", key_added="down")
    assert adata.uns["down"]["params"]["key"] == "lmm_test"
    assert adata.uns["down"]["coef_names"].tolist() == ["B|down", "NK|down"]
    fsc.tl.shrink(adata)
    assert adata.uns["lmm_shrink"]["coef_names"].tolist() == ["B|trt[T.B]", "NK|trt[T.B]"]
    np.testing.assert_allclose(adata.varm["down_coef"], -adata.varm["lmm_shrink_coef"], rtol=1e-9)
    np.testing.assert_allclose(adata.varm["down_lfsr"], adata.varm["lmm_shrink_lfsr"], rtol=1e-9)
    fsc.tl.shrink(adata, "NK|trt[T.B]", key_added="one")
    assert adata.uns["one"]["groups"].tolist() == ["NK"]
    assert_same(adata.varm["one_coef"][:, 0], adata.varm["lmm_shrink_coef"][:, 1])
    assert_same(adata.varm["one_status"][:, 0], adata.varm["lmm_de_status"][:, 1])
    assert set(fsc.get.lmm_de_df(adata, key="one")["group"]) == {"NK"}


def test_effects_of_genes_without_any_are_shrunken_to_nearly_zero():
    adata = fsc.datasets.simu_rnaseq(n_genes=400, n_cells=3000, n_samples=12, n_clusters=2, n_de_genes=80, seed=2)
    fsc.tl.lmm_de(adata, "~ 0 + log(libsize) + cls + cls:trt", "sam", transform="log1p")
    fsc.tl.shrink(adata)
    assert adata.uns["lmm_shrink"]["coef_names"].tolist()[0] == "log(libsize)"  # a covariate's effect is a finding
    null = (adata.var["de_cluster"] != "1").to_numpy()
    raw, shrunken = (fsc.get.lmm_de_df(adata, "cls[1]:trt[T.B]", key=key) for key in ("lmm_de", "lmm_shrink"))
    assert shrunken["coef"][null].abs().mean() < 0.3 * raw["coef"][null].abs().mean()
    assert (shrunken["coef"].abs() <= raw["coef"].abs()).all()


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_it_survives_files_and_works_after_them(fitted, tmp_path, kind):
    fsc.tl.shrink(fitted)
    path = tmp_path / f"adata.{kind}"
    getattr(fitted, f"write_{kind}")(path)
    back = getattr(ad, f"read_{kind}")(path)
    for key in ("lmm_shrink", "again"):
        for name in (*ARRAYS, "status"):
            assert_same(back.varm[f"{key}_{name}"], fitted.varm[f"lmm_shrink_{name}"])
        assert fsc.get.lmm_de_df(back, key=key).equals(fsc.get.lmm_de_df(fitted, key="lmm_shrink"))
        fsc.tl.shrink(back, key_added="again")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (
            {"coefs": "cls[B]:trt[T.b]"},
            KeyError,
            r"no result has .cls\[B\]:trt\[T\.b\].*Did you mean .cls\[B\]:trt\[T\.B\]",
        ),
        ({"coefs": 3}, TypeError, "coefs=3 must be a text"),
        ({"coefs": []}, ValueError, "names nothing to shrink"),
        ({"key": "mine"}, KeyError, r"uns\['mine'\] holds no result"),
        ({"key": "lmm_anova"}, ValueError, "holds F tests, not effects"),
        ({"key": "lmm_variance_test"}, ValueError, "holds variance tests, not effects"),
        ({"key": "shrunken"}, ValueError, "holds shrinkage, not effects"),
        ({"key": "bound"}, ValueError, r"against a bound, lfc=0\.5"),
        ({"key": "means"}, ValueError, r"only intercepts and means. Choose coefs="),
        ({"key": "few"}, ValueError, r"'Intercept', 'trt\[T\.B\]': fewer than 10 genes"),
        ({"key_added": "lmm_de"}, ValueError, "is the key of a fit"),
        ({"key_added": "means", "key": "means", "coefs": "cls[B]"}, ValueError, "is the key of the tests"),
    ],
)
def test_what_cannot_be_shrunken(fitted, options, error, words):
    fsc.tl.lmm_anova(fitted)
    fsc.tl.lmm_variance_test(fitted)
    fsc.tl.shrink(fitted, key_added="shrunken")
    fsc.tl.lmm_test(fitted, EFFECTS, lfc=0.5, key_added="bound")
    fsc.tl.lmm_test(fitted, "cls[B]", key_added="means")
    fsc.tl.lmm_de(fitted, "~ trt", "sam", mask_var=[True] * 9 + [False] * 3, transform="log1p", key_added="few")
    if options.get("key") == "few":
        options = options | {"coefs": ["Intercept", "trt[T.B]"]}
    before = fitted.copy()
    with pytest.raises(error, match=words):
        fsc.tl.shrink(fitted, **options)
    assert_unchanged(fitted, before)
