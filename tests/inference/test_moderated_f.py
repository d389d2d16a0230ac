from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from moderated_reference import posterior_by_hand, study
from scipy import stats as sps

import flashmm_sc as fsc
from flashmm_sc._inference.tails import f_quantile, f_upper_tail

L = np.array([[0, 0], [1, 0.5], [0, 2.0]])


def joint(fit: fsc.LMMFit, L: np.ndarray) -> pd.DataFrame:
    return fsc.lmmtest(fit, L, joint=True)


@pytest.mark.parametrize("batches", [0, 5])
def test_against_the_definition(batches):
    Y, X, Z, d = study(genes=120, cells=12, batches=batches, effect=1.0)
    fit = fsc.lmmfit(Y, X, Z, d, moderate=True, nonnegative=True)
    ours, nu = joint(fit, L), len(Y) - X.shape[1]
    for gene in (0, 17, 80):
        weights, beta, cov = posterior_by_hand(fit, Y, X, Z, gene)
        F = [b @ L @ np.linalg.solve(L.T @ V @ L, L.T @ b) / 2 for b, V in zip(beta, cov, strict=True)]
        np.testing.assert_allclose(ours["p"].iloc[gene], weights @ sps.f.sf(F, 2, nu), rtol=1e-6)
    np.testing.assert_allclose(sps.f.sf(ours["F"], ours["df_num"], ours["df"]), ours["p"], rtol=1e-8)
    assert (ours["df_num"] == 2).all()
    assert (ours["df"] == nu).all()


def test_f_of_one_contrast_has_the_p_value_of_t():
    Y, X, Z, d = study(effect=1.0)
    fit = fsc.lmmfit(Y, X, Z, d, moderate=True)
    contrast = {"c": np.array([0, 1, 0.5])}
    np.testing.assert_allclose(
        fsc.lmmtest(fit, contrast, joint=True)["p"], fsc.lmmtest(fit, contrast)["c_p"], rtol=1e-12
    )


def test_depends_only_on_the_space_of_the_contrasts():
    Y, X, Z, d = study(effect=1.0)
    fit = fsc.lmmfit(Y, X, Z, d, moderate=True)
    mixed = L @ np.array([[1.0, 2.0], [-3.0, 1e-3]])
    pd.testing.assert_frame_equal(joint(fit, L), joint(fit, mixed), rtol=1e-8)


def test_levels_are_exact_with_few_donors():
    Y, X, Z, d = study(donors=9, genes=4000)
    X = X.assign(second=(np.arange(len(X)) // 30 % 3 == 1).astype(float))
    X["trt"] = (np.arange(len(X)) // 30 % 3 == 2).astype(float)
    p = joint(fsc.lmmfit(Y, X, Z, d, moderate=True, nonnegative=True), np.eye(4)[:, [1, 3]])["p"]
    for level in (0.05, 0.01, 0.001):
        assert abs((p < level).mean() - level) < 4 * np.sqrt(level / 4000) + 0.25 * level


def test_anova_of_groups_is_that_of_the_joint_tests():
    adata = fsc.datasets.simu_rnaseq(n_genes=150, n_cells=1500, n_samples=9, n_clusters=2, seed=3)
    adata.obs["arm"] = "a" + pd.Series(adata.obs["sam"].cat.codes % 3, adata.obs_names).astype(str)
    fsc.tl.lmm_de(adata, "~ arm", "sam", transform="log1p", moderate=True, groupby="cls")
    fsc.tl.lmm_anova(adata)
    fsc.tl.lmm_test(adata, ["arm[T.a1]", "arm[T.a2]"], joint=True)
    anova, tested = (fsc.get.lmm_de_df(adata, key=key) for key in ("lmm_anova", "lmm_test"))
    pd.testing.assert_frame_equal(anova.drop(columns="contrast"), tested.drop(columns="contrast"), rtol=1e-9)
    assert anova["p_value"].notna().all()


def test_p_values_that_underflow_have_a_finite_f():
    Y, X, Z, d = study(genes=100)
    ours = joint(fsc.lmmfit(Y + 1e4 * X[["x"]].to_numpy(), X, Z, d, moderate=True), L)
    assert (ours["p"] == 0).any()
    assert np.isfinite(ours).all(axis=None)
    assert (sps.f.sf(ours["F"], 2, ours["df"])[ours["p"] == 0] < 1e-300).all()


@pytest.mark.parametrize("r", [1, 2, 5])
def test_tails_and_quantiles_of_f(r):
    F = np.geomspace(1e-8, 300, 50)
    for nu in (5, 300, 200_000):
        p = f_upper_tail(F, r, nu)
        np.testing.assert_allclose(p, sps.f.sf(F, r, nu), rtol=1e-7)
        np.testing.assert_allclose(f_upper_tail(f_quantile(p, r, nu), r, nu), p, rtol=1e-8)
        assert (np.diff(f_quantile(p[p > 0], r, nu)) >= 0).all()
