from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import reference_data as rd

import flashmm_sc as fsc


@pytest.fixture
def adata() -> ad.AnnData:
    obs = rd.obs().astype({"sam": "category", "cls": "category", "trt": "category"})
    return ad.AnnData(rd.counts(), obs=obs, var=pd.DataFrame(index=rd.genes()))


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
@pytest.mark.parametrize("suffix", [None, "h5ad", "zarr"])
def test_anova_of_lmertest_also_after_reading_back(adata, ddf, suffix, tmp_path):
    fsc.tl.lmm_de(adata, rd.ANOVA_FIXED, "sam", transform="log2p1")
    if suffix:
        getattr(adata, f"write_{suffix}")(tmp_path / f"a.{suffix}")
        adata = getattr(ad, f"read_{suffix}")(tmp_path / f"a.{suffix}")
    fsc.tl.lmm_anova(adata, ddf=ddf)
    table = fsc.get.lmm_de_df(adata, key="lmm_anova").query("variable == @adata.var_names[0]").set_index("contrast")
    theirs = rd.anova().query("ddf == @ddf").set_index("term")
    assert list(table.columns) == ["variable", "f_value", "df_num", "df", "p_value", "adj_p_value", "status"]
    np.testing.assert_allclose(table["f_value"], theirs.loc[table.index, "f"], rtol=1e-4)
    np.testing.assert_allclose(table["df"], theirs.loc[table.index, "den_df"], rtol=1e-4)


def test_terms_within_groups(adata):
    fsc.tl.lmm_de(adata, "~ score + trt", "sam", transform="log2p1", groupby="cls")
    fsc.tl.lmm_anova(adata)
    fsc.tl.lmm_test(adata, "trt[T.B]")
    F, t = fsc.get.lmm_de_df(adata, "trt", key="lmm_anova"), fsc.get.lmm_de_df(adata, key="lmm_test")
    assert list(F["group"].unique()) == ["1", "2", "3"]
    np.testing.assert_allclose(F["f_value"], t["t_value"] ** 2, rtol=1e-8)


def test_nothing_but_an_intercept(adata):
    fsc.tl.lmm_de(adata, "~ 1", "sam", transform="log2p1")
    with pytest.raises(ValueError, match="no term but the intercept"):
        fsc.tl.lmm_anova(adata)


def test_without_a_fit(adata):
    with pytest.raises(KeyError, match=r"Run fsc.tl.lmm_de first"):
        fsc.tl.lmm_anova(adata)
