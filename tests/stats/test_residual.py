"""Sums of groups of cells add up to those of all cells."""

from __future__ import annotations

import dense_reference as dense
import numpy as np
from grouped_stats import grouped_stats


def test_groups_add_up():
    X, Z, d, groups, Y = dense.grouped_example("own variances")
    stats = grouped_stats(X, Z, d, groups, Y)
    W, p = np.hstack([X, Z]), X.shape[1]
    np.testing.assert_allclose(stats.XY, X.T @ Y, rtol=1e-12)
    np.testing.assert_allclose(stats.ZY, Z.T @ Y, rtol=1e-12)
    np.testing.assert_allclose(stats.yy, (Y**2).sum(axis=0), rtol=1e-12)
    assert stats.n == len(Y)
    assert stats.theta_names == ["var1", "var2", "var3", "var4", "residual[g0]", "residual[g1]", "residual[g2]"]
    for g, one in enumerate(stats.groups):
        own = W[groups == g]
        cross = one.cross(p, W.shape[1])
        np.testing.assert_allclose(cross.XX, own[:, :p].T @ own[:, :p], rtol=1e-12)
        np.testing.assert_allclose(cross.ZX, own[:, p:].T @ own[:, :p], rtol=1e-12)
        np.testing.assert_allclose(cross.ZZ.toarray(), own[:, p:].T @ own[:, p:], rtol=1e-12)
        alone = one.without_fixed(p)
        assert not alone.cross(0, W.shape[1] - p).XX.size
        np.testing.assert_array_equal(alone.cross(0, W.shape[1] - p).ZZ.toarray(), cross.ZZ.toarray())
