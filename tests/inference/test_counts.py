"""Tests of counts, averaged over the posterior of τ²: against the definitions, and exact where the model holds."""

from __future__ import annotations

import numpy as np
import pytest
from counts_reference import DensePosterior, samples_of
from scipy.stats import norm

from flashmm_sc._counts.regression import Regression, grid
from flashmm_sc._counts.samples import Samples
from flashmm_sc._inference.count_prior import count_prior
from flashmm_sc._inference.counts import CountInference
from flashmm_sc._inference.prior import Prior

N, M = 9, 5
FIVE = np.array([0.0, 1e-2, 0.1, 0.4, 2.0])
PRIOR = Prior(FIVE[:, None], np.array([0.0]), np.array([[0.3, 0.3, 0.2, 0.1, 0.1], [0.1, 0.2, 0.3, 0.3, 0.1]]))
FITTED = np.array([1, 2, 4, 5, 7])


def _designs():
    rng = np.random.default_rng(5)
    one, trt, block = np.ones(N), np.arange(N) % 2.0, np.arange(N) // 3
    return {
        "mean": one[:, None],
        "arms": np.column_stack([one, trt]),
        "four": np.column_stack([one, trt, 1e4 * rng.normal(size=N), rng.normal(size=N)]),
        "blocks": np.column_stack([np.eye(3)[block], trt]),
        "n = p + 2": np.column_stack([one, trt, rng.normal(size=(N, 5))]),
    }


DESIGNS = _designs()


def inference_of(samples, X, fitted=FITTED, prior=PRIOR, tau2=FIVE, n_jobs=1):
    return CountInference.of(Regression(samples, X), fitted, 8, prior=prior, tau2=tau2, n_jobs=n_jobs)


@pytest.fixture(scope="module", params=DESIGNS)
def fit(request):
    return inference_of(samples_of(N, M, tau2=[0, 0.05, 0.3, 1, 0.1], seed=2), DESIGNS[request.param])


@pytest.fixture(scope="module")
def genes(fit):
    return [dense(fit, g) for g in range(M)]


def dense(fit, g):
    samples = fit.regression.samples
    prior = PRIOR.weights[int(np.log(samples.rate[g]) >= 0)]
    return DensePosterior(
        samples.counts[g], samples.size, samples.inverse_cells, samples.phi[g], fit.regression.X, FIVE, prior
    )


def combinations(fit):
    p = fit.regression.X.shape[1]
    L = np.column_stack([np.eye(p)[-1], np.ones(p)])
    return L / np.abs(fit.regression.X).max(axis=0)[:, None]


def assert_deviates(p, expected):
    """P-values whose normal deviates agree."""
    np.testing.assert_allclose(norm.isf(p), norm.isf(expected), rtol=2e-5, atol=2e-4)


def test_estimates_and_tests(fit, genes):
    L = combinations(fit)
    tests = fit.t_tests(L, n_jobs=1)
    mean, sd = fit.tau2
    for g, row in enumerate(FITTED):
        gene = genes[g]
        np.testing.assert_allclose(fit.weights[g], gene.weights, atol=1e-6)
        np.testing.assert_allclose(mean[g], gene.weights @ FIVE, rtol=1e-5)
        np.testing.assert_allclose(sd[g], np.sqrt(gene.weights @ (FIVE - gene.weights @ FIVE) ** 2), rtol=1e-4)
        for j, c in enumerate(L.T):
            coef, se = gene.coef(c)
            np.testing.assert_allclose(tests.coef[row, j], coef, atol=2e-5 * se)
            np.testing.assert_allclose(tests.se[row, j], se, rtol=1e-5)
            assert_deviates(tests.p[row, j], gene.p(c))
    np.testing.assert_allclose(2 * norm.sf(np.abs(tests.t)), tests.p, rtol=1e-9)
    assert (np.sign(tests.t[FITTED]) == np.sign(tests.coef[FITTED])).all()
    assert (tests.df[FITTED] == np.inf).all()
    for values in vars(tests).values():
        assert np.isnan(np.delete(values, FITTED, axis=0)).all()


