"""Real studies give the answers they are known for. The data lie beside the repository and are not part of it."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

import flashmm_sc as fsc
from flashmm_sc import FlashmmWarning

DATA = Path(__file__).parents[1].parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real data are not beside the repository")

INTERFERON = ["ISG15", "IFI6", "ISG20", "IFIT1", "IFIT3", "LY6E", "MX1"]
NUMBERS = ["coef", "se", "t_value", "df", "p_value"]


def logged(name):
    adata = ad.read_h5ad(DATA / f"{name}.h5ad")
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    return adata


@pytest.fixture(scope="module")
def kang():
    """8 donors, each with and without interferon-β."""
    return logged("kang_ifnb_8donors")


@pytest.fixture(scope="module")
def onek1k():
    """40 donors, of whom sex and age are known."""
    return logged("onek1k_40donors")


def interferon_by_cell_type(adata, **options):
    """Of fewer cells, the likelihood may be flat."""
    options |= {"groupby": "cell_type", "min_fraction": 0.05, "min_cells": 150}
    with pytest.warns(FlashmmWarning, match="fewer than min_cells=150"):
        fsc.tl.lmm_de(adata, "~ group_id", ["donor_id", "donor_id:group_id"], **options)
    return fsc.get.lmm_de_df(adata)


@pytest.fixture(scope="module")
def of_normalised_counts():
    adata = ad.read_h5ad(DATA / "kang_ifnb_8donors.h5ad")
    adata.X = adata.X.astype(np.float64)
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    return interferon_by_cell_type(adata)


@pytest.mark.parametrize("where", ["memory", "h5ad", "csc"])
def test_raw_counts_give_the_table_of_normalised_ones(of_normalised_counts, where, tmp_path):
    """In four lines, without a second copy of the matrix."""
    adata = ad.read_h5ad(DATA / "kang_ifnb_8donors.h5ad")
    if where == "h5ad":
        adata.write_h5ad(tmp_path / "counts.h5ad")
        adata = ad.read_h5ad(tmp_path / "counts.h5ad", backed="r")
    if where == "csc":
        adata.X = adata.X.tocsc()
    found = interferon_by_cell_type(adata, transform="log1p", size_factors="total").drop(columns="log2_ratio")
    pd.testing.assert_frame_equal(found, of_normalised_counts, rtol=1e-10, atol=1e-10)


def assert_fitted_genes_have_numbers(table):
    fitted = table["status"].isin(["ok", "boundary"])
    assert np.isfinite(table.loc[fitted, NUMBERS]).all(axis=None)
    assert table.loc[~fitted, NUMBERS].isna().all(axis=None)


@pytest.mark.parametrize("groupby", [None, "cell_type"])
def test_interferon_genes_lead(kang, groupby):
    fixed = "~ 0 + cell_type + cell_type:group_id" if groupby is None else "~ group_id"
    fsc.tl.lmm_de(kang, fixed, "donor_id", groupby=groupby)
    monocytes = "cell_type[CD14+ Monocytes]:group_id[T.stim]" if groupby is None else "CD14+ Monocytes|group_id[T.stim]"
    table = fsc.get.lmm_de_df(kang, monocytes).set_index("variable")
    found = table.loc[INTERFERON]
    assert (found["adj_p_value"] < 1e-50).all()
    assert (found["log_fc"] > 3).all()
    assert (table["t_value"].rank(ascending=False)[INTERFERON] <= 30).all()
    assert table["t_value"].idxmax() in {"ISG15", "APOBEC3A"}
    assert_fitted_genes_have_numbers(fsc.get.lmm_de_df(kang))


def test_a_contrast_of_cell_types(kang):
    """CXCL10 answers in monocytes far more than in B cells, ISG15 in both."""
    contrasts = {
        "monocytes - B cells": "cell_type[CD14+ Monocytes]:group_id[T.stim] - cell_type[B cells]:group_id[T.stim]",
        "both": "(cell_type[CD14+ Monocytes]:group_id[T.stim] + cell_type[B cells]:group_id[T.stim])/2",
    }
    fsc.tl.lmm_de(kang, "~ 0 + cell_type + cell_type:group_id", "donor_id", contrasts=contrasts)
    table = fsc.get.lmm_de_df(kang, key="lmm_de_contrasts").set_index(["contrast", "variable"])
    assert table.loc[("monocytes - B cells", "CXCL10"), "log_fc"] > 3
    assert table.loc[("monocytes - B cells", "CXCL10"), "adj_p_value"] < 1e-30
    assert table.loc[("both", "ISG15"), "log_fc"] > 3


def test_genes_of_few_cells_have_numbers(kang):
    cells = kang[kang.obs["cell_type"] == "B cells", ["BTN3A3", "SPIN1", "ISG15", "MX1"]].copy()
    fsc.tl.lmm_de(cells, "~ group_id", ["donor_id", "sample_id"])
    assert_fitted_genes_have_numbers(fsc.get.lmm_de_df(cells))


def test_genes_without_a_result_in_few_cells_are_explained_exactly(kang):
    """By a donor's mean, or a sample's: nothing is left of them, and the likelihood of their variances has no maximum."""
    cells = kang[kang.obs["cell_type"] == "Megakaryocytes"].copy()
    donors = pd.get_dummies(cells.obs["donor_id"]).to_numpy(float)
    W = np.column_stack([donors, cells.obs["group_id"] == cells.obs["group_id"].cat.categories[0]])
    Y = cells.X.toarray().astype(float)
    left = np.square(Y - W @ np.linalg.lstsq(W, Y, rcond=None)[0]).sum(axis=0) <= 1e-10 * np.square(Y).sum(axis=0)
    fsc.tl.lmm_de(cells, "~ group_id", "donor_id")
    status = fsc.get.lmm_de_df(cells, "group_id[T.stim]")["status"].to_numpy()
    np.testing.assert_array_equal(np.isin(status, ["no residual", "constant"]), left)
    assert (status == "no residual").sum() > 800
    assert (status != "not converged").all()


def test_effects_of_donors(onek1k):
    """Sex and age vary between donors only: 40 of them, whatever the number of cells, and no interferon to find."""
    onek1k.obs["sex"] = onek1k.obs["sex"].astype(str)
    fsc.tl.lmm_de(onek1k, "~ sex + age", "indiv", groupby="cell_type")
    table = fsc.get.lmm_de_df(onek1k, ["sex[T.2]", "age"])
    assert table.groupby("group")["variable"].nunique().to_dict() == dict.fromkeys(
        ["bmem", "cd4nc", "monoc", "mononc"], 1000
    )
    assert_fitted_genes_have_numbers(table)
    assert 10 < table["df"].median() <= 37
    assert (table["p_value"] < 0.05).mean() < 0.08
    with pytest.warns(FlashmmWarning, match="'sex', 'age' vary between the levels of 'indiv' only"):
        fsc.tl.lmm_de(onek1k, "~ sex + age", "indiv", groupby="cell_type", ddf="residual", key_added="naive")
    naive = fsc.get.lmm_de_df(onek1k, ["sex[T.2]", "age"], key="naive")
    assert (naive["df"].dropna() > 600).all()
    assert (naive["p_value"] < 1e-3).sum() > 1.5 * (table["p_value"] < 1e-3).sum()


def test_each_cell_type_is_fitted_by_itself(onek1k):
    fsc.tl.lmm_de(onek1k, "~ age", "indiv", groupby="cell_type")
    table = fsc.get.lmm_de_df(onek1k, "age").set_index("group")
    for group in ("bmem", "mononc"):
        alone = onek1k[onek1k.obs["cell_type"] == group].copy()
        fsc.tl.lmm_de(alone, "~ age", "indiv")
        expected = fsc.get.lmm_de_df(alone, "age")
        np.testing.assert_allclose(table.loc[group, NUMBERS], expected[NUMBERS], rtol=1e-8)


def test_crossed_random_effects():
    """Donors and plates vary; genes of the cell cycle follow its angle."""
    adata = ad.read_h5ad(DATA / "fucci_ipsc_6donors.h5ad")
    adata.obs["cosine"], adata.obs["sine"] = np.cos(adata.obs["theta"]), np.sin(adata.obs["theta"])
    fsc.tl.lmm_de(adata, "~ log(mol_hs) + cosine + sine", "chip_id + experiment", transform="log1p", ranef=True)
    table = fsc.get.lmm_de_df(adata, "cosine").set_index("variable")
    assert_fitted_genes_have_numbers(table)
    cell_cycle = {"CDK1": "ENSG00000170312", "TOP2A": "ENSG00000131747", "UBE2C": "ENSG00000175063"}
    assert (table["t_value"].rank(ascending=False)[list(cell_cycle.values())] <= 5).all()
    variance = fsc.get.variance_df(adata).pivot_table(index="variable", columns="component", values="variance")
    assert variance.columns.tolist() == ["chip_id", "experiment", "residual"]
    assert (variance > 0).mean().min() > 0.5
    assert adata.varm["lmm_de_ranef"].shape == (101, 6 + 16)
    assert adata.uns["lmm_de"]["ranef_names"][0].startswith("chip_id[")
