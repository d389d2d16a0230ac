"""Where the prior has its points and bins; that its weights are those of the maximum tests `test_moderated`."""

from __future__ import annotations

from itertools import product

import dense_reference as dense
import numpy as np
import pytest

import flashmm_sc as fsc
from flashmm_sc._inference.prior import grid, learn


@pytest.mark.parametrize(("name", "points"), [("sam", 40), ("crossed", 12)])
def test_grid_is_zero_and_ratios_evenly_spaced_in_log_about_the_median_eigenvalue(name, points):
    X, Z, d, Y = dense.example(name)
    outside = np.eye(len(X)) - X @ np.linalg.pinv(X)
    axes = []
    for part in np.split(Z, np.cumsum(d)[:-1], axis=1):
        value = np.linalg.eigvalsh(part.T @ outside @ part)
        axes.append(np.append(0, 10 ** np.linspace(-2, 4, points) / np.median(value[value > 1e-9 * value[-1]])))
    np.testing.assert_allclose(grid(fsc.lmmfit(Y, X, Z, d).projection), list(product(*axes)), rtol=1e-9)


@pytest.mark.parametrize(("genes", "bins"), [(100, 1), (199, 1), (200, 2), (599, 5), (600, 6), (1200, 6)])
def test_bins_are_alike_in_size_with_a_hundred_genes_at_least(genes, bins):
    rng = np.random.default_rng(0)
    expression = rng.permutation(genes) + 0.5
    prior = learn(np.zeros((3, 1)), rng.normal(size=(genes, 3)), expression)
    assert len(np.unique(prior.weights, axis=0)) == bins
    of_genes = prior.of(np.sort(expression))
    _, size = np.unique(prior.of(expression), axis=0, return_counts=True)
    assert np.ptp(size) <= 1
    assert np.count_nonzero((np.diff(of_genes, axis=0) != 0).any(axis=1)) == bins - 1
