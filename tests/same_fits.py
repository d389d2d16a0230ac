"""Fits of the same models by two covariances, the dense one and another, for the tests of the others."""

from __future__ import annotations

import dense_reference as dense
import numpy as np
import pytest

import flashmm_sc as fsc
from flashmm_sc._arrays.sslmm import sslmm
from flashmm_sc._gaussian.dense.covariance import DenseCovariance

FITS = pytest.mark.parametrize(
    "options",
    [
        {"ddf": "satterthwaite"},
        {"ddf": "satterthwaite", "method": "ML"},
        {"ddf": "kenward-roger"},
        {"theta0": True},
    ],
    ids=str,
)


def same(a, b, rtol=1e-8):
    a, b = np.asarray(a), np.asarray(b)
    np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.nanmax(np.abs(b)))


def check_fits(name, options, enter, room):
    """Many genes, some of which have components at zero; after `enter`, fits are those of this kind of covariance."""
    X, Z, d, _ = dense.example(name)
    theta = np.random.default_rng(0).gamma(0.7, 0.7, (40, len(d) + 1)) + 0.05
    theta[:8, 0] = theta[4:12, -2] = 0
    stats = sslmm(X, dense.simulate(X, Z, d, theta), Z, d)
    if options.get("theta0"):
        options = {"theta0": np.ones(len(d) + 1)}
    theirs = fsc.lmm(stats, nonnegative=True, **options)
    enter()
    ours = fsc.lmm(stats, nonnegative=True, **options)
    assert isinstance(ours.projection.S, room)
    assert isinstance(theirs.projection.S, DenseCovariance)
    assert (theirs.status == "boundary").any()
    np.testing.assert_array_equal(ours.status, theirs.status)
    same(ours.theta, theirs.theta, 1e-6)
    for part in ("coef", "se", "t", "p"):
        same(getattr(ours, part), getattr(theirs, part), 1e-6)
    np.testing.assert_allclose(ours.df, theirs.df, rtol=1e-4)
    np.testing.assert_allclose(ours.loglik, theirs.loglik, rtol=1e-9)
    np.testing.assert_allclose(ours.theta_se, theirs.theta_se, rtol=1e-5)
    for method in ("ranef", "cov", "fim"):
        same(np.asarray(getattr(ours, method)()), np.asarray(getattr(theirs, method)()), 1e-5)
    joint = np.eye(X.shape[1])[:, 2:4]
    if options.get("ddf"):
        same(*(fsc.lmmtest(fit, joint, joint=True).to_numpy() for fit in (ours, theirs)), 1e-4)
