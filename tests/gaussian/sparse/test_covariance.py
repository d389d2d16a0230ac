"""The room for thousands of levels, entered with small designs, against the dense one."""

from __future__ import annotations

import warnings

import dense_reference as dense
import numpy as np
import pytest
import scipy.sparse as sp
from same_fits import FITS, check_fits, same

import flashmm_sc as fsc
from flashmm_sc._arrays.sslmm import sslmm
from flashmm_sc._gaussian import projection
from flashmm_sc._gaussian.dense.covariance import DenseCovariance
from flashmm_sc._gaussian.gram import Gram
from flashmm_sc._gaussian.projection import Projection
from flashmm_sc._gaussian.sparse.covariance import SparseCovariance


def same_traces(a, b, rtol):
    """Relative to each component's own norm."""
    np.testing.assert_allclose(a[0], b[0], rtol=rtol)
    size = np.sqrt(np.einsum("ijj->ij", b[1]))
    size = size[:, :, None] * size[:, None]
    np.testing.assert_allclose(a[1] / size, b[1] / size, atol=rtol)


@pytest.fixture
def sparse_room(monkeypatch):
    """All designs have too many levels, and none fills in."""

    def enter():
        monkeypatch.setattr(projection, "MOST_DENSE", (0, 0))
        monkeypatch.setattr(projection, "FILLED", 1.0)

    return enter


@pytest.fixture(params=dense.DESIGNS)
def covariances(request):
    """Sparse and dense covariance Z'RZ, and its projection."""
    X, Z, d, Y = dense.example(request.param)
    stats = sslmm(X, Y, Z, d)
    projection = Projection.of(stats.cross, stats.n, stats.d, stats.coef_names, stats.component_names)
    return SparseCovariance.of(Gram.of(stats.cross, d)), projection.S, projection


def ratios(K: int, m: int = 11) -> np.ndarray:
    """Zeros, tiny, large and slightly negative ones among them."""
    gamma = np.random.default_rng(1).gamma(1.0, 1.0, (m, K))
    gamma[0], gamma[1, 0], gamma[2] = 0, 0, gamma[2] * 1e-9
    gamma[3] *= 1e3
    gamma[4] = -1e-4
    return gamma


def test_factor(covariances):
    sparse, room, _ = covariances
    gamma = ratios(len(sparse.d))
    ours, theirs = sparse.factor(gamma), room.factor(gamma)
    np.testing.assert_array_equal(ours.ok, theirs.ok)
    same(ours.logdet, theirs.logdet)
    same_traces(ours.traces(), theirs.traces(), 1e-6)
    same(ours[np.array([5, 2])].logdet, theirs.logdet[[5, 2]])


def test_inertia(covariances):
    sparse, room, _ = covariances
    gamma = -np.geomspace(1e-3, 10, 40)[:, None] * np.eye(len(sparse.d))[0]
    ok = sparse.factor(gamma).ok
    assert 0 < ok.sum() < 40
    np.testing.assert_array_equal(ok, room.factor(gamma).ok)


def test_solutions(covariances):
    sparse, room, _ = covariances
    gamma = ratios(len(sparse.d))
    r = np.random.default_rng(2).normal(size=(sum(sparse.d), len(gamma)))
    results = []
    for S in (sparse, room):
        factor, vectors = S.factor(gamma), S.split(r)
        v, form = factor.solve(vectors)
        forms, times = factor.shared_forms(vectors), S.restore(S.times(vectors))
        results.append([S.restore(v), form, v.squares(), factor.products(v), forms, times])
    for a, b in zip(*results, strict=True):
        same(a, b, 1e-7)


def test_combinations(covariances):
    sparse, room, projection = covariances
    gamma, L = ratios(len(sparse.d)), np.random.default_rng(3).normal(size=(projection.p, 11))
    results = []
    for S in (sparse, room):
        factor, x = S.factor(gamma), S.shared(projection.A, L)
        w, form = factor.solve(x.vectors)
        results.append([*factor.shared_quadratics(x), factor.shared_matrix(x), factor.products(w), form, w.grams()])
    for a, b in zip(*results, strict=True):
        same(a, b, 1e-6)


def test_gradient_is_the_slope_of_f(covariances):
    sparse, *_ = covariances
    gamma, h = np.random.default_rng(5).gamma(1.0, 1.0, (5, len(sparse.d))), 1e-5
    trace = sparse.factor(gamma).traces()[0]
    for k, step in enumerate(h * np.eye(len(sparse.d))):
        slope = (sparse.factor(gamma + step).logdet - sparse.factor(gamma - step).logdet) / (2 * h)
        np.testing.assert_allclose(trace[:, k], slope, rtol=1e-6)


