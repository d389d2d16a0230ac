"""The room for large crossed factors, entered with small designs, against the dense one and the definitions."""

from __future__ import annotations

import dense_reference as dense
import numpy as np
import pytest
from same_fits import FITS, check_fits, same

import flashmm_sc as fsc
from flashmm_sc._arrays.sslmm import sslmm
from flashmm_sc._gaussian import projection
from flashmm_sc._gaussian.crossed.covariance import CrossedCovariance
from flashmm_sc._gaussian.gram import Gram
from flashmm_sc._gaussian.projection import Projection
from flashmm_sc._gaussian.sparse.covariance import SparseCovariance

DESIGNS = ("crossed", "nested", "slope", "three")


@pytest.fixture(params=DESIGNS)
def covariances(request):
    """Crossed, sparse and dense covariance Z'RZ, and its projection."""
    X, Z, d, Y = dense.example(request.param)
    stats = sslmm(X, Y, Z, d)
    projection = Projection.of(stats.cross, stats.n, stats.d, stats.coef_names, stats.component_names)
    crossed = CrossedCovariance.of(Gram.of(stats.cross, d), projection.ranks)
    return crossed, SparseCovariance.of(Gram.of(stats.cross, d)), projection.S, projection


def ratios(K: int, m: int = 11) -> np.ndarray:
    """Zeros, tiny and large ones among them."""
    gamma = np.random.default_rng(1).gamma(1.0, 1.0, (m, K))
    gamma[0], gamma[1, 0], gamma[2] = 0, 0, gamma[2] * 1e-9
    gamma[3] *= 1e3
    gamma[4, -1] = 0
    return gamma


def test_factor(covariances):
    crossed, sparse, room, _ = covariances
    gamma = ratios(crossed.K)
    ours = crossed.factor(gamma)
    for other in (sparse, room):
        theirs = other.factor(gamma)
        assert ours.ok.all()
        same(ours.logdet, theirs.logdet)
        same(ours[np.array([5, 2])].logdet, theirs.logdet[[5, 2]])
    assert not crossed.factor(-gamma[5:]).ok.any()


def test_solutions(covariances):
    *rooms, _ = covariances
    gamma = ratios(rooms[0].K)
    r = np.random.default_rng(2).normal(size=(len(rooms[0].order), len(gamma)))
    results = []
    for S in rooms:
        factor, vectors = S.factor(gamma), S.split(r)
        v, form = factor.solve(vectors)
        forms, times = factor.shared_forms(vectors), S.restore(S.times(vectors))
        some, index = factor[np.array([5, 2])], np.array([1, 0])
        part, _ = some.solve(vectors[index])
        results.append([S.restore(v), form, v.squares(), factor.products(v), forms, times, S.restore(part)])
    for others in results[1:]:
        for a, b in zip(results[0], others, strict=True):
            same(a, b, 1e-7)


def test_combinations(covariances):
    *rooms, projection = covariances
    gamma, L = ratios(rooms[0].K), np.random.default_rng(3).normal(size=(projection.p, 11))
    results = []
    for S in rooms:
        factor, x = S.factor(gamma), S.shared(projection.A, L)
        w, form = factor.solve(x.vectors)
        results.append([*factor.shared_quadratics(x), factor.shared_matrix(x), factor.products(w), form, w.grams()])
    for others in results[1:]:
        for a, b in zip(results[0], others, strict=True):
            same(a, b, 1e-6)


def test_moments_and_eigenvalues(covariances):
    crossed, _, room, _ = covariances
    for a, b in zip(crossed.moments(), room.moments(), strict=True):
        same(a, b)
    for k in range(crossed.K):
        same(crossed.eigenvalues(k), room.eigenvalues(k))


@pytest.fixture
def crossed_room(monkeypatch):
    """All designs have too many levels, and are crossed."""

    def enter():
        monkeypatch.setattr(projection, "MOST_DENSE", (0, 0))
        monkeypatch.setattr(projection, "FILLED", -1.0)

    return enter


@pytest.mark.parametrize("name", DESIGNS)
@FITS
def test_fit(name, options, crossed_room):
    check_fits(name, options, crossed_room, CrossedCovariance)


@pytest.mark.parametrize("name", ["crossed", "three"])
@pytest.mark.parametrize("method", ["REML", "ML"])
def test_fit_is_that_of_the_definitions(name, method, crossed_room):
    X, Z, d, Y = dense.example(name)
    crossed_room()
    fit = fsc.lmm(sslmm(X, Y, Z, d), nonnegative=True, method=method, ddf="satterthwaite")
    for i, y in enumerate(Y.T):
        model, theta = dense.DenseModel(y, X, Z, d, method), fit.theta.iloc[i].to_numpy()
        same(fit.coef.iloc[i], model.coef(theta))
        same(fit.se.iloc[i] ** 2, np.diag(model.cov(theta)))
        same(fit.loglik.iloc[i], model.loglik(theta))
        same(fit.ranef().iloc[i], model.ranef(theta), 1e-7)
        gradient = model.grad(theta)
        size = np.sqrt(np.diag(model.expected_information(theta)))
        assert (gradient / size < 1e-5).all()
        assert (np.abs(gradient / size)[theta > 0] < 1e-5).all()
