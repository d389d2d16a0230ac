"""Parameters of correlated components and their coordinates: Γ = Λ Λ'."""

from __future__ import annotations

import numpy as np
import pytest

from flashmm_sc._gaussian.structure import Structure, check_correlated

STRUCTURES = [Structure(2, ((0, 1),)), Structure(4, ((1, 3),)), Structure(5, ((0, 1, 4), (2, 3))), Structure(3)]
STRUCTURES += [Structure(2, residuals=2), Structure(3, ((0, 2),), residuals=1)]


@pytest.fixture(params=STRUCTURES, ids=str)
def structure(request):
    return request.param


def drawn(structure: Structure, m: int = 5) -> np.ndarray:
    x = np.random.default_rng(0).normal(size=(m, structure.size))
    x[:, : structure.K] = np.abs(x[:, : structure.K])  # the diagonal of Λ
    x[:, structure.size - structure.residuals :] = np.abs(x[:, structure.size - structure.residuals :])
    return x


def test_coordinates_undo_gamma(structure):
    x = drawn(structure)
    gamma = structure.gamma(x)
    np.testing.assert_allclose(structure.coordinates(gamma), x, rtol=1e-7)
    assert structure.nonnegative(gamma).all()
    assert not structure.boundary(gamma).any()
    for group in structure.groups:
        L = structure.roots(gamma, group)
        np.testing.assert_allclose(L @ L.swapaxes(1, 2), structure.matrices(gamma, group), rtol=1e-12)


def test_derivatives_are_those_of_differences(structure):
    x, h = drawn(structure), 1e-6
    J, g = structure.jacobian(x), np.random.default_rng(1).normal(size=x.shape)
    bent = structure.curvature(g)
    for i in range(structure.size):
        step = h * np.eye(structure.size)[i]
        slope = (structure.gamma(x + step) - structure.gamma(x - step)) / (2 * h)
        np.testing.assert_allclose(J[:, :, i], slope, atol=1e-8)
        turn = (structure.jacobian(x + step) - structure.jacobian(x - step)) / (2 * h)
        np.testing.assert_allclose(bent[:, :, i], np.einsum("mj,mja->ma", g, turn), atol=1e-8)


def test_singular_is_the_boundary():
    structure = Structure(2, ((0, 1),))
    gamma = np.array([[4.0, 9.0, 6.0], [4.0, 9.0, -6.0], [0.0, 0.0, 0.0], [4.0, 0.0, 0.0], [4.0, 9.0, 5.9]])
    np.testing.assert_array_equal(structure.boundary(gamma), [True, True, True, True, False])
    np.testing.assert_array_equal(structure.nonnegative(np.array([[4.0, 9.0, 6.1], [-1.0, 1.0, 0.0]])), [False, False])


def test_rounding_makes_no_singular_matrix_negative():
    a, b = np.random.default_rng(2).normal(size=(2, 40))
    gamma = np.column_stack([a * a, b * b, a * b])
    assert Structure(2, ((0, 1),)).nonnegative(gamma).all()


def test_residual_variances_are_positive():
    gamma = np.array([[1.0, 0.5, 0.1], [1.0, 0.5, 0.0], [1.0, -0.5, 0.1], [0.0, 0.5, 0.1]])
    np.testing.assert_array_equal(Structure(1, residuals=2).nonnegative(gamma), [True, False, False, True])


def test_within_cuts_principal_axes():
    structure = Structure(3, ((0, 2),))
    gamma = np.array([[1.0, -2.0, 1.0, 3.0]])  # an eigenvalue of Γ is negative
    cut = structure.within(gamma, 0.0, np.array([10.0, 10.0, 10.0]))
    assert structure.nonnegative(cut).all()
    assert cut[0, 1] == 0.0
    np.testing.assert_allclose(np.linalg.eigvalsh(structure.matrices(cut, (0, 2)))[0], [0.0, 4.0], atol=1e-12)


def test_what_correlated_terms_cannot_have():
    check_correlated([], nonnegative=False, moderate=True)
    with pytest.raises(ValueError, match=r"nonnegative=False.*'g \+ g:x'"):
        check_correlated([(0, 1)], nonnegative=False, moderate=False)
    with pytest.raises(ValueError, match=r"moderate=True.*'g \+ g:x'"):
        check_correlated([(0, 1)], nonnegative=True, moderate=True)
