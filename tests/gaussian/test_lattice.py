"""Shared ratios: the lattice, its wells, and what doesn't matter for it."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import flashmm_sc as fsc
from flashmm_sc._gaussian.genes import Genes
from flashmm_sc._gaussian.lattice import Lattice
from flashmm_sc._gaussian.profile import Objective
from flashmm_sc._gaussian.projection import Projection
from flashmm_sc._gaussian.structure import Structure

CASES = {
    "one": (Structure(1), 41, 0),
    "two": (Structure(2), 100, 100),
    "three": (Structure(3), 1000, 1000),
    "a pair": (Structure(2, ((0, 1),)), 262, 262),
    "a pair and another": (Structure(3, ((0, 2),)), 1000 + 2 * 9 * 9 * 10, 1000 + 2 * 9 * 9 * 10),
    "six of a term": (Structure(6, ((0, 1, 2, 3, 4, 5),)), 3**6 + 3, 3**6),
}


def lattice(structure: Structure, room: int = 10**6, *, cheap: bool = True) -> Lattice:
    trace = np.arange(1.0, structure.size + 1)
    trace[structure.K :] = 0.3
    return Lattice.of(structure, [5] * structure.K, trace, room, cheap=cheap)


@pytest.mark.parametrize("name", CASES)
def test_points(name):
    """All possible parameters, each once, and no more of them than there is room for."""
    structure, rows, inside = CASES[name]
    made = lattice(structure)
    assert len(made.gamma) == rows
    assert np.count_nonzero(made.inside) == inside
    assert len(np.unique(made.gamma, axis=0)) == rows
    assert structure.nonnegative(made.gamma).all()
    few = lattice(structure, 100)
    assert np.count_nonzero(few.inside) <= 100
    if structure.K > 1:
        assert np.count_nonzero(lattice(structure, 0).inside) == 1
        assert lattice(structure, cheap=False).shape[1] == min(4, made.shape[1])


@pytest.mark.parametrize("name", CASES)
def test_far_points(name):
    """As many of them, up to a million times as much; of one component, to start from, a thousand million times."""
    structure, rows, _ = CASES[name]
    make = lambda **options: Lattice.of(
        structure, [1] * structure.K, np.ones(structure.size), 10**6, cheap=True, **options
    )
    near, far = make(), make(far=True)
    if structure.K == 1:
        np.testing.assert_allclose(np.diff(np.log(far.gamma[1:, 0])), np.log(10) * 6 / 39)
        assert far.gamma[-1] == pytest.approx(1e9)
        assert (far.gamma[:rows] == near.gamma).all()
    elif np.count_nonzero(near.inside) > 3**6:
        assert far.shape == near.shape
        assert far.gamma.max() / near.gamma.max() == pytest.approx(1000)


def test_starts_are_diagonal():
    made = lattice(Structure(2, ((0, 1),)))
    mean = np.array([[1, 0.15], [0.15, 2]]) / 5
    back = np.linalg.inv(np.linalg.cholesky(mean))
    for gamma, few in zip(made.gamma[made.start], product([0, 0.1, 1, 10, 100, 1000], repeat=2), strict=True):
        expected = back.T @ np.diag(few) @ back
        np.testing.assert_allclose(gamma, expected[[0, 1, 0], [0, 1, 1]], atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["two", "a pair", "a pair and another"])
def test_wells_are_lower_than_all_around(name):
    made = lattice(CASES[name][0], 300, cheap=False)
    signs, *steps = made.shape
    places = list(product(range(signs), *map(range, steps)))
    f = np.random.default_rng(0).normal(size=(3, np.count_nonzero(made.inside)))
    value = [dict(zip(np.flatnonzero(made.inside), own, strict=True)) for own in f]
    near = lambda a, b: (a[0] == b[0] or 0 in (a[0], b[0])) and max(abs(np.subtract(a[1:], b[1:]))) <= 1
    for gene, own in enumerate(value):
        lowest = [all(own[i] <= own[j] for j in own if near(places[i], places[j])) for i in np.flatnonzero(made.inside)]
        assert 0 < sum(lowest) < len(lowest)
        np.testing.assert_array_equal(made.wells(f)[gene], lowest)


def test_units_and_origin_of_a_covariate_make_no_difference():
    rng = np.random.default_rng(1)
    donor, x, Y = np.eye(6)[rng.integers(6, size=50)], rng.normal(size=(50, 2)), rng.normal(size=(50, 4))

    def values(a: float, b: float) -> np.ndarray:
        z = a + b * x
        Z = np.hstack([donor, donor * z[:, [0]], donor * z[:, [1]]])
        stats = fsc.sslmm(np.column_stack([np.ones(50), z]), Y, Z, (6, 6, 6), correlated=((0, 1, 2),))
        names = stats.coef_names, stats.component_names
        projection = Projection.of(stats.cross, stats.n, stats.d, *names, correlated=((0, 1, 2),))
        return Objective.of(projection, "REML").shared_values(Genes.of(projection, stats))

    np.testing.assert_allclose(values(3.0, 100.0), values(0.0, 1.0), atol=1e-8)
