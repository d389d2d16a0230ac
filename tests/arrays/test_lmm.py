"""`lmm` and `lmmfit` against the dense reference, what leaves them unchanged, and genes and arguments that are no good."""

from __future__ import annotations

import warnings
from itertools import product

import dense_reference as dense
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import flashmm_sc as fsc
from flashmm_sc._base import threads
from flashmm_sc._gaussian.genes import Genes

METHODS = ["REML", "ML"]
seeds = st.integers(0, 2**20)
few = settings(max_examples=10)


def close(actual, expected, rtol=1e-9):
    """Equal up to rounding, relative to the largest entry."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol * np.nanmax(np.abs(expected)))


def same_fit(one: fsc.LMMFit, other: fsc.LMMFit, rtol=1e-7):
    assert list(one.status) == list(other.status)
    for name in ("coef", "se", "df", "p", "theta", "theta_se", "theta_cov", "loglik"):
        close(getattr(one, name), getattr(other, name), rtol)


# ---- against the definitions -----------------------------------------------------------------------------------------


@pytest.fixture(params=[True, False], ids=["nonnegative", "free"])
def nonnegative(request):
    return request.param


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


@pytest.fixture(
    scope="module", params=list(product(dense.DESIGNS, METHODS, [True, False])), ids=lambda p: "-".join(map(str, p))
)
def fitted(request):
    """A fit, and the dense model and theta of each gene in it."""
    name, method, nonnegative = request.param
    X, Z, d, Y = dense.example(name)
    fit = fsc.lmmfit(Y, X, Z, d, method=method, nonnegative=nonnegative)
    use = np.flatnonzero(fit.status != "not converged")
    assert len(use) >= 3
    return fit, use, [(dense.DenseModel(Y[:, g], X, Z, d, method), fit.theta.to_numpy()[g]) for g in use]


def test_likelihood(fitted):
    fit, use, genes = fitted
    close(fit.loglik.iloc[use], [model.loglik(theta) for model, theta in genes])
    slope = np.array([model.grad(theta) for model, theta in genes])
    scale = np.array([np.sqrt(np.diag(model.expected_information(theta))) for model, theta in genes])
    np.testing.assert_allclose(fit.grad.to_numpy()[use] / scale, slope / scale, rtol=1e-8, atol=1e-7)


def test_coefficients(fitted):
    fit, use, genes = fitted
    close(fit.coef.iloc[use], [model.coef(theta) for model, theta in genes])
    cov = np.array([model.cov(theta) for model, theta in genes])
    close(fit.cov()[use], cov)
    variance = np.einsum("gjj->gj", cov)
    close(fit.se.iloc[use], np.sqrt(np.where(variance > 0, variance, np.nan)))  # V may be indefinite
    np.testing.assert_allclose(fit.t, fit.coef / fit.se)


def test_random_effects(fitted):
    fit, use, genes = fitted
    close(fit.ranef().iloc[use], [model.ranef(theta) for model, theta in genes], 1e-8)


def test_information_on_theta(fitted):
    fit, use, genes = fitted
    expected = [model.expected_information(theta) for model, theta in genes]
    close(fit.fim()[use], expected, 1e-8)
    for g, information, (model, theta) in zip(use, expected, genes, strict=True):
        close(fit.theta_se.iloc[g], np.sqrt(np.diag(np.linalg.inv(information))), 1e-7)
        free = model.theta_cov(theta) if fit.nonnegative else np.linalg.inv(model.observed_information(theta))
        close(fit.theta_cov[g], free, 1e-7)


def test_derivatives_of_the_reference_are_those_of_its_likelihood(method):
    """The reference's own formulas, by central differences."""
    X, Z, d, Y = dense.example("three")
    model, theta = dense.DenseModel(Y[:, 1], X, Z, d, method), np.array([0.5, 0.3, 0.2, 1.0])
    steps, size = 1e-4 * np.eye(4), 1e-4
    slopes = [(model.loglik(theta + h) - model.loglik(theta - h)) / (2 * size) for h in steps]
    bends = [(model.grad(theta - h) - model.grad(theta + h)) / (2 * size) for h in steps]
    moves = [(model.cov(theta + h)[3, 3] - model.cov(theta - h)[3, 3]) / (2 * size) for h in steps]
    close(model.grad(theta), slopes, 1e-5)
    close(model.observed_information(theta), bends, 1e-5)
    close(model.variance_gradient(theta, np.eye(5)[3]), moves, 1e-5)


# ---- invariances -----------------------------------------------------------------------------------------------------

designs = st.sampled_from(dense.DESIGNS)
options = st.fixed_dictionaries({"method": st.sampled_from(METHODS), "nonnegative": st.just(True)})


