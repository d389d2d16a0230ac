"""From counts in an AnnData to results: the right numbers from every container, and tests without the cells."""

from __future__ import annotations

import anndata as ad
import dask.array as da
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from containers import READ, assert_unchanged, warned_of_a_view
from counts_reference import DensePosterior, cells_dispersion
from scipy.stats import false_discovery_control, norm

import flashmm_sc as fsc
from flashmm_sc import FlashmmWarning
from flashmm_sc._results.packed import unpacked
from flashmm_sc._results.result import Result

NUMBERS = ("coef", "se", "t", "df", "pval", "pval_adj", "theta", "theta_se", "sums", "status")
TESTS = ("coef", "se", "t", "df", "pval", "pval_adj", "status")
TRT = "trt[T.B]"


def run(adata, fixed="~ trt", sample="sam", **options):
    done = fsc.tl.nbmm_de(adata, fixed, sample, **({"n_jobs": 1} | options))
    return adata if done is None else done


def assert_same_results(a, b, key="nbmm_de", names=NUMBERS, rtol=1e-12, atol=1e-300, genes=slice(None)):
    """The same numbers; where sums are added up in another order, t near 0 are known to fewer digits than others."""
    assert a.uns[key]["coef_names"].tolist() == b.uns[key]["coef_names"].tolist()
    for name in names:
        left, right = a.varm[f"{key}_{name}"], b.varm[f"{key}_{name}"][genes]
        np.testing.assert_allclose(left, right, rtol=rtol, atol=atol, err_msg=name)


@pytest.fixture(scope="module")
def study():
    """Counts of 1200 cells of two types and 8 samples, with genes that differ; some genes are rare, one is absent."""
    adata = fsc.datasets.simu_rnaseq(
        n_genes=150, n_cells=1200, n_samples=8, n_clusters=2, n_de_genes_per_cluster=[15, 15], min_beta=0.7, seed=1
    )
    rng, X = np.random.default_rng(0), adata.X.toarray()
    X[:, 3:6] *= rng.random((1200, 3)) < 0.004
    X[:, 6] = 0
    adata.X = sp.csr_matrix(X)
    score = dict(zip(adata.obs["sam"].cat.categories, rng.normal(size=8), strict=True))
    adata.obs["score"] = [score[name] for name in adata.obs["sam"]]
    adata.obs["depth"] = rng.uniform(0.5, 2, 1200)
    adata.var["use"] = np.arange(150) % 4 > 0
    del adata.uns["simu_rnaseq"]
    return adata


@pytest.fixture(scope="module")
def expected(study):
    return run(study, copy=True)


@pytest.fixture(scope="module")
def fitted(study):
    """A model for each cell type, with a covariate."""
    return run(study, "~ trt + score", groupby="cls", copy=True)


@pytest.fixture
def adata(study):
    return study.copy()


# Numbers


def test_results_are_those_of_the_model_set_up_by_hand(study, expected):
    X, obs = study.X.toarray().astype(float), study.obs
    s = X.sum(axis=1) / X.sum(axis=1).mean()
    names = sorted(obs["sam"].unique())
    sums = lambda values: np.array([values[obs["sam"] == name].sum(axis=0) for name in names])
    T, S, Q = sums(X), sums(s), sums(s**2)
    common = (T > 0).all(axis=0) & (T.mean(axis=0) >= 5)
    rate = T[:, common] / S[:, None]
    factor = np.exp(np.median(np.log(rate) - np.log(rate).mean(axis=0), axis=1))
    factor /= np.exp(np.log(factor).mean())
    design = np.column_stack([np.ones(8), [float(name[0] == "B") for name in names]])
    entry = expected.uns["nbmm_de"]
    model, effect = unpacked(entry["models"])["0"], entry["design_effect"][0]
    prior = model["prior"]
    assert entry["coef_names"].tolist() == ["Intercept", TRT]
    assert entry["theta_names"].tolist() == ["sam", "phi"]
    assert model["samples"].tolist() == names
    fitted = T.sum(axis=0) >= 10
    np.testing.assert_array_equal(expected.varm["nbmm_de_sums"], T.T * fitted[:, None])
    for gene in (0, 9, 80):
        phi = cells_dispersion(X[:, gene], s, obs["sam"].to_numpy())
        size = S * factor
        weights = prior["weights"][np.searchsorted(prior["edges"], np.log(T[:, gene].sum() / size.sum()), side="right")]
        one = DensePosterior(T[:, gene], size, effect * Q / S**2, phi, design, prior["gamma"][:, 0], weights)
        c = np.array([0.0, 1.0])
        theta = expected.varm["nbmm_de_theta"][gene]
        np.testing.assert_allclose(theta, [one.weights @ one.tau2, phi], rtol=1e-4)
        coef, se = one.coef(c)
        np.testing.assert_allclose(expected.varm["nbmm_de_coef"][gene, 1], coef, atol=2e-5 * se)
        np.testing.assert_allclose(expected.varm["nbmm_de_se"][gene, 1], se, rtol=1e-4)
        z = norm.isf(expected.varm["nbmm_de_pval"][gene, 1] / 2)
        np.testing.assert_allclose(z, norm.isf(one.p(c) / 2), rtol=1e-4, atol=1e-4)


