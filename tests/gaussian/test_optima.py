"""Likelihoods with several optima: the best is found, whichever genes are fitted beside."""

from __future__ import annotations

import dense_reference as dense
import numpy as np
import pytest

import flashmm_sc as fsc
from flashmm_sc._base.threads import for_gene_blocks
from flashmm_sc._gaussian import estimate, projection
from flashmm_sc._gaussian.genes import Genes
from flashmm_sc._gaussian.profile import Objective, _between
from flashmm_sc._gaussian.projection import Projection
from flashmm_sc._gaussian.solver import optimise


def crossed(levels, n, seed, m):
    """Crossed factors of unequal levels and an intercept; each variance component is absent, small or large in a gene."""
    rng = np.random.default_rng(seed)
    Z = np.hstack([np.eye(L)[rng.choice(L, n, p=0.75 ** np.arange(L) * 0.25 / (1 - 0.75**L))] for L in levels])
    theta = np.column_stack([rng.choice([0, 0.2, 1.0], size=(m, len(levels))), np.ones(m)])
    X = np.ones((n, 1))
    return X, Z, levels, dense.simulate(X, Z, levels, theta, seed=seed)


def slopes(levels, n, c, seed, m):
    """Levels of unequal size with c correlated effects; their covariance matrix is zero, small or large in a gene."""
    rng = np.random.default_rng(seed)
    own = np.eye(levels)[rng.choice(levels, n, p=0.75 ** np.arange(levels) * 0.25 / (1 - 0.75**levels))]
    x = np.column_stack([np.ones(n), rng.normal(1, 1, (n, c))[:, 1:]])
    root = np.tril(rng.normal(size=(m, c, c))) * rng.choice([0, 0.2, 1.0], (m, 1, 1))
    b = np.einsum("mkl,lim->kim", root, rng.normal(size=(c, levels, m))).reshape(-1, m)
    Z = np.hstack([own * x[:, [k]] for k in range(c)])
    return np.ones((n, 1)), Z, (levels,) * c, Z @ b + rng.normal(size=(n, m))


def best_of_starts(f: Objective, genes: Genes, number: int = 12) -> np.ndarray:
    """f at the lowest optimum below random ratios and correlations."""
    rng, m, structure = np.random.default_rng(0), len(genes.yRy), f.projection.structure
    K, size = structure.K, number * m
    unit = np.array(f.projection.d) / f.projection.S.moments()[0][:K]
    start = np.zeros((size, structure.size))
    start[:, :K] = unit * 10 ** rng.uniform(-2, 3, (size, K)) * (rng.random((size, K)) < 0.6)
    for group in structure.groups:
        root = rng.normal(size=(size, len(group), len(group)))
        root *= np.sqrt(start[:, group] / np.sum(root**2, axis=2))[:, :, None]
        start[:, structure.places(group)] = root @ root.swapaxes(1, 2)
    found = optimise(f, genes[np.tile(np.arange(m), number)], nonnegative=True, max_iter=100, tol=1e-16, start=start)
    return np.where(found.converged, found.point.f, np.inf).reshape(number, m).min(axis=0)


def test_between_points_of_a_ray_a_parabola_tells_how_low_it_gets():
    """From the second point on; at the ends, where it opens downwards and on a plateau values stay."""
    x = np.arange(6.0)
    f = np.array([2 + 3 * (x - 2.3) ** 2, -((x - 2.3) ** 2), 0 * x, (x - 0.6) ** 2, (x - 4.9) ** 2])
    low = f.copy()
    low[0, 2] = 2.0
    np.testing.assert_allclose(_between(f), low, atol=1e-12)


DRAWN = {
    "two": ((8, 5), 20, 1, 1000),
    "three": ((12, 12, 4), 60, 8, 300),
    "four": ((8, 6, 5, 4), 40, 4, 300),
}
CORRELATED = {"a slope": (6, 18, 2, 0, 300), "two slopes": (7, 30, 3, 2, 300)}


@pytest.mark.parametrize("method", ["REML", "ML"])
@pytest.mark.parametrize("name", [*DRAWN, *CORRELATED])
def test_no_start_finds_a_better_optimum(name, method):
    X, Z, d, Y = crossed(*DRAWN[name]) if name in DRAWN else slopes(*CORRELATED[name])
    correlated = () if name in DRAWN else (tuple(range(len(d))),)
    stats = fsc.sslmm(X, Y, Z, d, correlated=correlated)
    names = stats.coef_names, stats.component_names
    projection = Projection.of(stats.cross, stats.n, stats.d, *names, correlated=correlated)
    f, genes = Objective.of(projection, method), Genes.of(projection, stats)
    found = optimise(f, genes, nonnegative=True, max_iter=100, tol=1e-16)
    assert found.converged.all()
    assert (found.point.f <= best_of_starts(f, genes) + 2e-4).all()