@few
@given(designs, seeds, options, st.floats(-6, 6))
def test_scale_of_y(name, seed, options, power):
    X, Z, d, Y = dense.example(name, seed=seed)
    factor = 10.0**power
    one, other = fsc.lmmfit(Y, X, Z, d, **options), fsc.lmmfit(Y * factor, X, Z, d, **options)
    assert list(one.status) == list(other.status)
    for field, exponent in {
        "coef": 1,
        "se": 1,
        "theta": 2,
        "theta_se": 2,
        "theta_cov": 4,
        "t": 0,
        "df": 0,
        "p": 0,
    }.items():
        close(getattr(other, field), getattr(one, field) * factor**exponent, 1e-7)
    nu = len(X) - (X.shape[1] if options["method"] == "REML" else 0)
    close(other.loglik, one.loglik - nu * np.log(factor))


@few
@given(designs, seeds, options)
def test_order_of_cells(name, seed, options):
    X, Z, d, Y = dense.example(name, seed=seed)
    order = np.random.default_rng(seed).permutation(len(X))
    same_fit(fsc.lmmfit(Y[order], X[order], Z[order], d, **options), fsc.lmmfit(Y, X, Z, d, **options))


@few
@given(designs, seeds, options)
def test_adding_fixed_effects_to_y(name, seed, options):
    X, Z, d, Y = dense.example(name, seed=seed)
    B = np.random.default_rng(seed).normal(size=(X.shape[1], Y.shape[1]))
    one, other = fsc.lmmfit(Y, X, Z, d, **options), fsc.lmmfit(Y + X @ B, X, Z, d, **options)
    close(other.coef, one.coef + B.T, 1e-7)
    for field in ("se", "theta", "loglik"):
        close(getattr(other, field), getattr(one, field), 1e-7)


@few
@given(designs, seeds, options)
def test_recoding_x(name, seed, options):
    """X and X B have the same span: the same likelihood but for |B| in REML, coefficients B⁻¹β."""
    X, Z, d, Y = dense.example(name, seed=seed)
    B = np.random.default_rng(seed).normal(size=(5, 5)) + 3 * np.eye(5)
    one, other = fsc.lmmfit(Y, X, Z, d, **options), fsc.lmmfit(Y, X @ B, Z, d, **options)
    close(other.theta, one.theta, 1e-7)
    shift = np.linalg.slogdet(B)[1] if options["method"] == "REML" else 0.0
    close(other.loglik, one.loglik - shift, 1e-7)
    close(other.coef @ B.T, one.coef, 1e-7)
    close(B @ other.cov() @ B.T, one.cov(), 1e-7)


@few
@given(st.sampled_from(["crossed", "nested", "three"]), seeds, options)
def test_order_of_components(name, seed, options):
    X, Z, d, Y = dense.example(name, seed=seed)
    parts = np.split(Z, np.cumsum(d)[:-1], axis=1)
    order = np.random.default_rng(seed).permutation(len(d))
    one = fsc.lmmfit(Y, X, Z, d, **options)
    other = fsc.lmmfit(Y, X, np.hstack([parts[k] for k in order]), tuple(d[k] for k in order), **options)
    close(other.theta, one.theta.iloc[:, [*order, -1]], 1e-7)
    for field in ("coef", "se", "loglik"):
        close(getattr(other, field), getattr(one, field), 1e-7)
    columns = np.concatenate([np.arange(sum(d))[sum(d[:k]) : sum(d[: k + 1])] for k in order])
    close(other.ranef(), one.ranef().iloc[:, columns], 1e-7)


@pytest.mark.parametrize("name", ["sam", "three"])
def test_genes_by_themselves_and_in_any_order(name, nonnegative):
    X, Z, d, Y = dense.example(name, m=9)
    options = {"ddf": "satterthwaite", "nonnegative": nonnegative}
    whole = fsc.lmmfit(pd.DataFrame(Y, columns=list("abcdefghi")), X, Z, d, **options)
    turned = fsc.lmmfit(pd.DataFrame(Y, columns=list("abcdefghi")).iloc[:, ::-1], X, Z, d, **options)
    pieces = [fsc.lmmfit(Y[:, [g]], X, Z, d, **options) for g in range(9)]
    assert list(turned.coef.index) == list("ihgfedcba")
    for name in ("coef", "se", "df", "p", "theta"):
        np.testing.assert_allclose(getattr(turned, name).iloc[::-1], getattr(whole, name), rtol=1e-7)
        np.testing.assert_allclose(
            np.vstack([getattr(piece, name) for piece in pieces]), getattr(whole, name), rtol=1e-7
        )


