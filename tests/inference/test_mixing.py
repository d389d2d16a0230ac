"""Mixing weights are those of the maximum: by the slopes there, against EM that doesn't end, and where it is hard."""

from __future__ import annotations

import numpy as np
import pytest

from flashmm_sc._inference.mixing import GAP, mixing_weights


def of_normals(m, K, sd=1.0, seed=0, spread=2.0):
    """Log-likelihoods of m values at K means."""
    rng = np.random.default_rng(seed)
    return -0.5 * ((rng.normal(size=(m, 1)) * spread - np.linspace(-4, 4, K)) / sd) ** 2


def product(m, n, seed=0):
    """At n × n points: what two random components look like."""
    one, two = of_normals(m, n, 2.0, seed), of_normals(m, n, 3.0, seed + 1)
    return (one[:, :, None] + two[:, None]).reshape(m, n * n)


def likelihood(log_lik):
    return np.exp(log_lik - log_lik.max(axis=1, keepdims=True))


def objective(pi, log_lik, pseudo):
    some = pseudo > 0
    return np.log(likelihood(log_lik) @ pi).sum() + pseudo[some] @ np.log(pi[some])


def em(log_lik, pseudo, steps):
    L, pi = likelihood(log_lik), np.full(len(pseudo), 1 / len(pseudo))
    for _ in range(steps):
        pi = (pi * (L.T @ (1 / (L @ pi))) + pseudo) / (len(L) + pseudo.sum())
    return pi


PSEUDO = {
    "none": lambda K: np.zeros(K),
    "everywhere": lambda K: 50 * np.random.default_rng(1).dirichlet(np.ones(K)),
    "at some points": lambda K: 50 * np.random.default_rng(2).dirichlet(np.ones(K)) * (np.arange(K) % 3 == 0),
    "tiny": lambda K: 1e-6 * np.geomspace(1, 1e-6, K),
}


def check_optimal(pi, log_lik, pseudo):
    """The slope is the same where π > 0, and nowhere larger, but for what the sum may lack."""
    assert (pi >= 0).all()
    assert pi.sum() == pytest.approx(1, abs=1e-12)
    L, total = likelihood(log_lik), len(log_lik) + pseudo.sum()
    slope = (L / (L @ pi)[:, None]).sum(axis=0)
    slope[pseudo > 0] += pseudo[pseudo > 0] / pi[pseudo > 0]
    assert slope.max() - total < 2 * GAP
    assert pi @ slope == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("kind", PSEUDO)
@pytest.mark.parametrize(
    "log_lik",
    [of_normals(3000, 41), of_normals(400, 41, 0.1), of_normals(400, 41, 20.0), product(1500, 13), product(100, 13)],
    ids=["41 points", "sharp", "almost flat", "13 × 13", "fewer observations than points"],
)
def test_slopes_at_the_optimum(log_lik, kind):
    pseudo = PSEUDO[kind](log_lik.shape[1])
    check_optimal(mixing_weights(log_lik, pseudo), log_lik, pseudo)


@pytest.mark.parametrize("kind", ["none", "everywhere", "at some points"])
@pytest.mark.parametrize("m", [1, 4, 60])
def test_where_em_ends(m, kind):
    log_lik, pseudo = of_normals(m, 7, seed=3), PSEUDO[kind](7)
    ours, theirs = mixing_weights(log_lik, pseudo), em(log_lik, pseudo, 20_000)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)  # EM creeps where a weight goes to zero
    assert objective(ours, log_lik, pseudo) >= objective(theirs, log_lik, pseudo) - GAP


def test_nothing_to_choose_from():
    np.testing.assert_array_equal(mixing_weights(np.full((20, 5), -3.0), np.zeros(5)), np.full(5, 0.2))
    np.testing.assert_array_equal(mixing_weights(np.zeros((20, 1)), np.zeros(1)), [1.0])
    pseudo = np.array([3.0, 0.0, 1.0])
    np.testing.assert_allclose(mixing_weights(np.empty((0, 3)), pseudo), [0.75, 0, 0.25], atol=1e-9)
    np.testing.assert_allclose(mixing_weights(np.zeros((20, 3)), pseudo), [0.75, 0, 0.25], atol=1e-9)


def test_a_point_that_has_all():
    log_lik = np.where(np.arange(6) == 2, 0.0, -1.0 - np.arange(200)[:, None] % 5)
    for known in (log_lik, np.where(log_lik < 0, -1e4, 0.0)):
        np.testing.assert_array_equal(mixing_weights(known, np.zeros(6)), np.arange(6) == 2)


def test_a_point_that_only_pseudo_observations_have_keeps_weight():
    """A whole step would leave it none, and of the density of these whatever rounding leaves."""
    log_lik = of_normals(120, 9, 0.5, seed=13, spread=0.3)
    for share in np.linspace(0.2, 0.8, 40):
        pseudo = share * (np.arange(9) == 0)
        check_optimal(mixing_weights(log_lik, pseudo), log_lik, pseudo)


def test_likelihoods_that_underflow():
    """Of each observation at all points but one, so that the weights are shares of observations."""
    which = np.repeat(np.arange(5), [10, 1, 0, 30, 59])
    log_lik = np.where(which[:, None] == np.arange(5), -5e4, -9e4) - 1e6
    np.testing.assert_allclose(mixing_weights(log_lik, np.zeros(5)), np.bincount(which) / 100, atol=1e-9)


@pytest.mark.parametrize("kind", ["none", "at some points"])
def test_order_makes_no_difference(kind):
    rng = np.random.default_rng(4)
    for log_lik in (of_normals(700, 41), product(300, 13)):
        pseudo = PSEUDO[kind](log_lik.shape[1])
        once = mixing_weights(log_lik, pseudo)
        rows, points = rng.permutation(len(log_lik)), rng.permutation(len(pseudo))
        again = mixing_weights(log_lik[rows][:, points], pseudo[points])
        np.testing.assert_allclose(again, once[points], atol=1e-7)
