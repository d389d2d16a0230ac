"""Three components between points against factorisations of each gene, and the fits that come of it."""

from __future__ import annotations

from dataclasses import replace

import dense_reference as dense
import numpy as np
import pytest

import flashmm_sc as fsc
from flashmm_sc._arrays.sslmm import sslmm
from flashmm_sc._gaussian.crossed.covariance import CrossedCovariance
from flashmm_sc._gaussian.dense.between import Between
from flashmm_sc._gaussian.dense.covariance import DenseCovariance
from flashmm_sc._gaussian.dense.nested import Nested
from flashmm_sc._gaussian.gram import Gram
from flashmm_sc._gaussian.projection import Projection

M = 60


def dense_room(d):
    """A rank deficient covariance, as Z'RZ is, the largest component first, in the middle or last."""
    L = np.random.default_rng(0).normal(size=(sum(d), sum(d) - 2)) * np.geomspace(0.1, 3, sum(d))[:, None]
    S = DenseCovariance.of(L @ L.T, d, d)
    return S.with_points()


def crossed_room():
    X, Z, d, Y = dense.example("three")
    stats = sslmm(X, Y, Z, d)
    whole = Projection.of(stats.cross, stats.n, stats.d, stats.coef_names, stats.component_names)
    return CrossedCovariance.of(Gram.of(stats.cross, d), whole.ranks).prepared(10**6, 1)


@pytest.fixture(
    params=[
        lambda: dense_room((30, 5, 9)),
        lambda: dense_room((4, 12, 7)),
        lambda: dense_room((5, 9, 20)),
        crossed_room,
    ],
    ids=["first", "middle", "last", "crossed"],
)
def S(request):
    return request.param()


def ratios(S):
    """Over the whole range, some zero."""
    gamma = 10 ** np.random.default_rng(1).uniform(-4, 2, (M, 3)) / np.sqrt(S.moments()[0])
    gamma[:5], gamma[5:10, 0], gamma[10:15, 1], gamma[15:20, 2] = 0, 0, 0, 0
    assert S.between.knows(gamma).all()
    return gamma


def close(ours, theirs, rtol=1e-7):
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=1e-8 * np.abs(theirs).max())


def test_determinants(S):
    gamma = ratios(S)
    factor = replace(S, between=None).factor(gamma)
    logdet, trace, norm = S.between.determinant(gamma)
    close(logdet, factor.logdet)
    close(trace, factor.traces()[0])
    close(norm, factor.traces()[1], 1e-5)


def test_forms_of_genes(S):
    gamma = ratios(S)
    r = S.split(S.restore(S.times(S.split(np.random.default_rng(2).normal(size=(S.order.size, M))))).T)
    factor, forms = replace(S, between=None).factor(gamma), S.between.forms(r)
    v, form = factor.solve(r)
    value, v_sq, quad = forms(gamma)
    close(value, form)
    close(v_sq, v.squares(), 1e-6)
    close(quad, factor.products(v), 1e-4)
    close(forms.shared(gamma), factor.shared_forms(r))
    some = np.array([3, 1, 40])
    np.testing.assert_allclose(forms[some](gamma[some])[1], v_sq[some], rtol=1e-12)


def test_vectors_that_genes_share(S):
    gamma, rng, exact = ratios(S), np.random.default_rng(3), replace(S, between=None)
    gamma[-3:, S.largest] = 1e6  # out of range
    p = S.C.shape[1] - len(S.member) if isinstance(S, CrossedCovariance) else 4
    A = S.restore(S.times(S.split(rng.normal(size=(S.order.size, p))))).T
    if isinstance(S, CrossedCovariance):
        A = S.gram.ZX @ S.gram.XXi / S.gram.scale
    L = np.eye(p)
    x = S.shared(A, L)
    for one, other in zip(
        S.factor(gamma).shared_quadratics(x), exact.factor(gamma).shared_quadratics(exact.shared(A, L)), strict=True
    ):
        close(one, other, 1e-6)
    gamma = gamma[:-3]
    r = S.split(S.restore(S.times(S.split(rng.normal(size=(S.order.size, len(gamma)))))).T)
    v, _ = exact.factor(gamma).solve(r)
    close(S.between.forms(r).dot(x.forms, gamma), v.scaled(gamma).dot(x.vectors))


@pytest.mark.parametrize("method", ["REML", "ML"])
@pytest.mark.parametrize("nonnegative", [True, False])
def test_fits_are_those_of_factorisations(monkeypatch, method, nonnegative):
    """Genes whose ratios are far out or negative, and zero, among them."""
    X, Z, d, _ = dense.example("three")
    theta = np.column_stack([np.random.default_rng(5).choice([0.0, 0.1, 1.0, 10.0], (120, 3)), np.ones(120)])
    stats = fsc.sslmm(X, dense.simulate(X, Z, d, theta), Z, d)
    fits = []
    for pays in (True, False):
        monkeypatch.setattr(Between, "pays", lambda *_, pays=pays: pays)
        fits.append(fsc.lmm(stats, method=method, nonnegative=nonnegative, ddf="satterthwaite"))
        assert (fits[-1].projection.S.between is not None) == pays
    ours, theirs = fits
    same = (ours.status == theirs.status).to_numpy()
    assert same.mean() > 0.98
    np.testing.assert_allclose(ours.loglik[same], theirs.loglik[same], rtol=1e-8)
    for column, tol in (("coef", 1e-6), ("se", 1e-6), ("theta", 1e-5), ("df", 1e-4)):
        one, other = getattr(ours, column).to_numpy()[same], getattr(theirs, column).to_numpy()[same]
        scale = np.maximum(np.abs(other), 1e-3 * np.abs(other).max(axis=1, keepdims=True))
        np.testing.assert_allclose(one / scale, other / scale, atol=tol, err_msg=column)


def test_it_serves_where_memory_allows():
    assert Nested.fits([259, 46])
    assert not Nested.fits([500, 400])
