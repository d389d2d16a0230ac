"""One component without factorisations against those of each gene, and the fits that come of it."""

from __future__ import annotations

import dense_reference as dense
import numpy as np
import pytest

import flashmm_sc as fsc
from flashmm_sc._gaussian.dense.covariance import DenseCovariance

M = 50


@pytest.fixture
def S():
    """A rank deficient covariance, as Z'RZ is."""
    L = np.random.default_rng(0).normal(size=(40, 37)) * np.geomspace(0.01, 30, 40)[:, None]
    return DenseCovariance.of(L @ L.T, [40], [37])


@pytest.fixture
def gamma(S):
    """From just above where S D loses its definiteness to ratios whose determinant overflows."""
    return np.r_[-0.999, -0.5, 0.0, np.geomspace(1e-6, 1e12, M - 4), 1e200][:, None] / S.lam[-1]


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12 * np.abs(theirs).max())


def test_determinants(S, gamma):
    factor = S.factor(gamma)
    assert factor.ok.all()
    for ours, theirs in zip(
        S.prepared(M * M, 1).between.determinant(gamma), (factor.logdet, *factor.traces()), strict=True
    ):
        close(ours, theirs)


def test_forms_of_genes(S, gamma):
    rng = np.random.default_rng(1)
    gamma, many = gamma[:-1], S.prepared(M * M, 1)
    A, r = rng.normal(size=(40, 4)), S.split(rng.normal(size=(40, len(gamma))))
    factor, forms, x = S.factor(gamma), many.between.forms(r), many.shared(A, np.eye(4))
    v, form = factor.solve(r)
    value, v_sq, quad = forms(gamma)
    close(value, form)
    close(v_sq, v.squares())
    close(quad, factor.products(v))
    close(forms.shared(gamma), factor.shared_forms(r))
    close(forms.dot(x.forms, gamma), v.scaled(gamma).dot(x.vectors))
    some = np.array([3, 1, 40])
    np.testing.assert_array_equal(forms[some](gamma[some])[1], v_sq[some])


def test_ratios_out_of_range_are_told(S):
    top = 1 / S.lam[-1]
    ratios = np.array([[0], [-0.9 * top], [-top], [-2 * top], [np.nan], [np.inf], [1e9]])
    assert S.prepared(M * M, 1).between.knows(ratios).tolist() == [True, True, False, False, False, False, True]


@pytest.mark.parametrize("method", ["REML", "ML"])
@pytest.mark.parametrize("nonnegative", [True, False])
def test_fits_are_those_of_factorisations(method, nonnegative):
    """Genes whose ratios are negative, zero and far out, few at a time and all together."""
    X, Z, d, _ = dense.example("sam")
    rng = np.random.default_rng(5)
    theta = np.column_stack([rng.choice([0.0, 0.1, 1.0, 1e4], 120), np.ones(120)])
    stats = fsc.sslmm(X, dense.simulate(X, Z, d, theta), Z, d)
    fit = lambda genes: fsc.lmm(stats.select(genes=genes), method=method, nonnegative=nonnegative, ddf="satterthwaite")
    ours = fit(np.arange(120))
    for part in (np.arange(60), np.arange(60, 120)):
        theirs = fit(part)
        assert ours.status.iloc[part].tolist() == theirs.status.tolist()
        for column in ("coef", "se", "theta", "df", "loglik"):
            np.testing.assert_allclose(
                getattr(ours, column).iloc[part], getattr(theirs, column), rtol=1e-6, err_msg=column
            )
