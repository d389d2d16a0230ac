"""The profile likelihood against its definition, and that the optimiser ends at its optimum."""

from __future__ import annotations

import anndata as ad
import dense_reference as dense
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq

import flashmm_sc as fsc
from flashmm_sc._gaussian.estimate import largest_slope
from flashmm_sc._gaussian.genes import Genes
from flashmm_sc._gaussian.profile import Objective
from flashmm_sc._gaussian.projection import Projection
from flashmm_sc._gaussian.structure import Structure

METHODS = ["REML", "ML"]


def objective(Y, X, Z, d, method) -> tuple[Objective, Genes]:
    stats = fsc.sslmm(X, Y, Z, d)
    names = stats.coef_names, stats.component_names
    projection = Projection.of(stats.cross, stats.n, stats.d, *names)
    return Objective.of(projection, method), Genes.of(projection, stats)


def ratios_of(fit: fsc.LMMFit) -> np.ndarray:
    theta = fit.theta.to_numpy()
    return theta[:, :-1] / theta[:, -1:]


# ---- the objective ---------------------------------------------------------------------------------------------------


@pytest.fixture(params=dense.DESIGNS)
def problem(request):
    """Data of four genes, and ratios for them: all zero, some zero, positive, and some negative within the domain."""
    X, Z, d, Y = dense.example(request.param, m=4)
    gamma = np.random.default_rng(1).gamma(1.0, 1.0, (4, len(d)))
    gamma[0], gamma[1, 0] = 0, 0
    gamma[3] *= -0.1 / np.linalg.eigvalsh(Z.T @ Z)[-1]
    return X, Z, d, Y, gamma


