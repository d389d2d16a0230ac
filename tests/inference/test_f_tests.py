from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import reference_data as rd

import flashmm_sc as fsc
from flashmm_sc._design import type3
from flashmm_sc._inference.f_tests import _kenward_roger_df, _pooled, _wald, check_independent, f_tests
from flashmm_sc._results.models import Model


def fitted(fixed: str, random: object, genes: list[str]) -> tuple[fsc.LMMFit, Model]:
    model, X, Z = rd.designs(fixed, random)
    return fsc.lmmfit(rd.log_counts()[genes], X, Z, model.design.random.d, nonnegative=True), model


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
def test_type3_anova_of_lmertest(ddf):
    fit, model = fitted(rd.ANOVA_FIXED, "sam", list(rd.genes()[:1]))
    ours = f_tests(fit.projection, fit.inference.estimates, list(model.terms.values()), ddf=ddf)
    theirs = rd.anova().query("ddf == @ddf").set_index("term").loc[list(model.terms)]
    np.testing.assert_allclose(ours.F[0], theirs["f"], rtol=1e-4)
    np.testing.assert_allclose(ours.df_num[0], theirs["num_df"])
    np.testing.assert_allclose(ours.df[0], theirs["den_df"], rtol=1e-4)
    np.testing.assert_allclose(ours.p[0], theirs["p"], rtol=1e-4)


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
@pytest.mark.parametrize("design", ["sam_batch", "sam_samcls"])
def test_joint_tests_with_two_components_of_lmertest(design, ddf):
    theirs = pd.read_csv(rd.HERE / "ftests.csv", skipinitialspace=True)
    theirs.columns = theirs.columns.str.strip()
    theirs = theirs[(theirs["design"].str.strip() == design) & (theirs["ddf"].str.strip() == ddf)]
    fit, _ = fitted(rd.FIXED, rd.random_of[design], [gene.strip() for gene in theirs["gene"]])
    ours = fsc.lmmtest(fit, index=[4, 5, 6], joint=True, ddf=ddf)
    assert len(ours) == 3
    for name in ("F", "df_num", "df", "p"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4)


@pytest.mark.parametrize("ddf", ["residual", "satterthwaite", "kenward-roger"])
@pytest.mark.parametrize("design", ["sam", "sam_samcls", "sam_slope"])
def test_f_of_one_contrast_is_t_squared(design, ddf):
    fit, _ = fitted(rd.FIXED, rd.random_of[design], list(rd.genes()[:10]))
    contrast = {"d": rd.contrasts_of["d12"]}
    F, t = fsc.lmmtest(fit, contrast, joint=True, ddf=ddf), fsc.lmmtest(fit, contrast, ddf=ddf)
    np.testing.assert_allclose(F["F"], t["d_t"] ** 2, rtol=1e-8)
    np.testing.assert_allclose(F["p"], t["d_p"], rtol=1e-6)


@pytest.mark.parametrize("ddf", ["residual", "satterthwaite", "kenward-roger"])
def test_joint_test_depends_only_on_the_space_of_its_contrasts(ddf):
    fit, _ = fitted(rd.FIXED, "sam", list(rd.genes()[:10]))
    L = np.eye(7)[:, 4:]
    mixed = L @ np.array([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0], [3.0, 0.0, 1.0]])
    a, b = (f_tests(fit.projection, fit.inference.estimates, [M], ddf=ddf) for M in (L, mixed))
    np.testing.assert_allclose(a.F, b.F, rtol=1e-8)
    np.testing.assert_allclose(a.p, b.p, rtol=0.05 if ddf == "satterthwaite" else 1e-7)  # its eigenvectors depend on L


def test_residual_f_is_the_wald_test():
    fit, _ = fitted(rd.FIXED, "sam", list(rd.genes()[:4]))
    ours = f_tests(fit.projection, fit.inference.estimates, [np.eye(7)[:, 4:]], ddf="residual")
    beta, cov = fit.coef.to_numpy()[:, 4:], fit.cov()[:, 4:, 4:]
    wald = np.einsum("ij,ij->i", beta, np.linalg.solve(cov, beta[..., None])[..., 0]) / 3
    np.testing.assert_allclose(ours.F[:, 0], wald, rtol=1e-9)
    assert (ours.df == 1200 - 7).all()


