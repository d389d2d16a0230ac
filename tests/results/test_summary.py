"""Genes by status and group, and those found."""

from __future__ import annotations

import logging

import numpy as np
import pytest

import flashmm_sc as fsc


@pytest.fixture(scope="module")
def study():
    adata = fsc.datasets.simu_rnaseq(
        n_genes=120, n_cells=1500, n_samples=12, n_clusters=2, seed=1, min_beta=2, max_beta=3
    )
    least = float(np.quantile((adata.X.toarray() > 0).mean(axis=0), 0.2))
    options = {"transform": "log1p", "size_factors": "total", "min_fraction": least}
    fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", **options, contrasts={"down": "-1 * trt[T.B]"})
    return adata


@pytest.mark.parametrize(("key", "contrast"), [("lmm_de", "trt[T.B]"), ("lmm_de_contrasts", "down")])
def test_counts_are_those_of_the_table(study, key, contrast):
    found = fsc.get.summary(study, key=key, alpha=0.2)
    assert found["contrast"].tolist() == [contrast] * 2
    assert found["group"].tolist() == ["1", "2"]
    for _, row in found.iterrows():
        table = fsc.get.lmm_de_df(study, contrast, key=key, groups=row["group"])
        hit = table["adj_p_value"] < 0.2
        assert row["tested"] == table["p_value"].notna().sum()
        assert row["found"] == hit.sum() == row["up"] + row["down"]
        assert row["up"] == (hit & (table["coef"] > 0)).sum()
        for status, count in table["status"].value_counts().items():
            assert row[status] == count
        if key == "lmm_de":
            assert row["cells"] == (study.obs["cls"].astype(str) == row["group"]).sum()
    assert found["found"].sum() > 0
    assert found["filtered"].sum() > 0


def test_intercepts_are_no_findings(study):
    assert "Intercept" in study.uns["lmm_de"]["column_names"]
    assert "Intercept" not in fsc.get.summary(study)["contrast"].tolist()


def test_other_results(study):
    study = study.copy()
    fsc.tl.lmm_anova(study)
    found = fsc.get.summary(study, key="lmm_anova")
    assert found["contrast"].tolist() == ["trt", "trt"]
    assert "up" not in found
    fsc.tl.shrink(study)
    assert fsc.get.summary(study, key="lmm_shrink", alpha=0.3)["found"].sum() > 0


def test_is_told_at_info_level(study, caplog):
    study = study.copy()
    with caplog.at_level(logging.INFO, "flashmm_sc"):
        fsc.tl.lmm_test(study, "trt[T.B] / 2")
    assert "lmm_test, at a false discovery rate of 0.05" in caplog.text
    assert "trt[T.B] / 2" in caplog.text
    caplog.clear()
    fsc.tl.lmm_test(study, "trt[T.B] / 2")
    assert not caplog.records


@pytest.mark.parametrize(("alpha", "kind"), [(2, ValueError), (np.nan, ValueError), ("5%", TypeError)])
def test_what_is_no_rate(study, alpha, kind):
    with pytest.raises(kind, match="alpha="):
        fsc.get.summary(study, alpha=alpha)