@pytest.mark.parametrize("name", ["sam", "nested", "crossed"])
def test_table(name):
    X, Z, d, Y = dense.example(name)
    stats = sslmm(X, Y, Z, d)
    S = SparseCovariance.of(Gram.of(stats.cross, d))
    low = np.array(d) / S.factor(np.zeros((1, len(d)))).trace[0]
    gamma = low * np.exp(np.random.default_rng(0).uniform(np.log(0.02), np.log(1e3), (50, len(d))))
    gamma[0], gamma[1, 0], gamma[2], gamma[3, -1], gamma[4] = 0, 0, gamma[2] * 1e-8, -1e-4, low * 1e7
    direct = S.factor(gamma).traces()
    tabulated = S.prepared(100 if len(d) == 1 else 10_000, 1)
    assert S.table is None
    assert tabulated.table is not None
    assert tabulated.prepared(10_000, 1) is tabulated
    known = tabulated.table(gamma)[2]
    assert known.sum() == 47
    found = tabulated.factor(gamma).traces()
    # slopes of the interpolation amplify the traces' rounding: 1e-7 of a norm, 4e-7 with the oldest versions of all
    same_traces([part[known] for part in found], [part[known] for part in direct], 1e-6)
    np.testing.assert_allclose(found[0][known], direct[0][known], rtol=1e-8)
    # beyond the table nothing is looked up; differences of very large ratios depend on which genes are together
    for part, alone in zip(found, S.factor(gamma[~known]).traces(), strict=True):
        np.testing.assert_array_equal(part[~known], alone)


@pytest.mark.parametrize("name", dense.DESIGNS)
@FITS
def test_fit(name, options, sparse_room):
    check_fits(name, options, sparse_room, SparseCovariance)


def test_fit_with_a_table(sparse_room):
    X, Z, d, _ = dense.example("nested")
    theta = np.random.default_rng(0).gamma(0.7, 0.7, (700, 3)) + 0.05
    stats = sslmm(X, dense.simulate(X, Z, d, theta), Z, d)
    theirs = fsc.lmm(stats, nonnegative=True, ddf="satterthwaite")
    sparse_room()
    ours = fsc.lmm(stats, nonnegative=True, ddf="satterthwaite")
    assert ours.projection.S.table is not None
    np.testing.assert_array_equal(ours.status, theirs.status)
    same(ours.theta, theirs.theta, 1e-6)
    np.testing.assert_allclose(ours.df, theirs.df, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, {"nonnegative": True, "moderate": True}])
def test_free_and_moderated_components_stay_dense_or_are_refused(options, sparse_room, monkeypatch):
    X, Z, d, Y = dense.example("nested")
    stats = sslmm(X, Y, Z, d)
    sparse_room()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # too few genes to learn a prior from
        assert isinstance(fsc.lmm(stats, **options).projection.S, DenseCovariance)
    monkeypatch.setattr(projection, "MOST_AT_ALL", 5)
    with pytest.raises(ValueError, match="use nonnegative=True and moderate=False"):
        fsc.lmm(stats, **options)


def test_variances_that_cannot_be_told_apart(sparse_room):
    """A level per cell is the residual."""
    X, Z, d, Y = dense.example("sam")
    stats = sslmm(X, Y, np.hstack([Z, np.eye(len(Z))]), [*d, len(Z)])
    sparse_room()
    with pytest.raises(ValueError, match="'var2', 'residual' can't be told apart"):
        fsc.lmm(stats, nonnegative=True)


def test_thousands_of_levels():
    """1,000 samples and 4,000 cell types in samples: true components are found, nothing large is dense."""
    rng = np.random.default_rng(0)
    n, samples, types, m = 40_000, 1000, 4, 24
    sample, cls = rng.integers(0, samples, n), rng.integers(0, types, n)
    combined = np.unique(sample * types + cls, return_inverse=True)[1]
    indicator = lambda code: sp.csr_array((np.ones(n), (np.arange(n), code)))
    Z = [indicator(sample), indicator(combined)]
    X = np.hstack([indicator(cls).toarray(), (sample % 2)[:, None]])
    effects = [rng.normal(size=(z.shape[1], m)) * np.sqrt(s) for z, s in zip(Z, (0.2, 0.1), strict=True)]
    Y = Z[0] @ effects[0] + Z[1] @ effects[1] + rng.normal(size=(n, m))
    stats = sslmm(X, Y, sp.hstack(Z), [z.shape[1] for z in Z])
    fit = fsc.lmm(stats, nonnegative=True, ddf="satterthwaite")
    assert isinstance(fit.projection.S, SparseCovariance)
    assert (fit.status == "ok").all()
    np.testing.assert_allclose(fit.theta.mean(), [0.2, 0.1, 1.0], rtol=0.03)
    np.testing.assert_allclose(fit.df["x5"], samples - 2, rtol=0.05)
