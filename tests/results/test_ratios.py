"""Ratios of fitted means of counts: exact where means are, for every contrast that is a difference of two means."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import flashmm_sc as fsc

SIZED = {"transform": "log1p", "size_factors": "total"}


@pytest.fixture
def normalised(adata):
    """Counts over size factors."""
    counts = adata.X.toarray().astype(float)
    totals = counts.sum(axis=1)
    return counts / (totals / np.median(totals))[:, None]


def ratio(above, below, values):
    return np.log2(values[above].mean(axis=0) / values[below].mean(axis=0))


def column(adata, name, group=None, key=None):
    return fsc.get.lmm_de_df(adata, name, groups=group, key=key)["log2_ratio"].to_numpy()


def test_of_two_arms(adata, normalised):
    fsc.tl.lmm_de(adata, "~ trt", "sam", **SIZED)
    treated = (adata.obs["trt"] == "B").to_numpy()
    np.testing.assert_allclose(column(adata, "trt[T.B]"), ratio(treated, ~treated, normalised), rtol=1e-9)
    assert np.isnan(column(adata, "Intercept")).all()
    fsc.tl.lmm_test(adata, {"back": "-1 * trt[T.B]", "half": "trt[T.B] / 2", "arm": "Intercept + trt[T.B]"})
    np.testing.assert_allclose(column(adata, "back"), -column(adata, "trt[T.B]"))
    assert np.isnan(column(adata, "half")).all()
    assert np.isnan(column(adata, "arm")).all()


def test_of_cell_types_in_one_model_and_in_many(adata, normalised):
    fsc.tl.lmm_de(adata, "~ 0 + cls + cls:trt", "sam", **SIZED)
    fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", **SIZED, key_added="groups")
    fsc.tl.lmm_de(adata, "~ cls * trt", "sam", **SIZED, key_added="crossed")
    fsc.tl.lmm_test(adata, fsc.contrasts.each("trt", by="cls"), key="crossed")
    for group in ("B", "NK"):
        cells = (adata.obs["cls"] == group).to_numpy()
        treated = (adata.obs["trt"] == "B").to_numpy()
        expected = ratio(cells & treated, cells & ~treated, normalised)
        np.testing.assert_allclose(column(adata, f"cls[{group}]:trt[T.B]"), expected, rtol=1e-9)
        np.testing.assert_allclose(column(adata, "trt[T.B]", group, "groups"), expected, rtol=1e-9)
        np.testing.assert_allclose(column(adata, f"B vs A, cls={group}", key="lmm_test"), expected, rtol=1e-9)
    assert np.isnan(column(adata, "cls[T.NK]:trt[T.B]")).all()  # a ratio of ratios


def test_of_averages(adata, normalised):
    """Averaged over cell types with equal weights, before the ratio is taken."""
    fsc.tl.lmm_de(adata, "~ cls * trt", "sam", **SIZED)
    fsc.tl.lmm_test(adata, fsc.contrasts.each("trt"))
    mean = lambda cls, trt: normalised[((adata.obs["cls"] == cls) & (adata.obs["trt"] == trt)).to_numpy()].mean(axis=0)
    expected = np.log2((mean("B", "B") + mean("NK", "B")) / (mean("B", "A") + mean("NK", "A")))
    np.testing.assert_allclose(column(adata, "B vs A"), expected, rtol=1e-9)


def test_adjusted_for_other_terms(adata, normalised):
    fsc.tl.lmm_de(adata, "~ batch + score + trt", "sam", **SIZED)
    X = pd.get_dummies(adata.obs["batch"], drop_first=True).assign(
        score=adata.obs["score"], trt=adata.obs["trt"] == "B"
    )
    X = np.column_stack([np.ones(160), X.to_numpy(float)])
    beta = np.linalg.lstsq(X, normalised, rcond=None)[0]
    points = np.array([[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 0, 1, 0, 0]], float)
    points[:, 3] = adata.obs["score"].mean()
    below = (points @ beta).mean(axis=0)
    np.testing.assert_allclose(column(adata, "trt[T.B]"), np.log2((below + beta[4]) / below), rtol=1e-9)
    assert np.isnan(column(adata, "score")).all()


def test_an_arm_without_counts():
    rng = np.random.default_rng(0)
    sample = np.repeat(np.arange(6), 50)
    counts = rng.poisson(3, (300, 20)).astype(float)
    counts[sample % 2 == 1, 0] = 0
    counts[sample % 2 == 0, 1] = 0
    obs = pd.DataFrame({"sam": sample.astype(str), "trt": np.array(["A", "B"])[sample % 2]})
    adata = ad.AnnData(counts, obs.set_index(np.arange(300).astype(str)))
    fsc.tl.lmm_de(adata, "~ trt", "sam", **SIZED)
    found = column(adata, "trt[T.B]")
    assert found[0] == -np.inf
    assert found[1] == np.inf
    assert np.isfinite(found[2:]).all()


def test_is_not_compressed_as_log_fc_is():
    rng = np.random.default_rng(1)
    sample = np.repeat(np.arange(8), 200)
    mean = np.where(sample % 2 == 1, 0.4, 0.1)[:, None] * np.ones(30)
    counts = np.column_stack([rng.poisson(mean), rng.poisson(5, (1600, 100))]).astype(float)
    obs = pd.DataFrame({"sam": sample.astype(str), "trt": np.array(["A", "B"])[sample % 2]})
    adata = ad.AnnData(counts, obs.set_index(np.arange(1600).astype(str)))
    fsc.tl.lmm_de(adata, "~ trt", "sam", **SIZED)
    table = fsc.get.lmm_de_df(adata, "trt[T.B]")[:30]
    assert table["log2_ratio"].mean() == pytest.approx(2, abs=0.05)
    assert table["log_fc"].mean() < 0.5


def test_there_is_none_where_the_formula_has_no_value_at_the_means(adata):
    adata.obs["x"] = np.tile([-2.0, -1.0, 1.0, 2.0], adata.n_obs // 4)
    fsc.tl.lmm_de(adata, "~ trt + I(1 / x)", "sam", **SIZED)
    assert np.isfinite(adata.varm["lmm_de_pval"]).all()
    assert np.isnan(column(adata, "trt[T.B]")).all()


def test_there_is_none_without_size_factors(adata, tmp_path):
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p")
    assert "log2_ratio" not in fsc.get.lmm_de_df(adata)
    fsc.tl.lmm_de(adata, "~ trt", "sam", **SIZED)
    adata.write_h5ad(tmp_path / "a.h5ad")
    again = ad.read_h5ad(tmp_path / "a.h5ad")
    fsc.tl.lmm_test(again, {"again": "trt[T.B]"})
    np.testing.assert_allclose(column(again, "again"), column(adata, "trt[T.B]"))
