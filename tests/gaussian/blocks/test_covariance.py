"""Covariances with correlated terms against the matrices of their definition."""

from __future__ import annotations

import dense_reference as dense
import numpy as np
import pytest

from flashmm_sc._arrays.sslmm import sslmm
from flashmm_sc._gaussian.blocks.covariance import BlockCovariance
from flashmm_sc._gaussian.dense.covariance import DenseCovariance
from flashmm_sc._gaussian.projection import Projection
from flashmm_sc._gaussian.structure import Structure


class Brute:
    """S, the E_j and D of one design as dense matrices."""

    def __init__(self, name: str):
        X, Z, d, groups, Y = dense.correlated_example(name)
        self.stats = sslmm(X, Y, Z, d, correlated=groups)
        names = self.stats.coef_names, self.stats.component_names
        self.projection = Projection.of(self.stats.cross, self.stats.n, d, *names, correlated=self.stats.correlated)
        self.structure, self.rooms = self.projection.structure, self.projection.S
        R = np.eye(len(X)) - X @ np.linalg.pinv(X)
        self.ZR, self.S, self.A = Z.T @ R, Z.T @ R @ Z, Z.T @ X @ np.linalg.inv(X.T @ X)
        place = np.split(np.arange(sum(d)), np.cumsum(d)[:-1])
        self.E = []
        for k, l in self.structure.units():
            E = np.zeros_like(self.S)
            E[place[k], place[l]] = E[place[l], place[k]] = 1.0
            self.E.append(E)

    def D(self, gamma: np.ndarray) -> np.ndarray:
        return sum(g * E for g, E in zip(gamma, self.E, strict=True))

    def T(self, gamma: np.ndarray) -> np.ndarray:
        return np.linalg.solve(np.eye(len(self.S)) + self.S @ self.D(gamma), self.S)


@pytest.fixture(params=dense.CORRELATED)
def brute(request):
    return Brute(request.param)


def parameters(structure: Structure, m: int = 9) -> np.ndarray:
    """γ of genes: zero, singular, tiny, large, and any."""
    x = np.random.default_rng(3).normal(size=(m, structure.size))
    x[:, structure.bounded] **= 2
    x[0] = 0.0
    x[1, : structure.K] *= np.arange(structure.K) == 0
    x[2] *= 1e-5
    x[3] *= 30
    return structure.gamma(x)


def close(a, b, rtol=1e-9, atol=0.0):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol + rtol * np.abs(b).max(initial=1e-300))


def test_factor(brute):
    gamma = parameters(brute.structure)
    factor = brute.rooms.factor(gamma)
    trace, norm = factor.traces()
    for g, row in enumerate(gamma):
        T = brute.T(row)
        close(factor.logdet[g], np.linalg.slogdet(np.eye(len(T)) + brute.S @ brute.D(row))[1], atol=1e-14)
        close(trace[g], np.array([np.trace(T @ E) for E in brute.E]))
        close(norm[g], np.array([[np.trace(T @ E @ T @ F) for F in brute.E] for E in brute.E]))
    assert factor.ok.all()


def test_vectors(brute):
    gamma = parameters(brute.structure)
    q, m = len(brute.S), len(gamma)
    r = brute.ZR @ np.random.default_rng(1).normal(size=(brute.ZR.shape[1], m))
    factor, vectors = brute.rooms.factor(gamma), brute.rooms.split(r)
    v, form = factor.solve(vectors)
    products, forms = factor.products(v), factor.shared_forms(vectors)
    for g, row in enumerate(gamma):
        D, T = brute.D(row), brute.T(row)
        own = np.linalg.solve(np.eye(q) + brute.S @ D, r[:, g])
        close(brute.rooms.restore(v)[g], own)
        close(form[g], r[:, g] @ D @ own)
        close(v.squares()[g], np.array([own @ E @ own for E in brute.E]))
        close(brute.rooms.restore(v.scaled(gamma))[g], D @ own, 1e-8)  # v is small where γ is large
        close(brute.rooms.restore(brute.rooms.times(v))[g], brute.S @ own)
        close(products[g], np.array([[own @ E @ T @ F @ own for F in brute.E] for E in brute.E]), 1e-8)
        close(
            forms[g, 3], r[:, g] @ brute.D(gamma[3]) @ np.linalg.solve(np.eye(q) + brute.S @ brute.D(gamma[3]), r[:, g])
        )