@pytest.mark.parametrize("alternative", ["greater", "less"])
@pytest.mark.parametrize("bound", [0.0, 0.3])
def test_one_sided(fit, genes, alternative, bound):
    L = combinations(fit)
    tests = fit.t_tests(L, alternative=alternative, effect=bound, n_jobs=1)
    for g, row in enumerate(FITTED):
        for j, c in enumerate(L.T):
            assert_deviates(tests.p[row, j], genes[g].p(c, alternative, bound))
    t = tests.t[FITTED]
    np.testing.assert_allclose(norm.sf(t if alternative == "greater" else -t), tests.p[FITTED], rtol=1e-9, atol=1e-15)


def test_effects_beyond_a_bound(fit, genes):
    L = combinations(fit)
    for bound in (0.05, 0.4):
        p = fit.t_tests(L, effect=bound, n_jobs=1).p[FITTED]
        for g in range(M):
            for j, c in enumerate(L.T):
                expected = genes[g].p(c, bound=bound)
                if expected < 1:
                    assert_deviates(p[g, j], expected)
                else:
                    assert p[g, j] == 1


def test_joint_tests(fit, genes):
    p = fit.regression.X.shape[1]
    hypotheses = [np.eye(p), np.eye(p)[:, -2:]]
    tests = fit.f_tests(hypotheses, n_jobs=1)
    for g, row in enumerate(FITTED):
        for j, L in enumerate(hypotheses):
            if L.shape[1] > 1:
                assert_deviates(tests.p[row, j], genes[g].joint_p(L))
    assert tests.df_num[0, 0] != tests.df_num[0, 0]  # NaN where nothing is fitted
    np.testing.assert_array_equal(tests.df_num[FITTED], [[p, min(p, 2)]] * M)


def test_a_joint_test_of_one_contrast_is_its_test(fit):
    L = combinations(fit)
    tests, joint = fit.t_tests(L, n_jobs=1), fit.f_tests([L[:, [0]], 3 * L[:, [1]]], n_jobs=1)
    np.testing.assert_allclose(joint.p, tests.p, rtol=1e-8)
    np.testing.assert_allclose(joint.F, tests.t**2, rtol=1e-6, atol=1e-12)


