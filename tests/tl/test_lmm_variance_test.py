from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from scipy.stats import false_discovery_control, norm

import flashmm_sc as fsc

FIXED = "~ 0 + cls + cls:trt"


def fitted(adata, random=("sam", "batch"), key="lmm_de", **options):
    fsc.tl.lmm_de(adata, options.pop("fixed", FIXED), list(random), transform="log1p", key_added=key, **options)
    return adata


@pytest.fixture(scope="module", params=["h5ad", "zarr"])
def read_back(request, tmp_path_factory):
    """Write an AnnData and read it again."""
    folder = tmp_path_factory.mktemp("stored")

    def through(adata):
        path = folder / f"adata.{request.param}"
        if request.param == "h5ad":
            adata.write_h5ad(path)
            return ad.read_h5ad(path)
        adata.write_zarr(path)
        return ad.read_zarr(path)

    return through


@pytest.mark.parametrize("nonnegative", [True, False])
def test_z_tests_are_estimates_over_standard_errors(adata, nonnegative):
    fitted(adata, nonnegative=nonnegative)
    fsc.tl.lmm_variance_test(adata)
    z = (adata.varm["lmm_de_theta"] / adata.varm["lmm_de_theta_se"])[:, :2]
    np.testing.assert_array_equal(adata.varm["lmm_variance_test_stat"], z)
    np.testing.assert_allclose(adata.varm["lmm_variance_test_pval"], norm.sf(z))
    np.testing.assert_allclose(adata.varm["lmm_variance_test_pval_adj"], false_discovery_control(norm.sf(z), axis=0))
    assert list(adata.uns["lmm_variance_test"]["coef_names"]) == ["sam", "batch"]


@pytest.mark.parametrize("options", [{}, {"nonnegative": False}, {"method": "ML"}])
def test_likelihood_ratio_tests_are_those_of_lrt(adata, options):
    fitted(adata, **options)
    fitted(adata, ["sam"], "without", **options)
    fsc.tl.lmm_variance_test(adata, null="without")

    values = np.log1p(adata.X.toarray().astype(float))
    table = lambda columns: adata.obs[columns].to_numpy()[:, None] == np.unique(adata.obs[columns])
    cls, treated = table("cls"), (adata.obs["trt"] == "B").to_numpy()[:, None]
    Z = np.hstack([table("sam"), table("batch")]).astype(float)
    fit = fsc.lmmfit(
        values, np.hstack([cls, cls & treated]).astype(float), Z, [8, 3], **{"nonnegative": True} | options
    )
    expected = fsc.lrt(fit, fit.refit(drop_components="var2"))
    for name, suffix in {"stat": "stat", "df": "df", "p": "pval"}.items():
        ours = adata.varm[f"lmm_variance_test_{suffix}"]
        np.testing.assert_allclose(ours[:, 0], expected[name], rtol=1e-6, atol=1e-8)
    assert list(adata.uns["lmm_variance_test"]["coef_names"]) == ["batch"]


def test_components_tested_together(adata):
    fitted(adata, ["sam", "sam:cls", "batch"])
    fitted(adata, ["sam:cls"], "without")
    fsc.tl.lmm_variance_test(adata, null="without", corr_method="bonferroni")
    table = fsc.get.variance_test_df(adata)
    assert set(table["component"]) == {"sam + batch"}
    assert set(table["df"]) == {2.0}
    np.testing.assert_allclose(table["adj_p_value"], np.minimum(12 * table["p_value"], 1))


@pytest.mark.parametrize("null", [None, "without"])
def test_groups_are_tested_each_on_its_own(adata, null):
    fitted(adata, fixed="~ trt", groupby="cls")
    fitted(adata, ["sam"], "without", fixed="~ trt", groupby="cls")
    fsc.tl.lmm_variance_test(adata, null=null)
    table = fsc.get.variance_test_df(adata)
    for group in ("B", "NK"):
        alone = adata[adata.obs["cls"] == group].copy()
        fitted(alone, fixed="~ trt")
        fitted(alone, ["sam"], "without", fixed="~ trt")
        fsc.tl.lmm_variance_test(alone, null=null)
        expected = fsc.get.variance_test_df(alone)
        ours = table[table["group"] == group].drop(columns="group").reset_index(drop=True)
        assert ours["component"].tolist() == expected["component"].tolist()
        numbers = ["stat", "p_value", "adj_p_value"]
        np.testing.assert_allclose(ours[numbers], expected[numbers], rtol=1e-6, atol=1e-8)


