from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

import flashmm_sc as fsc


def fitted(adata, random="sam + sam:cls", **options):
    options = {"fixed": "~ 0 + cls + cls:trt", "transform": "log1p", "ranef": True} | options
    fsc.tl.lmm_de(adata, random=random, **options)
    return adata


def test_variance_df(adata):
    fitted(adata)
    table = fsc.get.variance_df(adata)
    assert list(table) == ["variable", "component", "variance", "se"]
    wide = table.pivot(index="variable", columns="component", values="variance").loc[adata.var_names]
    np.testing.assert_array_equal(wide[["sam", "sam:cls", "residual"]], adata.varm["lmm_de_theta"])


def test_variance_df_by_group(adata):
    fitted(adata, "sam", fixed="~ trt", groupby="cls")
    table = fsc.get.variance_df(adata)
    assert list(table)[:3] == ["variable", "component", "group"]
    assert table.groupby(["group", "component"], sort=False).size().index.to_list() == [
        ("B", "sam"),
        ("B", "residual"),
        ("NK", "sam"),
        ("NK", "residual"),
    ]
    only = fsc.get.variance_df(adata, groups="NK")
    assert set(only["group"]) == {"NK"}
    np.testing.assert_array_equal(only["se"], adata.varm["lmm_de_theta_se"][:, 2:].T.reshape(-1))
    with pytest.raises(KeyError, match="groups: the result 'lmm_de' has no 'nk'"):
        fsc.get.variance_df(adata, groups="nk")


def test_ranef_df(adata):
    fitted(adata)
    table = fsc.get.ranef_df(adata)
    assert list(table) == ["variable", "component", "level", "value"]
    np.testing.assert_array_equal(table["value"], adata.varm["lmm_de_ranef"].T.reshape(-1))
    levels = table.drop_duplicates(["component", "level"])
    full = (levels["component"] + "[" + levels["level"] + "]").to_list()
    assert full == list(adata.uns["lmm_de"]["ranef_names"])
    sam = fsc.get.ranef_df(adata, "sam")
    assert sam["level"].unique().tolist() == [f"s{k}" for k in range(8)]
    one = sam[(sam["variable"] == "gene3") & (sam["level"] == "s5")]["value"].item()
    assert one == adata.varm["lmm_de_ranef"][3, 5]


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_ranef_df_with_odd_names_by_group_from_a_file(adata, tmp_path, suffix):
    adata.obs["sam"] = adata.obs["sam"].replace({"s0": "CD4/CD8", "s1": "a[b]|c"})
    fitted(adata, {"donor[1]|x": "sam"}, fixed="~ trt", groupby="cls")
    if suffix == "h5ad":
        adata.write_h5ad(tmp_path / "adata.h5ad")
        again = ad.read_h5ad(tmp_path / "adata.h5ad")
    else:
        adata.write_zarr(tmp_path / "adata.zarr")
        again = ad.read_zarr(tmp_path / "adata.zarr")
    table = fsc.get.ranef_df(again, groups=["NK"])
    assert list(table) == ["variable", "component", "level", "group", "value"]
    assert set(table["component"]) == {"donor[1]|x"}
    assert table["level"].unique().tolist() == ["CD4/CD8", "a[b]|c", *(f"s{k}" for k in range(2, 8))]
    np.testing.assert_array_equal(table["value"], adata.varm["lmm_de_ranef"][:, 8:].T.reshape(-1))


def test_ranef_that_was_not_stored(adata):
    fitted(adata, ranef=False)
    with pytest.raises(KeyError, match=r"run fsc\.tl\.lmm_de again with ranef=True"):
        fsc.get.ranef_df(adata)


def test_what_there_is_not(adata):
    fitted(adata)
    with pytest.raises(KeyError, match="components: the result 'lmm_de' has no 'donor'"):
        fsc.get.ranef_df(adata, "donor")
    fsc.tl.lmm_test(adata, "cls[B]")
    for read in (fsc.get.variance_df, fsc.get.ranef_df):
        with pytest.raises(KeyError, match="holds tests, not a fit"):
            read(adata, key="lmm_test")
    with pytest.raises(KeyError, match="holds no tests of variance components"):
        fsc.get.variance_test_df(adata, key="lmm_test")
    with pytest.raises(KeyError, match="holds no result"):
        fsc.get.variance_test_df(adata)