@pytest.mark.parametrize("n_jobs", [1, 2, 5, -1])
@pytest.mark.parametrize("block_bytes", [1, 2**14, 2**30])
def test_threads_and_blocks_make_no_difference(monkeypatch, n_jobs, block_bytes):
    X, Z, d, Y = dense.example("crossed", m=23)
    Y[:, 5] = 0
    expected = fsc.lmmfit(Y, X, Z, d, nonnegative=True, ddf="satterthwaite")
    monkeypatch.setattr(threads, "BLOCK_BYTES", block_bytes)
    fit = fsc.lmmfit(Y, X, Z, d, nonnegative=True, ddf="satterthwaite", n_jobs=n_jobs)
    for name in ("coef", "se", "df", "p", "theta", "grad"):
        np.testing.assert_allclose(getattr(fit, name), getattr(expected, name), rtol=1e-9, atol=1e-9)
    for name in ("cov", "fim", "ranef"):
        np.testing.assert_allclose(getattr(fit, name)(), getattr(expected, name)(), rtol=1e-9, atol=1e-12)


def test_blocks_of_genes_are_fitted_apart(monkeypatch):
    """So that the test above tests something."""
    sizes = []
    genes_of = Genes.of
    monkeypatch.setattr(Genes, "of", lambda p, s, part: sizes.append(part.stop - part.start) or genes_of(p, s, part))
    monkeypatch.setattr(threads, "BLOCK_BYTES", 2**14)
    X, Z, d, Y = dense.example("crossed", m=23)
    fsc.lmmfit(Y, X, Z, d, n_jobs=1)
    assert sum(sizes) == 23
    assert len(sizes) > 2


@pytest.mark.parametrize("kind", [sp.csr_array, sp.csc_array, sp.csr_matrix, pd.DataFrame])
def test_containers(kind):
    X, Z, d, Y = dense.example("nested")
    Y = np.maximum(np.round(Y), 0)
    one, other = fsc.lmmfit(kind(Y), kind(X), kind(Z), d, nonnegative=True), fsc.lmmfit(Y, X, Z, d, nonnegative=True)
    same_fit(one, other)


# ---- genes that can't be fitted --------------------------------------------------------------------------------------


@pytest.fixture
def mixed():
    """Six ordinary genes, then: all zero, constant, within the span of X, within the span of one component and of all."""
    X, Z, d, Y = dense.example("nested")
    X = np.column_stack([np.ones(len(X)), X[:, 2:]])
    rng = np.random.default_rng(0)
    odd = [
        np.zeros(len(X)),
        np.full(len(X), 3.3),
        X @ rng.normal(size=4),
        Z[:, : d[0]] @ rng.normal(size=d[0]),
        Z @ rng.normal(size=sum(d)),
    ]
    return X, Z, d, np.column_stack([Y, *odd])


def test_bad_genes_are_nan_and_harm_no_others(mixed, method, nonnegative):
    X, Z, d, Y = mixed
    options = {"method": method, "nonnegative": nonnegative, "ddf": "satterthwaite"}
    fit, good = fsc.lmmfit(Y, X, Z, d, **options), fsc.lmmfit(Y[:, :6], X, Z, d, **options)
    assert list(fit.status[6:]) == ["constant"] * 3 + ["no residual"] * 2
    for name in ("coef", "se", "t", "df", "p", "theta", "theta_se", "loglik"):
        assert getattr(fit, name)[6:].isna().to_numpy().all()
        np.testing.assert_allclose(getattr(fit, name)[:6], getattr(good, name), rtol=1e-7)
    for array in (fit.theta_cov, fit.cov(), fit.fim(), fit.ranef().to_numpy()):
        assert np.isnan(array[6:]).all()
    assert list(fit.status[:6]) == list(good.status)


def test_bad_genes_with_nonnegative_components_draw_no_warnings(mixed, method):
    X, Z, d, Y = mixed
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = fsc.lmmfit(Y, X, Z, d, method=method, nonnegative=True, ddf="satterthwaite")
        fit.cov(), fit.fim(), fit.ranef()


