"""Tests of combinations of coefficients are matrix algebra on the fit, and agree with each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as sps
from strategies import arrays, examples, seeds, studies

import flashmm_sc as fsc

DDF = st.sampled_from(["residual", "satterthwaite", "kenward-roger"])
FIXED = "covariates", "types", "types and covariate", "arm"


@given(arrays(fixed=FIXED), DDF, seeds)
@examples(6)
def test_combinations_are_matrix_algebra(made, ddf, seed):
    rng, p = np.random.default_rng(seed), made.X.shape[1]
    fit = made.fit(nonnegative=True, ddf=ddf)
    L = rng.normal(size=(p, 3))
    table, scaled = fsc.lmmtest(fit, L), fsc.lmmtest(fit, -7 * L)
    part = lambda table, name: table.filter(regex=f"_{name}$").to_numpy()
    beta = fit.coef.to_numpy() @ L
    np.testing.assert_allclose(part(table, "coef"), beta, rtol=1e-10)
    np.testing.assert_allclose(part(scaled, "coef"), -7 * beta, rtol=1e-10)
    for name, sign in {"t": -1, "p": 1}.items():
        np.testing.assert_allclose(part(scaled, name), sign * part(table, name), rtol=1e-8)
    each = fsc.lmmtest(fit, np.eye(p))
    np.testing.assert_allclose(part(each, "t"), fit.t, rtol=1e-9)
    np.testing.assert_allclose(part(each, "p"), fit.p, rtol=1e-8)
    if ddf != "kenward-roger":
        se = np.sqrt(np.einsum("pr,gpq,qr->gr", L, fit.cov(), L))
        np.testing.assert_allclose(part(table, "t"), beta / se, rtol=1e-7)


@given(arrays(fixed=FIXED), DDF, seeds, st.floats(0, 2))
@examples(6)
def test_one_sided_tests_and_least_effects(made, ddf, seed, effect):
    """Two sides add up to 1; the two-sided p is twice the smaller; larger effects to exceed have larger p."""
    fit = made.fit(nonnegative=True, ddf=ddf)
    contrast = {"c": np.random.default_rng(seed).normal(size=made.X.shape[1])}
    p = {
        side: fsc.lmmtest(fit, contrast, alternative=side)["c_p"].to_numpy()
        for side in ("greater", "less", "two-sided")
    }
    np.testing.assert_allclose(p["greater"] + p["less"], np.where(np.isnan(p["less"]), np.nan, 1.0), atol=1e-12)
    np.testing.assert_allclose(p["two-sided"], 2 * np.minimum(p["greater"], p["less"]), rtol=1e-9)
    known = np.isfinite(p["less"])
    for side, plain in p.items():
        treat = fsc.lmmtest(fit, contrast, alternative=side, min_effect=effect)["c_p"].to_numpy()
        assert (treat[known] >= plain[known] - 1e-12).all()
        assert ((treat[known] >= 0) & (treat[known] <= 1)).all()


@given(arrays(fixed=FIXED), DDF, seeds)
@examples(6)
def test_joint_tests_depend_on_the_space_of_their_contrasts(made, ddf, seed):
    """But for Satterthwaite's df, which go by eigenvectors in the coordinates given: turned contrasts have the same."""
    rng, p = np.random.default_rng(seed), made.X.shape[1]
    fit, r = made.fit(nonnegative=True, ddf=ddf), min(p, 3)
    L = rng.normal(size=(p, r))
    M = np.linalg.qr(rng.normal(size=(r, r)))[0]
    if ddf != "satterthwaite":
        M = M @ np.diag(rng.uniform(0.2, 5, r)) @ np.linalg.qr(rng.normal(size=(r, r)))[0]
    a, b = fsc.lmmtest(fit, L, joint=True), fsc.lmmtest(fit, L @ M, joint=True)
    for name in ("F", "df", "p"):
        np.testing.assert_allclose(b[name], a[name], rtol=1e-5)
    np.testing.assert_allclose(sps.f.sf(a["F"], r, a["df"]), a["p"], rtol=1e-7)
    one, t = fsc.lmmtest(fit, {"c": L[:, 0]}, joint=True), fsc.lmmtest(fit, {"c": L[:, 0]})
    np.testing.assert_allclose(one["F"], t["c_t"] ** 2, rtol=1e-7)
    np.testing.assert_allclose(one["p"], t["c_p"], rtol=1e-6)


@given(studies(("types", "covariate", "each type", "residuals"), genes=4), st.floats(0.5, 0.999))
@examples(5)
def test_stored_fits_are_tested_as_fits_are(made, level):
    """Expressions, vectors and the fit itself agree; an interval has the values that a test doesn't reject."""
    study, fitted = made
    names = list(fitted.uns["lmm_de"]["coef_names"])
    by_group = bool(study.options.get("groupby"))
    own = [name.partition("|")[2] for name in names] if by_group else names
    first, last = own[0], own[-1]
    contrasts = {"sum": f"0.5 * `{first}` + `{last}`", "last": f"`{last}`"}
    fsc.tl.lmm_test(fitted, contrasts, conf_level=level)
    coef, found = fitted.varm["lmm_de_coef"], lambda name: fitted.varm[f"lmm_test_{name}"]
    if not by_group:
        np.testing.assert_allclose(found("coef")[:, 0], 0.5 * coef[:, 0] + coef[:, -1], rtol=1e-10, atol=1e-12)
    for name in ("coef", "se", "t", "df", "pval"):
        np.testing.assert_allclose(found(name)[:, -1], fitted.varm[f"lmm_de_{name}"][:, -1], rtol=1e-8)
    half = sps.t.ppf((1 + level) / 2, found("df")) * found("se")
    np.testing.assert_allclose(found("ci_high") - found("coef"), half, rtol=1e-7)
    outside = (found("ci_low") > 0) | (found("ci_high") < 0)
    known = np.isfinite(half) & (np.abs(found("pval") - (1 - level)) > 1e-9)
    np.testing.assert_array_equal(outside[known], (found("pval") < 1 - level)[known])


@pytest.mark.parametrize("sides", [("greater", "less")])
@given(studies(("types", "each type"), genes=4))
@examples(5)
def test_sides_of_stored_tests(sides, made):
    _, fitted = made
    name = list(fitted.uns["lmm_de"]["coef_names"])[-1].rpartition("|")[2]
    p = []
    for side in sides:
        fsc.tl.lmm_test(fitted, {"c": f"`{name}`"}, alternative=side)
        p.append(fitted.varm["lmm_test_pval"])
    known = np.isfinite(p[0])
    np.testing.assert_allclose((p[0] + p[1])[known], 1, atol=1e-12)
