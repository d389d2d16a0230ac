"""Fits at known dispersion, likelihood ratios and their corrected roots, against the definitions and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from counts_reference import DenseGene, DensePosterior, samples_of

from flashmm_sc._counts.regression import Pairs, Regression, grid
from flashmm_sc._counts.samples import Samples

TAU2 = np.array([0.0, 1e-3, 0.02, 0.3, 4.0])
N = 10


def _designs():
    rng = np.random.default_rng(3)
    one, trt, x, z = np.ones(N), np.arange(N) % 2.0, rng.normal(size=N), rng.normal(size=N)
    donor = np.eye(N // 2)[np.arange(N) // 2]
    return {
        "mean": one[:, None],
        "arms": np.column_stack([one, trt]),
        "arms without intercept": np.column_stack([1 - trt, trt]),
        "four": np.column_stack([one, trt, x, z]),
        "large covariate": np.column_stack([one, trt, 1e6 * x, 1e6 + z]),
        "small covariate": np.column_stack([one, trt, 1e-6 * x]),
        "collinear": np.column_stack([one, trt, x, x + 1e-4 * z]),
        "blocked": np.column_stack([donor, trt]),
        "two samples more than columns": np.column_stack([one, trt, rng.normal(size=(N, 6))]),
    }


DESIGNS = _designs()


def pairs_of(fit, betas, some):
    genes, points = np.indices(betas.shape[:2]).reshape(2, -1)
    return Pairs(genes[some], TAU2[points[some]], betas.reshape(-1, fit.X.shape[1])[some])


@pytest.fixture(params=DESIGNS)
def fit(request):
    return Regression(samples_of(N, 4, tau2=[0, 0.05, 0.3, 1], seed=2), DESIGNS[request.param])


def dense(fit, g, k):
    samples = fit.samples
    return DensePosterior(
        samples.counts[g], samples.size, samples.inverse_cells, samples.phi[g], fit.X, TAU2[[k]], np.ones(1)
    ).points[0]


def assert_fits(fit, ours, theirs, gene):
    """β as close as a small part of its standard errors, in the basis of orthonormal columns."""
    Q, R = np.linalg.qr(fit.X)
    H = DenseGene(gene.y, gene.offset, gene.d, Q).expected(R @ theirs)
    apart = ours - R @ theirs
    assert np.sqrt(apart @ H @ apart) < 1e-5


def test_grid():
    tau2 = grid()
    assert tau2[0] == 0
    assert len(tau2) == 41
    np.testing.assert_allclose(tau2[[1, -1]], [1e-4, 10])
    np.testing.assert_allclose(np.diff(np.log(tau2[1:])), np.log(1e5) / 39)


def test_profile(fit):
    log_lik, beta = fit.profile(TAU2, 1)
    for g in range(len(log_lik)):
        genes = [dense(fit, g, k) for k in range(len(TAU2))]
        expected = np.array([gene.adjusted for gene in genes])
        near = log_lik[g] > -np.inf
        assert near.sum() > 1
        best = expected.argmax()
        np.testing.assert_allclose((log_lik[g] - log_lik[g, best])[near], (expected - expected[best])[near], atol=1e-6)
        assert np.all(expected[~near] < expected[best] - 24)
        for k in np.flatnonzero(near):
            assert_fits(fit, beta[g, k], genes[k].beta, genes[k])


def test_estimates_roots_and_ratios(fit):
    """Of the last coefficient, the sum of all, and, together, the last two."""
    log_lik, betas = fit.profile(TAU2, 1)
    some = np.flatnonzero(log_lik.ravel() > -np.inf)
    pairs = pairs_of(fit, betas, some)
    p = fit.X.shape[1]
    L = np.column_stack([np.eye(p)[-1], np.ones(p)])
    value = np.array([[0.0, 0.1], [0.2, 0.0], [-0.3, 0.5], [1.0, -1.0]]) / np.abs(fit.X).max(axis=0)[-1]
    coef, se = fit.estimates(pairs, L, 1)
    roots = fit.roots(pairs, L, value, 1)
    joint = fit.ratios(pairs, np.eye(p)[:, -2:], 1)
    for e, (g, tau2) in enumerate(zip(pairs.gene, pairs.tau2, strict=True)):
        gene = dense(fit, g, int(np.searchsorted(TAU2, tau2)))
        for j, c in enumerate(L.T):
            np.testing.assert_allclose(se[e, j], gene.se(c), rtol=1e-5)
            np.testing.assert_allclose(coef[e, j], c @ gene.beta, atol=1e-5 * gene.se(c))
            np.testing.assert_allclose(roots[e, j], gene.root(c, value[g, j]), rtol=1e-5, atol=2e-4)
        np.testing.assert_allclose(joint[e], gene.ratio(np.eye(p)[:, -2:]), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("tau2", [0.02, 0.5])
def test_a_generalized_linear_model_at_known_dispersion(tau2):
    """That of statsmodels, without a prior count: one dispersion for all samples, of as many cells."""
    X, n = DESIGNS["four"], N
    samples = samples_of(n, 5, tau2=[tau2] * 5, seed=4)
    d = 0.3 / 40 + tau2 * (1 + 0.3 / 40)
    fit = Regression(Samples(samples.counts, samples.size, np.full(n, 1 / 40), np.full(5, 0.3)), X)
    beta = fit.profile(np.array([tau2]), 1)[1][:, 0]
    pairs = Pairs(np.arange(5), np.full(5, tau2), beta)
    coef, se = fit.estimates(pairs, np.eye(4), 1)
    ratio = fit.ratios(pairs, np.eye(4)[:, 2:], 1)
    prior = 4 / 8 / n * samples.size / samples.size.mean()
    family = sm.families.NegativeBinomial(alpha=d)
    for g in range(5):
        model = lambda X, y: sm.GLM(y, X, family=family, offset=np.log(samples.size)).fit(tol=1e-13, maxiter=500)
        full, null = (model(part, samples.counts[g] + prior) for part in (X, X[:, :2]))
        np.testing.assert_allclose(coef[g], full.params, atol=1e-5 * full.bse.max())
        np.testing.assert_allclose(se[g], full.bse, rtol=1e-5)
        np.testing.assert_allclose(ratio[g], 2 * (full.llf - null.llf), rtol=1e-6)


def test_an_arm_without_counts():
    """A log fold change that is finite, and a p-value from the likelihood."""
    X = DESIGNS["arms"]
    samples = samples_of(N, 1, tau2=[0.1], seed=1, rate=0.2)
    counts = np.where(X[:, 1] == 1, 0.0, samples.counts)
    fit = Regression(Samples(counts, samples.size, samples.inverse_cells, samples.phi), X)
    beta = fit.profile(TAU2, 1)[1]
    pairs = pairs_of(fit, beta, np.array([2]))
    c = np.array([[0.0], [1.0]])
    coef, se = fit.estimates(pairs, c, 1)
    assert -9 < coef[0, 0] < -3
    assert abs(coef[0, 0] / se[0, 0]) < 2.6  # which Wald's test would go by
    root = fit.roots(pairs, c, np.zeros((1, 1)), 1)[0, 0]
    assert root < -3.7
    np.testing.assert_allclose(root, dense(fit, 0, 2).root(c[:, 0]), rtol=1e-6)


def test_one_gene_after_another_or_all_at_once():
    fit = Regression(samples_of(N, 30, tau2=np.geomspace(1e-3, 1, 30)), DESIGNS["four"])
    log_lik, beta = fit.profile(TAU2, 1)
    for threads in (2, 3) * 20:  # wherever their memory lies
        for ours, theirs in zip(fit.profile(TAU2, threads), (log_lik, beta), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    some = np.array([7, 3, 29])
    part = Regression(fit.samples.of_genes(some), fit.X)
    for ours, theirs in zip(part.profile(TAU2, 1), (log_lik, beta), strict=True):
        np.testing.assert_array_equal(ours, theirs[some])


@pytest.mark.parametrize(("rate", "phi"), [(1e5, 0.0), (1e5, 0.5), (0.3, 0.0), (2e-4, 0.0), (2e-4, 3.0)])
def test_few_and_many_counts(rate, phi):
    """Ten millions a sample, or one in all; with φ = τ² = 0 it is Poisson regression."""
    X = DESIGNS["arms"]
    samples = samples_of(N, 3, tau2=[0, 0, 0.01], phi=phi, seed=7, rate=rate)
    samples.counts[2] = np.maximum(samples.counts[2], np.eye(N)[3])
    fit = Regression(samples, X)
    log_lik, betas = fit.profile(TAU2, 1)
    pairs = pairs_of(fit, betas, np.flatnonzero(log_lik.ravel() > -np.inf))
    c = np.array([[0.0], [1.0]])
    coef, se = fit.estimates(pairs, c, 1)
    roots = fit.roots(pairs, c, np.full((3, 1), 0.5), 1)
    for e, (g, tau2) in enumerate(zip(pairs.gene, pairs.tau2, strict=True)):
        gene = dense(fit, g, int(np.searchsorted(TAU2, tau2)))
        np.testing.assert_allclose(coef[e, 0], gene.beta[1], atol=1e-5 * gene.se(c[:, 0]))
        np.testing.assert_allclose(se[e, 0], gene.se(c[:, 0]), rtol=1e-5)
        np.testing.assert_allclose(roots[e, 0], gene.root(c[:, 0], 0.5), rtol=1e-5, atol=1e-5)
