"""The prior of τ²: EM gene after gene, smoothed; and what stands in for it where genes are few."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from counts_reference import em, samples_of
from scipy.stats import norm

from flashmm_sc._counts.regression import Regression, grid
from flashmm_sc._counts.samples import Samples
from flashmm_sc._inference.count_prior import count_prior, design_effect, evidence, smoothed
from flashmm_sc._inference.prior import learn

TAU2 = grid()


def log_liks(m, tau2, seed=0):
    samples = samples_of(12, m, tau2=np.full(m, tau2), phi=0.1, seed=seed, rate=3.0)
    fit = Regression(samples, np.column_stack([np.ones(12), np.arange(12) % 2]))
    return fit.profile(TAU2, 1)[0], np.log(samples.rate)


def test_smoothed_weights():
    """Each point's weight goes to points about it as a normal on log τ² has it; the share at 0 stays."""
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(41), 2)
    found = smoothed(TAU2, weights)
    z = np.log(TAU2[1:])
    for b in range(2):
        expected = np.zeros(40)
        for k in range(40):
            density = norm.pdf(z, z[k], 0.6)
            expected += weights[b, 1 + k] * density / density.sum()
        np.testing.assert_allclose(found[b], np.append(weights[b, 0], expected), rtol=1e-10)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_learned_from_genes_of_one_variance():
    log_lik, rate = log_liks(1200, 0.2)
    prior = count_prior(TAU2, log_lik, rate)
    assert prior.weights.shape == (6, 41)
    assert prior.gamma.shape == (41, 1)
    np.testing.assert_allclose(prior.weights.sum(axis=1), 1)
    np.testing.assert_allclose(np.bincount(np.searchsorted(prior.edges, rate, side="right")), 200, atol=1)
    mean = prior.weights[:, 1:] @ np.log(TAU2[1:])
    np.testing.assert_allclose(mean, np.log(0.2), atol=0.35)
    none = count_prior(TAU2, *log_liks(1200, 0.0)).weights
    assert (none @ TAU2 < 0.01).all()


@pytest.mark.parametrize("m", [1, 30])
def test_few_genes_share_it_with_a_stated_prior(m):
    """Log-normal with median 0.05 and sd 1 of the logarithm, which counts as much as 50 genes."""
    log_lik, rate = log_liks(m, 0.4)
    prior = count_prior(TAU2, log_lik, rate)
    stated = np.append(0, norm.pdf(np.log(TAU2[1:]), np.log(0.05), 1))
    stated /= stated.sum()
    likelihood = np.exp(log_lik - log_lik.max(axis=1, keepdims=True))
    expected = em(likelihood, stated, stated, 50.0, 400)  # where it goes in the end
    np.testing.assert_allclose(prior.weights, smoothed(TAU2, expected[None]), atol=5e-4)
    assert prior.edges.size == 0
    shift = np.log(0.05) - prior.weights[0, 1:] @ np.log(TAU2[1:])
    assert -1.5 < shift < 0  # towards the genes' own


@pytest.mark.parametrize("truth", [1.0, 2.0])
def test_design_effect_of_counts_drawn_with_one(truth):
    rng = np.random.default_rng(5)
    m, n = 1200, 12
    cells = np.geomspace(5, 500, n)
    mean, phi = np.exp(rng.normal(-0.5, 1, m)), rng.gamma(2, 0.4, m)
    b = truth * phi[:, None] / cells
    d = b + np.exp(rng.normal(np.log(0.03), 0.8, m))[:, None] * (1 + b)
    counts = rng.poisson(mean[:, None] * cells * rng.gamma(1 / d, d)).astype(float)
    regression = Regression(Samples(counts, cells, 1 / cells, phi), np.column_stack([np.ones(n), np.arange(n) % 2]))
    found = design_effect(regression, grid(), 1)
    assert abs(np.log(found / truth)) < 0.3
    few = regression.of_genes(np.arange(50))
    assert design_effect(few, grid(), 1) == 1


class Known:
    """Sums whose evidence is highest at a known design effect."""

    def __init__(self, best, effect=1.0):
        self.best, self.effect, self.samples = best, effect, SimpleNamespace(rate=np.ones(200))

    def of_genes(self, genes):
        return self

    def inflated(self, effect):
        return Known(self.best, effect)

    def profile(self, tau2, n_jobs):
        return -(np.log(self.effect / self.best) ** 2), None


def test_the_design_effect_is_the_nearest_of_a_grid(monkeypatch):
    monkeypatch.setattr("flashmm_sc._inference.count_prior.evidence", lambda tau2, log_lik, rate: log_lik)
    for best in np.geomspace(1, 6.5, 40):
        assert abs(np.log(design_effect(Known(best), TAU2, 1) / best)) < 0.15
    assert design_effect(Known(0.3), TAU2, 1) == 1


def test_evidence_is_the_log_likelihood_averaged_over_its_prior():
    rng = np.random.default_rng(6)
    log_lik, rate = rng.normal(size=(150, 41)) - 40, rng.normal(size=150)
    weights = learn(grid()[:, None], log_lik, rate).of(rate)
    expected = sum(np.log(w @ np.exp(one)) for w, one in zip(weights, log_lik, strict=True))
    np.testing.assert_allclose(evidence(grid(), log_lik, rate), expected, rtol=1e-12)
