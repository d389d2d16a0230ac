"""Sums over the eigenvalues of the largest component, Σ_i φ(λ_i) T_i: a function φ for every gene, terms T all share.

The functions of the model are products of λ and d = 1 / (1 + g λ), and log d, with each gene's ratio g. All of them are
analytic in x = log(λ / (τ - λ)), τ = 2 λ_max, for |Im x| < π, as long as 1 + g τ >= 0. So their values at a few dozen
Chebyshev points of x give them to rounding at every eigenvalue (Trefethen, Approximation Theory and Approximation
Practice, theorem 8.2), and the terms are folded onto these points once for all genes: what a gene costs doesn't grow
with the number of eigenvalues. Ratios beyond -1 / τ take the eigenvalues themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import cached_property

import numpy as np

_DIGITS = 40.0  # log of the accuracy
_NARROW = 1e-3  # half-width in x from which eigenvalues differ

Function = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues, ascending and not negative, and the points that stand for them.

    Attributes
    ----------
    lam
        The q_1 eigenvalues.
    points
        Where functions are evaluated.
    fold
        Interpolation from the points: φ(λ) = φ(points) @ fold, points × q_1.
    """

    lam: np.ndarray
    points: np.ndarray
    fold: np.ndarray

    @classmethod
    def of(cls, lam: np.ndarray) -> Spectrum:
        """Chebyshev points between the positive eigenvalues, and zero; the eigenvalues where they are no more."""
        positive = lam > 0
        top = 2 * lam[-1]
        x = np.log(lam[positive] / (top - lam[positive]))
        if x.size < 2:
            return cls(lam, lam, np.eye(lam.size))
        centre, half = (x[-1] + x[0]) / 2, max((x[-1] - x[0]) / 2, _NARROW)
        rho = np.pi / half + np.hypot(1.0, np.pi / half)
        n_points = int(np.ceil(_DIGITS / np.log(rho))) + 2
        if n_points >= lam.size:
            return cls(lam, lam, np.eye(lam.size))
        angle = (np.arange(n_points) + 0.5) * np.pi / n_points
        at = centre + half * np.cos(angle)
        distance = x - at[:, None]
        distance[distance == 0] = np.finfo(float).tiny
        share = (np.sin(angle) * (-1.0) ** np.arange(n_points))[:, None] / distance
        fold = np.zeros((n_points + 1, lam.size))
        fold[:-1, positive] = share / share.sum(axis=0)
        fold[-1, ~positive] = 1.0
        return cls(lam, np.append(top / (1 + np.exp(-at)), 0.0), fold)


class Products:
    """left' diag(w) right for weights w that differ between genes, or sums of the rows of right where there is no left."""

    def __init__(self, spectrum: Spectrum, left: np.ndarray | None, right: np.ndarray):
        self.left = np.ones((len(right), 1)) if left is None else left
        self.right = right.reshape(len(right), -1)
        self.shape = right.shape[1:] if left is None else (left.shape[1], right.shape[1])
        self.folded = weighted_products(spectrum.fold, self.left, self.right).reshape(len(spectrum.points), -1)


class Resolvent:
    """d = 1 / (1 + g λ) for the ratio g of each gene (m): m × q_1.

    `negative` counts the negative d; `regular` tells where no 1 + g λ is zero; d is 1 for genes that aren't regular.
    """

    def __init__(self, spectrum: Spectrum, g: np.ndarray):
        self.spectrum = s = spectrum
        self.negative = np.zeros(len(g), int)
        self.regular = np.isfinite(g)
        beyond = np.flatnonzero(1 + 2 * s.lam[-1] * g < 0)
        edge = 1 + g[beyond, None] * s.lam
        self.negative[beyond], self.regular[beyond] = (edge < 0).sum(axis=1), (edge != 0).all(axis=1)
        self.g = g = np.where(self.regular, g, 0.0)
        self.beyond = beyond[self.regular[beyond]]
        smooth = g.copy()
        smooth[self.beyond] = 0.0
        self._at_points = 1 / (1 + smooth[:, None] * s.points)

    @cached_property
    def d(self) -> np.ndarray:
        """d of all eigenvalues, for what is no sum over them."""
        return 1 / (1 + self.g[:, None] * self.spectrum.lam)

    def __getitem__(self, index: np.ndarray) -> Resolvent:
        """The d of these genes, without their sums."""
        new = copy(self)
        new.g, new.d = self.g[index], self.d[index]
        return new

    def sums(self, function: Function, terms: Products) -> np.ndarray:
        """Σ_i φ(d_i, λ_i) T_i: m × the shape of the terms."""
        s = self.spectrum
        out = (function(self._at_points, s.points) @ terms.folded).reshape(-1, *terms.shape)
        if self.beyond.size:
            exact = weighted_products(function(self.d[self.beyond], s.lam), terms.left, terms.right)
            out[self.beyond] = exact.reshape(-1, *terms.shape)
        return out


def weighted_products(weights: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """left' diag(w_g) right for the weights w_g of every gene g: one matrix product a column of `left`."""
    out = np.empty((len(weights), left.shape[1], right.shape[1]))
    for i in range(left.shape[1]):
        if left is right:
            out[:, i, i:] = weights @ (left[:, i, None] * right[:, i:])
            out[:, i:, i] = out[:, i, i:]
        else:
            out[:, i] = weights @ (left[:, i, None] * right)
    return out
