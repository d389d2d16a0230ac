"""Sums of residuals: of which genes, and that they are cut, added up and saved like all others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import flashmm_sc as fsc

N, M = 300, 5
FAR = [1, 3]


@pytest.fixture
def cells():
    """Genes 1 and 3 are far from zero."""
    rng = np.random.default_rng(0)
    sample = rng.integers(0, 6, N)
    Z = pd.DataFrame(np.eye(6)[sample], columns=[f"s{i}" for i in range(6)])
    X = pd.DataFrame({"one": np.ones(N), "x": rng.normal(size=N), "late": sample % 2})
    Y = rng.normal(size=(N, M)) + Z.to_numpy() @ rng.normal(size=(6, M)) + 1e6 * np.isin(np.arange(M), FAR)
    return X, pd.DataFrame(Y, columns=list("abcde")), Z


def assert_of(stats, X, Y, Z):
    """Sums of residuals are those of their definition, of the genes they are of."""
    its, names = stats.refined, list(stats.gene_names)
    y = Y[[names[j] for j in its.genes]].to_numpy() - X.to_numpy() @ its.coef
    z = [list(Z.columns).index(name) for name in stats.ranef_names]
    for ours, theirs in (
        (its.stats.XY, X.to_numpy().T @ y),
        (its.stats.ZY, Z.to_numpy()[:, z].T @ y),
        (its.stats.yy, (y**2).sum(axis=0)),
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-6)
    assert (its.stats.yy < 1e4 * N).all()


def test_of_genes_far_from_zero_alone(cells):
    X, Y, Z = cells
    stats = fsc.sslmm(X, Y, Z)
    assert stats.refined.genes.tolist() == FAR
    assert not stats.refined.coef[1:].any()  # what doesn't matter stays
    assert_of(stats, X, Y, Z)
    np.testing.assert_allclose(stats.XY, X.to_numpy().T @ Y.to_numpy(), rtol=1e-12)
    assert fsc.sslmm(X, Y[["a", "c", "e"]], Z).refined is None


def test_of_genes_far_from_zero_whatever_x_is(cells):
    """Covariates of small numbers or far from zero, and a column that is zero in these cells."""
    X, Y, Z = cells
    Y = Y + 3 * X[["x"]].to_numpy()
    small, far, none = X.assign(x=1e-6 * X["x"]), X.assign(x=X["x"] + 300), X.assign(late=0)
    for other in (small, far, none):
        stats = fsc.sslmm(other, Y, Z)
        assert stats.refined.genes.tolist() == FAR
        assert_of(stats, other, Y, Z)
        if other is not far:
            assert not stats.refined.coef[1:].any()


def test_genes_that_vary_little_far_from_zero(cells):
    X, Y, Z = cells
    ours, theirs = (fsc.lmmfit(values, X, Z) for values in (100 + 1e-5 * Y[["a", "c"]], Y[["a", "c"]]))
    assert list(ours.status) == ["ok", "ok"]
    np.testing.assert_allclose(ours.t[["x", "late"]], theirs.t[["x", "late"]], rtol=1e-7)


def test_they_are_cut_with_the_others(cells):
    X, Y, Z = cells
    stats = fsc.sslmm(X, Y, Z).select(genes=["d", "a", "b"], coefs=["one", "late"])
    assert stats.refined.genes.tolist() == [0, 2]
    assert_of(stats, X[["one", "late"]], Y, Z)
    assert fsc.sslmm(X, Y, Z).select(coefs=["x", "late"]).refined is None  # y - X b is not of that model
    assert fsc.sslmm(X, Y, Z).select(genes=["a", "c"]).refined is None


def test_they_add_up(cells):
    """Parts whose genes have other means, one of which is far from zero in one part only, and in another order."""
    X, Y, Z = cells
    Y.loc[100:, "d"] += 50
    Y.loc[:99, "e"] += 1e6
    parts = [slice(0, 99), slice(100, 199), slice(200, N)]
    each = [
        fsc.sslmm(X.loc[part], Y.loc[part, list(order)], Z.loc[part])
        for part, order in zip(parts, ("abcde", "edcba", "cabed"), strict=True)
    ]
    both = sum(each)
    assert both.refined.genes.tolist() == [1, 3, 4]
    names = ["b", "d"]
    assert_of(both.select(genes=names), X, Y, Z)
    ours, theirs = (fsc.lmm(stats.select(genes=names), ddf="satterthwaite") for stats in (both, fsc.sslmm(X, Y, Z)))
    np.testing.assert_allclose(ours.t[["x", "late"]], theirs.t[["x", "late"]], rtol=1e-7)


def test_they_are_saved(cells, tmp_path):
    X, Y, Z = cells
    X["x"] += 1e6  # so that there is a basis as well
    stats = fsc.sslmm(X, Y, Z)
    stats.save(tmp_path / "sums.h5ad")
    again = fsc.SummaryStats.load(tmp_path / "sums.h5ad")
    np.testing.assert_array_equal(again.untangled.basis, stats.untangled.basis)
    for name in ("coef", "se", "theta", "loglik"):
        np.testing.assert_array_equal(getattr(fsc.lmm(again), name), getattr(fsc.lmm(stats), name))


def test_what_remains_of_constant_genes_is_no_variation(cells):
    """As float32 stores what the design explains, and as doubles do."""
    X, _, Z = cells
    Y = np.column_stack([np.full(N, 5.1), 3e3 + X["x"], np.full(N, 1e-9), 3e3 + 2 * X["late"]])
    for values in (Y, Y.astype(np.float32), sp.csr_matrix(Y.astype(np.float32))):
        fit = fsc.lmmfit(values, X, Z)
        assert set(fit.status) == {"constant"}
        assert fit.coef.isna().all().all()


def test_of_x_itself_and_of_x_untangled(cells):
    X, Y, Z = cells
    X["x"] += 1e4
    stats, (x, y, z) = fsc.sslmm(X, Y, Z), (table.to_numpy() for table in (X, Y, Z))
    assert stats.basis is None
    for found in (stats, stats.untangled.plain):
        np.testing.assert_allclose(found.XX, x.T @ x, rtol=1e-12)
        np.testing.assert_allclose(found.XY, x.T @ y, rtol=1e-10)
        np.testing.assert_allclose(found.ZX, z.T @ x, rtol=1e-10)
    np.testing.assert_allclose((stats + stats).XX, 2 * x.T @ x, rtol=1e-12)
    np.testing.assert_allclose((stats.untangled + stats.untangled).XX, 2 * x.T @ x, rtol=1e-12)
    sub = fsc.lmm(stats).refit(drop_coefs="late")
    whole = fsc.lmmfit(Y, X[["one", "x"]], Z)
    np.testing.assert_allclose(sub.t, whole.t, rtol=1e-7)
    assert replace(stats, slopes=[False]).untangled.slopes == (False,)
    with pytest.raises(ValueError, match="basis"):
        replace(stats, basis=np.ones((2, 2)))
