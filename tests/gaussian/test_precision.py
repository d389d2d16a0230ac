"""Digits: values far from zero, covariates far from zero, columns nearly collinear, and residuals that are small.

What is fitted after a shift is compared with the fit before it, which differs by algebra only.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import dense_reference as dense
import numpy as np
import pytest

import flashmm_sc as fsc

SHIFTS = (1e3, 1e6, 1e7)


def fit(Y, X, Z, d, **options):
    return fsc.lmmfit(Y, X, Z, d, **({"nonnegative": True, "ddf": "satterthwaite"} | options))


def assert_same_tests(ours, theirs, coefs, rtol, *, scaled=False):
    """Equal coefficients (in standard errors), tests, variances and log-likelihoods."""
    assert list(ours.status) == list(theirs.status)
    coefs = list(coefs)
    se = theirs.se.iloc[:, coefs].to_numpy()
    each = [one.coef.iloc[:, coefs].to_numpy() / se for one in (ours, theirs)]
    np.testing.assert_allclose(*each, rtol=0, atol=rtol)
    for name in ("se", "df"):
        np.testing.assert_allclose(
            getattr(ours, name).iloc[:, coefs], getattr(theirs, name).iloc[:, coefs], rtol=rtol, err_msg=name
        )
    np.testing.assert_allclose(ours.theta, theirs.theta, rtol=0, atol=rtol * theirs.theta.max().max())
    if scaled:  # log det X'X is in the restricted likelihood
        return
    np.testing.assert_allclose(ours.loglik, theirs.loglik, rtol=0, atol=rtol * abs(theirs.loglik).max())


@pytest.fixture(scope="module", params=dense.DESIGNS)
def study(request):
    """A design with an intercept, of 200 cells; the last of its genes is constant, the one before within the fixed effects."""
    X, Z, d, Y = dense.example(request.param, m=6, n=200)
    X[:, 1], X[:, 4] = 1, X[:, 4] - 5
    Y[:, 4], Y[:, 5] = 7 * X[:, 4] - 3, 5
    return Y, X, Z, d


def test_values_far_from_zero(study):
    Y, X, Z, d = study
    near = fit(Y, X, Z, d)
    for shift in SHIFTS:
        assert_same_tests(fit(Y + shift, X, Z, d), near, (0, 2, 3, 4), 1e-16 * shift + 1e-9)
        assert_same_tests(fit(Y + shift * X[:, [4]], X, Z, d), near, (0, 1, 2, 3), 1e-16 * shift + 1e-9)


@pytest.mark.parametrize("options", [{"ddf": "kenward-roger"}, {"method": "ML"}, {"nonnegative": False}])
def test_values_and_covariates_far_from_zero_with_all_options(study, options):
    Y, X, Z, d = study
    far = X.copy()
    far[:, 4] += 1e6
    assert_same_tests(fit(Y + 1e6, far, Z, d, **options), fit(Y, X, Z, d, **options), (0, 2, 3, 4), 1e-8)


def test_covariates_far_from_zero(study):
    Y, X, Z, d = study
    near = fit(Y, X, Z, d)
    for shift in (1e3, 1e6):
        far = X.copy()
        far[:, 4] += shift
        ours = fit(Y, far, Z, d)
        assert_same_tests(ours, near, (0, 2, 3, 4), 1e-15 * shift + 1e-9)
        intercept = near.coef["x2"] - shift * near.coef["x5"]  # the same model
        np.testing.assert_allclose(ours.coef["x2"], intercept, rtol=1e-7, atol=1e-7)


def test_powers_far_from_zero(study):
    """Each needs those before it left out before what is its own can be seen."""
    Y, X, Z, d = study
    t = X[:, [4]]
    at_zero, far = np.hstack([X, t**2, t**3]), np.hstack([X[:, :4], t + 300, (t + 300) ** 2, (t + 300) ** 3])
    assert_same_tests(fit(Y[:, :4], far, Z, d), fit(Y[:, :4], at_zero, Z, d), (0, 2, 3, 6), 1e-6)


@pytest.mark.parametrize("apart", [1e-3, 1e-6])
def test_columns_that_are_nearly_collinear(study, apart):
    Y, X, Z, d = study
    other = np.random.default_rng(5).normal(size=(len(X), 1))
    wide, narrow = np.hstack([X, other]), np.hstack([X, X[:, [4]] + apart * other])
    ours, theirs = fit(Y, narrow, Z, d), fit(Y, wide, Z, d)
    assert_same_tests(ours, theirs, (0, 1, 2, 3), 1e-8, scaled=True)
    for name in ("coef", "se"):
        rtol = 1e-8 if name == "se" else 1e-6
        np.testing.assert_allclose(
            apart * getattr(ours, name)["x6"], getattr(theirs, name)["x6"], rtol=rtol, atol=1e-9 * Y.std()
        )


def test_columns_equal_up_to_rounding_are_refused(study):
    Y, X, Z, d = study
    for twin in (X[:, [4]] * (1 + 1e-8), X[:, [4]].astype(np.float32), X[:, [0]] + X[:, [1]]):
        with pytest.raises(ValueError, match="rank deficient"):
            fit(Y, np.hstack([X, twin]), Z, d)


def test_sums_from_elsewhere_are_told_to_have_few_digits(study):
    Y, X, Z, d = study
    sums = replace(fsc.sslmm(X, Y[:, :4] + 1e5, Z, d), refined=None)
    with pytest.warns(fsc.FlashmmWarning, match=r"keep few digits of it.*subtract a constant"):
        fsc.lmm(sums)


@pytest.mark.parametrize("sd", [1e3, 1e4, 1e5])
def test_a_residual_variance_far_below_the_others(sd):
    """γ of 1e6 to 1e10; beyond, too few digits are left, and genes have a status of their own."""
    rng = np.random.default_rng(3)
    X, Z, d = dense.design("sam", n=300)
    small = Z @ rng.normal(size=(Z.shape[1], 8)) + rng.normal(size=(300, 8)) / sd
    with nullcontext() if sd < 1e5 else pytest.warns(fsc.FlashmmWarning, match="keep few digits"):
        ours = fit(small, X, Z, d)
    assert set(ours.status) == {"ok"}
    # what lies within samples is as good as all that there is for effects within them
    inside = np.linalg.lstsq(np.hstack([X, Z]), small, rcond=None)[0]
    left = small - np.hstack([X, Z]) @ inside
    df = 300 - np.linalg.matrix_rank(np.hstack([X, Z]))
    np.testing.assert_allclose(ours.theta["residual"], (left**2).sum(axis=0) / df, rtol=1e-4)


def test_a_residual_variance_lost_to_rounding_is_no_result():
    rng = np.random.default_rng(3)
    X, Z, d = dense.design("sam", n=300)
    small = Z @ rng.normal(size=(Z.shape[1], 8)) + rng.normal(size=(300, 8)) * 1e-7
    assert set(fit(small, X, Z, d).status) == {"no residual"}
