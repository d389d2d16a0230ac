"""Fits with correlated random effects against the likelihood of its definition, maximised from many starts."""

from __future__ import annotations

import dense_reference as dense
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

import flashmm_sc as fsc
from flashmm_sc._gaussian.structure import Structure


def model(name: str, method: str, gene: int, seed: int = 0):
    X, Z, d, groups, Y = dense.correlated_example(name, seed=seed)
    return dense.DenseModel(Y[:, gene], X, Z, d, method, groups), Structure(len(d), groups)


def _maximum(one: dense.DenseModel, structure: Structure, start: np.ndarray) -> float:
    gamma = lambda x: structure.gamma(np.where(structure.bounded, x**2, x)[None])[0]
    return -minimize(lambda x: -one.profile(gamma(x)), start, method="BFGS").fun


@pytest.fixture(scope="module")
def fits():
    done = {}

    def fit(name: str, method: str, ddf: str = "satterthwaite"):
        key = name, method, ddf
        if key not in done:
            X, Z, d, groups, Y = dense.correlated_example(name)
            options = {"nonnegative": True, "method": method, "ddf": ddf}
            done[key] = fsc.lmmfit(Y, X, Z, d, correlated=groups, **options)
        return done[key]

    return fit


@pytest.mark.parametrize("method", ["REML", "ML"])
@pytest.mark.parametrize("name", dense.CORRELATED)
def test_optimum(fits, name, method):
    fit = fits(name, method)
    assert set(fit.status) <= {"ok", "boundary"}
    rng = np.random.default_rng(0)
    for gene in (0, 1, 3):
        one, structure = model(name, method, gene)
        theta = fit.theta.to_numpy()[gene]
        assert one.loglik(theta) == pytest.approx(fit.loglik.iloc[gene], abs=1e-8)
        best = max(_maximum(one, structure, scale * rng.normal(size=structure.size)) for scale in (0.5, 2.0))
        assert fit.loglik.iloc[gene] >= best - 1e-6


