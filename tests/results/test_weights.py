"""Precision weights: lme4's numbers, the model of scaled rows, and the same from any container, order and strata."""

from __future__ import annotations

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import reference_data as rd
import scipy.sparse as sp
from containers import READ, assert_unchanged
from same_results import assert_equal_results, results

import flashmm_sc as fsc
from flashmm_sc._results import shared_rows
from flashmm_sc._results.result import Result

FIXED = "~ trt * score"
RANDOM = {"donor": "donor", "donor_batch": ["donor", "batch"]}
DESIGNS = list(RANDOM)
GENES = [f"y{j}" for j in range(1, 6)]
BY = ["sam", "cls", "trt", "batch"]
SIZED = {"transform": "log1p", "size_factors": "total", "target_sum": 30}


# R's numbers


@pytest.fixture(scope="module")
def theirs():
    table = pd.read_csv(rd.HERE / "weights.csv", index_col=["design", "table", "gene", "name"]).sort_index()
    return lambda design, name: table["value"].loc[design, name].unstack()  # noqa: PD010, two levels of an index


@pytest.fixture
def values():
    """The cells of R's fits."""
    data = pd.read_csv(rd.HERE / "weights.data.csv", index_col=False)
    data.index = data.index.astype(str)
    return ad.AnnData(data[GENES].to_numpy(), data.drop(columns=GENES), pd.DataFrame(index=GENES))


def fitted(adata, design, **options):
    options = {"fixed": FIXED, "weights": "w", "n_jobs": 1} | options
    fsc.tl.lmm_de(adata, random=RANDOM[design], **options)
    return adata


def of(adata, name, key="lmm_de", names="coef_names"):
    return pd.DataFrame(adata.varm[f"{key}_{name}"], adata.var_names, list(adata.uns[key][names]))


def close(ours, theirs, rtol=1e-6, atol=1e-6):
    ours, theirs = ours.rename(columns={"Intercept": "(Intercept)", "residual": "Residual"}), theirs
    np.testing.assert_allclose(ours[list(theirs)], theirs, rtol=rtol, atol=atol)


