from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from moderated_reference import posterior_by_hand, study
from scipy import stats as sps
from scipy.linalg import null_space

import flashmm_sc as fsc
from flashmm_sc._inference import prior
from flashmm_sc._inference.moderated import Moderated, log_likelihoods, mean_expression


def by_hand(fit: fsc.LMMFit, Y: np.ndarray, X: pd.DataFrame, Z: np.ndarray, gene: int, c: np.ndarray):
    """Posterior and test of one gene."""
    weights, beta, cov = posterior_by_hand(fit, Y, X, Z, gene)
    beta, se, nu = beta @ c, np.sqrt(np.einsum("i,kij,j->k", c, cov, c)), len(Y) - X.shape[1]
    coef = weights @ beta
    return {
        "weights": weights,
        "coef": coef,
        "sd": np.sqrt(weights @ (se**2 + beta**2) - coef**2),
        "two-sided": weights @ (2 * sps.t.sf(np.abs(beta / se), nu)),
        "greater": weights @ sps.t.sf((beta - 0.1) / se, nu),
    }


@pytest.mark.parametrize("batches", [0, 5])
def test_against_the_definition(batches):
    Y, X, Z, d = study(genes=120, cells=12, batches=batches)
    fit = fsc.lmmfit(Y, X, Z, d, moderate=True, nonnegative=True)
    c = np.array([0.0, 1.0, 0.5])
    two = fsc.lmmtest(fit, {"c": c})
    greater = fsc.lmmtest(fit, {"c": c}, alternative="greater", min_effect=0.1)
    for gene in (0, 17, 80):
        slow = by_hand(fit, Y, X, Z, gene, c)
        np.testing.assert_allclose(fit.moderated.weights[gene], slow["weights"], atol=1e-9)
        np.testing.assert_allclose(two["c_coef"].iloc[gene], slow["coef"], rtol=1e-7)
        np.testing.assert_allclose(two["c_p"].iloc[gene], slow["two-sided"], rtol=1e-6)
        np.testing.assert_allclose(greater["c_p"].iloc[gene], slow["greater"], rtol=1e-6)


def test_shrunken_variances_are_posterior_means():
    Y, X, Z, d = study(genes=120, cells=12, batches=5)
    fit = fsc.lmmfit(Y, X, Z, d, moderate=True, nonnegative=True)
    A, (ours, gamma) = null_space(X.T).T, (fit.moderated.theta(fit.projection), fit.moderated.prior.gamma)
    Vi = np.linalg.inv([A @ (np.eye(len(Y)) + (Z * np.repeat(g, d)) @ Z.T) @ A.T for g in gamma])
    for gene in (0, 17, 80):
        s0 = (A @ Y[:, gene]) @ Vi @ (A @ Y[:, gene]) / len(A) * fit.moderated.weights[gene]
        np.testing.assert_allclose(ours[gene], [*(s0 @ gamma), s0.sum()], rtol=1e-7)


@pytest.mark.parametrize("effect", [0.0, 1.0, 30.0])
def test_columns_agree_with_each_other(effect):
    """t = coef / se always; p is that of t on df; se is the mixture's standard deviation wherever some df permit it."""
    Y, X, Z, d = study(genes=1000, cells=12, effect=effect)
    fit = fsc.lmmfit(Y, X, Z, d, moderate=True)
    coef, se, t, df, p = (getattr(fit, name).to_numpy() for name in ("coef", "se", "t", "df", "p"))
    np.testing.assert_allclose(t, coef / se, rtol=1e-12)
    alike = np.isclose(2 * sps.t.sf(np.abs(t), df), p, rtol=1e-8)
    assert alike[p < 0.5].all()
    assert alike.mean() > 0.97
    assert (df <= len(Y) - X.shape[1] + 1e-6).all()
    assert (df[p < 1e-3][:, None] < len(Y) / 2).any()
    sd = np.array([by_hand(fit, Y, X, Z, gene, np.array([0, 1.0, 0]))["sd"] for gene in range(8)])
    ratio = se[:8, 1] / sd
    assert ((ratio > 0.8 - 1e-9) & (ratio < 1 + 1e-8)).all()
    np.testing.assert_allclose(ratio[df[:8, 1] < 0.999 * df.max()], 1, atol=1e-8)


