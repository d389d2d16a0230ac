"""Estimates of any design against the definitions: n × n covariances, finite differences, and maximisation from many starts."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import arrays, examples, seeds

import flashmm_sc as fsc
from flashmm_sc._gaussian import projection
from flashmm_sc._gaussian.estimate import data_of, likelihood
from flashmm_sc._gaussian.projection import Projection

METHODS = st.sampled_from(["REML", "ML"])
ROOMS: dict[str, dict[str, Any]] = {
    "dense": {},
    "sparse": {"MOST_DENSE": (0, 0), "FILLED": 2.0},
    "crossed": {"MOST_DENSE": (0, 0), "FILLED": -1.0},
}


@contextmanager
def entered(room):
    """Designs of this size are dense ones; here others take them too."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ROOMS[room].items():
            patch.setattr(projection, name, value)
        yield


def close(found, expected, unit, rtol):
    """Within rtol of what the unit says."""
    np.testing.assert_allclose(np.asarray(found) / unit, np.asarray(expected) / unit, rtol=0, atol=rtol)


def well_known(model, theta):
    """Whether the data tell all components that are not zero apart, and no correlation is ±1."""
    free = np.flatnonzero(theta)
    J = model.observed_information(theta)[np.ix_(free, free)]
    scale = np.sqrt(np.abs(np.diag(J)))
    first = np.cumsum([0, *model.d])
    Gammas = [model.D(theta)[np.ix_(first[list(group)], first[list(group)])] for group in model.correlated]
    inside = [np.linalg.eigvalsh(G)[0] > 1e-6 * np.trace(G) or not G.any() for G in Gammas]
    return all(inside) and np.linalg.eigvalsh(J / np.outer(scale, scale))[0] > 1e-6


@given(st.sampled_from(list(ROOMS)), arrays(), METHODS, st.booleans())
@examples(6)
def test_estimates_are_those_of_the_definition(room, made, method, nonnegative):
    """At θ: coefficients, their covariance and the likelihood; and θ is where the likelihood has its maximum."""
    nonnegative |= bool(made.correlated) or room != "dense"
    with entered(room):
        fit = made.fit(method=method, nonnegative=nonnegative)
        cov = fit.cov()
    for gene in np.flatnonzero(fit.status.isin(["ok", "boundary"])):
        model, theta = made.model(gene, method), fit.theta.to_numpy()[gene]
        exact = model.cov(theta)
        unit = np.sqrt(np.diag(exact))
        close(fit.coef.iloc[gene], model.coef(theta), unit, 1e-8)
        close(cov[gene], exact, np.outer(unit, unit), 1e-8)
        close(fit.loglik.iloc[gene] - made.log_weights, model.loglik(theta), len(made.Y), 1e-10)
        gradient, size = model.grad(theta), np.sqrt(np.diag(model.expected_information(theta)))
        close(fit.grad.iloc[gene], gradient, size, 1e-6)
        if nonnegative:
            assert fit.loglik.iloc[gene] - made.log_weights > model.maximum() - 1e-5
        if not made.correlated:
            inside = (theta != 0) | (not nonnegative)
            assert np.abs(gradient / size)[inside].max() < 1e-6
            assert (gradient / size < 1e-6).all()


@given(st.sampled_from(list(ROOMS)), arrays(), METHODS, seeds)
@examples(6)
def test_derivatives_are_finite_differences(room, made, method, seed):
    """Of f = -2 log-likelihood + constant, anywhere."""
    stats = fsc.sslmm(made.X, made.Y, made.Z, made.d, correlated=made.correlated, weights=made.weights, n_jobs=1)
    names = stats.coef_names, stats.component_names
    with entered(room):
        shared = Projection.of(stats.cross, stats.n, stats.d, *names, sparse=True, correlated=made.correlated)
        f, genes = likelihood(shared, method), data_of(shared, stats, slice(None))
        f.prepare()
    varied = np.flatnonzero(genes.vary(shared.rounding))
    assume(varied.size)
    genes, models = genes[varied], [made.model(gene, method) for gene in varied]
    x = 10 ** np.random.default_rng(seed).uniform(-1, 0.5, (len(models), shared.structure.size))
    gamma = np.array([model.ratios(own) for model, own in zip(models, x, strict=True)])
    point, h = f(genes, gamma), 1e-6
    for k in range(gamma.shape[1]):
        step = h * np.eye(gamma.shape[1])[k]
        up, down = f(genes, gamma + step), f(genes, gamma - step)
        np.testing.assert_allclose(point.grad[:, k], (up.f - down.f) / (2 * h), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(point.observed[:, k], (up.grad - down.grad) / (2 * h), rtol=1e-4, atol=1e-5)
        for gene, model in enumerate(models):
            difference = up.f[gene] - down.f[gene]
            exact = -2 * (model.profile(gamma[gene] + step) - model.profile(gamma[gene] - step))
            np.testing.assert_allclose(difference, exact, rtol=1e-5, atol=1e-8)


@given(arrays(), st.sampled_from(["satterthwaite", "kenward-roger"]), METHODS)
@examples(5)
def test_tests_are_those_of_the_definition(made, ddf, method):
    """Degrees of freedom, standard errors and joint F tests; the first bounded by containment where a component is zero."""
    method = "REML" if ddf == "kenward-roger" else method
    fit = made.fit(method=method, nonnegative=True, ddf=ddf)
    p = made.X.shape[1]
    joint = fsc.lmmtest(fit, np.eye(p)[:, -2:], joint=True) if p > 1 else None
    for gene in np.flatnonzero(fit.status.isin(["ok", "boundary"])):
        model, theta = made.model(gene, method), fit.theta.to_numpy()[gene]
        if not well_known(model, theta):
            continue
        zero = np.flatnonzero(theta[: len(made.d)] == 0)
        bound = np.array([min((model.containment(k, c) for k in zero), default=np.inf) for c in np.eye(p)])
        if ddf == "satterthwaite":
            df = [model.satterthwaite(theta, c) for c in np.eye(p)]
            se = np.sqrt(np.diag(model.cov(theta)))
        else:
            each = [model.kenward_roger(theta, c[:, None]) for c in np.eye(p)]
            df, se = [one[2] for one in each], np.sqrt([one[0][0, 0] for one in each])
        np.testing.assert_allclose(fit.df.iloc[gene], np.minimum(df, bound), rtol=1e-5)
        np.testing.assert_allclose(fit.se.iloc[gene], se, rtol=1e-7)
        if joint is not None:
            L = np.eye(p)[:, -2:]
            F, df = model.satterthwaite_f(theta, L) if ddf == "satterthwaite" else model.kenward_roger(theta, L)[1:]
            np.testing.assert_allclose(joint["F"].iloc[gene], F, rtol=1e-5)
            np.testing.assert_allclose(joint["df"].iloc[gene], min(df, bound[-2:].min()), rtol=1e-4)
