"""t tests of linear combinations against the dense reference and scipy's distribution."""

from __future__ import annotations

from itertools import product

import dense_reference as dense
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import quad

import flashmm_sc as fsc
from flashmm_sc._gaussian.estimate import Estimates
from flashmm_sc._inference.t_tests import TTests, t_and_p, t_tests, with_intervals

CONTRASTS = np.column_stack([np.eye(5), [0, 0, 1, -1, 0], [0, 0, 0.5, 0.5, 0], [1, -1, 2, 0, 0.1]])


@pytest.fixture(
    scope="module",
    params=list(product(dense.DESIGNS, ["REML", "ML"], [True, False])),
    ids=lambda p: "-".join(map(str, p)),
)
def fitted(request):
    """A fit, and the dense model and theta of each gene with a positive definite V."""
    name, method, nonnegative = request.param
    X, Z, d, Y = dense.example(name)
    fit = fsc.lmmfit(Y, X, Z, d, method=method, nonnegative=nonnegative)
    use = np.flatnonzero(fit.status.isin(["ok", "boundary"]))
    assert len(use) >= 3
    return fit, use, [(dense.DenseModel(Y[:, g], X, Z, d, method), fit.theta.to_numpy()[g]) for g in use]


def test_estimates_and_standard_errors(fitted):
    fit, use, genes = fitted
    tests = t_tests(fit.projection, fit.inference.estimates, CONTRASTS)
    np.testing.assert_allclose(tests.coef[use], [model.coef(theta) @ CONTRASTS for model, theta in genes], rtol=1e-8)
    variance = [[c @ model.cov(theta) @ c for c in CONTRASTS.T] for model, theta in genes]
    np.testing.assert_allclose(tests.se[use], np.sqrt(variance), rtol=1e-9)
    np.testing.assert_allclose(tests.t, tests.coef / tests.se)
    assert (tests.df[use] == 55).all()


def test_satterthwaite(fitted):
    """By the formula; a component at zero bounds it by its containment df."""
    fit, use, genes = fitted
    tests = t_tests(fit.projection, fit.inference.estimates, CONTRASTS, ddf="satterthwaite")
    for g, (model, theta) in zip(use, genes, strict=True):
        if fit.nonnegative:
            zero = np.flatnonzero(theta == 0)
            bound = [min([model.containment(k, c) for k in zero], default=np.inf) for c in CONTRASTS.T]
        else:
            bound = np.inf
        expected = [model.satterthwaite(theta, c) for c in CONTRASTS.T]
        np.testing.assert_allclose(tests.df[g], np.minimum(expected, bound), rtol=1e-7)


def test_t_values_and_p_values(fitted):
    fit, use, _ = fitted
    for ddf, alternative in product(["residual", "satterthwaite"], ["two-sided", "less", "greater"]):
        tests = t_tests(fit.projection, fit.inference.estimates, CONTRASTS, ddf=ddf, alternative=alternative)
        np.testing.assert_allclose(tests.p[use], p_of(tests.t[use], tests.df[use], alternative), rtol=1e-9)


def p_of(t, df, alternative):
    if alternative == "two-sided":
        return 2 * stats.t.sf(np.abs(t), df)
    return stats.t.sf(t, df) if alternative == "greater" else stats.t.cdf(t, df)


def test_intervals_are_those_of_t():
    coef, se, df = (
        np.array([[-1.0, 0.0], [3.0, np.nan]]),
        np.array([[0.5, 2.0], [1.0, 1.0]]),
        np.array([[2.5, 60.0], [1e5, 3.0]]),
    )
    ours = with_intervals(TTests(coef, se, coef / se, df, np.ones((2, 2))), 0.9)
    low, high = stats.t.interval(0.9, df, coef, se)
    np.testing.assert_allclose(ours.ci_low, low, rtol=1e-10)
    np.testing.assert_allclose(ours.ci_high, high, rtol=1e-10)