@pytest.mark.parametrize("effect", [0.0, 1.0, 30.0])
def test_coef_and_t_se_give_all_but_the_interval_of_the_mixture(effect):
    Y, X, Z, d = study(genes=1000, effect=effect)
    fit = fsc.lmmfit(Y, X, Z, d, moderate=True)
    tests = fit.inference.t_tests(np.eye(3)[:, [1]], conf_level=0.95)
    width = 2 * sps.t.ppf(0.975, tests.df) * tests.se / (tests.ci_high - tests.ci_low)
    clear = tests.p < 0.5
    assert ((width[clear] > 0.8) & (width[clear] < 1.2)).all()
    np.testing.assert_allclose(np.quantile(width[clear], [0.05, 0.95]), 1, atol=0.15)


def test_one_sided_tests_have_the_se_and_df_of_the_two_sided_one():
    Y, X, Z, d = study(effect=1.0)
    inference = fsc.lmmfit(Y, X, Z, d, moderate=True).inference
    two = inference.t_tests(np.eye(3))
    for options in ({"alternative": "greater"}, {"alternative": "less", "effect": 0.1}, {"effect": 0.1}):
        one = inference.t_tests(np.eye(3), **options)
        for name in ("coef", "se", "df"):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
        side = {"greater": sps.t.sf(one.t, one.df), "less": sps.t.cdf(one.t, one.df)}
        p = side.get(options.get("alternative"), 2 * sps.t.sf(np.abs(one.t), one.df))
        np.testing.assert_allclose(p, one.p, rtol=1e-6)


def slopes(log_lik, weights):
    """Σ_g L_gk / Σ_j π_j L_gj at each point."""
    lik = np.exp(log_lik - log_lik.max(axis=1, keepdims=True))
    return (lik / (lik @ weights)[:, None]).sum(axis=0)


@pytest.mark.parametrize("batches", [0, 4])
def test_prior_is_the_maximum_likelihood_estimate(batches):
    """Kiefer and Wolfowitz: slopes are m where π_k > 0, and nowhere above; in a bin with 50 genes more, as π⁰ has them."""
    Y, X, Z, d = study(genes=400, batches=batches)
    fit = fsc.lmmfit(Y, X, Z, d, moderate=True, nonnegative=True)
    projection, moderated, m = fit.projection, fit.moderated, 400
    learned, x = moderated.prior, moderated.covariate
    log_lik = log_likelihoods(projection, moderated.genes, learned.gamma)
    everywhere = prior.learn(learned.gamma, log_lik, np.zeros(m)).of(np.zeros(1))[0]
    assert abs(slopes(log_lik, everywhere).max() - m) < 1e-7
    bins = np.searchsorted(learned.edges, x, side="right")
    assert len(learned.weights) == 4
    for b, weights in enumerate(learned.weights):
        slope = slopes(log_lik[bins == b], weights)
        some = everywhere > 0
        slope[some] += 50 * everywhere[some] / weights[some]
        total = (bins == b).sum() + 50
        assert slope.max() - total < 1e-7
        np.testing.assert_allclose(weights * (slope - total), 0, atol=1e-7)  # either is zero


def test_expression_is_the_mean_or_without_a_random_intercept_the_root_mean_square():
    Y, X, Z, d = study(genes=3)
    np.testing.assert_allclose(mean_expression(fsc.sslmm(X, Y, Z, d)), Y.mean(axis=0))
    slopes = fsc.sslmm(X, Y, Z * X[["x"]].to_numpy(), d)
    np.testing.assert_allclose(mean_expression(slopes), np.sqrt((Y**2).mean(axis=0)))


def test_prior_recovers_the_distribution_of_ratios():
    Y, X, Z, d = study(donors=30, genes=2000, cells=20)
    prior = fsc.lmmfit(Y, X, Z, d, moderate=True).moderated.prior
    mean = prior.weights.mean(axis=0) @ prior.gamma[:, 0]
    np.testing.assert_allclose(mean, 0.05, rtol=0.1)


@pytest.mark.parametrize("donors", [4, 6, 8, 12])
def test_levels_are_exact_and_satterthwaite_is_conservative_with_few_donors(donors):
    Y, X, Z, d = study(donors=donors, genes=4000)
    moderated = fsc.lmmfit(Y, X, Z, d, moderate=True, nonnegative=True).p["trt"]
    for level in (0.05, 0.01, 0.001):
        error = np.sqrt(level / 4000)
        assert abs((moderated < level).mean() - level) < 4 * error + 0.25 * level
    plain = fsc.lmmfit(Y, X, Z, d, ddf="satterthwaite", nonnegative=True).p["trt"]
    assert (plain < 0.05).mean() < (moderated < 0.05).mean()


