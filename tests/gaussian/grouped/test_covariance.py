"""What tests take of V with residual variances by group, against dense linear algebra."""

from __future__ import annotations

import dense_reference as dense
import numpy as np
import pytest
from grouped_stats import grouped_stats, projected


@pytest.fixture(scope="module", params=dense.GROUPED)
def example(request):
    X, Z, d, groups, Y = dense.grouped_example(request.param)
    rng = np.random.default_rng(1)
    gamma = np.column_stack([rng.exponential(size=(5, len(d))), rng.uniform(0.2, 4.0, size=(5, 2))])
    gamma[1, 0] = gamma[2, -3] = 0.0
    gamma[3, : len(d)] = 0.0
    models = [dense.DenseModel(y, X, Z, d, residuals=groups) for y in Y.T]
    return projected(grouped_stats(X, Z, d, groups, Y)), models[0], gamma


def test_determinants_traces_and_norms(example):
    projection, model, gamma = example
    factor = projection.S.factor(gamma)
    trace, norm = factor.traces()
    assert factor.ok.all()
    for i, theta in enumerate(np.column_stack([gamma, np.ones(5)])):
        P = model.P(theta)
        logdet = np.linalg.slogdet(model.V(theta))[1] - np.linalg.slogdet(model.cov(theta))[1] - projection.logdet_XX
        assert factor.logdet[i] == pytest.approx(logdet, rel=1e-10)
        kernels = model.kernels[:-1]
        np.testing.assert_allclose(trace[i], [np.trace(P @ V) for V in kernels], rtol=1e-9, atol=1e-9)
        expected = [[np.trace(P @ V @ P @ U) for V in kernels] for U in kernels]
        np.testing.assert_allclose(norm[i], expected, rtol=1e-8, atol=1e-8)


def test_variances_of_combinations_and_their_gradients(example):
    projection, model, gamma = example
    L = np.random.default_rng(2).normal(size=(7, 3))
    x, factor = projection.shared(L), projection.S.factor(gamma)
    base = L.T @ projection.XXi @ L
    quad, parts = factor.shared_quadratics(x)
    grams = factor.solve(x.vectors)[0].grams()
    for i, theta in enumerate(np.column_stack([gamma, np.ones(5)])):
        V = L.T @ model.cov(theta) @ L
        np.testing.assert_allclose(base + factor.shared_matrix(x)[i], V, rtol=1e-9)
        np.testing.assert_allclose(np.diag(base) + quad[i], np.diag(V), rtol=1e-9)
        for r, c in enumerate(L.T):
            np.testing.assert_allclose(parts[i, r], model.variance_gradient(theta, c)[:-1], rtol=1e-8, atol=1e-10)
        U = np.linalg.solve(model.V(theta), model.X @ model.cov(theta) @ L)
        np.testing.assert_allclose(grams[i, ..., 0], U.T @ model.kernels[0] @ U, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(grams[i, ..., -1], U.T @ model.kernels[-2] @ U, rtol=1e-7, atol=1e-9)


def test_moments_and_products(example):
    projection, model, _ = example
    S, R = projection.S, np.eye(len(model.y)) - model.X @ projection.XXi @ model.X.T
    trace, norm = S.moments()
    np.testing.assert_allclose(trace, [np.trace(R @ V) for V in model.kernels[:-1]], rtol=1e-9)
    np.testing.assert_allclose(norm[0, -1], np.trace(R @ model.kernels[0] @ R @ model.kernels[-2]), rtol=1e-9)
    whole = model.Z.T @ R @ model.Z
    part = slice(0, projection.d[0])
    np.testing.assert_allclose(S.eigenvalues(0), np.linalg.eigvalsh(whole[part, part]), atol=1e-9)
    v = S.split(np.random.default_rng(3).normal(size=(sum(projection.d), 2)))
    np.testing.assert_allclose(S.restore(S.times(v)), S.restore(v) @ whole, atol=1e-9)


@pytest.mark.parametrize("bad", [-0.1, 0.0, np.nan])
def test_residual_variances_are_positive(example, bad):
    projection, _, gamma = example
    gamma = gamma.copy()
    gamma[2, -1] = bad
    np.testing.assert_array_equal(projection.S.factor(gamma).ok, np.arange(5) != 2)
