"""Vectors in blocks against the same as plain arrays."""

from __future__ import annotations

import numpy as np
import pytest

from flashmm_sc._gaussian.vectors import Layout, Vectors

M, R, K = 4, 3, 3
COMPONENT = [np.array([1, 1, 1]), np.array([0, 2, 0, 2])]
LAYOUTS = {
    "one component first": Layout((1, np.eye(K)[COMPONENT[1]]), K),
    "one block": Layout((np.eye(K)[np.concatenate(COMPONENT)],), K),
}
ALL = np.concatenate(COMPONENT)


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return LAYOUTS[request.param]


def drawn(layout, shape, seed=0):
    """Vectors and the array that they are."""
    values = np.random.default_rng(seed).normal(size=(*shape, len(ALL)))
    stops = [3] if len(layout.blocks) > 1 else []
    return Vectors(layout, tuple(part.copy() for part in np.split(values, stops, axis=-1))), values


def whole(vectors):
    return np.concatenate(vectors.parts, axis=-1)


@pytest.mark.parametrize("shape", [(M,), (M, R)])
def test_components(layout, shape):
    v, values = drawn(layout, shape)
    weights = np.random.default_rng(1).normal(size=(M, K))
    each = weights[:, ALL] if len(shape) == 1 else weights[:, None, ALL]
    np.testing.assert_allclose(whole(v.scaled(weights)), values * each)
    np.testing.assert_allclose(v.squares(), np.stack([(values**2 * (k == ALL)).sum(-1) for k in range(K)], axis=-1))
    for k in range(K):
        np.testing.assert_array_equal(whole(v.only(k)), values * (k == ALL))


def test_inner_products(layout):
    (one, a), (several, b), (shared, c) = (drawn(layout, shape, k) for k, shape in enumerate([(M,), (M, R), (1, R)]))
    np.testing.assert_allclose(one.dot(several), np.einsum("ij,irj->ir", a, b))
    np.testing.assert_allclose(one.dot(shared), a @ c[0].T)
    np.testing.assert_allclose(several.dot(several), b @ b.swapaxes(1, 2))
    np.testing.assert_allclose(several.dot(shared), b @ c[0].T)
    np.testing.assert_allclose(several.grams().sum(axis=-1), b @ b.swapaxes(1, 2))
    np.testing.assert_allclose(np.einsum("irrk->irk", several.grams()), several.squares())


def test_genes_are_taken_and_overwritten(layout):
    (v, a), (other, b) = drawn(layout, (M,)), drawn(layout, (2,), 1)
    np.testing.assert_array_equal(whole(v[np.array([3, 0])]), a[[3, 0]])
    v[np.array([3, 0])] = other
    np.testing.assert_array_equal(whole(v), np.array([b[1], a[1], a[2], b[0]]))