def test_df_of_several_t_tests_as_contestmd_pools_them():
    """E = Σ ν/(ν - 2) gives 2 E/(E - r), 2 if a ν is no more than that, and ν itself where all are alike."""
    nu = np.array([[3.0, 5.0], [2.5, 40.0], [2.0, 90.0], [1.5, 90.0], [7.0, 7.0], [1.5, 1.5], [np.nan, 5.0]])
    E = 3 + 5 / 3, 5 + 40 / 38
    expected = [2 * E[0] / (E[0] - 2), 2 * E[1] / (E[1] - 2), 2, 2, 7, 1.5, np.nan]
    np.testing.assert_allclose(_pooled(nu), expected, rtol=1e-12)


@pytest.mark.parametrize("r", [2, 3, 7])
def test_df_and_scale_of_kenward_and_roger(r):
    """An F_r,ν has the approximate mean and variance of the statistic, times λ, that they have for it."""
    A1, A2 = np.array([0.01, 0.2, 0.9]), np.array([0.02, 0.1, 0.3])
    df, scale = _kenward_roger_df(A1, A2, r)
    B, g = (A1 + 6 * A2) / (2 * r), ((r + 1) * A1 - (r + 4) * A2) / ((r + 2) * A2)
    c = np.array([g, r - g, r + 2 - g]) / (3 * r + 2 * (1 - g))
    mean, variance = 1 / (1 - A2 / r), 2 / r * (1 + c[0] * B) / ((1 - c[1] * B) ** 2 * (1 - c[2] * B))
    np.testing.assert_allclose(scale * mean, df / (df - 2), rtol=1e-9)
    np.testing.assert_allclose(
        scale**2 * variance, 2 * df**2 * (r + df - 2) / (r * (df - 2) ** 2 * (df - 4)), rtol=1e-9
    )


def test_walds_statistic_where_the_covariance_is_singular():
    effect = np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])
    V = np.array([[[2.0, 0.0], [0.0, 4.0]], [[1.0, 1.0], [1.0, 1.0]], [[np.nan, 0.0], [0.0, 1.0]]])
    np.testing.assert_allclose(_wald(effect, V), [(1 / 2 + 4 / 4) / 2, np.nan, np.nan])


def test_dependent_contrasts_are_named():
    with pytest.raises(ValueError, match="'c'"):
        check_independent(np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]), ["a", "b", "c"])


def test_type3_averages_over_the_levels_of_other_factors():
    model, _, _ = rd.designs("~ cls * trt", "sam")
    names = model.design.fixed.names
    L = type3.hypotheses(model.design.fixed, rd.obs())["trt"][:, 0]
    ratio = L / L[names.index("trt[T.B]")]
    expected = {"trt[T.B]": 1.0, "cls[T.2]:trt[T.B]": 1 / 3, "cls[T.3]:trt[T.B]": 1 / 3}
    np.testing.assert_allclose(ratio, [expected.get(name, 0.0) for name in names], atol=1e-12)


@pytest.mark.parametrize(
    ("fixed", "terms"),
    [
        ("~ 0 + log(libsize) + cls + cls:trt", ["log(libsize)", "cls", "cls:trt"]),
        ("~ C(cls) + score:trt", ["C(cls)", "score:trt"]),
        ("~ bs(score, df=4) * trt", ["bs(score, df=4)", "trt", "bs(score, df=4):trt"]),
        ("~ C(cls, Treatment('2')) + trt", ["C(cls, Treatment('2'))", "trt"]),
    ],
)
def test_type3_of_any_formula_spans_the_terms(fixed, terms):
    model, _, _ = rd.designs(fixed, "sam")
    assert list(model.terms) == terms
    for name, L in model.terms.items():
        assert L.shape == (len(model.design.fixed.names), len(model.design.fixed.terms[name]))
        assert np.linalg.matrix_rank(L) == L.shape[1]