@pytest.mark.parametrize("method", METHODS)
def test_f_is_minus_twice_the_profile_likelihood(problem, method):
    X, Z, d, Y, gamma = problem
    f, genes = objective(Y, X, Z, d, method)
    rise = [
        -2 * (model.profile(g) - model.profile(np.zeros(len(d))))
        for model, g in zip((dense.DenseModel(y, X, Z, d, method) for y in Y.T), gamma, strict=True)
    ]
    np.testing.assert_allclose(f(genes, gamma).f, rise, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(np.diagonal(f.values(genes, gamma)), rise, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_derivatives_are_those_of_f(problem, method):
    X, Z, d, Y, gamma = problem
    f, genes = objective(Y, X, Z, d, method)
    point = f(genes, gamma)
    size = 1e-5 * np.maximum(np.abs(gamma).max(axis=1), 1e-3)[:, None]
    for k in range(len(d)):
        step = size * np.eye(len(d))[k]
        above, below = f(genes, gamma + step), f(genes, gamma - step)
        np.testing.assert_allclose(point.grad[:, k], (above.f - below.f) / (2 * size[:, 0]), rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(point.observed[:, k], (above.grad - below.grad) / (2 * size), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_expected_matrix_is_the_fisher_information_of_the_ratios(problem, method):
    """Information for (γ, s_0) from that for theta = (γ s_0, s_0), with s_0 eliminated."""
    X, Z, d, Y, gamma = problem
    f, genes = objective(Y, X, Z, d, method)
    point, K = f(genes, gamma), len(d)
    for y, g, Q, expected in zip(Y.T, gamma, point.Q, point.expected, strict=True):
        s0 = Q / f.nu
        information = dense.DenseModel(y, X, Z, d, method).expected_information(np.append(g, 1) * s0)
        jacobian = np.block([[s0 * np.eye(K), g[:, None]], [np.zeros(K), 1]])
        joint = jacobian.T @ information @ jacobian
        schur = joint[:K, :K] - np.outer(joint[:K, K], joint[:K, K]) / joint[K, K]
        np.testing.assert_allclose(expected, 2 * schur, rtol=1e-7, atol=1e-7 * np.abs(schur).max())


@pytest.mark.parametrize("method", METHODS)
def test_f_is_infinite_outside_the_domain(problem, method):
    X, Z, d, Y, gamma = problem
    f, genes = objective(Y, X, Z, d, method)
    S = Z.T @ Z if method == "ML" else Z.T @ (np.eye(len(X)) - X @ np.linalg.pinv(X)) @ Z
    edge = -1 / np.linalg.eigvalsh(S)[-1]
    for factor, finite in [(0.99, True), (1.01, False), (50, False)]:
        g = np.full_like(gamma, edge * factor)
        assert (np.isfinite(f(genes, g).f) == finite).all()
        assert (np.isfinite(f.values(genes, g[:1])[:, 0]) == finite).all()


# ---- the optimum -----------------------------------------------------------------------------------------------------


def check_optimum(model: dense.DenseModel, theta: np.ndarray, nonnegative: bool, nearby: int = 40) -> None:
    """No slope where theta is free, a falling likelihood where it is held at zero, and no better theta nearby."""
    score = model.grad(theta) / np.sqrt(np.diag(model.expected_information(theta)))
    held = (theta == 0) & nonnegative
    assert np.abs(score[~held]).max() < 1e-6
    assert (score[held] < 1e-6).all()
    rng, best = np.random.default_rng(0), model.loglik(theta)
    spread = np.sqrt(np.diag(np.linalg.inv(model.expected_information(theta))))
    for _ in range(nearby):
        other = theta + spread * 10 ** rng.uniform(-3, -0.5) * rng.normal(size=len(theta))
        other = np.abs(other) if nonnegative else other
        assert model.loglik(other) <= best + 1e-9


@pytest.mark.parametrize("nonnegative", [True, False])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", dense.DESIGNS)
def test_result_is_an_optimum(name, method, nonnegative):
    X, Z, d, Y = dense.example(name, m=8)
    fit = fsc.lmmfit(Y, X, Z, d, method=method, nonnegative=nonnegative)
    wanted = ["ok", "boundary"] if nonnegative else ["ok", "indefinite"]
    optima = np.flatnonzero(fit.status.isin(wanted))
    assert len(optima) == 8 if nonnegative else len(optima) >= 4
    if nonnegative:
        np.testing.assert_array_equal(fit.status == "boundary", (fit.theta == 0).any(axis=1))
        assert (fit.status == "boundary").any()
    for g in optima:
        check_optimum(dense.DenseModel(Y[:, g], X, Z, d, method), fit.theta.to_numpy()[g], nonnegative)


def test_largest_slope_is_that_of_what_is_free_to_move():
    """Not of a variance at zero that the likelihood keeps there; without a fit that of the parameters themselves."""
    theta = np.array([[1.0, 2, 1], [0, 2, 1], [0, 2, 1], [np.nan] * 3])
    grad = np.array([[1, -5, 2], [-4, 1, 2], [4, 1, 2], [0.5, -3, 0.1]])
    bounded, free = (largest_slope(Structure(2, ()), theta, grad, nonnegative=flag) for flag in (True, False))
    np.testing.assert_array_equal(bounded, [5, 2, 4, 3])
    np.testing.assert_array_equal(free, [5, 4, 4, 3])
    correlated = Structure(2, ((0, 1),))  # where Λ is zero, it moves no covariance
    at_zero, slope = np.array([[0.0, 0, 0, 1]]), np.array([[3, 1, -2, 0.1]])
    assert largest_slope(correlated, at_zero, slope, nonnegative=True) == [0.1]


def unequal(sizes, m=40, seed=0):
    """One component with these numbers of cells, an intercept and two covariates, ratios from 1e-6 to 1e4."""
    rng = np.random.default_rng(seed)
    Z = np.eye(len(sizes))[np.repeat(np.arange(len(sizes)), sizes)]
    X = np.column_stack([np.ones(sum(sizes)), rng.normal(size=(sum(sizes), 2))])
    theta = np.column_stack([np.geomspace(1e-6, 1e4, m), np.ones(m)])
    return X, Z, dense.simulate(X, Z, (len(sizes),), theta, seed=seed)


def rare(sizes, m=40):
    """Few cells express the gene, some samples none."""
    X, Z, _ = unequal(sizes, m)
    rate = 0.05 * np.exp(Z @ np.random.default_rng(1).normal(size=(len(sizes), m)))
    return X, Z, np.log1p(np.random.default_rng(2).poisson(rate))


def changed(x=(1, 1, 1), y=1.0, shift=0.0):
    X, Z, Y = unequal([12, 9, 8, 6, 5])
    return X * np.array(x), Z, Y * y + shift


HARD = {
    "three samples": lambda: unequal([20, 15, 12]),
    "very unequal samples": lambda: unequal([200, 20, 5, 2, 1, 1]),
    "one large sample": lambda: unequal([100, 3, 3, 3, 3, 3]),
    "samples of two cells": lambda: unequal([2] * 20),
    "rare gene": lambda: rare([60, 40, 30, 20, 10, 10]),
    "small values": lambda: changed(y=1e-6),
    "large values": lambda: changed(y=1e6),
    "mean far from zero": lambda: changed(shift=1000),
    "covariates of different scales": lambda: changed(x=(1, 1e-5, 1e6)),
}


@pytest.mark.parametrize("nonnegative", [True, False])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", HARD)
def test_no_better_ratio_anywhere(name, method, nonnegative):
    """Ratios up to 1e6 over the mean eigenvalue of Z'Z and, for free components, down to where V becomes singular.

    ML of a free component has no global optimum: log det V goes to minus infinity there. What is found has to be the
    optimum between the two nearest ratios with a lower f.
    """
    X, Z, Y = HARD[name]()
    f, genes = objective(Y, X, Z, None, method)
    genes = genes[np.flatnonzero(genes.vary(1e-11))]
    fit = fsc.lmmfit(Y, X, Z, method=method, nonnegative=nonnegative)
    fit_ratios = ratios_of(fit)[fit.status != "constant"]
    found = np.isfinite(fit_ratios[:, 0])
    if nonnegative or method == "REML":
        assert found.all()
    assert found.sum() >= 10
    lam = np.diag(Z.T @ Z)
    grid = np.append(0, np.geomspace(1e-6, 1e6, 400) / lam.mean())
    if not nonnegative:
        grid = np.concatenate([-(1 - np.geomspace(1e-6, 1, 200)[:-1]) / lam.max(), grid])
    values = f.values(genes, grid[:, None]).T[:, found]
    here = f(genes[found], fit_ratios[found])
    inside = here.gamma[:, 0] > -1 / lam.max()  # the others are "indefinite"
    assert inside.sum() >= 10
    if nonnegative or method == "REML":
        assert (here.f <= values.min(axis=0) + 1e-7)[inside].all()
    else:
        np.testing.assert_array_less(np.abs(here.grad[:, 0]) / np.sqrt(here.expected[:, 0, 0]), 1e-5)
        assert (here.observed[:, 0, 0] > 0).all()


@pytest.mark.parametrize(
    "change", [{"y": 1e-6}, {"y": 1e6}, {"shift": 1000}, {"x": (1, 1e-5, 1e6)}], ids=["small", "large", "shift", "x"]
)
def test_hard_data_give_the_ratios_of_the_easy_ones(change):
    """A mean of 1000 costs six of sixteen digits in y'y."""
    fits = [fsc.lmmfit(Y, X, Z, nonnegative=True) for X, Z, Y in (changed(), changed(**change))]
    easy, hard = map(ratios_of, fits)
    tolerance = 1e-6 if "shift" in change else 1e-9
    np.testing.assert_allclose(hard, easy, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("nonnegative", [True, False])
@pytest.mark.parametrize("name", ["sam", "crossed", "three"])
def test_start_makes_no_difference(name, nonnegative):
    X, Z, d, Y = dense.example(name)
    stats = fsc.sslmm(X, Y, Z, d)
    fit = fsc.lmm(stats, nonnegative=True)
    interior = (fit.status == "ok").to_numpy()
    assert interior.sum() >= 2
    for start in ([1.0] * len(d) + [1.0], [0.0] * len(d) + [2.0], [100.0] * len(d) + [1.0], [1e-8] * len(d) + [1e-6]):
        other = fsc.lmm(stats, nonnegative=nonnegative, theta0=start)
        np.testing.assert_allclose(other.theta[interior], fit.theta[interior], rtol=1e-6)


def test_few_steps_are_enough():
    for name in dense.DESIGNS:
        X, Z, d, Y = dense.example(name, m=30)
        assert fsc.lmmfit(Y, X, Z, d, nonnegative=True).n_iter.max() <= 20


# ---- found wanting ---------------------------------------------------------------------------------------------------


def nested_and_negative(m=6):
    """Very unequal cell types in samples: V is positive definite although 1 + γ λ is not for the larger component alone.

    Cells of a type in a sample repel each other (a negative variance of sam:cls), the variance of samples makes up for it.
    """
    sample, cls = np.repeat(np.arange(8), 15), np.tile(np.append(np.zeros(12, int), np.ones(3, int)), 8)
    X = np.column_stack([np.ones(120), cls])
    Z = np.hstack([np.eye(8)[sample], np.eye(16)[2 * sample + cls]])
    model = dense.DenseModel(np.zeros(120), X, Z, (8, 16))
    theta = np.array([2.0, -0.15, 1.0])
    assert np.linalg.eigvalsh(model.V(theta))[0] > 0.2
    assert 1 + theta[1] * 12 < 0
    Y = np.linalg.cholesky(model.V(theta)) @ np.random.default_rng(0).normal(size=(120, m))
    return X, Z, (8, 16), Y, theta


def test_negative_component_that_another_makes_up_for():
    X, Z, d, Y, truth = nested_and_negative()
    fit = fsc.lmmfit(Y, X, Z, d)
    assert (fit.status == "ok").all()
    for y, theta in zip(Y.T, fit.theta.to_numpy(), strict=True):
        model = dense.DenseModel(y, X, Z, d)
        assert model.loglik(theta) >= model.loglik(truth)
        check_optimum(model, theta, nonnegative=False, nearby=5)


def test_large_ratios_of_a_component_that_is_not_diagonalised():
    rng = np.random.default_rng(0)
    X, Z, d = dense.design("crossed", n=100, n_samples=8)
    Y = dense.simulate(X, Z, d, np.column_stack([10 ** rng.uniform(-4, 3, (200, 2)), np.ones(200)]))
    fit = fsc.lmmfit(Y, X, Z, d, nonnegative=True)
    assert fit.status.isin(["ok", "boundary"]).all()


def test_flat_optimum_is_reached():
    """Two of 10,000 genes; their observed information is 1 % of the expected."""
    sizes = [40, 30, 20, 10]
    rng = np.random.default_rng(0)
    X, Z = np.ones((100, 1)), np.eye(4)[np.repeat(np.arange(4), sizes)]
    rng.normal(size=(100, 1))
    Y = Z @ (rng.normal(size=(4, 10_000)) * 0.1) + rng.normal(size=(100, 10_000))
    assert (fsc.lmmfit(Y, X, Z).status != "not converged").all()


@pytest.mark.parametrize("sizes", [[200, 20, 5, 2, 1, 1], [100, 3, 3, 3, 3, 3]], ids=str)
def test_better_of_two_optima(sizes):
    """Zero is an optimum as well; of 3,000 genes a few have a better one at ratios between."""
    X, Z, Y = unequal(sizes, m=3000)
    f, genes = objective(Y, X, Z, None, "ML")
    here = f(genes, ratios_of(fsc.lmmfit(Y, X, Z, method="ML", nonnegative=True))).f
    grid = np.geomspace(1e-3, 1e3, 200) / np.diag(Z.T @ Z).mean()
    best = f.values(genes, grid[:, None]).min(axis=1)
    assert (here <= best + 1e-6).all()


def test_variances_that_are_zero_but_for_rounding_are_zero_in_every_order_of_cells():
    """In small sparse groups the likelihood often has slope zero at zero, where rounding decides which side it leaves."""
    rng = np.random.default_rng(0)
    donor, size = (
        rng.choice(list("abcdefgh"), 31, p=[0.3, 0.2, 0.2, 0.1, 0.05, 0.05, 0.05, 0.05]),
        rng.uniform(0.5, 2, 31),
    )
    obs = pd.DataFrame({"donor": donor, "trt": np.where(np.arange(31) < 6, "B", "A"), "size": size})
    adata = ad.AnnData(rng.poisson(0.2, (31, 1000)).astype(float), obs.set_axis([f"c{i}" for i in range(31)]))
    call = {"fixed": "~ trt", "random": ["donor", "donor:trt"], "transform": "log1p", "size_factors": "size"}
    other = adata[rng.permutation(31)].copy()
    for one in (adata, other):
        fsc.tl.lmm_de(one, **call)
    theta = adata.varm["lmm_de_theta"]
    assert not ((theta[:, :2] > 0) & (theta[:, :2] < 1e-12)).any()
    np.testing.assert_array_equal(adata.varm["lmm_de_status"], other.varm["lmm_de_status"])
    np.testing.assert_allclose(adata.varm["lmm_de_pval"], other.varm["lmm_de_pval"], rtol=1e-6)


@pytest.mark.parametrize("method", ["REML", "ML"])
@pytest.mark.parametrize("nonnegative", [True, False])
@pytest.mark.parametrize("nested", [False, True])
def test_genes_that_random_effects_explain_have_no_residual(method, nonnegative, nested):
    """As in 13 megakaryocytes of six donors, where a gene may be expressed in a donor's only cell: the likelihood has no end."""
    donor, trt = np.array([0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4, 4]), np.array([0, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 1])
    X, Z = np.column_stack([np.ones(13), trt]), [np.eye(5)[donor]]
    if nested:
        Z.append(np.eye(10)[2 * donor + trt][:, [0, 2, 3, 4, 5, 6, 8, 9]])
    rng, d = np.random.default_rng(0), [part.shape[1] for part in Z]
    varied = np.column_stack([rng.normal(size=(13, 3)), np.isin(np.arange(13), [1, 4])])
    single = np.eye(13)[:, [0]] * 2.5
    effects = Z[0] @ rng.normal(size=(5, 3)) + X @ rng.normal(size=(2, 3))
    fit = fsc.lmmfit(np.hstack([varied, single, effects]), X, np.hstack(Z), d, method=method, nonnegative=nonnegative)
    assert list(fit.status[4:]) == ["no residual"] * 4
    assert fit.coef[4:].isna().all(axis=None)
    assert "no residual" not in set(fit.status[:4])
    if nonnegative:
        assert set(fit.status[:4]) <= {"ok", "boundary"}


# ---- free components: the optimum inside the domain, whatever the likelihood is at its edge -------------------------------


def edge(model: dense.DenseModel, angle: float) -> tuple[np.ndarray, float]:
    """Ratios in this direction at which the covariance of the contrasts is singular, and y's part in its null vector."""
    direction, K = np.array([np.cos(angle), np.sin(angle)])[: len(model.d)], model.contrasts
    V = sum(g * K.T @ kernel @ K for g, kernel in zip(direction, model.kernels[:-1], strict=True))
    value, vector = np.linalg.eigh(V)
    null = vector[:, 0] * np.sign(vector[np.abs(vector[:, 0]).argmax(), 0])
    return -direction / value[0], null @ K.T @ model.y


def check_unbounded(model: dense.DenseModel, gamma: np.ndarray) -> None:
    """A hundred times nearer to the edge the log-likelihood is log(100) / 2 higher."""
    near = [model.profile((1 - distance) * gamma) for distance in (1e-6, 1e-8, 1e-10)]
    np.testing.assert_allclose(np.diff(near), np.log(100) / 2, rtol=1e-4)


def test_a_gene_of_one_arm_has_no_bound_where_the_other_is_singular():
    rng = np.random.default_rng(0)
    level = np.repeat(np.arange(7), [30, 25, 8, 6, 10, 9, 7])
    X, Z = np.eye(2)[(level > 1) * 1], np.eye(7)[level]
    y = X[:, 1] * (rng.normal(size=len(level)) + Z @ rng.normal(size=7))
    fit = fsc.lmmfit(y[:, None], X, Z, [7])
    assert list(fit.status) == ["ok"]
    theta, model = fit.theta.to_numpy()[0], dense.DenseModel(y, X, Z, (7,))
    check_optimum(model, theta, nonnegative=False)
    gamma, part = edge(model, np.pi)
    assert abs(part) < 1e-12
    check_unbounded(model, gamma)


def test_half_of_the_genes_have_no_bound_with_two_components():
    """Somewhere along the edge the null vector is orthogonal to y: fits are the local optima inside."""
    X, Z, d, Y = dense.example("nested", m=12)
    fit = fsc.lmmfit(Y, X, Z, d)
    unbounded = 0
    for g in np.flatnonzero(fit.status == "ok"):
        model = dense.DenseModel(Y[:, g], X, Z, d)
        check_optimum(model, fit.theta.to_numpy()[g], nonnegative=False, nearby=10)
        angles = np.linspace(0.6, 1.9, 131) * np.pi  # the others lead to the edge far away, or never
        parts = np.array([edge(model, angle)[1] for angle in angles])
        for k in np.flatnonzero(parts[1:] * parts[:-1] < 0):
            angle = brentq(lambda a, model=model: edge(model, a)[1], angles[k], angles[k + 1], xtol=1e-15)
            gamma, part = edge(model, angle)
            if abs(part) < 1e-9:  # not where the null vector turns into its opposite
                check_unbounded(model, gamma)
                unbounded += 1
                break
    assert unbounded >= 4


def test_up_to_the_edge_there_is_no_optimum():
    rng = np.random.default_rng(0)
    Z = np.eye(8)[np.repeat(np.arange(8), 11)]
    Y = rng.normal(size=(88, 3))
    Y -= Z @ (Z.T @ Y) / 11  # no variation between levels
    assert (fsc.lmmfit(Y, np.ones((88, 1)), Z).status == "not converged").all()
