"""Groups of few cells and genes of few counts are left out, and have no share in what is learned of the others."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from containers import assert_unchanged

import flashmm_sc as fsc
from flashmm_sc._gaussian.estimate import FILTERED, MASKED


def expressed(adata, group):
    counts = adata.X.toarray()[(adata.obs["cls"] == group).to_numpy()]
    return (counts > 0).mean(axis=0), counts.sum(axis=0)


@pytest.mark.parametrize("where", ["memory", "h5ad", "csc"])
def test_genes_that_few_cells_of_a_group_express(adata, where, tmp_path):
    counts = adata.copy()
    if where == "csc":
        adata.X = adata.X.tocsc()
    if where == "h5ad":
        adata.write_h5ad(tmp_path / "adata.h5ad")
        adata = ad.read_h5ad(tmp_path / "adata.h5ad", backed="r")
    shares = [expressed(counts, group) for group in ("B", "NK")]
    least, total = float(np.median(shares[0][0])), float(np.median(shares[1][1]))
    fsc.tl.lmm_de(
        adata, "~ trt", "sam", groupby="cls", transform="log1p", min_fraction=least, min_counts=total, mask_var="use"
    )
    status = adata.varm["lmm_de_status"]
    for i, (share, sums) in enumerate(shares):
        masked = ~counts.var["use"].to_numpy()
        np.testing.assert_array_equal(status[:, i] == MASKED, masked)
        np.testing.assert_array_equal(status[:, i] == FILTERED, ~masked & ((share < least) | (sums < total)))
        out = np.isin(status[:, i], [MASKED, FILTERED])
        assert 0 < (status[:, i] == FILTERED).sum() < 8
        for name in ("coef", "pval", "pval_adj"):
            np.testing.assert_array_equal(np.isnan(adata.varm[f"lmm_de_{name}"][:, 2 * i]), out)
    assert set(fsc.get.lmm_de_df(adata)["status"]) >= {"masked", "filtered"}


def test_a_share_that_is_just_the_least_is_enough():
    """0.07 * 100 is more than 7 in floating-point numbers."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(1, (100, 3)).astype(float)
    counts[:, 0] = np.arange(100) < 7
    adata = ad.AnnData(counts)
    adata.obs["sam"], adata.obs["x"] = (np.arange(100) % 5).astype(str), rng.normal(size=100)
    fsc.tl.lmm_de(adata, "~ x", "sam", transform="log1p", min_fraction=0.07)
    assert adata.varm["lmm_de_status"][0, 0] != FILTERED


def test_what_is_left_is_as_without_the_others(adata):
    share, _ = expressed(adata, "B")
    only = adata[adata.obs["cls"] == "B"].copy()
    fsc.tl.lmm_de(only, "~ trt", "sam", transform="log1p", mask_var=share >= 0.8)
    fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", min_fraction=0.8)
    for name in ("coef", "se", "df", "pval", "pval_adj"):
        found, expected = adata.varm[f"lmm_de_{name}"][:, :2], only.varm[f"lmm_de_{name}"]
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_no_share_in_the_prior():
    adata = fsc.datasets.simu_rnaseq(n_genes=260, n_cells=1500, n_samples=8, n_clusters=2, seed=1)
    share = np.asarray((adata.X > 0).mean(axis=0)).ravel()
    least = float(np.quantile(share, 0.4))
    options = {"transform": "log1p", "size_factors": "total", "moderate": True}
    fsc.tl.lmm_de(adata, "~ trt", "sam", **options, min_fraction=least)
    fsc.tl.lmm_de(adata, "~ trt", "sam", **options, mask_var=share >= least, key_added="masked")
    fsc.tl.lmm_de(adata, "~ trt", "sam", **options, key_added="all")
    for name in ("pval", "pval_adj", "se"):
        one, other, every = (adata.varm[f"{key}_{name}"] for key in ("lmm_de", "masked", "all"))
        np.testing.assert_allclose(one, other, rtol=1e-10)
        assert (np.abs(one / every - 1)[share >= least] > 1e-4).any()
    fsc.tl.lmm_test(adata, "trt[T.B] / 2")
    np.testing.assert_allclose(adata.varm["lmm_test_pval"][:, 0], adata.varm["lmm_de_pval"][:, 1], rtol=1e-10)


def test_groups_of_few_cells(adata):
    rare = adata.obs["cls"].astype(str).to_numpy()
    rare[:9] = "rare"
    adata.obs["cls"] = rare
    with pytest.warns(fsc.FlashmmWarning, match=r"'rare': 9 cells, fewer than min_cells=10"):
        fsc.tl.lmm_de(adata, "~ score", "batch", groupby="cls", transform="log1p")
    assert adata.uns["lmm_de"]["groups"].tolist() == ["B", "NK"]
    fsc.tl.lmm_de(adata, "~ score", "batch", groupby="cls", transform="log1p", min_cells=9)
    assert adata.uns["lmm_de"]["groups"].tolist() == ["B", "NK", "rare"]
    with pytest.raises(ValueError, match=r"in no group of groupby='cls'.\n'B': \d+ cells, fewer than min_cells=500"):
        fsc.tl.lmm_de(adata, "~ score", "batch", groupby="cls", transform="log1p", min_cells=500)


def test_a_group_without_a_gene(adata):
    adata.X[(adata.obs["cls"] == "NK").to_numpy()] *= 0.001
    with pytest.warns(fsc.FlashmmWarning, match="'NK': no gene passes"):
        fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", min_counts=20)
    assert adata.uns["lmm_de"]["groups"].tolist() == ["B"]
    before = adata.copy()
    with pytest.raises(ValueError, match=r"No gene has min_fraction=0.0 and min_counts=1000000.0"):
        fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", min_counts=1e6)
    assert_unchanged(adata, before)


@pytest.mark.parametrize(
    "contrasts", [{"both": "`B|trt[T.B]` - `NK|trt[T.B]`", "each": "trt[T.B]"}, {"none": "trt[T.C]"}]
)
def test_contrasts_that_need_a_group_without_a_gene(adata, contrasts):
    """The fit is not lost, as only the pass tells that the group is left out."""
    adata.X[(adata.obs["cls"] == "NK").to_numpy()] *= 0.001
    adata.obs.loc[(adata.obs["cls"] == "NK") & (adata.obs["sam"] == "s2"), "trt"] = "C"
    with (
        pytest.warns(fsc.FlashmmWarning, match="'NK': no gene passes"),
        pytest.warns(fsc.FlashmmWarning, match="contrasts= are not tested, since a group was left out: .*unknown coef"),
    ):
        fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", min_counts=20, contrasts=contrasts)
    assert adata.uns["lmm_de"]["groups"].tolist() == ["B"]
    assert "lmm_de_contrasts" not in adata.uns


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"min_cells": 2.5}, TypeError, "min_cells=2.5 must be a whole number"),
        ({"min_cells": -1}, ValueError, "min_cells=-1 is too small"),
        ({"min_fraction": 1.1}, ValueError, "min_fraction=1.1 must be from 0 to 1"),
        ({"min_fraction": "5%"}, TypeError, "min_fraction='5%' must be a number. It is a share of the cells"),
        ({"min_counts": -1}, ValueError, "min_counts=-1 must be 0 or more"),
        ({"min_counts": np.nan}, ValueError, "min_counts=nan must be"),
    ],
)
def test_bad_options(adata, options, kind, words):
    before = adata.copy()
    with pytest.raises(kind, match=words):
        fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p", **options)
    assert_unchanged(adata, before)