def test_results_survive_files(adata, read_back):
    fitted(adata, fixed="~ trt", groupby="cls", mask_var="use", layer=None)
    fsc.tl.lmm_variance_test(adata, key_added="z")
    again = read_back(adata)
    fitted(again, ["sam"], "without", fixed="~ trt", groupby="cls", mask_var="use")  # one from the file, one not
    fsc.tl.lmm_variance_test(again, key_added="z2")
    fsc.tl.lmm_variance_test(again, null="without")
    for name in ("stat", "pval", "pval_adj", "status"):
        np.testing.assert_array_equal(again.varm[f"z_{name}"], adata.varm[f"z_{name}"])
        np.testing.assert_array_equal(again.varm[f"z2_{name}"], adata.varm[f"z_{name}"])
    before = fsc.get.variance_test_df(again)
    after = fsc.get.variance_test_df(read_back(again))
    assert after["component"].tolist() == before["component"].tolist()
    numbers = ["stat", "df", "p_value", "adj_p_value"]
    np.testing.assert_array_equal(after[numbers], before[numbers])
    masked = np.tile(~adata.var["use"].to_numpy(), 2)
    assert (before["status"] == "masked").tolist() == masked.tolist()
    assert before["p_value"].isna().tolist() == masked.tolist()


def test_a_new_test_replaces_the_old(adata):
    fitted(adata)
    fitted(adata, ["sam"], "without")
    fsc.tl.lmm_variance_test(adata, null="without")
    fsc.tl.lmm_variance_test(adata)
    assert "lmm_variance_test_df" not in adata.varm
    assert "null" not in adata.uns["lmm_variance_test"]["params"]
    fsc.tl.lmm_test(adata, "cls[B]", key_added="lmm_variance_test")
    assert "lmm_variance_test_stat" not in adata.varm


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fixed": "~ 0 + cls"}, "fixed is '~ 0 \\+ cls \\+ cls:trt' in the fit 'lmm_de' and '~ 0 \\+ cls' in 'other'"),
        ({"method": "ML"}, "method is 'REML'"),
        ({"nonnegative": False}, "nonnegative is True"),
        ({"mask_var": "use"}, "different genes"),
        ({"random": ["sam", "batch"]}, "some, not all"),
        ({"random": ["sam:cls"]}, "it has 'sam:cls'"),
        ({"random": [{"batch": "sam"}]}, "columns of obs changed"),
    ],
)
def test_fits_that_do_not_compare(adata, options, message):
    fitted(adata)
    fitted(adata, **{"random": ["sam"]} | options, key="other")
    before = set(adata.varm)
    with pytest.raises(ValueError, match=message):
        fsc.tl.lmm_variance_test(adata, null="other")
    assert set(adata.varm) == before


def test_cells_that_changed_between_fits(adata):
    fitted(adata)
    adata.obs["trt"] = np.roll(adata.obs["trt"], 1)
    adata.obs["cls"] = np.roll(adata.obs["cls"], 1)
    adata.obs.loc["cell0", "cls"] = "NK" if adata.obs.loc["cell0", "cls"] == "B" else "B"
    fitted(adata, ["sam"], "other")
    with pytest.raises(ValueError, match="columns of obs changed"):
        fsc.tl.lmm_variance_test(adata, null="other")


def test_other_groups(adata):
    fitted(adata, fixed="~ trt", groupby="cls")
    adata.obs["cls"] = adata.obs["cls"].replace("NK", "T")
    fitted(adata, ["sam"], "other", fixed="~ trt", groupby="cls")
    with pytest.raises(ValueError, match="different groups: 'B', 'NK' and 'B', 'T'"):
        fsc.tl.lmm_variance_test(adata, null="other")


def test_wrong_keys_and_options(adata):
    with pytest.raises(KeyError, match=r"Run fsc.tl.lmm_de first"):
        fsc.tl.lmm_variance_test(adata)
    fitted(adata)
    with pytest.raises(KeyError, match="Did you mean 'lmm_de'"):
        fsc.tl.lmm_variance_test(adata, null="lmm_d")
    with pytest.raises(ValueError, match="would overwrite"):
        fsc.tl.lmm_variance_test(adata, key_added="lmm_de")
    with pytest.raises(ValueError, match="corr_method='fdr' is unknown"):
        fsc.tl.lmm_variance_test(adata, corr_method="fdr")
    fsc.tl.lmm_test(adata, "cls[B]")
    with pytest.raises(KeyError, match="holds tests, not a fit"):
        fsc.tl.lmm_variance_test(adata, key="lmm_test")