@pytest.mark.parametrize("df", [1.0, 2.5, 12.0, 1e3, 1e5])
@pytest.mark.parametrize("alternative", ["two-sided", "less", "greater"])
def test_p_values_from_the_centre_to_the_far_tail(alternative, df):
    t = np.concatenate([[0], np.geomspace(1e-2, 37, 60)])
    t = np.append(-t[::-1], t)
    p = t_and_p(t, np.ones_like(t), np.full_like(t, df), alternative)[1]
    np.testing.assert_allclose(p, p_of(t, df, alternative), rtol=1e-9)
    assert p.min() > 0


@pytest.mark.parametrize(("t", "df"), [(37.0, 1e5), (36.0, 1e4), (50.0, 1e3), (1e8, 30.0)])
def test_tiny_p_values_by_integration_of_the_density(t, df):
    p = t_and_p(np.array([t]), np.ones(1), np.array([df]), "greater")[1][0]
    scale = (df + t**2) / ((df + 1) * t)  # on which the density falls
    relative = lambda x: np.exp(stats.t.logpdf(t + scale * x, df) - stats.t.logpdf(t, df))
    log_p = stats.t.logpdf(t, df) + np.log(scale * quad(relative, 0, np.inf, epsabs=0, epsrel=1e-11)[0])
    assert log_p < -200
    np.testing.assert_allclose(np.log(p), log_p, rtol=1e-10)


@pytest.mark.parametrize("df", [1e3, 1e5, 1e7])
def test_p_values_of_tiny_t(df):
    t = np.geomspace(1e-9, 1e-2, 30)
    p = t_and_p(t, np.ones_like(t), np.full_like(t, df), "two-sided")[1]
    np.testing.assert_allclose(1 - p, 1 - p_of(t, df, "two-sided"), rtol=1e-6, atol=1e-15)


@settings(max_examples=50)
@given(
    st.floats(-5, 5), st.floats(0.01, 3), st.floats(1, 1e6), st.floats(0.01, 3), st.sampled_from(["less", "greater"])
)
def test_smallest_effect_that_counts(coef, se, df, effect, side):
    """One-sided tests are those of the shifted estimate, the two-sided one adds both."""
    arrays = np.array([coef]), np.array([se]), np.array([df])
    shift = -effect if side == "greater" else effect
    t, p = t_and_p(*arrays, side, effect)
    np.testing.assert_allclose(t, (coef + shift) / se, rtol=1e-12)
    np.testing.assert_allclose(p, p_of(t, df, side), rtol=1e-6)
    t, p = t_and_p(*arrays, "two-sided", effect)
    near, far = (abs(coef) - effect) / se, (abs(coef) + effect) / se
    np.testing.assert_allclose(p, min(1, stats.t.sf(near, df) + stats.t.sf(far, df)), rtol=1e-6)
    np.testing.assert_allclose(t, np.sign(coef) * max(near, 0), rtol=1e-12)


def test_genes_without_a_fit_stay_nan():
    X, Z, d, Y = dense.example("crossed")
    fit = fsc.lmmfit(Y, X, Z, d, nonnegative=True)
    theta = fit.theta.to_numpy().copy()
    theta[[0, 3]] = np.nan
    estimates = Estimates(fit.coef.to_numpy(), theta, fit.theta_cov)
    some, all_ = (
        t_tests(fit.projection, estimates, CONTRASTS),
        t_tests(fit.projection, fit.inference.estimates, CONTRASTS),
    )
    for name in ("se", "t", "df", "p"):
        assert np.isnan(getattr(some, name)[[0, 3]]).all()
        np.testing.assert_array_equal(getattr(some, name)[[1, 2, 4, 5]], getattr(all_, name)[[1, 2, 4, 5]])


def test_scale_of_a_contrast_changes_nothing_but_the_estimate():
    X, Z, d, Y = dense.example("nested")
    fit = fsc.lmmfit(Y, X, Z, d, nonnegative=True)
    for ddf in ("satterthwaite", "kenward-roger", "residual"):
        one, other = (t_tests(fit.projection, fit.inference.estimates, CONTRASTS * k, ddf=ddf) for k in (1, -1e6))
        np.testing.assert_allclose(other.se, one.se * 1e6, rtol=1e-9)
        np.testing.assert_allclose(other.t, -one.t, rtol=1e-9)
        np.testing.assert_allclose(other.df, one.df, rtol=1e-9)
        np.testing.assert_allclose(other.p, one.p, rtol=1e-7)
