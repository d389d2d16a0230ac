"""Strata are fitted as their cells are: the same numbers, advice and filters, from any container and any set of rows."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from containers import assert_unchanged
from same_results import assert_equal_results

import flashmm_sc as fsc

BY = ["sam", "cls", "trt", "batch"]
SIZED = {"transform": "log1p", "size_factors": "total", "target_sum": 30}
MODELS = {
    "one model": {"fixed": "~ cls + trt", "random": "sam"},
    "groups": {"fixed": "~ trt", "random": "sam", "groupby": "cls", "contrasts": {"half": "0.5 * trt[T.B]"}},
    "two terms": {"fixed": "~ 0 + cls + cls:trt", "random": ["sam", "batch"], "ranef": True},
    "covariate": {"fixed": "~ trt + scale(age) + poly(dose, 2)", "random": "sam", "ddf": "kenward-roger"},
    "spline": {"fixed": "~ trt + bs(dose, df=4)", "random": "sam", "method": "ML"},
    "filters": {"fixed": "~ trt", "random": "sam", "min_fraction": 0.5, "min_counts": 130, "groupby": "cls"},
    "question": {"fixed": "~ trt * dose", "random": "sam", "contrasts": fsc.contrasts.means("trt")},
}


@pytest.fixture
def study(adata):
    """With covariates of samples and of strata."""
    sample = adata.obs["sam"].str[1:].astype(int)
    adata.obs["age"] = 40.0 + sample**2
    adata.obs["dose"] = np.round(np.cos(sample + 5 * (adata.obs["cls"] == "B") + 9 * (adata.obs["batch"] == "x")), 3)
    return adata


def fitted(adata, **options):
    done = fsc.tl.lmm_de(adata, **options)
    return adata if done is None else done


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("how", [SIZED, {}], ids=["logarithms", "as they are"])
def test_same_results_as_from_the_cells(study, model, how):
    strata = fsc.pp.aggregate(study, BY, **how)
    before = strata.copy()
    assert_equal_results(fitted(strata, **model), fitted(study, **model, **how))
    fsc.tl.forget(strata, "lmm_de")
    assert_unchanged(strata, before)


@pytest.fixture(scope="module")
def many():
    """A study with genes enough to learn from."""
    return fsc.datasets.simu_rnaseq(n_genes=130, n_cells=900, n_samples=8, n_clusters=2, seed=3)


def test_moderated_tests_and_their_advice(many):
    strata = fsc.pp.aggregate(many, ["sam", "cls"], **SIZED)
    model = {"fixed": "~ trt", "random": "sam", "groupby": "cls", "moderate": True, "min_cells": 200}
    theirs = many.copy()
    fsc.tl.lmm_de(theirs, **model, **SIZED)
    fsc.tl.lmm_de(strata, **model)
    assert_equal_results(strata, theirs)
    assert list(strata.uns["lmm_de"]["notes"]) == list(theirs.uns["lmm_de"]["notes"])
    params = [one.uns["lmm_de"]["params"] for one in (strata, theirs)]
    for name in params[0].keys() - {"time"}:
        np.testing.assert_equal(params[0][name], params[1][name])
    for one in (strata, theirs):
        fsc.tl.lmm_test(one, {"mean": "(Intercept) + 0.5 * trt[T.B]"})
    np.testing.assert_allclose(strata.varm["lmm_test_pval"], theirs.varm["lmm_test_pval"], rtol=1e-9)


@pytest.mark.parametrize("transform", [None, "log1p"])
def test_the_advice_is_that_on_the_cells(study, transform):
    said = []
    for one, how in ((fsc.pp.aggregate(study, BY, transform=transform), {}), (study, {"transform": transform})):
        with pytest.warns(fsc.AdviceWarning, match=r"adata\.X seems to hold raw counts") as caught:
            fsc.tl.lmm_de(one, "~ trt", "sam", **how)
        said.append([str(warning.message) for warning in caught])
    assert said[0] == said[1]
    study.X = study.X.toarray() - 0.5
    with pytest.warns(fsc.AdviceWarning, match=r"adata\.X holds negative values"):
        fsc.tl.lmm_de(fsc.pp.aggregate(study, BY), "~ trt", "sam")


def test_base_of_logarithms_is_known(study):
    study.X = np.log1p(study.X.toarray())
    study.uns["log1p"] = {"base": None}
    strata = fitted(fsc.pp.aggregate(study, BY), **MODELS["groups"])
    assert_equal_results(strata, fitted(study, **MODELS["groups"]))
    assert strata.uns["lmm_de"]["params"]["log_base"] == np.e


def test_rows_that_are_left_out_relabelled_or_come_from_two_sites(study):
    model = MODELS["groups"]
    strata = fsc.pp.aggregate(study, BY, **SIZED)
    some = study.obs["sam"] != "s3"
    assert_equal_results(
        fitted(strata[strata.obs["sam"] != "s3"].copy(), **model), fitted(study[some].copy(), **model, **SIZED)
    )
    for one in (strata, study):
        swapped = one.obs["sam"].isin(["s0", "s1"])
        one.obs["trt"] = np.where(swapped, one.obs["trt"].map({"A": "B", "B": "A"}), one.obs["trt"])
    pooled = fitted(study.copy(), **model, **SIZED)
    assert_equal_results(fitted(strata.copy(), **model), pooled)
    first = study.obs["sam"].isin(["s0", "s1", "s5"])
    sites = [fsc.pp.aggregate(study[part].copy(), BY, **SIZED) for part in (first, ~first)]
    sites[0].uns["aggregate"]["version"] = "0.0.1"
    joint = ad.concat(sites, uns_merge="same")
    assert_equal_results(fitted(joint[::-1].copy(), **model), pooled)
    assert_equal_results(fitted(sites, **model), pooled)
    sites[0].obs["n_cells"] = sites[0].obs["n_cells"] * 0  # as if they had none
    assert_equal_results(fitted(sites, **model), fitted(study[~first].copy(), **model, **SIZED))


@pytest.mark.parametrize("how", ["h5ad", "zarr", "backed", "out", "read_lazy", "sparse"])
def test_strata_from_files(study, tmp_path, how):
    expected = fitted(study.copy(), **MODELS["filters"], **SIZED)
    path = tmp_path / ("sums.zarr" if how == "zarr" else "sums.h5ad")
    strata = fsc.pp.aggregate(study[:, ::-1], BY, out=path if how == "out" else None, **SIZED)
    if how == "sparse":
        strata.X = sp.csc_matrix(strata.X)
        strata.layers["sum_sq"] = sp.csr_matrix(strata.layers["sum_sq"])
    elif how != "out":
        (strata.write_zarr if how == "zarr" else strata.write_h5ad)(path)
        strata = [path]
    if how == "backed":
        strata = ad.read_h5ad(path, backed="r")
    elif how == "read_lazy":
        strata = ad.experimental.read_lazy(path)
    assert_equal_results(fitted(strata, **MODELS["filters"]), expected)


def test_sums_of_a_site_may_come_from_strata(study):
    design = fsc.Design.of(study.obs, "~ trt + scale(age)", "sam")
    ours, theirs = fsc.pp.aggregate(study, BY, **SIZED), study
    ours, theirs = fsc.summarize(ours, design), fsc.summarize(theirs, design, **SIZED)
    assert ours.origin == theirs.origin
    for name in ("XX", "XY", "ZX", "ZY", "yy", "n"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-11)


def without(name):
    def change(strata):
        strata = strata.copy()
        del (strata.layers if name in strata.layers else strata.obs)[name]
        return strata

    return change


def with_cells(values):
    def change(strata):
        strata = strata.copy()
        strata.obs["n_cells"] = strata.obs["n_cells"].astype(float)
        strata.obs.iloc[2, strata.obs.columns.get_loc("n_cells")] = values
        return strata

    return change


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (None, {"transform": "log1p"}, ValueError, "sums that take no 'transform'. Give it to fsc.pp.aggregate"),
        (None, {"layer": "sum_sq", "use_raw": True}, ValueError, "sums that take no 'layer', 'use_raw'"),
        (None, {"fixed": "~ score"}, KeyError, "'score' varied within the strata .aggregated by 'sam', 'cls', 'trt', "),
        (None, {"fixed": "~ trt + agee"}, KeyError, "uses 'agee', which is not a column of obs. Did you mean 'age'. The strata"),
        (None, {"random": "donor"}, KeyError, "have no more columns: add it to by= of fsc.pp.aggregate, or use the cells"),
        (without("sum_sq"), {}, ValueError, r"but layers\['sum_sq'\] is missing; aggregate the cells again"),
        (without("counts_over_size"), {}, ValueError, r"but layers\['counts_over_size'\] is missing"),
        (without("n_cells"), {}, ValueError, r"but obs\['n_cells'\] is missing"),
        (with_cells(-1), {}, ValueError, r"obs\['n_cells'\] is -1 in stratum 's0.B.A.z', which is not a number of cells"),
        (with_cells(1.5), {}, ValueError, r"obs\['n_cells'\] is 1.5 in stratum"),
        (with_cells(np.nan), {}, ValueError, r"obs\['n_cells'\] is nan in stratum"),
    ],
)  # fmt: skip
def test_what_is_refused(study, change, options, error, message):
    study.obs["trt"] = np.where(study.obs["sam"] < "s4", "A", "B")
    strata = fsc.pp.aggregate(study, BY, **SIZED)
    strata = change(strata) if change else strata
    before = strata.copy()
    with pytest.raises(error, match=message):
        fsc.tl.lmm_de(strata, **{"fixed": "~ trt", "random": "sam"} | options)
    assert_unchanged(strata, before)


def test_sums_that_do_not_go_together(study):
    one = fsc.pp.aggregate(study[:80].copy(), BY, **SIZED)
    other = fsc.pp.aggregate(study[80:].copy(), BY, **SIZED | {"target_sum": 50})
    other.obs_names = [f"{name} of another" for name in other.obs_names]
    with pytest.raises(
        ValueError, match=r"The sums of adata\[0\] and adata\[1\] don't go together: they are of 'log1p of"
    ):
        fsc.tl.lmm_de([one, other], "~ trt", "sam")
    with pytest.raises(
        ValueError, match=r"come from several calls of fsc\.pp.aggregate with different transforms or size"
    ):
        fsc.tl.lmm_de(ad.concat([one, other], uns_merge="same"), "~ trt", "sam")
    with pytest.raises(ValueError, match=r"is lost. Concatenate strata with ad.concat\(..., uns_merge='same'\)"):
        fsc.tl.lmm_de(ad.concat([one, other]), "~ trt", "sam")
    with pytest.raises(ValueError, match=r"adata\[1\] holds cells, but adata\[0\] strata; aggregate all of them"):
        fsc.tl.lmm_de([one, study], "~ trt", "sam")


def test_what_another_tool_aggregated_is_cells(study):
    study.layers["sum"] = 2 * study.X
    study.uns["aggregate"] = {"by": "sam"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fsc.AdviceWarning)
        assert fitted(study, fixed="~ trt", random="sam").uns["lmm_de"]["params"]["n_obs"] == 160


@pytest.mark.filterwarnings("ignore:Only .* genes are fitted")
@pytest.mark.parametrize("sizes", ["total", "age"])
def test_models_of_counts_are_those_of_cells(study, sizes):
    options = {"fixed": "~ trt + batch", "sample": "sam:trt:batch", "groupby": "cls", "min_cells": 0, "min_counts": 5}
    cells, strata = study.copy(), fsc.pp.aggregate(study, BY, size_factors=sizes)
    fsc.tl.nbmm_de(cells, size_factors=sizes, **options)
    fsc.tl.nbmm_de(strata, **options)
    for name in ("coef", "se", "pval", "theta", "status", "sums"):
        np.testing.assert_allclose(
            strata.varm[f"nbmm_de_{name}"], cells.varm[f"nbmm_de_{name}"], rtol=1e-10, atol=1e-12
        )


@pytest.mark.parametrize(
    ("how", "words"),
    [({}, "without the size factors"), ({"transform": "log1p"}, "logarithms, not counts")],
)
def test_models_of_counts_need_sums_of_counts_and_depth(study, how, words):
    strata = fsc.pp.aggregate(study, BY, **how)
    with pytest.raises(ValueError, match=words):
        fsc.tl.nbmm_de(strata, "~ trt", "sam:trt")
    assert not strata.varm
