"""Data of genes by group, and those that don't vary in one."""

from __future__ import annotations

import dense_reference as dense
import numpy as np
from grouped_stats import grouped_fit, grouped_stats, projected

from flashmm_sc._gaussian.estimate import data_of
from flashmm_sc._gaussian.grouped.genes import LEAST


def test_least_squares_by_group():
    X, Z, d, groups, Y = dense.grouped_example("own variances")
    stats = grouped_stats(X, Z, d, groups, Y)
    genes = data_of(projected(stats), stats, slice(1, 4))
    b = np.linalg.lstsq(X, Y, rcond=None)[0]
    residual = Y - X @ b
    np.testing.assert_allclose(genes.b, b.T[1:4], rtol=1e-9, atol=1e-10)
    for g in range(3):
        np.testing.assert_allclose(genes.groups[:, g, -1], (residual[groups == g] ** 2).sum(axis=0)[1:4], rtol=1e-9)
    np.testing.assert_allclose(genes.yRy, (residual**2).sum(axis=0)[1:4], rtol=1e-9)
    assert genes[np.array([2])].units.shape == (1, genes.units.shape[1])


def test_a_gene_that_is_constant_in_a_group_has_results():
    """The likelihood has no maximum; a least variance makes one, at which coefficients are those of the definition."""
    X, Z, d, groups, Y = dense.grouped_example("own variances")
    X = X[:, :-1]
    Y = np.repeat(Y[:, :1], 3, axis=1)
    Y[groups == 2, 1] = 0.0
    Y[groups == 2, 2] = 7.0
    fit = grouped_fit(grouped_stats(X, Z, d, groups, Y))
    assert set(fit.status) <= {"ok", "boundary"}
    assert np.isfinite(fit.p.to_numpy()).all()
    theta = fit.theta.to_numpy()
    over_all = ((Y - X @ np.linalg.lstsq(X, Y, rcond=None)[0]) ** 2).mean(axis=0)
    assert (theta[1:, -1] < 2 * LEAST * over_all[1:]).all()
    assert (theta[1:, 0] < 1e-4).all()  # donors share nothing with the group in which they don't differ
    effects = fit.coef.to_numpy()[:, 3:]
    np.testing.assert_allclose(effects[1:, 2], 0.0, atol=1e-9)
    for gene in (1, 2):
        model = dense.DenseModel(Y[:, gene], X, Z, d, residuals=groups)
        np.testing.assert_allclose(fit.coef.iloc[gene], model.coef(theta[gene]), rtol=1e-8, atol=1e-9)