def test_genes_without_an_optimum_draw_no_warnings():
    """Free components, ML: log det V falls without bound towards the edge of the domain."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in dense.DESIGNS:
            X, Z, d, Y = dense.example(name, m=30)
            fsc.lmmfit(Y, X, Z, d, method="ML", ddf="satterthwaite")


def test_only_bad_genes(mixed):
    X, Z, d, Y = mixed
    fit = fsc.lmmfit(Y[:, 6:8], X, Z, d, nonnegative=True)
    assert list(fit.status) == ["constant", "constant"]
    assert fit.coef.isna().to_numpy().all()
    assert np.isnan(fit.cov()).all()


def test_no_genes():
    X, Z, d, Y = dense.example("nested")
    fit = fsc.lmmfit(Y[:, :0], X, Z, d)
    assert fit.coef.shape == (0, 5)
    assert fit.cov().shape == (0, 5, 5)
    assert "0 genes" in repr(fit)


def test_too_few_steps():
    X, Z, d, Y = dense.example("three")
    fit = fsc.lmmfit(Y, X, Z, d, max_iter=1, nonnegative=True)
    late = (fit.status == "not converged").to_numpy()
    assert late.any()
    assert fit.theta[late].isna().to_numpy().all()
    assert (fit.n_iter == 1).all()


def test_status_tells_where_theta_is():
    """Free components: negative ones are fine as long as V is positive definite."""
    X, Z, d, Y = dense.example("sam", m=60)
    theta = np.column_stack([np.zeros(60), np.ones(60)])
    Y = dense.simulate(X, Z, d, theta)
    free, bounded = fsc.lmmfit(Y, X, Z, d), fsc.lmmfit(Y, X, Z, d, nonnegative=True)
    definite = 1 + free.theta["var1"] / free.theta["residual"] * Z.sum(axis=0).max() > 0
    np.testing.assert_array_equal(free.status, np.where(definite, "ok", "indefinite"))
    np.testing.assert_array_equal(bounded.status, np.where(free.theta["var1"] > 0, "ok", "boundary"))
    assert {"ok", "indefinite"} == set(free.status)
    assert (bounded.theta.loc[bounded.status == "boundary", "var1"] == 0).all()


def test_result_is_labelled():
    X, Z, d, Y = dense.example("crossed")
    cells = [f"cell{i}" for i in range(len(X))]
    stats = fsc.sslmm(
        pd.DataFrame(X, cells, list("vwxyz")),
        pd.DataFrame(Y, cells, [f"g{j}" for j in range(6)]),
        pd.DataFrame(Z, cells, [f"level{k}" for k in range(sum(d))]),
        d,
    )
    fit = fsc.lmm(stats, nonnegative=True)
    for frame in (fit.coef, fit.se, fit.t, fit.df, fit.p):
        assert list(frame.columns) == list("vwxyz")
        assert list(frame.index) == ["g0", "g1", "g2", "g3", "g4", "g5"]
    for frame in (fit.theta, fit.theta_se, fit.grad):
        assert list(frame.columns) == ["var1", "var2", "residual"]
    assert list(fit.ranef().columns) == [f"level{k}" for k in range(sum(d))]
    assert (fit.method, fit.nonnegative, fit.ddf, fit.stats) == ("REML", True, "residual", stats)
    assert "6 genes by REML" in repr(fit)


# ---- arguments -------------------------------------------------------------------------------------------------------


@pytest.fixture
def stats():
    X, Z, d, Y = dense.example("crossed")
    return fsc.sslmm(X, Y, Z, d)


@pytest.mark.parametrize(
    "theta0",
    [[1.0, 1.0], [1.0] * 4, [1, 1, 0], [1, 1, -1], [np.nan, 1, 1], [1, np.inf, 1], [], 1.0],
    ids=str,
)
def test_theta0_of_another_shape_or_without_residual_variance(stats, theta0):
    with pytest.raises(ValueError, match="2 variance components and a positive residual variance"):
        fsc.lmm(stats, theta0=theta0)


def test_negative_theta0(stats):
    with pytest.raises(ValueError, match="theta0"):
        fsc.lmm(stats, theta0=[-0.01, 1, 1], nonnegative=True)
    same_fit(fsc.lmm(stats, theta0=[-0.01, 1, 1]), fsc.lmm(stats, theta0=np.array([[0.1, 0.1, 2]])), 1e-6)


def test_theta0_outside_the_domain(stats):
    with pytest.raises(ValueError, match="theta0"):
        fsc.lmm(stats, theta0=[-10, 1, 1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "reml"}, "method='reml' is unknown; choose one of 'REML', 'ML'"),
        ({"ddf": "containment"}, "ddf='containment' is unknown; choose one of 'satterthwaite'"),
        ({"ddf": "kenward-roger", "method": "ML"}, "method='REML'"),
        ({"n_jobs": 0}, "n_jobs=0"),
    ],
)
def test_unknown_options(stats, options, words):
    with pytest.raises(ValueError, match=words):
        fsc.lmm(stats, **options)


def test_residual_df_are_the_default(stats):
    fit = fsc.lmm(stats)
    assert (fit.df == 55).all(axis=None)
    assert fit.ddf == "residual"
