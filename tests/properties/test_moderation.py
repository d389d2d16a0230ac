"""Moderated tests under the prior that was learned: posteriors, tests, intervals and F by the definition, gene by gene."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from moderated_reference import posterior_by_hand, study
from scipy import stats as sps
from strategies import examples, seeds

import flashmm_sc as fsc


@st.composite
def studies(draw):
    """100 genes, the fewest a prior is learned from."""
    options = {"donors": draw(st.integers(4, 8)), "cells": draw(st.integers(3, 8)), "seed": draw(seeds)}
    return study(
        genes=100, batches=draw(st.sampled_from([0, 0, 3])), effect=draw(st.sampled_from([0.0, 1.0])), **options
    )


@given(studies(), seeds, st.floats(0, 0.5), st.floats(0.5, 0.99))
@examples(4)
def test_tests_are_averages_over_the_posterior(made, seed, effect, level):
    Y, X, Z, d = made
    fit = fsc.lmmfit(Y, X, Z, d, moderate=True, nonnegative=True, n_jobs=1)
    rng = np.random.default_rng(seed)
    c, L, nu = rng.normal(size=3), rng.normal(size=(3, 2)), len(Y) - 3
    kinds = {
        "two-sided": {},
        "greater": {"alternative": "greater", "min_effect": effect},
        "less": {"alternative": "less"},
    }
    tables = {name: fsc.lmmtest(fit, {"c": c}, **options) for name, options in kinds.items()}
    joint = fsc.lmmtest(fit, L, joint=True)
    intervals = fit.inference.t_tests(c[:, None], conf_level=level)
    for gene in rng.choice(100, 3, replace=False):
        weights, beta, cov = posterior_by_hand(fit, Y, X, Z, gene)
        np.testing.assert_allclose(fit.moderated.weights[gene], weights, atol=1e-8)
        mean, se = beta @ c, np.sqrt(np.einsum("i,kij,j->k", c, cov, c))
        np.testing.assert_allclose(tables["two-sided"]["c_coef"].iloc[gene], weights @ mean, rtol=1e-6, atol=1e-9)
        p = {
            "two-sided": weights @ (2 * sps.t.sf(np.abs(mean / se), nu)),
            "greater": weights @ sps.t.sf((mean - effect) / se, nu),
            "less": weights @ sps.t.cdf(mean / se, nu),
        }
        for name, expected in p.items():
            np.testing.assert_allclose(tables[name]["c_p"].iloc[gene], expected, rtol=1e-5, err_msg=name)
        F = [b @ L @ np.linalg.solve(L.T @ V @ L, L.T @ b) / 2 for b, V in zip(beta, cov, strict=True)]
        np.testing.assert_allclose(joint["p"].iloc[gene], weights @ sps.f.sf(F, 2, nu), rtol=1e-5)
        below = lambda bound: weights @ sps.t.cdf((bound - mean) / se, nu)  # noqa: B023, of this gene
        np.testing.assert_allclose(below(intervals.ci_low[gene, 0]), (1 - level) / 2, rtol=1e-4)
        np.testing.assert_allclose(below(intervals.ci_high[gene, 0]), (1 + level) / 2, rtol=1e-4)


@given(studies(), st.floats(-2, 2), seeds)
@examples(4)
def test_units_offsets_and_order_of_genes(made, log, seed):
    """But for an offset that changes how the mean expression of genes is ordered, by which the prior varies."""
    Y, X, Z, d = made
    order, scale = np.random.default_rng(seed).permutation(Y.shape[1]), 10.0**log
    one = fsc.lmmfit(Y, X, Z, d, moderate=True, nonnegative=True, n_jobs=1)
    other = fsc.lmmfit(scale * (Y + 3.0)[:, order], X, Z, d, moderate=True, nonnegative=True, n_jobs=2)
    np.testing.assert_allclose(other.moderated.weights, one.moderated.weights[order], atol=1e-7)
    slopes = other.coef.to_numpy()[:, 1:] / scale
    np.testing.assert_allclose(slopes, one.coef.to_numpy()[order, 1:], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(other.se.iloc[:, 1:] / scale, one.se.iloc[order, 1:], rtol=1e-6)
    np.testing.assert_allclose(other.p.iloc[:, 1:], one.p.iloc[order, 1:], rtol=1e-5)
