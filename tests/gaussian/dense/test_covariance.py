"""Every formula of the eliminated form against dense linear algebra on I + S D."""

from __future__ import annotations

import numpy as np
import pytest

from flashmm_sc._gaussian.dense.covariance import DenseCovariance
from flashmm_sc._gaussian.dense.spectrum import weighted_products

# Sizes of the components; the largest, which is diagonalised, comes first, last, in between, or is not the only one.
SIZES = [(6,), (5, 3), (3, 5), (4, 4), (2, 6, 3), (2, 3, 2, 4)]
M = 7


def positive_semidefinite(d, seed=0, lost=2):
    """Random S of rank q - lost, as Z'RZ is where X spans some of Z."""
    rng = np.random.default_rng(seed)
    L = rng.normal(size=(sum(d), sum(d) - lost)) * rng.uniform(0.3, 3, (sum(d), 1))
    return L @ L.T


def covariance(S, d):
    return DenseCovariance.of(S, d, [np.linalg.matrix_rank(part) for part in diagonal_blocks(S, d)])


def diagonal_blocks(S, d):
    stops = np.cumsum(d)
    return [S[a:b, a:b] for a, b in zip(stops - d, stops, strict=True)]


def ratios(S, d, seed=1):
    """Ratios of M genes: positive, some zero, and in the last two genes some negative within the domain."""
    rng = np.random.default_rng(seed)
    gamma = 10 ** rng.uniform(-2, 2, (M, len(d)))
    gamma[0], gamma[1, 0] = 0, 0
    gamma[-2:] = rng.uniform(-0.9, 0.5, (2, len(d))) / (len(d) * np.linalg.eigvalsh(S)[-1])
    return gamma


class Case:
    def __init__(self, d):
        self.d, self.S = d, positive_semidefinite(d)
        self.covariance, self.gamma = covariance(self.S, d), ratios(self.S, d)
        self.factor = self.covariance.factor(self.gamma)
        self.D = np.stack([np.diag(np.repeat(g, d)) for g in self.gamma])
        self.inverse = np.linalg.inv(np.eye(len(self.S)) + self.S @ self.D)
        self.T = self.inverse @ self.S
        self.E = [np.diag(np.repeat(np.arange(len(d)) == k, d).astype(float)) for k in range(len(d))]
        self.r = self.S @ np.random.default_rng(2).normal(size=(sum(d), M))


@pytest.fixture(params=SIZES, ids=str)
def case(request):
    return Case(request.param)


def same(actual, expected, rtol=1e-9):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


def test_rotation_is_undone_and_keeps_products(case):
    r = case.covariance.split(case.r)
    assert [part.shape for part in r.parts] == [(M, max(case.d)), (M, case.covariance.n_rest)]
    same(case.covariance.restore(r), case.r.T)
    same(r.squares().sum(axis=1), (case.r**2).sum(axis=0))


def test_times(case):
    u = case.covariance.split(case.r)
    same(case.covariance.restore(case.covariance.times(u)), (case.S @ case.r).T)


def test_logdet_and_domain(case):
    assert case.factor.ok.all()
    same(case.factor.logdet, np.linalg.slogdet(np.eye(len(case.S)) + case.S @ case.D)[1])


def test_solve(case):
    found, form = case.factor.solve(case.covariance.split(case.r))
    v = np.einsum("gij,jg->gi", case.inverse, case.r)
    same(case.covariance.restore(found), v)
    same(form, np.einsum("ig,gij,gj->g", case.r, case.D, v))


def test_forms_at_shared_ratios(case):
    forms = case.factor.shared_forms(case.covariance.split(case.r))
    same(forms, np.einsum("ig,kij,jg->gk", case.r, case.D @ case.inverse, case.r))


def test_sums_by_component(case):
    expected = np.stack([np.einsum("ig,ij,jg->g", case.r, E, case.r) for E in case.E], axis=1)
    same(case.covariance.split(case.r).squares(), expected)


def test_products(case):
    """v_k' T_kl v_l; T is symmetric."""
    expected = [[np.einsum("ig,gij,jg->g", E @ case.r, case.T, F @ case.r) for E in case.E] for F in case.E]
    same(case.factor.products(case.covariance.split(case.r)), np.moveaxis(expected, 2, 0))


def test_traces(case):
    trace, norm = case.factor.traces()
    same(trace, np.stack([np.trace(E @ case.T, axis1=1, axis2=2) for E in case.E], axis=1))
    blocks = [[((E @ case.T @ F) ** 2).sum(axis=(1, 2)) for E in case.E] for F in case.E]
    same(norm, np.moveaxis(blocks, 2, 0))


def test_quadratics_of_vectors_shared_by_genes(case):
    A = np.random.default_rng(3).normal(size=(sum(case.d), 3))
    quad, parts = case.factor.shared_quadratics(case.covariance.shared(A, np.eye(A.shape[1])))
    w = case.inverse @ A
    matrix = A.T @ case.D @ w
    same(quad, np.einsum("gii->gi", matrix))
    same(parts, np.stack([np.einsum("gir,ij,gjr->gr", w, E, w) for E in case.E], axis=2))
    same(case.factor.shared_matrix(case.covariance.shared(A, np.eye(A.shape[1]))), matrix)


def test_eigenvalues_of_each_component(case):
    for k, block in enumerate(diagonal_blocks(case.S, case.d)):
        same(case.covariance.eigenvalues(k), np.linalg.eigvalsh(block))


def test_domain_is_told_by_inertia():
    """Two negative eigenvalues of I + S D have a positive determinant, and are outside all the same."""
    for d in SIZES:
        S = positive_semidefinite(d)
        lam = np.linalg.eigvalsh(S)[-1]
        gamma = np.random.default_rng(4).uniform(-6, 3, (400, len(d))) / lam
        eigenvalues = np.stack([np.linalg.eigvals(np.eye(len(S)) + S * np.repeat(g, d)).real for g in gamma])
        negative = (eigenvalues < 0).sum(axis=1)
        np.testing.assert_array_equal(covariance(S, d).factor(gamma).ok, negative == 0)
        assert {0, 1, 2} <= set(negative)


def test_edge_of_the_domain_is_approached_closely():
    for d in SIZES:
        S = positive_semidefinite(d)
        edge = -1 / np.linalg.eigvalsh(S)[-1]
        gamma = edge * np.array([[1 - 1e-10], [1 + 1e-10]]) * np.ones(len(d))
        np.testing.assert_array_equal(covariance(S, d).factor(gamma).ok, [True, False])


def test_ratios_that_are_no_numbers_are_outside():
    for d in SIZES:
        S = positive_semidefinite(d)
        gamma = np.full((1, len(d)), np.nan)
        assert not covariance(S, d).factor(gamma).ok.any()


def test_rounding_errors_of_a_null_space_become_zeros():
    S = positive_semidefinite((6,), lost=2) * 1e8
    lam = DenseCovariance.of(S, (6,), [4]).lam
    np.testing.assert_array_equal(np.sort(lam)[:2], 0)
    same(np.sort(lam)[2:], np.linalg.eigvalsh(S)[2:])


def test_weighted_products():
    rng = np.random.default_rng(5)
    weights, left, right = rng.normal(size=(3, 5)), rng.normal(size=(5, 2)), rng.normal(size=(5, 4))
    same(weighted_products(weights, left, right), np.einsum("gi,ij,ik->gjk", weights, left, right))
    same(weighted_products(weights, left, left), np.einsum("gi,ij,ik->gjk", weights, left, left))