@pytest.mark.parametrize("design", DESIGNS)
def test_tests_variances_and_likelihood_are_lme4s(values, theirs, design):
    fitted(values, design, ranef=True)
    for name, expected in {"coef": "coef", "se": "se", "t": "t", "pval": "p"}.items():
        close(of(values, name), theirs(design, expected))
    close(of(values, "df"), theirs(design, "df"), rtol=1e-4)
    close(of(values, "theta", names="theta_names"), theirs(design, "theta"))
    loglik = theirs(design, "loglik")
    np.testing.assert_allclose(values.varm["lmm_de_loglik"][:, 0], loglik["REML"], rtol=0, atol=1e-6)
    ranef = of(values, "ranef", names="ranef_names").iloc[:, :12]
    np.testing.assert_allclose(ranef, theirs(design, "ranef"), atol=1e-5)
    fitted(values, design, method="ML", key_added="ml")
    np.testing.assert_allclose(values.varm["ml_loglik"][:, 0], loglik["ML"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize(("ddf", "prefix"), [("satterthwaite", ""), ("kenward-roger", "kr_")])
def test_degrees_of_freedom_and_joint_tests_are_rs(values, theirs, design, ddf, prefix):
    fitted(values, design, ddf=ddf)
    if prefix:
        close(of(values, "se"), theirs(design, "kr_se"))
        close(of(values, "df"), theirs(design, "kr_df"), rtol=1e-4)
        close(of(values, "pval"), theirs(design, "kr_p"))
    fsc.tl.lmm_test(values, ["trt", "trt:score"], joint=True)
    F = theirs(design, f"{prefix}F")
    for name, expected, rtol in (("F", "F value", 1e-5), ("df", "DenDF", 1e-4), ("pval", "Pr(>F)", 1e-5)):
        np.testing.assert_allclose(values.varm[f"lmm_test_{name}"][:, 0], F[expected], rtol=rtol)


def test_variance_tests_are_of_lme4s_likelihoods(values, theirs):
    for design in DESIGNS:
        fitted(values, design, key_added=design)
    fsc.tl.lmm_variance_test(values, key="donor_batch", null="donor")
    loglik = {design: theirs(design, "loglik") for design in DESIGNS}
    expected = 2 * (loglik["donor_batch"]["REML"] - loglik["donor"]["REML"])
    np.testing.assert_allclose(values.varm["lmm_variance_test_stat"][:, 0], expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="weights is 'w' in the fit 'donor_batch' and None in 'plain'"):
        fsc.tl.lmm_variance_test(
            fitted(values, "donor", weights=None, key_added="plain"), key="donor_batch", null="plain"
        )
    obs = values.obs
    X = np.column_stack([np.ones(len(obs)), obs["trt"], obs["score"], obs["trt"] * obs["score"]])
    Z = pd.get_dummies(obs["donor"]).to_numpy(float)
    fit = fsc.lmmfit(values.X, X, Z, weights=obs["w"], method="REML", nonnegative=True)
    stat = 2 * (loglik["donor"]["REML"] - loglik["donor"]["lm"])
    np.testing.assert_allclose(fsc.lrt(fit)["stat"], stat, rtol=1e-5)


# Arrays


@pytest.fixture
def arrays():
    """Designs, responses of 120 genes, and weights; a random intercept and a slope."""
    rng = np.random.default_rng(4)
    sample = rng.integers(0, 9, 150)
    x = rng.normal(size=150)
    X, Z = np.column_stack([np.ones(150), sample % 2, x]), np.eye(9)[sample]
    Z = np.hstack([Z, Z * x[:, None]])
    Y = rng.normal(size=(150, 120)) + Z @ rng.normal(size=(18, 120)) * rng.uniform(0, 1, 120)
    return X, Y, Z, rng.gamma(2, 1, 150)


@pytest.mark.parametrize(
    "options",
    [
        {"nonnegative": True, "ddf": "satterthwaite"},
        {"method": "ML"},
        {"ddf": "kenward-roger", "nonnegative": True},
        {"moderate": True},
    ],
    ids=str,
)
def test_the_fit_is_that_of_rows_times_the_root_of_their_weight(arrays, options):
    X, Y, Z, w = arrays
    root = np.sqrt(w)[:, None]
    fit = fsc.lmmfit(Y, X, Z, [9, 9], weights=w, **options)
    scaled = fsc.lmmfit(root * Y, root * X, root * Z, [9, 9], **options)
    for name in ("coef", "se", "df", "p", "theta", "theta_se"):
        np.testing.assert_allclose(getattr(fit, name), getattr(scaled, name), rtol=1e-7, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(fit.loglik, scaled.loglik + np.log(w).sum() / 2, rtol=1e-10)
    np.testing.assert_allclose(fit.cov(), scaled.cov(), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(fit.ranef(), scaled.ranef(), rtol=1e-7, atol=1e-8)


def test_precision_weights_are_not_numbers_of_cells(arrays):
    X, Y, Z, _ = arrays
    times = np.random.default_rng(0).integers(1, 4, 150)
    weighted = fsc.sslmm(X, Y, Z, [9, 9], weights=times)
    repeated = fsc.sslmm(*(np.repeat(one, times, axis=0) for one in (X, Y, Z)), [9, 9])
    for name in ("XX", "XY", "ZX", "ZY", "yy"):
        np.testing.assert_allclose(getattr(weighted, name), getattr(repeated, name), rtol=1e-10, atol=1e-10)
    assert (weighted.n, repeated.n) == (150, times.sum())
    assert (weighted.weight_sum, repeated.weight_sum) == (times.sum(), times.sum())
    assert repeated.log_weight_sum == 0
    np.testing.assert_allclose(weighted.log_weight_sum, np.log(times).sum())
    ours, theirs = fsc.lmm(weighted), fsc.lmm(repeated)
    assert (ours.theta["residual"] > theirs.theta["residual"]).all()


@pytest.mark.parametrize("c", [1e-3, 7.0])
def test_weights_times_a_constant_scale_the_residual_variance(arrays, c):
    X, Y, Z, w = arrays
    one, other = (fsc.lmmfit(Y, X, Z, [9, 9], weights=k * w, nonnegative=True, ddf="satterthwaite") for k in (1, c))
    for name in ("coef", "se", "df", "p", "loglik"):
        np.testing.assert_allclose(getattr(other, name), getattr(one, name), rtol=1e-6, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(other.theta["residual"], c * one.theta["residual"], rtol=1e-6)
    np.testing.assert_allclose(other.theta.iloc[:, :2], one.theta.iloc[:, :2], rtol=1e-5, atol=1e-8)
    shares = [fsc.variance_explained(fit) for fit in (one, other)]  # the intercept is told from a slope
    np.testing.assert_allclose(*shares, rtol=1e-5, atol=1e-8)


def test_shares_of_variance_by_their_definition(arrays):
    X, Y, Z, w = arrays
    fit = fsc.lmmfit(Y[:, :5], X, Z[:, :9], weights=w, nonnegative=True)
    spread = lambda a: w @ (a - w @ a / w.sum()) ** 2 / (len(w) - 1)
    parts = np.column_stack(
        [spread(X @ fit.coef.to_numpy().T), fit.theta["var1"] * spread(Z[:, :9]).sum(), fit.theta["residual"]]
    )
    shares = fsc.variance_explained(fit, {"fixed": [1, 2]})
    np.testing.assert_allclose(shares, parts / parts.sum(axis=1, keepdims=True), rtol=1e-10)


# Any container, order and way of summing


@pytest.fixture
def study(adata):
    rng = np.random.default_rng(8)
    adata.obs["w"] = rng.gamma(2, 1, adata.n_obs)
    return adata


OPTIONS = {
    "one model": {"fixed": "~ cls + trt", "random": "sam", "transform": "log1p"},
    "groups": {"fixed": "~ trt", "random": "sam", "groupby": "cls", **SIZED},
    "filters": {"fixed": "~ 0 + cls + cls:trt", "random": ["sam", "batch"], "min_fraction": 0.5, "min_counts": 130},
}


def run(adata, **options):
    done = fsc.tl.lmm_de(adata, **({"weights": "w", "n_jobs": 1} | options))
    return adata if done is None else done


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_weights_at_hand(study, options):
    expected = run(study.copy(), **options)
    same = run(study.copy(), **options | {"weights": study.obs["w"].to_numpy()})
    assert same.varm.keys() == expected.varm.keys()
    for name, found in same.varm.items():
        np.testing.assert_array_equal(found, expected.varm[name])


@pytest.mark.parametrize("container", READ, indirect=True)
def test_any_container(study, container):
    adata = container(study.X.toarray().astype(int), study.obs, study.var)
    adata = adata.copy() if adata.is_view else adata
    adata.obs["w"] = study.obs["w"].to_numpy()
    for options in OPTIONS.values():
        assert_equal_results(run(adata, **options), run(study, **options))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("chunks", [(50, 12), (160, 5)], ids=["rows", "columns"])
def test_dask_lists_and_any_order(study, options, chunks):
    expected = run(study.copy(), **options)
    kind = sp.csr_matrix if chunks[1] == 12 else sp.csc_matrix
    lazy = study.copy()
    array = da.from_array(lazy.X.toarray(), chunks=chunks)
    lazy.X = array.map_blocks(kind, dtype=np.float32, meta=kind(np.zeros((0, 0), np.float32)))
    assert_equal_results(run(lazy, **options), expected)
    order = np.random.default_rng(0).permutation(160)
    assert_equal_results(run(study[order].copy(), **options), expected)
    parts = [study[order[:70]].copy(), study[order[70:]].copy()[:, ::-1].copy()]
    joint = run(parts, **options)
    assert_equal_results(joint, expected)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_weights_of_one_change_nothing(study, options):
    study.obs["w"] = 1
    one, other = run(study.copy(), **options), run(study.copy(), **options, weights=None)
    assert one.varm.keys() == other.varm.keys()
    for name, found in one.varm.items():
        np.testing.assert_array_equal(found, other.varm[name])


@pytest.mark.parametrize("sized", [{}, SIZED], ids=["values", "logarithms"])
def test_cells_with_shared_rows(sized, monkeypatch):
    """So many cells that a pass sums strata, if it may."""
    adata = fsc.datasets.simu_rnaseq(n_genes=8, n_cells=3000, n_samples=8, n_clusters=2, seed=1)
    adata.obs["w"] = np.random.default_rng(0).gamma(2, 1, 3000)
    options = {"fixed": "~ cls * trt", "random": "sam + sam:cls", "min_fraction": 0.1, **sized}
    expected = run(adata.copy(), **options)
    monkeypatch.setattr(shared_rows, "_BYTES", 0)
    assert_equal_results(run(adata, **options), expected)


def test_what_describes_the_data_is_not_weighted_but_means_are(study):
    run(study, **OPTIONS["groups"], min_fraction=0.2)
    for group in ("B", "NK"):
        own = (study.obs["cls"] == group).to_numpy()
        u = study.X.toarray()[own].astype(float)
        size = u.sum(axis=1, keepdims=True) / 30
        x = np.column_stack([np.ones(own.sum()), study.obs["trt"][own] == "B"])
        w = study.obs["w"].to_numpy()[own, None]
        means = np.linalg.solve(x.T @ (w * x), x.T @ (w * u / size)).T
        columns = [name.startswith(f"{group}|") for name in study.uns["lmm_de"]["coef_names"]]
        np.testing.assert_allclose(study.varm["lmm_de_mean_coef"][:, columns], means, rtol=1e-9)
    assert [int(model["n"]) for model in Result.read(study, "lmm_de").models] == study.obs[
        "cls"
    ].value_counts().sort_index().tolist()


# Strata and parts


@pytest.mark.parametrize("how", [{}, {"transform": "log2p1"}, SIZED], ids=["values", "logarithms", "sized"])
@pytest.mark.parametrize("model", OPTIONS.values(), ids=OPTIONS)
def test_strata_are_fitted_as_their_cells(study, tmp_path, how, model):
    model = {name: value for name, value in model.items() if name not in SIZED}
    expected = run(study.copy(), **model, **how)
    before = study.copy()
    strata = fsc.pp.aggregate(study, BY, weights="w", **how)
    assert_unchanged(study, before)
    u, w = study.X.toarray().astype(float), study.obs["w"]
    keys = [study.obs[name].to_numpy() for name in BY]
    summed = lambda values: pd.DataFrame(values).groupby(keys).sum().to_numpy()
    np.testing.assert_allclose(strata.layers["counts"], summed(u), rtol=1e-12)
    np.testing.assert_allclose(strata.layers["n_expressed"], summed(u > 0), rtol=1e-12)
    sums = summed(np.column_stack([np.ones(160), w, np.log(w)]))
    np.testing.assert_allclose(strata.obs[["n_cells", "weight_sum", "log_weight_sum"]], sums, rtol=1e-12)
    assert strata.uns["aggregate"]["weights"] == "w"
    assert "w" not in strata.obs
    assert_equal_results(run(strata.copy(), **model, weights=None), expected)
    fsc.pp.aggregate(study, BY, weights="w", out=tmp_path / "strata.zarr", **how)
    from_disk = run([tmp_path / "strata.zarr"], **model, weights=None)
    assert_equal_results(from_disk, expected)
    assert from_disk.uns["lmm_de"]["params"]["weights"] == "w"
    halves = [fsc.pp.aggregate(study[half].copy(), BY, weights="w", **how) for half in (slice(90), slice(90, None))]
    halves[1].obs_names += " again"
    assert_equal_results(run(ad.concat(halves, uns_merge="same"), **model, weights=None), expected)


def test_strata_that_do_not_go_together(study):
    study.obs["v"] = study.obs["w"] + 1
    one, other, plain = (fsc.pp.aggregate(study, BY, weights=name) for name in ("w", "v", None))
    other.obs_names, plain.obs_names = other.obs_names + " again", plain.obs_names + " again"
    for second, words in ((other, "precision weights v"), (plain, "'values as they are'")):
        with pytest.raises(
            ValueError, match=f"The sums of adata.0. and adata.1. don't go together: .*precision weights w.*{words}"
        ):
            run([one, second], **OPTIONS["one model"], weights=None)
        with pytest.raises(
            ValueError, match=r"come from several calls of fsc.pp.aggregate with different .*, or weights"
        ):
            run(ad.concat([one, second], uns_merge="same"), **OPTIONS["one model"], weights=None)
    before = one.copy()
    with pytest.raises(ValueError, match=r"sums that take no 'weights'\. Give it to fsc.pp.aggregate"):
        run(one, fixed="~ trt", random="sam")
    with pytest.raises(ValueError, match=r"are sums of values weighted by 'w', which no counts are"):
        fsc.tl.nbmm_de(one, "~ trt", "sam:trt")
    assert_unchanged(one, before)
    with pytest.raises(ValueError, match="size_factors without a transform for models of counts, which take none"):
        fsc.pp.aggregate(study, BY, weights="w", size_factors="total")
    for name, value, words in (
        ("weight_sum", 0.0, "a sum of positive"),
        ("log_weight_sum", np.nan, "a sum of logarithms"),
    ):
        bad = one.copy()
        bad.obs.iloc[1, bad.obs.columns.get_loc(name)] = value
        with pytest.raises(ValueError, match=f"obs\\['{name}'\\] is .* which is not {words}"):
            run(bad, fixed="~ trt", random="sam", weights=None)


def test_statistics_of_parts_add_up(study, tmp_path):
    design = fsc.Design.of(study.obs, "~ trt + score", ["sam", "batch"])
    whole = fsc.summarize(study, design, weights="w", **SIZED)
    parts = [fsc.summarize(study[half].copy(), design, weights="w", **SIZED) for half in (slice(90), slice(90, None))]
    parts[0].save(tmp_path / "part.h5ad")
    united = fsc.SummaryStats.load(tmp_path / "part.h5ad") + parts[1]
    genes = list(study.var_names[::-2])
    for one in (united, united.select(genes=genes, components=["sam"])):
        for name in ("n", "weight_sum", "log_weight_sum"):
            np.testing.assert_allclose(getattr(one, name), getattr(whole, name), rtol=1e-12)
    np.testing.assert_allclose(whole.log_weight_sum, np.log(study.obs["w"]).sum())
    run(study, fixed="~ trt + score", random=["sam", "batch"], **SIZED)
    fit = fsc.lmm(united, nonnegative=True, ddf="satterthwaite")
    np.testing.assert_allclose(fit.loglik, study.varm["lmm_de_loglik"][:, 0], rtol=1e-10)
    np.testing.assert_allclose(fit.p, study.varm["lmm_de_pval"], rtol=1e-6)
    with pytest.raises(ValueError, match="don't add up: their origin differ"):
        united + fsc.summarize(study, design, **SIZED)


def test_statistics_of_earlier_files_have_no_weights(arrays, tmp_path):
    X, Y, Z, _ = arrays
    stats = fsc.sslmm(X, Y, Z)
    stats.save(tmp_path / "stats.h5ad")
    stored = ad.read_h5ad(tmp_path / "stats.h5ad")
    del stored.uns["weight_sum"], stored.uns["log_weight_sum"]
    stored.write_h5ad(tmp_path / "stats.h5ad")
    loaded = fsc.SummaryStats.load(tmp_path / "stats.h5ad")
    assert (loaded.weight_sum, loaded.log_weight_sum) == (stats.weight_sum, stats.log_weight_sum) == (150.0, 0.0)


def test_fits_of_files_are_tested_further(study, tmp_path):
    run(study, **OPTIONS["groups"], ranef=True)
    study.write_h5ad(tmp_path / "fit.h5ad")
    read = ad.read_h5ad(tmp_path / "fit.h5ad")
    for one in (study, read):
        fsc.tl.lmm_test(one, "trt[T.B]", conf_level=0.9)
    ours, theirs = results(read, "lmm_test"), results(study, "lmm_test")
    assert ours.keys() == theirs.keys()
    for name, found in ours.items():
        np.testing.assert_array_equal(found, theirs[name])
    assert read.uns["lmm_de"]["params"]["weights"] == "w"
