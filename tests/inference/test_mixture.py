from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as sps
from scipy.optimize import brentq

from flashmm_sc._inference.mixture import Mixture
from flashmm_sc._inference.tails import log_upper_tail


def mixtures(m: int = 20, nu: float = 200.0, spread: float = 1.0, seed: int = 0) -> Mixture:
    """Up to 12 components for each gene, their centres and scales as far apart as spread says; two combinations."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 13, m)
    weight = np.concatenate([rng.dirichlet(np.full(size, 0.5)) for size in sizes])
    gene = np.repeat(np.arange(m), sizes)
    order = rng.permutation(gene.size)
    beta = 2 * rng.normal(size=(m, 2))[gene] + 0.3 * spread * rng.normal(size=(gene.size, 2))
    se = np.exp(0.5 * spread * rng.normal(size=(gene.size, 2)))
    return Mixture(m, gene[order], weight[order], beta[order], se[order], nu, nu)


@pytest.mark.parametrize("nu", [3.0, 200.0, 1e5, np.inf])
@pytest.mark.parametrize("spread", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("level", [0.5, 0.95, 1 - 1e-9])
def test_intervals_against_bisection(nu, spread, level):
    some = mixtures(nu=nu, spread=spread)
    ours = some.intervals(some.tests(), level)
    for gene in range(some.m):
        own = some.gene == gene
        for j in range(2):
            part = some.weight[own], some.beta[own, j], some.se[own, j]
            ends = by_bisection(sps.t.cdf, *part, nu, level), by_bisection(sps.t.sf, *part, nu, level)
            got = ours.ci_low[gene, j], ours.ci_high[gene, j]
            np.testing.assert_allclose(got, ends, atol=2e-8 * ours.se[gene, j])


def by_bisection(tail, w, beta, se, nu, level):
    half = 2 * sps.t.isf((1 - level) / 4, nu) * se.max()
    off = lambda x: w @ tail((x - beta) / se, nu) - (1 - level) / 2
    return brentq(off, beta.min() - half, beta.max() + half, xtol=1e-13, rtol=1e-15)


def test_moments_by_hand():
    some = mixtures()
    far = Mixture(some.m, some.gene, some.weight, some.beta + 1e6, some.se, some.nu, some.most)
    for shift, mixture in ((0.0, some), (1e6, far)):
        coef, se = mixture.moments()
        for gene in range(some.m):
            own = some.gene == gene
            w, beta = some.weight[own], some.beta[own]
            variance = w @ (some.se[own] ** 2 + (beta - w @ beta) ** 2)
            np.testing.assert_allclose(coef[gene], w @ beta + shift, rtol=1e-10, atol=1e-10)
            np.testing.assert_allclose(se[gene], np.sqrt(variance), rtol=1e-6)


def test_a_mixture_of_one_is_its_t():
    one = Mixture(3, np.arange(3), np.ones(3), np.array([[-1.0], [0.0], [30.0]]), np.ones((3, 1)), 7.0, 7.0)
    ours = one.intervals(one.tests(), 0.9)
    np.testing.assert_allclose(ours.se, 1, rtol=1e-8)
    np.testing.assert_allclose(ours.t, one.beta / ours.se, rtol=1e-10)
    np.testing.assert_allclose(ours.df, 7.0, rtol=1e-8)
    np.testing.assert_allclose(ours.ci_high, one.beta + sps.t.ppf(0.95, 7), rtol=1e-9)


@pytest.mark.parametrize(
    ("alternative", "effect"), [("two-sided", 0), ("two-sided", 0.5), ("greater", 0), ("less", 0.5)]
)
def test_p_values_by_hand(alternative, effect):
    some = mixtures()
    p = some.tests(alternative, effect).p
    for gene in range(some.m):
        own = some.gene == gene
        beta, se = some.beta[own], some.se[own]
        tail = {
            "two-sided": sps.t.sf((abs(beta) - effect) / se, 200) + sps.t.sf((abs(beta) + effect) / se, 200),
            "greater": sps.t.sf((beta - effect) / se, 200),
            "less": sps.t.cdf((beta + effect) / se, 200),
        }[alternative]
        np.testing.assert_allclose(p[gene], some.weight[own] @ tail, rtol=1e-8)
    tests = some.tests(alternative, effect)
    t = {"two-sided": np.abs(tests.t), "greater": tests.t, "less": -tests.t}[alternative]
    said = sps.t.sf(t, tests.df) * (2 if alternative == "two-sided" else 1)
    free = tests.se > 0.8 * some.moments()[1] * (1 + 1e-9)  # but for effects near zero, t has that p
    assert free.mean() > 0.8
    np.testing.assert_allclose(said[free], p[free], rtol=1e-6)


@pytest.mark.parametrize(("alternative", "effect"), [("two-sided", 0), ("two-sided", 0.5), ("greater", 0.5)])
def test_p_values_too_small_for_a_number_still_tell_genes_apart(alternative, effect):
    nu, beta = 6000.0, np.array([60.0, 60.5, 90.0, 91.0, 300.0, 300.9])[:, None]
    weight, se = np.tile([0.25, 0.75], 3), np.ones((6, 1))
    tests = Mixture(3, np.repeat(np.arange(3), 2), weight, beta, se, nu, nu).tests(alternative, effect)
    assert (tests.p == 0).all()
    nearest = log_upper_tail(beta[::2] - effect, nu) + np.log(0.25)  # beside it the other counts for nothing
    doubled = np.log(2) * (alternative == "two-sided")
    np.testing.assert_allclose(
        log_upper_tail(tests.t, tests.df) + doubled, nearest + doubled * (effect == 0), rtol=1e-6
    )
    alone = Mixture(6, np.arange(6), np.ones(6), beta, se, nu, nu).tests()
    np.testing.assert_allclose(alone.df, nu, rtol=1e-12)
    np.testing.assert_allclose(alone.t, beta, rtol=1e-6)
