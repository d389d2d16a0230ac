"""Values between shared points against factorisations of each gene, and the fits that come of them."""

from __future__ import annotations

import dense_reference as dense
import numpy as np
import pytest

import flashmm_sc as fsc
from flashmm_sc._gaussian.dense import covariance as module
from flashmm_sc._gaussian.dense.between import Between
from flashmm_sc._gaussian.dense.covariance import DenseCovariance, DenseFactorisation

M = 60


@pytest.fixture(params=[(40, 9), (9, 40), (12, 12)], ids=str)
def S(request):
    """A covariance of two components, rank deficient as Z'RZ is, with its points."""
    d, rng = request.param, np.random.default_rng(0)
    L = rng.normal(size=(sum(d), sum(d) - 2)) * np.geomspace(0.1, 3, sum(d))[:, None]
    whole = L @ L.T
    parts = whole[: d[0], : d[0]], whole[d[0] :, d[0] :]
    covariance = DenseCovariance.of(whole, d, [int(np.linalg.matrix_rank(part)) for part in parts])
    return covariance.with_points()


def ratios(S):
    """Over the whole range, some zero, and some negative."""
    rng, first = np.random.default_rng(1), S.largest
    gamma = np.empty((M, 2))
    gamma[:, first] = np.expm1(rng.uniform(-0.45, 8.4, M)) / S.lam[-1]
    gamma[:, 1 - first] = 10 ** rng.uniform(-4, 2, M) / np.trace(S.S22)
    gamma[:5], gamma[5:10, 0], gamma[10:15, 1] = 0, 0, 0
    gamma[15:20, 1 - first] = -0.29 / S.between.mu.max()
    assert S.between.knows(gamma).all()
    return gamma


def close(ours, theirs, rtol=1e-8):
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=1e-10 * np.abs(theirs).max())


def test_determinants(S):
    gamma = ratios(S)
    factor = S.factor(gamma)
    logdet, trace, norm = S.between.determinant(gamma)
    assert factor.ok.all()
    close(logdet, factor.logdet)
    close(trace, factor.traces()[0])
    close(norm, factor.traces()[1], rtol=1e-7)


def test_forms_of_genes(S):
    gamma, rng = ratios(S), np.random.default_rng(2)
    L = rng.normal(size=(S.order.size, M))
    r = S.split(S.restore(S.times(S.split(L))).T)
    factor, forms = S.factor(gamma), S.between.forms(r)
    v, form = factor.solve(r)
    ours = forms(gamma)
    close(ours[0], form)
    close(ours[1], v.squares())
    close(ours[2], factor.products(v), rtol=1e-6)
    close(forms.shared(gamma), factor.shared_forms(r))
    some = np.array([3, 1, 40])
    np.testing.assert_allclose(forms[some](gamma[some])[1], ours[1][some], rtol=1e-12)


def test_vectors_that_genes_share(S):
    gamma, rng = ratios(S), np.random.default_rng(3)
    A, L = S.restore(S.times(S.split(rng.normal(size=(S.order.size, 4))))).T, np.eye(4)
    r = S.split(S.restore(S.times(S.split(rng.normal(size=(S.order.size, M))))).T)
    exact = module.replace(S, between=None)
    for ours, theirs in zip(
        S.factor(gamma).shared_quadratics(S.shared(A, L)),
        exact.factor(gamma).shared_quadratics(exact.shared(A, L)),
        strict=True,
    ):
        close(ours, theirs)
    v, _ = S.factor(gamma).solve(r)
    close(S.between.forms(r).dot(S.shared(A, L).forms, gamma), v.scaled(gamma).dot(S.shared(A, L).vectors))


def test_ratios_out_of_range_are_told(S):
    first, top = S.largest, 1 / S.lam[-1]
    gamma = np.zeros((6, 2))
    gamma[:, first] = [0, 5000 * top, -0.5 * top, -2 * top, np.nan, np.inf]
    assert S.between.knows(gamma).tolist() == [True, False, False, False, False, False]
    other = np.zeros((3, 2))
    other[:, 1 - first] = [-0.5 / S.between.mu.max(), np.nan, 1e6]
    assert S.between.knows(other).tolist() == [False, False, True]
    whole = np.vstack([gamma[:3], other[[0, 2]]])
    A = np.random.default_rng(4).normal(size=(S.order.size, 2))
    exact = module.replace(S, between=None)
    for ours, theirs in zip(
        S.factor(whole).shared_quadratics(S.shared(A, np.eye(2))),
        exact.factor(whole).shared_quadratics(exact.shared(A, np.eye(2))),
        strict=True,
    ):
        close(ours, theirs)


@pytest.mark.parametrize("name", ["crossed", "nested", "slope"])
@pytest.mark.parametrize("method", ["REML", "ML"])
@pytest.mark.parametrize("nonnegative", [True, False])
def test_fits_are_those_of_factorisations(monkeypatch, name, method, nonnegative):
    """Genes whose ratios are far out or negative, and zero, among them."""
    X, Z, d, _ = dense.example(name)
    rng = np.random.default_rng(5)
    theta = np.column_stack([rng.choice([0.0, 0.1, 1.0, 100.0], (120, 2)), np.ones(120)])
    Y = dense.simulate(X, Z, d, theta)
    monkeypatch.setattr(Between, "pays", lambda *_: True)
    fit = lambda: fsc.lmmfit(Y, X, Z, d, method=method, nonnegative=nonnegative, ddf="satterthwaite")
    ours = fit()
    monkeypatch.setattr(Between, "pays", lambda *_: False)
    theirs = fit()
    assert (ours.status == theirs.status).mean() > 0.99
    same = (ours.status == theirs.status).to_numpy()
    np.testing.assert_allclose(ours.loglik, theirs.loglik, rtol=1e-9)
    for column in ("coef", "se", "theta", "df"):
        one, other = getattr(ours, column).to_numpy()[same], getattr(theirs, column).to_numpy()[same]
        scale = np.maximum(np.abs(other), 1e-3 * np.abs(other).max(axis=1, keepdims=True))
        np.testing.assert_allclose(one / scale, other / scale, atol=1e-6, err_msg=column)


@pytest.mark.parametrize("method", ["REML", "ML"])
def test_genes_with_usual_ratios_need_no_factorisation_of_their_own(monkeypatch, method):
    X, Z, d, _ = dense.example("crossed")
    theta = np.column_stack([np.random.default_rng(5).choice([0.0, 0.05, 0.3], (120, 2)), np.ones(120)])
    monkeypatch.setattr(Between, "pays", lambda *_: True)
    monkeypatch.setattr(DenseFactorisation, "solve", lambda *_: pytest.fail("a gene is factorised"))
    fit = fsc.lmmfit(dense.simulate(X, Z, d, theta), X, Z, d, method=method, nonnegative=True, ddf="satterthwaite")
    assert fit.status.isin(["ok", "boundary"]).all()


def test_it_serves_where_it_pays_and_memory_allows():
    """The paper's donors and batches; a few columns beside many, which are factorised in no time; thousands beside thousands."""
    assert [Between.pays(*sizes) for sizes in [(259, 46), (250, 25), (300, 5), (3000, 3000)]] == [
        True,
        True,
        False,
        False,
    ]