def test_more_power_than_satterthwaite():
    Y, X, Z, d = study(donors=8, genes=2000, effect=0.8)
    options = {"nonnegative": True}
    found = lambda p: (sps.false_discovery_control(p) < 0.05)[:200].mean()
    moderated = fsc.lmmfit(Y, X, Z, d, moderate=True, **options).p["trt"]
    plain = fsc.lmmfit(Y, X, Z, d, ddf="satterthwaite", **options).p["trt"]
    assert found(moderated) > found(plain) + 0.2


def test_effects_leave_the_prior_alone():
    null, X, Z, d = study(genes=1000)
    some, *_ = study(genes=1000, effect=5.0)
    a, b = (fsc.lmmfit(Y, X, Z, d, moderate=True).moderated for Y in (null, some - 0.5 * (some - null)))
    np.testing.assert_allclose(a.weights, Moderated.of(*_again(null, X, Z, d, a)).weights, atol=1e-10)
    np.testing.assert_allclose(a.prior.weights.mean(axis=0), b.prior.weights.mean(axis=0), atol=0.02)


def _again(Y, X, Z, d, moderated):
    fit = fsc.lmmfit(Y, X, Z, d)
    return fit.projection, moderated.genes, np.arange(Y.shape[1]), moderated.covariate, moderated.prior


def test_a_constant_gene_gets_nothing_and_changes_nothing():
    Y, X, Z, d = study()
    full = fsc.lmmfit(np.column_stack([Y, np.ones(len(Y))]), X, Z, d, moderate=True)
    np.testing.assert_array_equal(full.p.iloc[:-1], fsc.lmmfit(Y, X, Z, d, moderate=True).p)
    assert full.p.iloc[-1].isna().all()
    assert full.status.iloc[-1] == "constant"


