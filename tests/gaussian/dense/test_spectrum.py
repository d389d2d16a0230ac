"""Sums over eigenvalues by way of few points, and inverses of small matrices, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from flashmm_sc._gaussian.dense.elimination import invert_signed
from flashmm_sc._gaussian.dense.spectrum import Products, Resolvent, Spectrum

FUNCTIONS = {
    "d": lambda d, lam: d,
    "d²": lambda d, lam: d**2,
    "λ d³": lambda d, lam: lam * d**3,
    "(λ d)²": lambda d, lam: (lam * d) ** 2,
    "log d": lambda d, lam: np.log(np.abs(d)),
}
SPECTRA = {
    "unequal": np.geomspace(3, 5000, 300),
    "with a null space": np.append(np.zeros(20), np.geomspace(1, 1000, 200)),
    "equal": np.full(200, 7.0),
    "all but equal": 7 + 1e-9 * np.arange(200),
    "few": np.array([0.0, 1.0, 5.0]),
    "one": np.array([2.0]),
    "over ten orders": np.geomspace(1e-10, 1, 50),
}


def ratios(lam):
    """From zero to large, negative, just within the edge of the domain, and beyond it."""
    unit = 1 / lam[-1]
    return np.concatenate(
        [[0.0], np.geomspace(1e-6, 1e8, 60) * unit, -unit * np.array([1e-9, 0.3, 0.5, 0.9, 0.999, 1.7])]
    )


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_sums_are_exact_to_rounding(spectrum, name):
    lam, function = SPECTRA[spectrum], FUNCTIONS[name]
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(lam.size, 2)), rng.normal(size=(lam.size, 3))
    terms, g = Spectrum.of(lam), ratios(lam)
    values = function(1 / (1 + g[:, None] * lam), lam)
    size = np.abs(values) @ np.ones(lam.size)
    for products, expected in [
        (Products(terms, left, right), np.einsum("gi,ij,ik->gjk", values, left, right)),
        (Products(terms, None, right), values @ right),
        (Products(terms, None, np.ones(lam.size)), values.sum(axis=1)),
    ]:
        error = Resolvent(terms, g).sums(function, products) - expected
        assert (np.abs(error).reshape(len(g), -1).max(axis=1) <= 1e-13 * size + 1e-15 * lam.size).all()


def test_points_are_fewer_than_eigenvalues():
    assert Spectrum.of(np.geomspace(200, 6000, 259)).points.size < 40
    assert Spectrum.of(np.geomspace(1, 1000, 5000)).points.size < 60


def test_singular_and_missing_ratios_are_told():
    lam = np.array([1.0, 2.0, 4.0])
    resolvent = Resolvent(Spectrum.of(lam), np.array([-0.25, -0.3, np.nan, -0.1, -0.6]))
    np.testing.assert_array_equal(resolvent.regular, [False, True, False, True, True])
    np.testing.assert_array_equal(resolvent.negative, [0, 1, 0, 0, 2])


@pytest.mark.parametrize("size", [1, 5, 16, 37])
def test_inverse_determinant_and_inertia(size):
    rng = np.random.default_rng(size)
    X = rng.normal(size=(300, size, size + 2))
    G, D = X @ X.swapaxes(1, 2), rng.gamma(1.0, 1.0, (300, size))
    D[100:200] = 0.0
    D[100:200, ::2] = 3.0
    D[200:] = rng.normal(size=(100, 1)) / (4 * size)
    K2, logdet, ok = np.empty_like(G), np.empty(300), np.empty(300, bool)
    invert_signed(G, D, np.zeros(300, int), K2, logdet, ok)
    whole = np.eye(size) + G * D[:, None]
    eigenvalues = np.linalg.eigvals(whole).real
    np.testing.assert_array_equal(ok, eigenvalues.min(axis=1) > 0)
    assert ok[200:].sum() > 0
    np.testing.assert_allclose(logdet[ok], np.log(eigenvalues[ok]).sum(axis=1), rtol=1e-8, atol=1e-8)
    expected = D[ok][:, :, None] * np.linalg.inv(whole[ok])
    np.testing.assert_allclose(K2[ok], expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())
    assert (K2[~ok] == 0).all()