def spanned(levels, n, slope, m):
    """A design whose fixed and random columns explain any values of all cells, and genes; the first effect with a slope."""
    rng, rank = np.random.default_rng(0), 0
    while rank < n:
        x = rng.normal(size=(n, 1))
        X, factors = np.hstack([np.ones((n, 1)), x]), [np.eye(L)[rng.integers(L, size=n)] for L in levels]
        parts = [factors[0], factors[0] * rng.normal(size=(n, 1)), *factors[1:]] if slope else factors
        parts = [part[:, part.any(axis=0)] for part in parts]
        Z, d = np.hstack(parts), tuple(part.shape[1] for part in parts)
        rank = np.linalg.matrix_rank(np.hstack([X, Z]))
    theta = np.column_stack([rng.choice([0, 0.2, 1.0], size=(m, len(d))), np.ones(m)])
    return X, Z, d, dense.simulate(X, Z, d, theta, seed=1)


SPANNED = {"one": ((7,), 7, False), "three": ((4, 4, 3), 8, False), "a slope": ((4,), 6, True)}


@pytest.mark.parametrize("method", ["REML", "ML"])
@pytest.mark.parametrize("name", SPANNED)
def test_no_optimum_is_lower_than_what_has_no_residual(name, method):
    """Where effects explain all cells f has a limit as residuals vanish, or with ML none, and a local minimum besides."""
    X, Z, d, Y = spanned(*SPANNED[name], 60)
    correlated = ((0, 1),) if name == "a slope" else ()
    fit = fsc.lmmfit(Y, X, Z, d, correlated=correlated, method=method, nonnegative=True)
    good = fit.status.isin(["ok", "boundary"]).to_numpy()
    rng, K = np.random.default_rng(0), len(d)
    ratios = 1e7 * 10 ** rng.uniform(-2, 2, (40, K)) * (rng.random((40, K)) < 0.7)
    if correlated:
        ratios = np.column_stack([ratios, rng.choice([-1, 0, 1], 40) * np.sqrt(ratios.prod(axis=1))])
    models = [dense.DenseModel(y, X, Z, d, method, correlated) for y in Y.T]
    far = np.array([max(map(model.profile, ratios)) for model in models])
    assert not good.all()
    assert good.any() or method == "ML"
    assert (far < fit.loglik + 1e-4)[good].all()


ROOMS = {
    "dense": {},
    "sparse": {"MOST_DENSE": (0, 0), "FILLED": 2.0},
    "crossed": {"MOST_DENSE": (0, 0), "FILLED": -1.0},
}


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("name", SPANNED)
def test_whether_effects_can_explain_all_cells(name, more, room, monkeypatch):
    """Fixed and random columns have rank n; not with the same cells once more."""
    for option, value in ROOMS[room].items():
        monkeypatch.setattr(projection, option, value)
    X, Z, d, Y = (np.vstack([part] * (1 + more)) if np.ndim(part) == 2 else part for part in spanned(*SPANNED[name], 1))
    correlated = ((0, 1),) if name == "a slope" else ()
    stats = fsc.sslmm(X, Y, Z, d, correlated=correlated)
    shared = Projection.of(stats.cross, stats.n, d, stats.coef_names, stats.component_names, correlated=correlated)
    assert Objective.of(shared, "REML").saturated == (more == 0)


def test_better_optimum_has_the_higher_likelihood_by_definition():
    """Descents from the best multiple of all components together ended at theta = (s, 0, 0, s_0), 0.26 lower."""
    X, Z, d, Y = crossed(*DRAWN["three"])
    y = Y[:, 278]
    theta = fsc.lmmfit(y[:, None], X, Z, d, method="ML", nonnegative=True).theta.to_numpy()[0]
    model = dense.DenseModel(y, X, Z, d, "ML")
    lesser = fsc.lmmfit(y[:, None], X, Z, d, method="ML", nonnegative=True, theta0=[1e-3, 0, 0, 1]).theta.to_numpy()[0]
    assert (theta > 0).sum() == 3
    assert np.abs(model.grad(theta)[theta > 0]).max() < 1e-6
    assert model.loglik(theta) > model.loglik(lesser) + 0.25


def test_blocks_of_genes_make_no_difference(monkeypatch):
    X, Z, d, Y = crossed(*DRAWN["three"])
    together = fsc.lmmfit(Y, X, Z, d, method="ML", nonnegative=True)
    few = lambda work, n_genes, gene_bytes, *others: for_gene_blocks(work, n_genes, 2**24 // 7, *others)
    monkeypatch.setattr(estimate, "for_gene_blocks", few)
    apart = fsc.lmmfit(Y, X, Z, d, method="ML", nonnegative=True)
    np.testing.assert_allclose(apart.theta, together.theta, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(apart.status, together.status)