@pytest.mark.parametrize(("genes", "donors", "words"), [(99, 8, "99 genes"), (300, 4, "2 levels")])
def test_falls_back_to_satterthwaite_with_a_warning(genes, donors, words):
    Y, X, Z, d = study(donors=donors, genes=genes)
    if donors == 4:
        X["more"] = (np.arange(len(X)) // 30 == 0).astype(float)
        words = "1 levels"
    with pytest.warns(fsc.FlashmmWarning, match=words):
        fit = fsc.lmmfit(Y, X, Z, d, moderate=True, nonnegative=True)
    plain = fsc.lmmfit(Y, X, Z, d, ddf="satterthwaite", nonnegative=True)
    assert fit.moderated is None
    np.testing.assert_array_equal(fit.p, plain.p)


def test_what_has_no_grid_is_refused():
    Y, X, Z, d = study()
    with pytest.raises(ValueError, match="REML"):
        fsc.lmmfit(Y, X, Z, d, moderate=True, method="ML")
    with pytest.raises(ValueError, match="at most 2"):
        fsc.lmmfit(Y, X, np.hstack([Z, Z[:, ::-1], Z]), [8, 8, 8], moderate=True)
    with pytest.raises(ValueError, match="For ddf='residual' fit with moderate=False"):
        fsc.lmmtest(fsc.lmmfit(Y, X, Z, d, moderate=True), joint=True, ddf="residual")


@pytest.fixture
def adata() -> ad.AnnData:
    return fsc.datasets.simu_rnaseq(n_genes=150, n_cells=1500, n_samples=8, n_clusters=2, n_de_genes=20, seed=3)


@pytest.mark.parametrize("options", [{"fixed": "~ 0 + cls + cls:trt"}, {"fixed": "~ trt", "groupby": "cls"}])
@pytest.mark.parametrize("suffix", [None, "h5ad", "zarr"])
@pytest.mark.filterwarnings("ignore:The model pools")
def test_stored_and_tested_again_after_reading_back(adata, options, suffix, tmp_path):
    fsc.tl.lmm_de(adata, random="sam", transform="log1p", moderate=True, key_added="m", **options)
    if suffix:
        getattr(adata, f"write_{suffix}")(tmp_path / f"a.{suffix}")
        adata = getattr(ad, f"read_{suffix}")(tmp_path / f"a.{suffix}")
    name = "cls[2]:trt[T.B]" if "groupby" not in options else "trt[T.B]"
    fsc.tl.lmm_test(adata, name, key="m")
    fitted = fsc.get.lmm_de_df(adata, name, key="m").drop(columns="status")
    tested = fsc.get.lmm_de_df(adata, key="lmm_test").drop(columns="status")
    pd.testing.assert_frame_equal(fitted, tested, rtol=1e-9)
    assert adata.varm["m_theta_shrunk"].shape == adata.varm["m_theta"].shape
    assert np.isfinite(adata.varm["m_theta_shrunk"]).all()
    p = len(adata.uns["m"]["coef_names"])
    q, n_groups = 8 * len(adata.uns["m"]["groups"]), len(adata.uns["m"]["groups"])
    assert adata.varm["m_projected"].shape == (150, p + q + 2 * n_groups)
    assert len([name for name in adata.varm if name.startswith("m_")]) == 14
    fsc.tl.lmm_test(adata, [name], key="m", key_added="joint", joint=True)
    np.testing.assert_allclose(adata.varm["joint_pval"], adata.varm["lmm_test_pval"], rtol=1e-10)
    with pytest.raises(ValueError, match="moderated"):
        fsc.tl.lmm_test(adata, name, key="m", ddf="residual")


def test_a_joint_model_over_cell_types_draws_a_warning(adata):
    with pytest.warns(fsc.FlashmmWarning, match="groupby='cls'"):
        fsc.tl.lmm_de(adata, "~ 0 + cls + cls:trt", "sam", transform="log1p", moderate=True)


def test_a_group_that_falls_back_is_named_and_tested_again_with_the_same_df(adata):
    few = np.arange(150) < 60
    with pytest.warns(fsc.FlashmmWarning, match="is not moderated: only 60 genes") as caught:
        fsc.tl.lmm_de(
            adata, "~ trt", "sam", transform="log1p", moderate=True, groupby="cls", mask_var=few, ddf="residual"
        )
    plain = [warning for warning in caught if warning.category is fsc.FlashmmWarning]
    assert [str(warning.message).split(" is ")[0] for warning in plain] == ["Group '1'", "Group '2'"]
    fsc.tl.lmm_test(adata, "trt[T.B]")
    fitted = fsc.get.lmm_de_df(adata, "trt[T.B]")
    np.testing.assert_allclose(fitted["df"], fsc.get.lmm_de_df(adata, key="lmm_test")["df"])
    assert fitted["df"].max() < 100


def test_p_values_that_underflow_draw_no_warnings(adata):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Y, X, Z, d = study(genes=100, effect=1.0)
        fit = fsc.lmmfit(Y + 1e4 * X[["x"]].to_numpy(), X, Z, d, moderate=True)
    assert (fit.p["x"] == 0).any()
    for name in ("t", "se", "df"):
        assert np.isfinite(getattr(fit, name)).all(axis=None)
    np.testing.assert_allclose(fit.t, fit.coef / fit.se, rtol=1e-12)
    assert (sps.t.sf(fit.t["x"], fit.df["x"])[fit.p["x"] == 0] < 1e-300).all()


def test_group_by_group_as_alone(adata):
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p", moderate=True, groupby="cls")
    alone = adata[adata.obs["cls"] == "2"].copy()
    fsc.tl.lmm_de(alone, "~ trt", "sam", transform="log1p", moderate=True)
    together = fsc.get.lmm_de_df(adata, "trt[T.B]", groups="2").drop(columns="group")
    pd.testing.assert_frame_equal(together, fsc.get.lmm_de_df(alone, "trt[T.B]"), rtol=1e-8)


@pytest.mark.parametrize("moderate", [True, False])
def test_an_interval_ends_where_the_one_sided_test_has_half_of_what_is_left(adata, moderate):
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log2p1", moderate=moderate)
    fsc.tl.lmm_test(adata, "trt[T.B]", conf_level=0.9)
    table = fsc.get.lmm_de_df(adata, key="lmm_test")
    assert ((table["ci_low"] < table["coef"]) & (table["coef"] < table["ci_high"])).all()
    for gene in range(3):
        low = table["ci_low"][gene]
        side = {"lfc": abs(low), "alternative": "greater" if low > 0 else "less"}
        fsc.tl.lmm_test(adata, "trt[T.B]", key_added="end", **side)
        p = adata.varm["end_pval"][gene, 0]
        np.testing.assert_allclose(p if low > 0 else 1 - p, 0.05, rtol=1e-6)


def test_intervals_need_a_level(adata):
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log2p1")
    with pytest.raises(ValueError, match="conf_level=95"):
        fsc.tl.lmm_test(adata, "trt[T.B]", conf_level=95)
