"""From AnnData to results: the right numbers from every container, and nothing else changed."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import reference_data
import scanpy as sc
import scipy.sparse as sp
from containers import IN_MEMORY, READ, assert_same, assert_unchanged, warned_of_a_view

import flashmm_sc as fsc
from flashmm_sc import FlashmmWarning

FIXED, RANDOM = "~ 0 + cls + cls:trt", "sam"
NUMBERS = ("coef", "se", "t", "df", "pval", "pval_adj", "theta", "theta_se", "theta_cov", "loglik", "status")


def run(adata, fixed=FIXED, random=RANDOM, **options):
    return fsc.tl.lmm_de(adata, fixed, random, **({"transform": "log1p"} | options))


def assert_same_results(a, b, genes=slice(None), others=slice(None), rtol=1e-10, key="lmm_de"):
    """The same numbers for genes of one AnnData and others of another."""
    assert a.uns[key]["coef_names"].tolist() == b.uns[key]["coef_names"].tolist()
    assert a.uns[key]["theta_names"].tolist() == b.uns[key]["theta_names"].tolist()
    for name in NUMBERS:
        left, right = a.varm[f"{key}_{name}"][genes], b.varm[f"{key}_{name}"][others]
        np.testing.assert_allclose(left, right, rtol=rtol, atol=1e-300, err_msg=name)


@pytest.fixture(scope="module")
def expected(counts, cells, genes):
    """Results from dense values, to compare with."""
    adata = ad.AnnData(counts.copy(), cells.copy(), genes.copy())
    run(adata)
    return adata


# Numbers


def test_results_are_those_of_the_model_set_up_by_hand(adata, expected, counts, cells):
    treated, nk = (cells["trt"] == "B").to_numpy(), (cells["cls"] == "NK").to_numpy()
    X = np.column_stack([~nk, nk, ~nk & treated, nk & treated]).astype(float)
    Z = pd.get_dummies(cells["sam"]).to_numpy(float)
    fit = fsc.lmmfit(np.log1p(counts), X, Z, nonnegative=True, ddf="satterthwaite")
    assert expected.uns["lmm_de"]["coef_names"].tolist() == [
        "cls[B]",
        "cls[NK]",
        "cls[B]:trt[T.B]",
        "cls[NK]:trt[T.B]",
    ]
    for name, values in {"pval": fit.p, "loglik": fit.loglik.to_frame(), "theta_cov": fit.theta_cov}.items():
        np.testing.assert_allclose(expected.varm[f"lmm_de_{name}"], values, rtol=1e-10)
    for name in ("coef", "se", "t", "df", "theta", "theta_se"):
        np.testing.assert_allclose(expected.varm[f"lmm_de_{name}"], getattr(fit, name), rtol=1e-10)
    names = np.array(expected.uns["lmm_de"]["status_names"])[expected.varm["lmm_de_status"][:, 0]]
    assert names.tolist() == fit.status.tolist()
    assert {"ok", "boundary"} == set(names)


@pytest.mark.filterwarnings("ignore:.*p-values come out too small")
def test_results_are_those_of_flashmm(tmp_path):
    adata = ad.AnnData(reference_data.counts(), reference_data.obs())
    adata.var_names = reference_data.genes()
    run(adata, reference_data.FIXED, transform="log2p1", ddf="residual", nonnegative=False)
    reference = reference_data.load("sam")
    good = reference_data.converged(reference).to_numpy()
    assert good.sum() > 30
    for ours, name in {"coef": "coef", "se": "se", "t": "t", "pval": "p", "theta": "theta"}.items():
        np.testing.assert_allclose(adata.varm[f"lmm_de_{ours}"][good], reference[name][good], rtol=1e-6)


@pytest.mark.parametrize("container", READ, indirect=True)
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
def test_the_same_from_every_container_and_dtype(container, counts, cells, genes, expected, dtype):
    adata = container(counts.astype(dtype), cells, genes)
    with warned_of_a_view(adata):
        run(adata)
    assert_same_results(adata, expected)


@pytest.mark.parametrize("backed", [False, True], ids=["in memory", "backed"])
@pytest.mark.parametrize("where", [{"layer": "counts"}, {"use_raw": True}], ids=["layer", "raw"])
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_array])
def test_layers_and_raw(counts, cells, genes, expected, kind, where, backed, tmp_path):
    raw = ad.AnnData(kind(counts[:, ::-1]), cells, genes[::-1])  # other genes in another order
    adata = ad.AnnData(kind(np.full((160, 5), -9.0)), cells.copy(), genes[3:8].copy())
    adata.layers["counts"], adata.raw = kind(counts[:, 3:8]), raw
    if backed:
        adata.write_h5ad(tmp_path / "adata.h5ad")
        adata = ad.read_h5ad(tmp_path / "adata.h5ad", backed="r")
    run(adata, **where)
    for name in set(NUMBERS) - {"pval_adj"}:  # adjusted for fewer genes
        np.testing.assert_allclose(adata.varm[f"lmm_de_{name}"], expected.varm[f"lmm_de_{name}"][3:8], rtol=1e-10)


@pytest.mark.parametrize("options", [{"n_jobs": 1}, {"n_jobs": 3}, {"n_jobs": -1}, {"show_progress": True}], ids=str)
def test_any_number_of_threads(adata, expected, options):
    run(adata, **options)
    assert_same_results(adata, expected)


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix, np.asarray])
def test_any_size_of_blocks(adata, counts, expected, kind, monkeypatch):
    from flashmm_sc._results import study

    in_small_blocks = lambda *args, **options: accumulate(*args, **options, block_bytes=999)
    accumulate = study.accumulate
    monkeypatch.setattr(study, "accumulate", in_small_blocks)
    adata.X = kind(counts)
    run(adata)
    assert_same_results(adata, expected)


def test_values_logged_before_and_by_transform_give_the_same(adata, expected):
    sc.pp.log1p(adata)
    run(adata, transform=None)
    assert_same_results(adata, expected, rtol=1e-4)  # float32


def test_log2_scales_the_estimates(adata, expected):
    run(adata, transform="log2p1")
    np.testing.assert_allclose(adata.varm["lmm_de_coef"] * np.log(2), expected.varm["lmm_de_coef"], rtol=1e-9)
    np.testing.assert_allclose(adata.varm["lmm_de_pval"], expected.varm["lmm_de_pval"], rtol=1e-6)


# Groups and genes


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("random", ["sam", "sam + batch"])
def test_groupby_is_a_fit_of_each_subset(adata, random, n_jobs):
    run(adata, "~ trt + score", random, groupby="cls", n_jobs=n_jobs, ranef=True)
    K = 1 + len(random.split("+"))
    names = ["B|Intercept", "B|trt[T.B]", "B|score", "NK|Intercept", "NK|trt[T.B]", "NK|score"]
    assert adata.uns["lmm_de"]["coef_names"].tolist() == names
    for i, group in enumerate(["B", "NK"]):
        subset = adata[adata.obs["cls"] == group].copy()
        run(subset, "~ trt + score", random, ranef=True)
        for name in (*NUMBERS, "ranef"):
            both, alone = adata.varm[f"lmm_de_{name}"], subset.varm[f"lmm_de_{name}"]
            width = {"status": 1, "loglik": 1, "theta": K, "theta_se": K, "theta_cov": K}.get(name, alone.shape[1])
            assert both.shape[1] == 2 * width
            np.testing.assert_allclose(both[:, i * width : (i + 1) * width], alone, rtol=1e-10, err_msg=name)


def test_a_group_left_out_does_not_touch_the_others(adata):
    run(adata, "~ trt", groupby="cls", key_added="both")
    adata.obs["three"] = adata.obs["cls"].astype(str).where(adata.obs["trt"] == "B", "control CD4/CD8")
    adata.obs.loc[adata.obs["cls"] == "NK", "three"] = "NK"
    with pytest.warns(FlashmmWarning, match="2 of 3 groups") as caught:
        run(adata, "~ trt", groupby="three")
    [warned] = [one for one in caught if one.category is FlashmmWarning]
    assert all(name in str(warned.message) for name in ("'B'", "'control CD4/CD8'"))
    assert adata.uns["lmm_de"]["groups"].tolist() == ["NK"]
    np.testing.assert_allclose(adata.varm["lmm_de_pval"], adata.varm["both_pval"][:, 2:], rtol=1e-10)
    assert set(fsc.get.lmm_de_df(adata)["group"]) == {"NK"}


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e6])
@pytest.mark.parametrize("options", [{}, {"size_factors": "total"}, {"size_factors": "total", "target_sum": 100}])
def test_unusable_values_of_cells_left_out_are_not_looked_at(adata, options, value):
    adata.obs["three"] = np.where(np.arange(160) < 2, "unclear", adata.obs["cls"])
    adata.X[0, 3] = value
    with pytest.warns(FlashmmWarning, match="'unclear'"):
        run(adata, "~ trt", groupby="three", **options)
    assert np.isfinite(adata.varm["lmm_de_coef"]).all()


@pytest.mark.parametrize("mask", ["use", "array"])
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_masked_genes_are_left_out(adata, counts, expected, mask, kind):
    use = adata.var["use"].to_numpy()
    counts = counts.copy()
    counts[5, ~use] = np.nan  # no matter
    adata.X = kind(counts)
    run(adata, mask_var=mask if mask == "use" else use)
    for name in NUMBERS:
        found = adata.varm[f"lmm_de_{name}"]
        if name == "status":
            assert (found[~use] == list(adata.uns["lmm_de"]["status_names"]).index("masked")).all()
        else:
            assert np.isnan(found[~use]).all()
        if name != "pval_adj":  # adjusted for fewer genes
            np.testing.assert_allclose(found[use], expected.varm[f"lmm_de_{name}"][use], rtol=1e-10)
    alone = adata[:, use].copy()
    run(alone)
    np.testing.assert_allclose(adata.varm["lmm_de_pval_adj"][use], alone.varm["lmm_de_pval_adj"], rtol=1e-10)
    assert fsc.get.lmm_de_df(adata).groupby("variable", sort=False)["status"].first()[~use].eq("masked").all()


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_matrix])
@pytest.mark.parametrize("groupby", [None, "cls"])
def test_constant_genes_harm_no_others(counts, cells, genes, kind, groupby):
    fixed = FIXED if groupby is None else "~ trt"
    bad = np.array([0, 4, 7, 14])
    values = np.insert(counts, [0, 3, 5, 11], 0.0, axis=1)
    good = np.setdiff1d(np.arange(16), bad)
    values[:, 4] = 3.0
    values[:, 7] = 1e6
    adata = ad.AnnData(kind(values), cells.copy())
    run(adata, fixed, groupby=groupby, n_jobs=2)
    alone = ad.AnnData(kind(counts), cells.copy(), genes.copy())
    run(alone, fixed, groupby=groupby, n_jobs=2)
    assert_same_results(adata, alone, genes=good, rtol=1e-12)
    assert (adata.varm["lmm_de_status"][bad] == list(adata.uns["lmm_de"]["status_names"]).index("constant")).all()
    for name in ("coef", "se", "t", "df", "pval", "pval_adj", "theta", "theta_se", "theta_cov", "loglik"):
        assert np.isnan(adata.varm[f"lmm_de_{name}"][bad]).all()


def test_a_gene_silent_in_one_group_is_fitted_in_the_other(adata, counts):
    run(adata, "~ trt", groupby="cls", key_added="before")
    counts = counts.copy()
    counts[(adata.obs["cls"] == "B").to_numpy(), 4] = 0
    adata.X = sp.csr_matrix(counts)
    run(adata, "~ trt", groupby="cls")
    assert np.array(adata.uns["lmm_de"]["status_names"])[adata.varm["lmm_de_status"][4]][0] == "constant"
    assert np.isnan(adata.varm["lmm_de_coef"][4, :2]).all()
    np.testing.assert_allclose(adata.varm["lmm_de_coef"][:, 2:], adata.varm["before_coef"][:, 2:], rtol=1e-10)


def test_genes_that_do_not_converge_have_no_numbers(adata):
    run(adata, max_iter=1)
    table = fsc.get.lmm_de_df(adata)
    late = table["status"] == "not converged"
    assert late.any()
    assert table.loc[late, ["coef", "se", "p_value"]].isna().all(axis=None)


# What is stored


def test_copy(adata):
    before = adata.copy()
    out = run(adata, copy=True)
    assert_unchanged(adata, before)
    assert run(adata) is None
    assert_same_results(adata, out)
    assert_same(out.X, before.X)


@pytest.mark.parametrize("name", ["csr_matrix", "csr non-canonical", "csc non-canonical", "F order"])
def test_only_results_are_added(counts, cells, genes, name):
    adata = ad.AnnData(IN_MEMORY[name](counts), cells.copy(), genes.copy(), uns={"mine": {"a": 1}})
    adata.varm["mine"] = np.ones((12, 2))
    before = adata.copy()
    run(adata, contrasts={"d": "cls[NK]:trt[T.B] - cls[B]:trt[T.B]"}, ranef=True, groupby=None)
    assert {key for key in adata.uns if not key.startswith("lmm_de")} == {"mine"}
    for key in [key for key in adata.varm if key.startswith("lmm_de")]:
        del adata.varm[key]
    for key in [key for key in adata.uns if key.startswith("lmm_de")]:
        del adata.uns[key]
    assert_unchanged(adata, before)


def test_a_view_becomes_an_anndata_and_its_parent_stays(adata):
    run(adata, "~ score")
    before = adata.copy()
    view = adata[:, 2:7]
    with warned_of_a_view(view):
        run(view)
    assert not view.is_view
    assert view.varm["lmm_de_coef"].shape == (5, 4)
    assert_unchanged(adata, before)


def test_a_backed_file_is_not_written_to(adata, tmp_path, expected):
    path = tmp_path / "adata.h5ad"
    adata.write_h5ad(path)
    before = path.read_bytes()
    backed = ad.read_h5ad(path, backed="r")
    run(backed)
    backed.file.close()
    assert_same_results(backed, expected)
    assert path.read_bytes() == before


def test_keys_of_results_stand_side_by_side(adata, expected):
    run(adata)
    run(adata, "~ trt", key_added="simple")
    assert_same_results(adata, expected)
    assert adata.uns["simple"]["coef_names"].tolist() == ["Intercept", "trt[T.B]"]
    assert fsc.get.lmm_de_df(adata, key="simple").shape == (24, 11)


def test_a_second_run_leaves_nothing_stale(adata):
    run(adata, groupby="cls", fixed="~ trt", ranef=True)
    run(adata, "~ 1", "sam + batch")
    fresh = adata.copy()
    for key in list(fresh.varm):
        del fresh.varm[key]
    fresh.uns = {}
    run(fresh, "~ 1", "sam + batch")
    for one in (adata, fresh):
        del one.uns["lmm_de"]["params"]["time"]
    assert_unchanged(adata, fresh)


def test_a_second_run_removes_the_contrasts_of_the_first(adata):
    run(adata, contrasts="cls[NK]:trt[T.B]")
    run(adata, "~ score")
    assert not [key for key in (*adata.varm, *adata.uns) if "contrasts" in key]


def test_contrasts_are_tested_and_stored(adata):
    contrasts = {"difference": "cls[NK]:trt[T.B] - cls[B]:trt[T.B]", "mean": np.array([0, 0, 0.5, 0.5])}
    run(adata, contrasts=contrasts, corr_method="bonferroni")
    fsc.tl.lmm_test(adata, contrasts, corr_method="bonferroni")
    assert adata.uns["lmm_de_contrasts"]["coef_names"].tolist() == ["difference", "mean"]
    for name in ("coef", "se", "t", "df", "pval", "pval_adj", "status"):
        assert_same(adata.varm[f"lmm_de_contrasts_{name}"], adata.varm[f"lmm_test_{name}"])


def test_random_effects_are_stored_when_asked(adata, counts, cells):
    run(adata, "~ trt", "sam + batch", ranef=True)
    X = np.column_stack([np.ones(160), cells["trt"] == "B"]).astype(float)
    Z = np.hstack([pd.get_dummies(cells[name]).to_numpy(float) for name in ("sam", "batch")])
    fit = fsc.lmmfit(np.log1p(counts), X, Z, (8, 3), nonnegative=True)
    np.testing.assert_allclose(adata.varm["lmm_de_ranef"], fit.ranef(), rtol=1e-8, atol=1e-12)
    assert adata.uns["lmm_de"]["ranef_names"].tolist()[7:9] == ["sam[s7]", "batch[x]"]
