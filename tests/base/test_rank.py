"""Which columns are combinations of those before them, from their cross-product alone."""

from __future__ import annotations

import numpy as np
import pytest

from flashmm_sc._base.rank import aliased_columns, dependencies, untangled


def test_aliased_columns_are_those_of_r():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(50, 8)) * 10.0 ** rng.integers(-6, 6, 8)
    x[:, 2] = 0
    x[:, 4] = 3 * x[:, 0] - x[:, 1]
    x[:, 7] = x[:, 5] + x[:, 4]
    gram = x.T @ x
    assert aliased_columns(gram) == [2, 4, 7]
    for j, weights in dependencies(gram).items():
        np.testing.assert_allclose(x @ weights, x[:, j], rtol=1e-6, atol=1e-8 * np.abs(x[:, j]).max())
        assert not weights[[2, 4, 7]].any()


@pytest.mark.parametrize("centre", [1e2, 1e3, 1e4, 1e5])
def test_large_numbers_that_vary_are_not_aliased(centre):
    x = centre + np.random.default_rng(2).normal(size=1000)
    columns = np.column_stack([np.ones(1000), x])
    assert aliased_columns(columns.T @ columns) == []
    columns = np.column_stack([np.ones(1000), x, x - centre])
    assert aliased_columns(columns.T @ columns) == [2]


def test_untangled_columns_are_those_of_x_less_those_before():
    rng = np.random.default_rng(3)
    x = np.column_stack([np.ones(500), rng.normal(size=500), rng.normal(size=500)])
    assert untangled(x.T @ x) is None
    x[:, 2] = 1e5 + x[:, 1] + 1e-3 * x[:, 2]
    basis = untangled(x.T @ x)
    np.testing.assert_array_equal(np.tril(basis), np.eye(3))
    left = (x @ basis)[:, 2]
    assert np.abs(left).max() < 10
    x[:, 2] = 0
    assert untangled(x.T @ x) is None