def test_a_joint_test_whose_p_underflows():
    """F is then the averaged ratio."""
    two, L = np.array([2e-3, 4e-3]), np.eye(3)[:, 1:]
    X = np.column_stack([np.ones(N), np.arange(N) % 2, np.arange(N) // 3 == 1])
    samples = samples_of(N, M, tau2=[3e-3] * M, phi=0.0, rate=50, X=X, beta=np.tile([0, 4, -3], (M, 1)))
    even = Prior(two[:, None], np.empty(0), np.full((1, 2), 0.5))
    tests = inference_of(samples, X, prior=even, tau2=two).f_tests([L], n_jobs=1)
    for g, row in enumerate(FITTED):
        assert tests.p[row, 0] == 0
        gene = DensePosterior(samples.counts[g], samples.size, samples.inverse_cells, 0.0, X, two, even.weights[0])
        np.testing.assert_allclose(tests.F[row, 0], gene.mean(lambda point: point.ratio(L)) / 2, rtol=1e-7)


def test_intervals(fit, genes):
    L = combinations(fit)
    found = fit.t_tests(L, conf_level=0.9, n_jobs=1)
    for g, row in enumerate(FITTED):
        for j, c in enumerate(L.T):
            for end, tail in ((found.ci_low, norm.sf), (found.ci_high, norm.cdf)):
                beyond = genes[g].mean(lambda gene, c=c, x=end[row, j], tail=tail: tail(gene.root(c, x)))
                np.testing.assert_allclose(norm.isf(beyond), norm.isf(0.05), atol=2e-4)
    assert (found.p == fit.t_tests(L, n_jobs=1).p)[FITTED].all()


def test_df_are_none():
    fit = inference_of(samples_of(N, M, tau2=[0.1] * M), DESIGNS["arms"])
    assert fit.used_ddf(None) == "likelihood ratio"
    with pytest.raises(ValueError, match="leave ddf='residual' out"):
        fit.t_tests(np.eye(2), ddf="residual")
    with pytest.raises(ValueError, match="leave ddf='satterthwaite' out"):
        fit.f_tests([np.eye(2)], ddf="satterthwaite")


# What plays no part


def assert_same_tests(one, other, c, d, rtol=1e-6):
    for options in ({}, {"alternative": "less"}, {"effect": 0.3}, {"conf_level": 0.8}):
        ours, theirs = one.t_tests(c, n_jobs=1, **options), other.t_tests(d, n_jobs=1, **options)
        for name, values in vars(ours).items():
            np.testing.assert_allclose(values, getattr(theirs, name), rtol=rtol, atol=rtol, err_msg=name)


def test_order_of_samples(fit):
    samples, order = fit.regression.samples, np.random.default_rng(0).permutation(N)
    counts = np.take(samples.counts, order, axis=1)  # in the order in memory that kernels are compiled for
    turned = Samples(counts, samples.size[order], samples.inverse_cells[order], samples.phi)
    L = combinations(fit)
    assert_same_tests(fit, inference_of(turned, fit.regression.X[order]), L, L)


def test_the_columns_that_span_the_design(fit):
    """Another unit or centre of a covariate, other codings of factors: the same hypotheses, the same tests."""
    p, L = fit.regression.X.shape[1], combinations(fit)
    A = np.triu(np.random.default_rng(1).normal(size=(p, p))) + 3 * np.eye(p)
    other = inference_of(fit.regression.samples, fit.regression.X @ A)
    assert_same_tests(fit, other, L, A.T @ L)


def test_other_genes_and_threads(fit):
    L, some = combinations(fit), np.array([3, 0])
    ours = fit.t_tests(L, conf_level=0.9, n_jobs=1)
    alone = inference_of(fit.regression.samples.of_genes(some), fit.regression.X, FITTED[some])
    theirs = alone.t_tests(L, conf_level=0.9, n_jobs=1)
    for name, values in vars(ours).items():
        np.testing.assert_allclose(getattr(theirs, name)[FITTED[some]], values[FITTED[some]], rtol=1e-10, err_msg=name)
    threaded = inference_of(fit.regression.samples, fit.regression.X, n_jobs=3).t_tests(L, conf_level=0.9, n_jobs=3)
    for name, values in vars(ours).items():
        np.testing.assert_allclose(getattr(threaded, name), values, rtol=1e-10, err_msg=name)


def test_no_gene_fitted():
    none = inference_of(samples_of(N, M, tau2=[0.1] * M).of_genes(np.arange(0)), DESIGNS["arms"], np.arange(0))
    tests, joint = none.t_tests(np.eye(2), conf_level=0.9, n_jobs=1), none.f_tests([np.eye(2)], n_jobs=1)
    assert tests.p.shape == (8, 2)
    assert np.isnan([*tests.p.ravel(), *tests.ci_low.ravel(), *joint.p.ravel()]).all()


# An arm without counts, and levels


def test_an_arm_without_counts():
    X = DESIGNS["arms"]
    samples = samples_of(N, M, tau2=[0.1] * M, seed=1)
    samples.counts[:, X[:, 1] == 1] = 0
    fit = inference_of(samples, X)
    tests = fit.t_tests(np.eye(2)[:, [1]], conf_level=0.95, n_jobs=1)
    assert np.isfinite(tests.coef[FITTED]).all()
    assert (tests.coef[FITTED] < -3).all()
    assert (tests.ci_high[FITTED] < 0).all()
    for g, row in enumerate(FITTED):
        assert_deviates(tests.p[row, 0], dense(fit, g).p(np.array([0.0, 1.0])))
    assert tests.p[FITTED].max() < 1e-3


@pytest.mark.parametrize("n", [6, 12])
def test_levels_are_exact_where_the_model_holds(n):
    """Shares of p-values of a treatment without effect, within the Monte-Carlo error."""
    m, rng = 3000, np.random.default_rng(n)
    X = np.column_stack([np.ones(n), np.arange(n) % 2])
    tau2 = np.exp(rng.normal(np.log(0.08), 0.8, m))
    samples = samples_of(n, m, tau2=tau2, phi=0.4, seed=n, rate=0.5)
    tau2_grid = grid()
    learned = lambda log_lik, rate: count_prior(tau2_grid, log_lik, rate)
    fit = CountInference.of(Regression(samples, X), np.arange(m), m, prior=learned, tau2=tau2_grid, n_jobs=1)
    tests = fit.t_tests(np.array([[0.0], [1.0]]), n_jobs=1)
    for level in (0.5, 0.1, 0.05, 0.01):
        error = np.sqrt(level * (1 - level) / m)
        assert abs((tests.p < level).mean() - level) < 3 * error, level