def test_adjusted_p_values_and_statuses(expected):
    table = fsc.get.lmm_de_df(expected, TRT)
    assert table["status"].value_counts().to_dict() == {"ok": 147, "filtered": 3}
    ok = table["status"] == "ok"
    assert table[~ok]["variable"].tolist() == expected.var_names[[3, 4, 6]].tolist()
    np.testing.assert_allclose(table["adj_p_value"][ok], false_discovery_control(table["p_value"][ok]), rtol=1e-12)
    assert table[~ok][["coef", "se", "t_value", "p_value", "adj_p_value"]].isna().all(axis=None)
    np.testing.assert_allclose(table["log_fc"], table["coef"] / np.log(2))


def test_what_was_planted_is_found(study, fitted):
    table = fsc.get.lmm_de_df(fitted, TRT)
    planted = study.var.loc[table["variable"], "de_cluster"].astype(str).to_numpy() == table["group"]
    found = table["adj_p_value"] < 0.05
    assert (found & planted).sum() > 8
    assert (found & ~planted).sum() <= 2
    truth = study.var.loc[table["variable"], "beta"].to_numpy()[found & planted]
    assert (np.sign(table["coef"][found & planted]) == np.sign(truth)).all()


@pytest.mark.parametrize("container", READ, indirect=True)
def test_the_same_from_every_container(container, study, expected):
    adata = container(study.X.toarray(), study.obs, study.var)
    with warned_of_a_view(adata):
        run(adata)
    assert_same_results(adata, expected)


@pytest.mark.parametrize("dtype", ["uint16", "int64", "float64"])
def test_the_same_from_every_dtype(adata, expected, dtype):
    adata.X = adata.X.astype(dtype)
    assert_same_results(run(adata), expected)


@pytest.mark.parametrize("chunks", [(250, 150), (1200, 40)])
def test_dask(adata, expected, chunks):
    adata.X = da.from_array(adata.X.toarray(), chunks=chunks)
    assert_same_results(run(adata), expected)


@pytest.mark.parametrize("where", [{"layer": "counts"}, {"use_raw": True}])
def test_layers_and_raw(study, expected, where):
    adata = study.copy()
    adata.raw = adata.copy()
    adata.layers["counts"] = adata.X.copy()
    adata.X = adata.X.log1p()
    assert_same_results(run(adata, **where), expected)


def test_files_one_after_another(study, fitted, tmp_path):
    study[:500].copy().write_h5ad(tmp_path / "a.h5ad")
    study[500:].copy().write_zarr(tmp_path / "b.zarr")
    joint = run([tmp_path / "a.h5ad", tmp_path / "b.zarr"], "~ trt + score", groupby="cls")
    assert joint.shape == (0, 150)
    assert_same_results(joint, fitted, rtol=1e-6, atol=1e-6)


def test_lazy(study, expected, tmp_path):
    study.write_h5ad(tmp_path / "a.h5ad")
    lazy = ad.experimental.read_lazy(tmp_path / "a.h5ad")
    run(lazy)
    np.testing.assert_allclose(lazy.varm["nbmm_de_pval"], expected.varm["nbmm_de_pval"], rtol=1e-12)