def test_several_vectors_a_gene(brute):
    """Combinations that genes share, solved for each gene."""
    gamma = parameters(brute.structure)
    L = np.random.default_rng(2).normal(size=(brute.A.shape[1], 3))
    shared = brute.rooms.shared(brute.A, L)
    factor = brute.rooms.factor(gamma)
    w, form = factor.solve(shared.vectors)
    quad, parts = factor.shared_quadratics(shared)
    products, matrix, grams = factor.products(w), factor.shared_matrix(shared), w.grams()
    for g, row in enumerate(gamma):
        D, T = brute.D(row), brute.T(row)
        own = np.linalg.solve(np.eye(len(T)) + brute.S @ D, brute.A @ L)
        close(brute.rooms.restore(w)[g].T, own)
        close(matrix[g], (brute.A @ L).T @ D @ own, 1e-8, 1e-14)
        close(quad[g], np.diag(matrix[g]), atol=1e-14)
        close(form[g], np.diag(matrix[g]), 1e-8, 1e-14)
        for j, E in enumerate(brute.E):
            close(parts[g, :, j], np.einsum("ir,ij,jr->r", own, E, own), 1e-8)
            close(grams[g, :, :, j], own.T @ E @ own, 1e-8)
            size = np.linalg.norm(own[:, 0]) ** 2 * np.linalg.norm(T, 2)  # where γ is large, T cancels all of it
            close(products[g, 0, j], np.array([own[:, 0] @ E @ T @ F @ own[:, 0] for F in brute.E]), 1e-8, 1e-11 * size)


def test_what_the_design_gives(brute):
    trace, norm = brute.rooms.moments()
    close(trace, np.array([np.trace(brute.S @ E) for E in brute.E]))
    close(norm, np.array([[np.trace(brute.S @ E @ brute.S @ F) for F in brute.E] for E in brute.E]))
    first = brute.S[: brute.stats.d[0], : brute.stats.d[0]]
    close(brute.rooms.eigenvalues(0), np.linalg.eigvalsh(first))


@pytest.mark.parametrize("name", ["sam", "crossed", "nested", "three"])
def test_without_correlations_as_the_dense_room(name):
    X, Z, d, Y = dense.example(name)
    stats = sslmm(X, Y, Z, d)
    names = stats.coef_names, stats.component_names
    room = Projection.of(stats.cross, stats.n, d, *names).S
    assert isinstance(room, DenseCovariance)
    ours = BlockCovariance.of(stats.cross, d, Structure(len(d)))
    gamma = np.random.default_rng(0).gamma(1.0, 1.0, (5, len(d)))
    for one, other in zip(ours.factor(gamma).traces(), room.factor(gamma).traces(), strict=True):
        close(one, other)
    close(ours.factor(gamma).logdet, room.factor(gamma).logdet)


def test_levels_in_another_order_are_refused():
    X, Z, d, groups, Y = dense.correlated_example("intercept and slope")
    order = np.append(np.arange(d[0]), d[0] + np.roll(np.arange(d[1]), 1))
    stats = sslmm(X, Y, Z[:, order], d, correlated=groups)
    with pytest.raises(ValueError, match="same levels in the same order"):
        BlockCovariance.of(stats.cross, d, Structure(2, groups))


def test_one_gene_at_a_time_is_all_of_them(brute):
    gamma = parameters(brute.structure)
    factor = brute.rooms.factor(gamma)
    some = factor[np.array([4, 1])]
    close(some.traces()[1], factor.traces()[1][[4, 1]])
