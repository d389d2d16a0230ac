"""Fits with residual variances by group against the likelihood of its definition, maximised from many starts."""

from __future__ import annotations

import dense_reference as dense
import numpy as np
import pytest
from grouped_stats import grouped_fit, grouped_stats, projected
from scipy.optimize import minimize

import flashmm_sc as fsc
from flashmm_sc._base import threads
from flashmm_sc._gaussian.estimate import data_of, likelihood


def model(name: str, gene: int, method: str = "REML") -> dense.DenseModel:
    X, Z, d, groups, Y = dense.grouped_example(name)
    return dense.DenseModel(Y[:, gene], X, Z, d, method, residuals=groups)


def _maximum(one: dense.DenseModel, start: np.ndarray) -> float:
    return -minimize(lambda x: -one.profile(x**2), start, method="BFGS").fun


@pytest.fixture(scope="module")
def fits():
    done = {}

    def fit(name: str, method: str = "REML"):
        if (name, method) not in done:
            done[name, method] = grouped_fit(grouped_stats(*dense.grouped_example(name)), method)
        return done[name, method]

    return fit


@pytest.mark.parametrize("method", ["REML", "ML"])
@pytest.mark.parametrize("name", dense.GROUPED)
def test_value_and_derivatives(name, method):
    """Of f, -2 log-likelihood with s_0 at its best, by differences."""
    stats = grouped_stats(*dense.grouped_example(name))
    objective = likelihood(projected(stats), method)
    genes = data_of(objective.projection, stats, slice(0, 1))
    rng = np.random.default_rng(4)
    gamma = np.append(rng.exponential(size=len(stats.d)), [0.5, 2.0])[None]
    point, one = objective(genes, gamma), model(name, 0, method)
    value = lambda x: -2 * one.profile(x)
    other = gamma * rng.uniform(0.8, 1.2, gamma.shape)
    assert point.f - objective(genes, other).f == pytest.approx(value(gamma[0]) - value(other[0]), abs=1e-8)
    step = 1e-5 * gamma[0]
    slope = [(value(gamma[0] + h) - value(gamma[0] - h)) / (2 * h.sum()) for h in np.diag(step)]
    np.testing.assert_allclose(point.grad[0], slope, rtol=1e-5, atol=1e-5)
    at = lambda h: objective(genes, gamma + h).grad[0]
    bend = [(at(h) - at(-h)) / (2 * h.sum()) for h in np.diag(step)]
    np.testing.assert_allclose(point.observed[0], bend, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("method", ["REML", "ML"])
@pytest.mark.parametrize("name", dense.GROUPED)
def test_optimum(fits, name, method):
    fit = fits(name, method)
    assert set(fit.status) <= {"ok", "boundary"}
    rng = np.random.default_rng(0)
    for gene in (0, 1) if method == "REML" else (0,):
        one, theta = model(name, gene, method), fit.theta.to_numpy()[gene]
        assert one.loglik(theta) == pytest.approx(fit.loglik.iloc[gene], abs=1e-8)
        size = len(theta) - 1
        best = max(_maximum(one, start) for start in (rng.normal(size=size), np.ones(size)))
        assert fit.loglik.iloc[gene] >= best - 1e-6


@pytest.mark.parametrize("name", dense.GROUPED)
def test_results_at_the_optimum(fits, name):
    fit = fits(name)
    cov, ranef, fim = fit.cov(), fit.ranef().to_numpy(), fit.fim()
    for gene in range(len(fit.coef)):
        one, theta = model(name, gene), fit.theta.to_numpy()[gene]
        np.testing.assert_allclose(fit.coef.to_numpy()[gene], one.coef(theta), rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(cov[gene], one.cov(theta), rtol=1e-7, atol=1e-10)
        np.testing.assert_allclose(ranef[gene], one.ranef(theta), rtol=1e-7, atol=1e-8)
        np.testing.assert_allclose(fim[gene], one.expected_information(theta), rtol=1e-7, atol=1e-7)
        np.testing.assert_allclose(fit.grad.to_numpy()[gene], one.grad(theta), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(fit.theta_cov[gene], one.theta_cov(theta), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", dense.GROUPED)
def test_degrees_of_freedom(fits, name):
    """Satterthwaite's, bounded by containment where a component is zero."""
    fit = fits(name)
    for gene in range(len(fit.coef)):
        one, theta = model(name, gene), fit.theta.to_numpy()[gene]
        zero = np.flatnonzero(theta[: len(one.d)] == 0)
        for j, c in enumerate(np.eye(fit.coef.shape[1])):
            df = min([one.satterthwaite(theta, c), *(one.containment(k, c) for k in zero)])
            assert fit.df.to_numpy()[gene, j] == pytest.approx(df, rel=1e-5)


def test_threads_and_blocks_make_no_difference(monkeypatch, fits):
    monkeypatch.setattr(threads, "BLOCK_BYTES", 1)
    stats = grouped_stats(*dense.grouped_example("own variances"))
    again = grouped_fit(stats, n_jobs=3)
    for name in ("coef", "se", "df", "theta", "loglik"):
        np.testing.assert_allclose(getattr(again, name), getattr(fits("own variances"), name), rtol=1e-9)


def test_equal_groups_of_a_large_study_have_about_the_plain_fit():
    X, Z, d, groups, Y = dense.grouped_example("nested", n=3000)
    Y = Z @ np.random.default_rng(5).normal(size=(Z.shape[1], 3)) + np.random.default_rng(6).normal(size=(3000, 3))
    plain = fsc.lmmfit(Y, X, Z, d, nonnegative=True, ddf="satterthwaite")
    ours = grouped_fit(grouped_stats(X, Z, d, groups, Y))
    np.testing.assert_allclose(ours.coef, plain.coef, atol=0.01)
    np.testing.assert_allclose(ours.theta.iloc[:, -3:], 1.0, atol=0.15)
    assert (ours.loglik >= plain.loglik).all()
