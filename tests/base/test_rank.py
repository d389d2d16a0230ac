"""Which columns are combinations of those before them, from their cross-product alone."""

from __future__ import annotations

import numpy as np
import pytest

from flashmm_sc._base.rank import aliased_columns, dependencies, describe_dependency, untangled


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


@pytest.mark.parametrize("centre", [1e2, 1e3, 1e4, 1e5])
def test_rounding_is_no_column_of_its_own(centre):
    """What is left of x - centre beside 1 and x: more than of columns that are combined in smaller multiples."""
    for seed in range(10):
        x = centre + np.random.default_rng(seed).normal(size=100)
        columns = np.column_stack([np.ones(100), x, x - centre])
        assert aliased_columns(columns.T @ columns) == [2]


def test_a_dependency_in_words():
    names = [*"abcdef", "far from it", "g"]
    rng = np.random.default_rng(4)
    x = rng.normal(size=(60, 8))
    x[:, 3] = 0
    x[:, 4] = x[:, 0] - 0.5 * x[:, 2]
    x[:, 5] = -x[:, 1] + 0.1234567 * x[:, 2]
    found = {names[j]: weights for j, weights in dependencies(x.T @ x).items()}
    assert [describe_dependency(name, weights, names) for name, weights in found.items()] == [
        "'d' is zero in every cell.",
        "'e' equals 'a' - 0.5 × 'c'.",
        "'f' equals - 'b' + 0.1235 × 'c'.",
    ]
    many = np.arange(8.0)
    assert describe_dependency("x", many, names, most=7).startswith("'x' equals 'b' + 2 × 'c' + 3 × 'd'")
    assert describe_dependency("x", many, names) == (
        "'x' is a combination of 7 columns before it: 'b', 'c', 'd', 'e', 'f', 'far from it', 'g'."
    )


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