@pytest.mark.parametrize("by", [["sam", "cls"], ["cls", "sam", "half"]])
def test_strata(study, fitted, by):
    """Sums of finer strata, by which samples can be left out and relabelled, are as good as the cells."""
    adata = study.copy()
    adata.obs["half"] = np.where(np.arange(1200) % 3, "a", "b")
    sums = fsc.pp.aggregate(adata, by, size_factors="total")
    assert_same_results(run(sums, "~ trt + score", groupby="cls", copy=True), fitted, rtol=1e-6, atol=1e-6)
    fsc.tl.nbmm_de(sums, "~ trt", "sam", groupby="cls")
    fewer = run(sums[sums.obs["sam"] != "A1"].copy(), groupby="cls")
    assert_same_results(fewer, run(study[study.obs["sam"] != "A1"].copy(), groupby="cls"), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n_jobs", [2, None])
def test_any_number_of_threads(adata, expected, n_jobs):
    assert_same_results(run(adata, n_jobs=n_jobs), expected, rtol=1e-6, atol=1e-6)


def test_the_order_of_cells_and_genes_plays_no_part(study, expected):
    rng = np.random.default_rng(0)
    cells, genes = rng.permutation(1200), rng.permutation(150)
    shuffled = run(study[cells][:, genes].copy())
    assert_same_results(shuffled, expected, rtol=1e-6, atol=1e-6, genes=genes)


def test_names_of_samples_play_no_part(adata, expected):
    names = dict(zip(sorted(adata.obs["sam"].unique()), ["z", "y", "x", "w", "d", "c", "b", "a"], strict=True))
    adata.obs["sam"] = adata.obs["sam"].astype(str).map(names)
    assert_same_results(run(adata), expected, names=TESTS, rtol=1e-6, atol=1e-6)


def test_units_of_a_covariate(study):
    """The effect of a covariate's unit is that of a unit; tests are the same."""
    one = run(study, "~ trt + score", copy=True)
    other = study.copy()
    other.obs["score"] = 10 + 1e-4 * other.obs["score"]
    run(other, "~ trt + score")
    np.testing.assert_allclose(other.varm["nbmm_de_coef"][:, 2] * 1e-4, one.varm["nbmm_de_coef"][:, 2], rtol=1e-4)
    for j in (1, 2):
        ours, theirs = (norm.isf(part.varm["nbmm_de_pval"][:, j] / 2) for part in (other, one))
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


# Arguments


def test_groupby_is_a_fit_of_each_subset(study, fitted):
    names = ["Intercept", TRT, "score"]
    assert fitted.uns["nbmm_de"]["coef_names"].tolist() == [f"{group}|{name}" for group in "12" for name in names]
    for i, group in enumerate("12"):
        alone = run(study[study.obs["cls"] == group].copy(), "~ trt + score")
        for name in NUMBERS:
            both, own = fitted.varm[f"nbmm_de_{name}"], alone.varm[f"nbmm_de_{name}"]
            width = own.shape[1]
            assert both.shape[1] == 2 * width
            np.testing.assert_allclose(both[:, i * width : (i + 1) * width], own, rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("mask", ["use", np.arange(150) % 4 > 0])
def test_masked_genes(study, mask):
    """Totals are over all genes; what is learned, and the samples' ratios, are from those that are left."""
    adata = run(study, mask_var=mask, size_factors="total", copy=True)
    use = study.var["use"].to_numpy()
    names = np.array(adata.uns["nbmm_de"]["status_names"])[adata.varm["nbmm_de_status"][:, 0]]
    assert set(names[~use]) == {"masked"}
    assert np.isnan(adata.varm["nbmm_de_pval"][~use]).all()
    part = study[:, use].copy()
    part.obs["total"] = study.X.sum(axis=1).A1
    alone = run(part, size_factors="total")
    by_column = run(part, size_factors=part.obs["total"], copy=True)
    np.testing.assert_allclose(by_column.varm["nbmm_de_pval"], adata.varm["nbmm_de_pval"][use], rtol=1e-6, atol=1e-6)
    assert not np.allclose(alone.varm["nbmm_de_coef"], by_column.varm["nbmm_de_coef"], equal_nan=True)


def test_size_factors(study, expected):
    totals = study.X.sum(axis=1).A1.astype(float)
    for given in ("total", totals, 1e-4 * totals, pd.Series(totals, study.obs_names)):
        same = run(study, size_factors=given, copy=True)
        assert_same_results(same, expected, rtol=1e-6, atol=1e-6, names=set(NUMBERS) - {"sums"})
    one, other = (run(study, size_factors=given, copy=True) for given in ("depth", study.obs["depth"].to_numpy()))
    assert_same_results(one, other)
    assert not np.allclose(one.varm["nbmm_de_pval"], expected.varm["nbmm_de_pval"], equal_nan=True)


def test_normalisation(study, expected):
    none = run(study, normalize=None, copy=True)
    size, plain = (Result.read(part, "nbmm_de").models[0]["size"] for part in (expected, none))
    np.testing.assert_allclose(np.log(size / plain).mean(), 0, atol=1e-12)
    assert np.ptp(size / plain) > 0.01
    assert not np.allclose(none.varm["nbmm_de_pval"], expected.varm["nbmm_de_pval"], equal_nan=True)


@pytest.mark.parametrize("sample", ["donor:trt", ["donor", "trt"], "(1|donor:trt)", "sam"])
def test_donors_in_both_arms_are_blocks(study, sample):
    adata = study.copy()
    adata.obs["donor"] = [f"d{name[1:]}" for name in adata.obs["sam"]]
    run(adata, "~ donor + trt", sample)
    assert adata.uns["nbmm_de"]["coef_names"].tolist() == [
        "Intercept",
        "donor[T.d2]",
        "donor[T.d3]",
        "donor[T.d4]",
        TRT,
    ]
    by_name = run(adata, "~ donor + trt", "sam", copy=True)
    np.testing.assert_allclose(adata.varm["nbmm_de_pval"], by_name.varm["nbmm_de_pval"], rtol=1e-6)


def test_filters(study):
    adata = run(study, min_counts=0, min_fraction=0.0, copy=True)
    status = fsc.get.lmm_de_df(adata, TRT)["status"]
    assert status[6] == "filtered"  # without any count
    assert (np.delete(status, 6) == "ok").all()
    adata = run(study, min_fraction=0.6, copy=True)
    share = (study.X > 0).mean(axis=0).A1
    assert ((fsc.get.lmm_de_df(adata, TRT)["status"] == "ok") == (share >= 0.6)).all()


def test_few_genes_draw_a_warning(study):
    with pytest.warns(FlashmmWarning, match=r"Only 40 genes are fitted, .* median variance 0.05"):
        few = run(study[:, 20:60].copy())
    assert np.isfinite(few.varm["nbmm_de_pval"]).all()
    with pytest.warns(FlashmmWarning, match="are fitted in '[12]'"):
        run(study[:, 20:60].copy(), groupby="cls")


def test_an_arm_without_counts(adata):
    X = adata.X.toarray()
    X[(adata.obs["trt"] == "B").to_numpy(), 10] = 0
    adata.X = X
    run(adata)
    row = fsc.get.lmm_de_df(adata, TRT).iloc[10]
    assert -15 < row["log_fc"] < -4
    assert row["p_value"] < 1e-4
    assert row["status"] == "ok"


# What is written


def test_only_results_are_added(study):
    adata, before = study.copy(), study.copy()
    assert fsc.tl.nbmm_de(adata, "~ trt", "sam") is None
    for name in list(adata.varm):
        assert name.startswith("nbmm_de_")
        del adata.varm[name]
    del adata.uns["nbmm_de"]
    assert_unchanged(adata, before)


def test_copy_and_key(study):
    adata, before = study.copy(), study.copy()
    done = fsc.tl.nbmm_de(adata, "~ trt", "sam", copy=True, key_added="mine", contrasts={"down": f"-1 * {TRT}"})
    assert_unchanged(adata, before)
    assert set(done.uns) == {"mine", "mine_contrasts"}
    np.testing.assert_allclose(done.varm["mine_contrasts_coef"][:, 0], -done.varm["mine_coef"][:, 1], rtol=1e-10)
    again = run(done, key_added="mine")  # without contrasts: none are left from before
    assert set(again.uns) == {"mine"}
    assert not any("contrasts" in name for name in again.varm)


def test_a_backed_file_is_not_written_to(study, expected, tmp_path):
    path = tmp_path / "a.h5ad"
    study.write_h5ad(path)
    bytes_before = path.read_bytes()
    backed = ad.read_h5ad(path, backed="r")
    assert_same_results(run(backed), expected)
    backed.file.close()
    assert path.read_bytes() == bytes_before


def test_a_view_becomes_an_anndata(study):
    view = study[:, :120]
    with pytest.warns(ad.ImplicitModificationWarning, match="view"):
        run(view)
    assert "nbmm_de" in view.uns
    assert not study.uns
    assert not study.varm.keys()


@pytest.mark.parametrize("counts", [1, 300, 70_000])
def test_sums_are_stored_in_the_smallest_type(study, counts):
    adata = study.copy()
    adata.X = adata.X.astype(np.float64) * counts
    sums = run(adata, min_counts=0).varm["nbmm_de_sums"]
    assert sums.dtype == (np.uint16 if counts == 1 else np.uint32)
    np.testing.assert_array_equal(sums.sum(axis=1), adata.X.sum(axis=0).A1)


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_tests_after_files_without_the_cells(fitted, kind, tmp_path):
    path = str(tmp_path / f"a.{kind}")
    getattr(fitted, f"write_{kind}")(path)
    back = getattr(ad, f"read_{kind}")(path)
    without = ad.AnnData(var=back.var, varm=dict(back.varm), uns=back.uns)
    for one in (with_cells := fitted.copy(), without):
        fsc.tl.lmm_test(one, [TRT, "score"], key="nbmm_de", conf_level=0.9)
        fsc.tl.lmm_anova(one, key="nbmm_de")
    assert_same_results(without, with_cells, "lmm_test", (*TESTS, "ci_low", "ci_high"), rtol=1e-6, atol=1e-6)
    assert_same_results(without, with_cells, "lmm_anova", ("F", "df", "df_num", "pval"), rtol=1e-6, atol=1e-6)


# What follows from results


def test_test_of_coefficients_is_that_of_the_fit(fitted):
    adata = fitted.copy()
    fsc.tl.lmm_test(adata, fsc.contrasts.each("trt"), key="nbmm_de")
    assert adata.uns["lmm_test"]["coef_names"].tolist() == ["1|B vs A", "2|B vs A"]
    for name in TESTS[:-1]:
        both = adata.varm[f"nbmm_de_{name}"][:, [1, 4]]
        np.testing.assert_allclose(adata.varm[f"lmm_test_{name}"], both, rtol=1e-6, atol=1e-6, err_msg=name)


def test_options_of_tests(fitted):
    adata = fitted.copy()

    def p_of(contrasts, **options):
        fsc.tl.lmm_test(adata, contrasts, key="nbmm_de", n_jobs=1, **options)
        return adata.varm["lmm_test_pval"]

    two_sided, up, down = p_of(TRT), p_of(TRT, alternative="greater"), p_of(TRT, alternative="less")
    coef = adata.varm["nbmm_de_coef"][:, [1, 4]]
    good = np.isfinite(coef)
    np.testing.assert_allclose((up + down)[good], 1, rtol=1e-9)
    assert (np.minimum(up, down)[good] <= 0.51 * two_sided[good] + 1e-3).all()
    np.testing.assert_allclose(p_of({"v": [0, 2, 0]}), two_sided, rtol=1e-6, atol=1e-6)
    far, farther = p_of(TRT, lfc=0.5), p_of(TRT, lfc=1.0)
    clear = two_sided < 0.9
    assert (two_sided[clear] <= far[clear]).all()
    assert (far[clear] <= farther[clear]).all()
    joint = p_of([TRT, "score"], joint=True)
    assert joint.shape == (150, 2)
    np.testing.assert_allclose(p_of(TRT, joint=True), two_sided, rtol=1e-6, atol=1e-6)
    fsc.tl.lmm_test(adata, TRT, key="nbmm_de", conf_level=0.95)
    low, high = adata.varm["lmm_test_ci_low"], adata.varm["lmm_test_ci_high"]
    assert ((low < coef) & (coef < high))[good].all()
    out = ((low > 0) | (high < 0))[good]
    assert (out == (np.minimum(up, down)[good] < 0.025)).all()


def test_contrasts_across_groups(fitted):
    adata = fitted.copy()
    fsc.tl.lmm_test(adata, {"difference": f"`1|{TRT}` - `2|{TRT}`"}, key="nbmm_de", conf_level=0.9)
    coef, se = (adata.varm[f"nbmm_de_{name}"] for name in ("coef", "se"))
    np.testing.assert_allclose(adata.varm["lmm_test_coef"][:, 0], coef[:, 1] - coef[:, 4], rtol=1e-4, atol=1e-5)
    together = np.sqrt(se[:, 1] ** 2 + se[:, 4] ** 2)
    ratio = (adata.varm["lmm_test_se"][:, 0] / together)[np.isfinite(together)]
    assert ratio.min() > 0.79  # as in `Mixture`, it may give way to p
    assert ratio.max() < 1.26


def test_anova(fitted):
    adata = fitted.copy()
    fsc.tl.lmm_anova(adata, key="nbmm_de")
    assert adata.uns["lmm_anova"]["coef_names"].tolist() == ["1|trt", "1|score", "2|trt", "2|score"]
    np.testing.assert_allclose(
        adata.varm["lmm_anova_pval"], adata.varm["nbmm_de_pval"][:, [1, 2, 4, 5]], rtol=1e-6, atol=1e-6
    )
    with pytest.raises(ValueError, match="leave ddf='residual' out"):
        fsc.tl.lmm_anova(adata, key="nbmm_de", ddf="residual")
    with pytest.raises(ValueError, match="leave ddf='satterthwaite' out"):
        fsc.tl.lmm_test(adata, TRT, key="nbmm_de", ddf="satterthwaite")


def test_shrunken_effects(fitted):
    adata = fitted.copy()
    fsc.tl.shrink(adata)
    table = fsc.get.lmm_de_df(adata, TRT, key="lmm_shrink")
    raw = fsc.get.lmm_de_df(adata, TRT, key="nbmm_de")
    good = raw["status"] == "ok"
    assert (table["coef"][good].abs() <= raw["coef"][good].abs() + 1e-9).all()
    assert table["lfsr"][good].between(0, 1).all()


def test_tables_and_plots(fitted):
    variance = fsc.get.variance_df(fitted)
    assert variance["component"].unique().tolist() == ["sam", "phi"]
    assert variance.groupby("component")["se"].count().to_dict() == {"phi": 0, "sam": 294}
    summary = fsc.get.summary(fitted)
    assert summary["contrast"].tolist() == [TRT, "score"] * 2
    assert summary["tested"].tolist() == [147] * 4
    assert summary["cells"].sum() == 2400
    [row] = fsc.get.results(fitted).itertuples()
    assert (row.key, row.what, row.groups, row.columns) == ("nbmm_de", "fit", 2, 6)
    assert row.formula == "~ trt + score, random: 'sam'"
    curve = fsc.get.fitted(fitted, fitted.var_names[[0, 6]], {"trt": ["A", "B"], "score": [0.0]})
    assert curve["fit"].isna().tolist() == [False] * 4 + [True] * 4
    first = curve[:4]
    assert ((first["ci_low"] < first["fit"]) & (first["fit"] < first["ci_high"])).all()
    coef = fitted.varm["nbmm_de_coef"][0]
    np.testing.assert_allclose(first["fit"], [coef[0], coef[0] + coef[1], coef[3], coef[3] + coef[4]], rtol=1e-9)
    plt.switch_backend("agg")
    ax = fsc.pl.volcano(fitted, TRT, group="1", show=False)
    assert ax.get_xlabel()
    plt.close("all")


def test_what_is_only_of_fits_of_cells(fitted):
    adata = fitted.copy()
    with pytest.raises(KeyError, match=r"of counts by fsc\.tl\.nbmm_de, which predicts no random effects"):
        fsc.get.ranef_df(adata)
    with pytest.raises(ValueError, match=r"of counts by fsc\.tl\.nbmm_de"):
        fsc.pl.variance_prior(adata, group="1")
    for null in (None, "nbmm_de"):
        with pytest.raises(ValueError, match="averaged over and not tested"):
            fsc.tl.lmm_variance_test(adata, key="nbmm_de", null=null)
    assert set(adata.uns) == {"nbmm_de"}


def test_forget(fitted):
    adata = fitted.copy()
    fsc.tl.lmm_test(adata, TRT, key="nbmm_de")
    fsc.tl.forget(adata, "nbmm_de")
    assert not adata.uns
    assert not adata.varm.keys()


def test_contrasts_of_the_call(study):
    adata = run(study, groupby="cls", contrasts={"up": TRT, "asked": fsc.contrasts.each("trt")}, copy=True)
    assert adata.uns["nbmm_de_contrasts"]["coef_names"].tolist() == ["1|up", "1|asked", "2|up", "2|asked"]
    fsc.tl.lmm_test(adata, {"up": TRT, "asked": fsc.contrasts.each("trt")}, key="nbmm_de", key_added="later")
    for name in TESTS:
        ours, theirs = (adata.varm[f"{key}_{name}"] for key in ("nbmm_de_contrasts", "later"))
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6, err_msg=name)
