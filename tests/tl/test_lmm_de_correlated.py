"""lmm_de with correlated random effects: the numbers of fits of arrays, whatever way they take, and all that is made of them.

The numbers of lme4 are in test_textbook.py.
"""

from __future__ import annotations

import re

import anndata as ad
import numpy as np
import pytest
from scipy.stats import chi2

import flashmm_sc as fsc

FIXED = "~ score + trt"
COUNTS = {"transform": "log1p"}
FIT = ("coef", "se", "df", "pval", "theta", "theta_se", "theta_cov", "loglik")


@pytest.fixture
def crossed(adata):
    """Every sample has cells of both types, of three doses."""
    adata.obs["dose"] = np.array(["high", "low", "mid"])[np.arange(adata.n_obs) // 8 % 3]
    return adata


def fitted(adata, random="(1 + score|sam)", key="lmm_de", fixed=FIXED, **options):
    fsc.tl.lmm_de(adata, fixed, random, key_added=key, **COUNTS | options)
    return adata


def same(one, other, key="lmm_de", arrays=FIT, rtol=1e-7):
    for name in arrays:
        theirs = other.varm[f"{key}_{name}"]
        scale = np.nanmax(np.abs(theirs))
        np.testing.assert_allclose(one.varm[f"{key}_{name}"], theirs, rtol=rtol, atol=1e-8 * scale, err_msg=name)


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
def test_fits_are_those_of_arrays(adata, ddf):
    fitted(adata, ddf=ddf, ranef=True)
    sam, score = adata.obs["sam"].to_numpy()[:, None] == np.unique(adata.obs["sam"]), adata.obs[["score"]].to_numpy()
    X = np.column_stack([np.ones(adata.n_obs), score, adata.obs["trt"] == "B"]).astype(float)
    Y = np.log1p(adata.X.toarray().astype(float))
    fit = fsc.lmmfit(Y, X, np.hstack([sam, sam * score]), [8, 8], correlated=[(0, 1)], nonnegative=True, ddf=ddf)
    for name, values in {"coef": fit.coef, "se": fit.se, "df": fit.df, "pval": fit.p}.items():
        np.testing.assert_allclose(adata.varm[f"lmm_de_{name}"], values, rtol=1e-6)
    np.testing.assert_allclose(adata.varm["lmm_de_theta"], fit.theta, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(adata.varm["lmm_de_ranef"], fit.ranef(), rtol=1e-5, atol=1e-8)
    np.testing.assert_array_equal(adata.varm["lmm_de_status"][:, 0], fit.status.cat.codes)
    assert list(adata.uns["lmm_de"]["theta_names"]) == ["sam", "score|sam", "cov(sam, score|sam)", "residual"]
    assert list(adata.uns["lmm_de"]["params"]["random"]) == ["(1 + score|sam)"]


def test_a_list_of_parts_is_the_whole(adata):
    expected = fitted(adata.copy())
    parts = [adata[:70].copy(), adata[70:].copy()]
    together = fsc.tl.lmm_de(parts, FIXED, "(1 + score|sam)", **COUNTS)
    same(together, expected)


@pytest.mark.parametrize("random", ["(cls|sam)", "(0 + cls|sam) + batch", "(cls + dose|sam)"])
def test_strata_stand_for_their_cells(crossed, random):
    whole = fitted(crossed, random, fixed="~ trt + cls")
    strata = fsc.pp.aggregate(crossed, ["sam", "trt", "cls", "batch", "dose"], **COUNTS)
    fsc.tl.lmm_de(strata, "~ trt + cls", random)
    same(strata, whole, rtol=1e-6)


def test_sites_add_up(crossed, tmp_path):
    """A site without a level of the factor has the same components."""
    design = fsc.Design.of(crossed.obs, FIXED, "(dose|sam)")
    design.save(tmp_path / "design.json")
    low = (crossed.obs["dose"] == "low").to_numpy()
    parts = [
        fsc.summarize(crossed[cells], fsc.Design.load(tmp_path / "design.json"), **COUNTS) for cells in (low, ~low)
    ]
    both = parts[0] + parts[1]
    both.save(tmp_path / "stats.h5ad")
    fit = fsc.lmm(fsc.SummaryStats.load(tmp_path / "stats.h5ad"), nonnegative=True)
    fitted(crossed, "(dose|sam)")
    assert list(fit.theta) == list(crossed.uns["lmm_de"]["theta_names"])
    np.testing.assert_allclose(crossed.varm["lmm_de_theta"], fit.theta, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(crossed.varm["lmm_de_loglik"][:, 0], fit.loglik, rtol=1e-9)
    assert repr(design).endswith("random (1 + dose|sam)")


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_tests_of_stored_fits(crossed, tmp_path, kind, ddf):
    """Groups have parameters of their own: one lacks a dose. What is read back gives the tests of the fit itself."""
    crossed = crossed[(crossed.obs["cls"] == "B") | (crossed.obs["dose"] != "mid")].copy()
    fitted(crossed, "(dose|sam)", groupby="cls", ddf=ddf, contrasts={"trt": "trt[T.B]"})
    sizes = [len(names) for names in groups_of(crossed.uns["lmm_de"]["theta_names"])]
    assert sizes == [7, 4]
    path = tmp_path / f"adata.{kind}"
    getattr(crossed, f"write_{kind}")(path)
    back = getattr(ad, f"read_{kind}")(path)
    fsc.tl.lmm_test(back, {"trt": "trt[T.B]"})
    same(back, crossed, "lmm_de", ("theta", "theta_cov"))
    ours, theirs = fsc.get.lmm_de_df(back, key="lmm_test"), fsc.get.lmm_de_df(crossed, "trt[T.B]", key="lmm_de")
    for name in ("coef", "se", "df", "p_value"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-9)
    fsc.tl.lmm_anova(back)
    f = fsc.get.lmm_de_df(back, key="lmm_anova").query("contrast == 'trt'")
    np.testing.assert_allclose(f["p_value"], theirs["p_value"], rtol=1e-9)
    alone = fitted(crossed[crossed.obs["cls"] == "NK"].copy(), "(dose|sam)", ddf=ddf)
    np.testing.assert_allclose(alone.varm["lmm_de_theta"], crossed.varm["lmm_de_theta"][:, 7:], rtol=1e-6, atol=1e-9)


def groups_of(names):
    return [[name for name in names if name.startswith(f"{group}|")] for group in ("B", "NK")]


def test_variances_have_correlations(adata):
    table = fsc.get.variance_df(fitted(adata)).pivot(index="variable", columns="component")
    variance, correlation = table["variance"], table["correlation"]
    joint = "cov(sam, score|sam)"
    expected = variance[joint] / np.sqrt(variance["sam"] * variance["score|sam"])
    some = variance["sam"] * variance["score|sam"] > 0
    np.testing.assert_allclose(correlation[joint][some], expected[some].clip(-1, 1))
    assert correlation[joint][~some].isna().all()
    assert correlation.drop(columns=joint).isna().all(axis=None)
    assert "correlation" not in fsc.get.variance_df(fitted(adata, "sam", "other"), key="other")


def test_likelihood_ratios(adata):
    """A slope goes with its covariance: half chi2_1, half chi2_2. A covariance alone is at no bound."""
    fitted(adata)
    fitted(adata, "sam", "without")
    fitted(adata, "(1 + score||sam)", "independent")
    stat = lambda null: 2 * (adata.varm["lmm_de_loglik"] - adata.varm[f"{null}_loglik"]).clip(0)
    fsc.tl.lmm_variance_test(adata, null="without")
    table = fsc.get.variance_test_df(adata)
    assert set(table["component"]) == {"score|sam"}
    assert set(table["df"]) == {2.0}
    p = (chi2.sf(stat("without"), 1) + chi2.sf(stat("without"), 2))[:, 0] / 2
    np.testing.assert_allclose(table["p_value"], p, rtol=1e-6)
    fsc.tl.lmm_variance_test(adata, null="independent")
    table = fsc.get.variance_test_df(adata)
    assert set(table["component"]) == {"cov(sam, score|sam)"}
    np.testing.assert_allclose(table["p_value"], chi2.sf(stat("independent"), 1)[:, 0], rtol=1e-5)
    with pytest.raises(
        ValueError, match=r"'lmm_de' isn't nested in 'independent', which has no 'cov\(sam, score\|sam\)'"
    ):
        fsc.tl.lmm_variance_test(adata, key="independent", null="lmm_de")
    fsc.tl.lmm_variance_test(adata)
    z = (adata.varm["lmm_de_theta"] / adata.varm["lmm_de_theta_se"])[:, :2]
    np.testing.assert_array_equal(adata.varm["lmm_variance_test_stat"], z)


def test_intercepts_against_means_of_levels(crossed):
    fitted(crossed, "(0 + dose|sam)")
    fitted(crossed, "sam", "without")
    with pytest.raises(ValueError, match=re.escape("is a part of '(1 + dose|sam)', not of '(0 + dose|sam)'")):
        fsc.tl.lmm_variance_test(crossed, null="without")


def test_covariances_are_named_in_their_order(crossed):
    """As in theta_names, whichever of a pair the smaller model names first."""
    crossed.obs["size"] = np.random.default_rng(0).normal(size=crossed.n_obs)
    fitted(crossed, "(1 + score + size|sam)")
    fitted(crossed, "(0 + size + score|sam) + sam", "without")
    fsc.tl.lmm_variance_test(crossed, null="without")
    assert list(crossed.uns["lmm_variance_test"]["coef_names"]) == ["cov(sam, score|sam) + cov(sam, size|sam)"]


def test_sites_with_too_few_levels_in_all(crossed):
    stats = fsc.summarize(crossed, fsc.Design.of(crossed.obs, FIXED, "(score|cls)"), **COUNTS)
    with pytest.raises(ValueError, match=r"term of 'cls', 'score\|cls' has 2 correlated effects and 2 levels"):
        fsc.lmm(stats, nonnegative=True)


def test_levels_that_no_site_has_together(crossed):
    even = crossed.obs["sam"].str[1:].astype(int) % 2 == 0
    cells = (crossed.obs["dose"] != np.where(even, "low", "mid")).to_numpy()
    part = crossed[cells].copy()
    stats = fsc.summarize(part, fsc.Design.of(part.obs, FIXED, "(dose|sam)"), **COUNTS)
    with pytest.raises(ValueError, match=r"'cov\(dose\[T.low\]\|sam, dose\[T.mid\]\|sam\)' can't be estimated"):
        fsc.lmm(stats, nonnegative=True)


def test_likelihood_ratios_of_arrays(adata):
    stats = fsc.summarize(adata, fsc.Design.of(adata.obs, FIXED, "(1 + score|sam) + batch"), **COUNTS)
    fit = fsc.lmm(stats, nonnegative=True)
    table = fsc.lrt(fit, fit.refit(drop_components=["score|sam"]))
    assert (table["df"] == 2).all()
    assert (fsc.lrt(fit)["df"] == 4).all()
    assert (fsc.lrt(fit, fit.refit(drop_components=["score|sam", "sam"]))["df"] == 3).all()


def test_shares_of_variance(adata):
    """Those of a correlated term are together: for its effects b, the variance over the cells of Z b, in expectation."""
    stats = fsc.summarize(adata, fsc.Design.of(adata.obs, FIXED, "(1 + score|sam) + batch"), **COUNTS)
    fit = fsc.lmm(stats, nonnegative=True)
    shares = fsc.variance_explained(fit)
    assert list(shares) == ["score", "trt[T.B]", "sam + score|sam", "batch", "residual"]
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    sam = adata.obs["sam"].to_numpy()[:, None] == np.unique(adata.obs["sam"])
    Z = np.hstack([sam, sam * adata.obs[["score"]].to_numpy()])
    Z = Z - Z.mean(axis=0)
    for gene in range(len(shares)):
        s, x, c = fit.theta.iloc[gene][["sam", "score|sam", "cov(sam, score|sam)"]]
        D = np.kron([[s, c], [c, x]], np.eye(8))
        parts = shares.iloc[gene]
        expected = np.trace(Z @ D @ Z.T) / (adata.n_obs - 1) / fit.theta["residual"].iloc[gene]
        assert parts["sam + score|sam"] / parts["residual"] == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("random", "options", "words"),
    [
        ("(1 + score|sam)", {"nonnegative": False}, "can't have nonnegative=False"),
        ("(1 + score|sam)", {"moderate": True}, "write '(1 + x || g)'"),
        ("(1 + trt|sam)", {}, "same in all cells of each level of 'sam'"),
        ("(1 + score + dose|cls)", {}, "4 correlated effects and 2 levels"),
    ],
)
def test_bad_input_leaves_adata_alone(crossed, random, options, words):
    before = set(crossed.varm), set(crossed.uns)
    with pytest.raises(ValueError, match=re.escape(words)):
        fitted(crossed, random, **options)
    assert (set(crossed.varm), set(crossed.uns)) == before


def test_advice_writes_the_term_as_it_was(crossed):
    """Samples that share a donor have a term of their own to be added."""
    crossed.obs["donor"] = crossed.obs["sam"].str[1:].astype(int).to_numpy() // 2
    crossed.obs["donor"] = crossed.obs["donor"].astype(str)
    with pytest.warns(fsc.FlashmmWarning, match="Use random=") as told:
        fitted(crossed, "(score|donor)")
    assert any("random=['(1 + score|donor)', 'donor:trt']" in str(one.message) for one in told)


def test_order_of_cells(adata):
    order = np.random.default_rng(0).permutation(adata.n_obs)
    same(fitted(adata[order].copy()), fitted(adata), rtol=1e-6)