@pytest.mark.parametrize("name", dense.CORRELATED)
def test_results_at_the_optimum(fits, name):
    fit = fits(name, "REML")
    cov, ranef = fit.cov(), fit.ranef().to_numpy()
    for gene in range(len(fit.coef)):
        one, _ = model(name, "REML", gene)
        theta = fit.theta.to_numpy()[gene]
        np.testing.assert_allclose(fit.coef.to_numpy()[gene], one.coef(theta), rtol=1e-7, atol=1e-8)
        np.testing.assert_allclose(cov[gene], one.cov(theta), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(ranef[gene], one.ranef(theta), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(fit.grad.to_numpy()[gene], one.grad(theta), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", dense.CORRELATED)
def test_satterthwaite(fits, name):
    """Within the domain the delta method with the inverse observed information, as for independent components."""
    fit = fits(name, "REML")
    inner = np.flatnonzero(fit.status == "ok")
    assert inner.size or name == "two terms"  # Γ of four batches are singular in all genes
    for gene in inner:
        one, _ = model(name, "REML", gene)
        theta = fit.theta.to_numpy()[gene]
        information = one.observed_information(theta)
        np.testing.assert_allclose(fit.theta_cov[gene] @ information, np.eye(len(theta)), atol=1e-5)
        for j, c in enumerate(np.eye(fit.coef.shape[1])):
            gradient = one.variance_gradient(theta, c)
            df = 2 * (c @ one.cov(theta) @ c) ** 2 / (gradient @ np.linalg.solve(information, gradient))
            assert fit.df.to_numpy()[gene, j] == pytest.approx(df, rel=1e-5)


def test_a_singular_covariance_is_valid(fits):
    """The second gene has a Γ of rank one."""
    fit = fits("intercept and slope", "REML")
    singular = fit.status == "boundary"
    assert singular.any()
    assert np.isfinite(fit.df[singular]).to_numpy().all()
    assert (np.linalg.eigvalsh(fit.theta_cov[singular]) > -1e-9).all()


def test_kenward_roger_of_a_balanced_study():
    """Every subject on the same days: the slope is tested on the subjects minus one."""
    rng = np.random.default_rng(4)
    subject, day = np.repeat(np.arange(12), 6), np.tile(np.arange(6.0), 12)
    Z = np.eye(12)[subject]
    Y = 5 + day[:, None] + Z @ rng.normal(size=(12, 4)) + day[:, None] * (Z @ rng.normal(size=(12, 4)))
    Y += rng.normal(size=Y.shape)
    X = np.column_stack([np.ones(72), day])
    fit = fsc.lmmfit(
        Y, X, np.hstack([Z, Z * day[:, None]]), (12, 12), correlated=[(0, 1)], nonnegative=True, ddf="kenward-roger"
    )
    assert (fit.status == "ok").all()
    np.testing.assert_allclose(fit.df, 11.0, rtol=1e-6)
    slopes = np.array([[np.polyfit(day[:6], y[subject == i], 1) for i in range(12)] for y in Y.T])
    np.testing.assert_allclose(fit.coef, slopes.mean(axis=1)[:, ::-1], rtol=1e-9)
    np.testing.assert_allclose(fit.se, slopes.std(axis=1, ddof=1)[:, ::-1] / np.sqrt(12), rtol=1e-8)


def test_parts_add_up_and_survive_a_file(tmp_path):
    X, Z, d, groups, Y = dense.correlated_example("and batch")
    names = [f"{k}[{i}]" for k, size in zip("abc", d, strict=True) for i in range(size)]
    stats = [
        fsc.sslmm(X[part], Y[part], pd.DataFrame(Z[part], columns=names), d, correlated=groups)
        for part in (slice(0, 50), slice(50, None))
    ]
    both = stats[0] + stats[1]
    both.save(tmp_path / "stats.h5ad")
    again = fsc.SummaryStats.load(tmp_path / "stats.h5ad")
    assert again.correlated == groups
    assert again.theta_names == ["var1", "var2", "var3", "cov(var1, var2)", "residual"]
    one, other = fsc.lmm(again, nonnegative=True), fsc.lmmfit(Y, X, Z, d, correlated=groups, nonnegative=True)
    np.testing.assert_allclose(one.theta, other.theta, rtol=1e-6, atol=1e-8)
    assert both.select(components=["var1", "var3"]).correlated == ()


@pytest.mark.parametrize("correlated", [[(0, 2)], [(0,)], [(0, 1), (1, 0)], [(0, 5)], 3, "ab"])
def test_bad_groups_are_refused(correlated):
    X, Z, d, _, Y = dense.correlated_example("and batch")
    with pytest.raises(ValueError, match="correlated="):
        fsc.sslmm(X, Y, Z, d, correlated=correlated)


def test_covariances_that_the_data_cannot_tell_are_refused():
    """A slope that is constant within the levels is the intercept again."""
    X, Z, d, _, Y = dense.correlated_example("intercept and slope")
    intercept = Z[:, : d[0]]
    with pytest.raises(ValueError, match="The variances of 'var1', 'var2' can't be told apart"):
        fsc.lmmfit(Y, X, np.hstack([intercept, 2 * intercept]), d, correlated=[(0, 1)], nonnegative=True)
    slope = intercept * (1 + np.arange(d[0]) % 2)
    with pytest.raises(
        ValueError, match=r"variances and covariances 'var1', 'var2', 'cov\(var1, var2\)' can't be told apart"
    ):
        fsc.lmmfit(Y, X, np.hstack([intercept, slope]), d, correlated=[(0, 1)], nonnegative=True)


@pytest.mark.parametrize(
    ("name", "seed", "gene"),
    [("intercept and slope", 47, 18), ("intercept and slope", 56, 14), ("three", 20, 3), ("three", 48, 18)],
)
def test_flat_and_bent_valleys_have_an_end(name, seed, gene):
    """Where the first variance is all but zero, and where Newton's steps are long, 100 steps of Fisher's did not arrive."""
    X, Z, d, correlated, Y = dense.correlated_example(name, 20, seed=seed, n=30)
    fit = fsc.lmmfit(Y[:, [gene]], X, Z, d, correlated=correlated, nonnegative=True)
    model = dense.DenseModel(Y[:, gene], X, Z, d, correlated=correlated)
    assert fit.status.iloc[0] in {"ok", "boundary"}
    assert fit.n_iter.iloc[0] < 50
    assert fit.loglik.iloc[0] > model.maximum() - 1e-6


def test_a_covariance_that_symmetry_makes_zero_is_zero_whichever_side_rounding_takes():
    """Every sample has a twin with the same values at covariates of the other sign."""
    rng = np.random.default_rng(0)
    half = rng.normal(size=(4, 1, 6, 1))
    intercept, slope, noise = (rng.normal(size=(4, *shape, 100)) for shape in ((1, 1), (1, 1), (1, 6)))
    Y = np.repeat(noise + 0.3 * intercept + 0.3 * half * slope, 2, axis=1).reshape(48, 100)
    x, samples = np.concatenate([half, -half], axis=1).ravel(), np.repeat(np.eye(8), 6, axis=0)
    Z = np.hstack([samples, samples * x[:, None]])
    fit = fsc.lmmfit(Y, np.column_stack([np.ones(48), x]), Z, [8, 8], correlated=[(0, 1)], nonnegative=True)
    assert {"ok", "boundary"} == set(fit.status)
    assert (fit.theta.iloc[:, 2] == 0).all()
