"""Three components at any ratios: points of one ratio, at each of which the two others lie between points of their own.

As in `between`, but what is left at a ratio γ_1 is a covariance G of two components, with φ_p, its log determinant and their
derivatives from `Between`: of the vector r_2 - γ_1 C'diag(d)a, and of X's columns c that come with it,

    φ = γ_1 Σ a² d + Σ_p w_p (φ_p + |c_p|²)    log det(I + S D) = -Σ log d + Σ_p w_p (log det(I + G_p D_2) + log det X_p)

with the weights w of the points, or those of derivatives in x, for derivatives in γ_1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flashmm_sc._gaussian.dense import kernel
from flashmm_sc._gaussian.dense.axis import Axis
from flashmm_sc._gaussian.dense.fold import Matrix

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flashmm_sc._gaussian.dense.axis import Shares
    from flashmm_sc._gaussian.dense.between import Forms
    from flashmm_sc._gaussian.dense.fold import Fold
    from flashmm_sc._gaussian.vectors import Vectors


_SIZE = 36
"""Points of each ratio."""
_BYTES = 2**28
"""What the folds of all points may take."""


def outer(lam: np.ndarray) -> Axis:
    """Points for the largest component."""
    return Axis(lam[-1], _SIZE)


def inner(left: Sequence[Any]) -> Axis:
    """Points for the covariances of the others, the same for all."""
    return Axis(max(G.lam[-1] for G in left), _SIZE)


@dataclass(frozen=True, eq=False)
class Nested:
    """S of three components at the points.

    Attributes
    ----------
    first
        Position of the largest component.
    lam
        Its eigenvalues λ.
    axis
        The points.
    left
        The covariance of the others at each point, with points of their own, which are the same for all.
    fold
        From rows a and r_2 to those that are left, and c, at all points.
    logdet
        What X adds to log det at each point, P.
    """

    first: int
    lam: np.ndarray
    axis: Axis
    left: Sequence[Any]
    fold: Fold
    logdet: np.ndarray

    @classmethod
    def of(
        cls, first: int, lam: np.ndarray, C: np.ndarray, S22: np.ndarray, covariance: Callable[[np.ndarray], Any]
    ) -> Nested:
        """From S in the eigenbasis of the largest component, and what makes a covariance of those of the others."""
        axis, left, fold = outer(lam), [], []
        for ratio in axis.ratios:
            dC = C / (1 + ratio * lam[:, None])
            left.append(covariance(S22 - ratio * C.T @ dC))
            fold.append(np.vstack([-ratio * dC, np.eye(len(S22))]))
        own = inner(left)
        return cls(first, lam, axis, [G.with_points(own) for G in left], Matrix(np.hstack(fold)), np.zeros(len(left)))

    @staticmethod
    def fits(sizes: Sequence[int]) -> bool:
        """Whether what is left of two other components of these sizes takes no more memory than it may."""
        return 8 * _SIZE**2 * sum(sizes) * min(sizes) < _BYTES

    @property
    def others(self) -> np.ndarray:
        """Positions of the others."""
        return np.delete(np.arange(3), self.first)

    @property
    def width(self) -> int:
        """Numbers that `forms` keeps of a gene besides a."""
        return sum(G.lam.size + G.between.width + self.fold.fixed for G in self.left)

    def knows(self, gamma: np.ndarray) -> np.ndarray:
        """Whether the ratios of each gene (m × 3) are within range."""
        widest = max((G.between for G in self.left), key=lambda G: G.mu.max())
        return self.axis.within(gamma[:, self.first]) & widest.knows(gamma[:, self.others])

    def determinant(self, gamma: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """log det(I + S D), traces and norms at known ratios (m × 3): m, m × 3, m × 3 × 3."""
        rest, one = gamma[:, self.others], np.empty((len(gamma), 3))
        kernel.own_sums(self.lam, np.ascontiguousarray(gamma[:, self.first]), one)
        shares = self.shares(rest)
        of_points = [G.between.determinant(rest, shares) for G in self.left]
        h, trace, norm = (np.array(part) for part in zip(*of_points, strict=True))
        h, slope, bend, trace, cross, norm = self.between(gamma, h + self.logdet[:, None], trace, norm)
        return (
            one[:, 0] + h,
            self.vector(one[:, 1] + slope, trace),
            self.matrix(one[:, 2] - bend, -cross, norm),
        )

    def forms(self, r: Vectors) -> NestedForms:
        """What genes need, from a vector r of each."""
        a, r2 = r.parts
        b = self.fold(a, r2).reshape(len(a), len(self.left), -1)
        R = r2.shape[1]
        each = [G.between.forms(G.split(b[:, p, :R].T)) for p, G in enumerate(self.left)]
        return NestedForms(self, a, b[:, :, R:].copy(), each)

    def shares(self, rest: np.ndarray) -> Shares:
        """Weights of the others' points."""
        G = self.left[0].between
        return G.axis.shares(rest[:, G.first])

    def between(
        self, gamma: np.ndarray, h: np.ndarray, first: np.ndarray, second: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """Of values at the points (P × m × ...) and their derivatives in the others: at the ratios, with derivatives in γ_1."""
        share, along, twice, speed = self.axis.shares(gamma[:, self.first])
        at = lambda weights, values: np.einsum("ip,pi...->i...", weights, values)
        slope = at(along, h)
        return (
            at(share, h),
            speed * slope,
            speed**2 * (at(twice, h) - slope),
            at(share, first),
            speed[:, None] * at(along, first),
            at(share, second),
        )

    def vector(self, own: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """Components in their own order."""
        out = np.empty((len(own), 3))
        out[:, self.first], out[:, self.others] = own, rest
        return out

    def matrix(self, own: np.ndarray, cross: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """Pairs of components in their own order."""
        out = np.empty((len(own), 3, 3))
        out[:, self.first, self.first] = own
        out[:, self.first, self.others] = out[:, self.others, self.first] = cross
        out[:, self.others[:, None], self.others] = rest
        return out


@dataclass(frozen=True, eq=False)
class NestedForms:
    """φ and its derivatives for genes: a (m × q_1), c (m × P × columns of X) and the forms of the others at each point."""

    nested: Nested
    a: np.ndarray
    c: np.ndarray
    left: list[Forms]

    def __getitem__(self, index: np.ndarray) -> NestedForms:
        return NestedForms(self.nested, self.a[index], self.c[index], [forms[index] for forms in self.left])

    def __call__(self, gamma: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """φ, |v_k|² and v_k'T_kl v_l at known ratios (m × 3): m, m × 3, m × 3 × 3."""
        s, own = self.nested, np.empty((len(gamma), 3))
        kernel.own_forms(s.lam, np.ascontiguousarray(gamma[:, s.first]), self.a, own)
        rest = gamma[:, s.others]
        shares = s.shares(rest)
        form, v_sq, quad = (np.array(part) for part in zip(*(forms(rest, shares) for forms in self.left), strict=True))
        form, slope, bend, v_sq, cross, quad = s.between(gamma, form + (self.c**2).sum(axis=-1).T, v_sq, quad)
        return (
            own[:, 0] + form,
            s.vector(own[:, 1] + slope, v_sq),
            s.matrix(-(own[:, 2] + bend) / 2, -cross / 2, quad),
        )

    def shared(self, gamma: np.ndarray) -> np.ndarray:
        """φ at known ratios (G × 3) that all genes share: m × G; a lattice repeats γ_1, and the others."""
        s = self.nested
        first, i = np.unique(gamma[:, s.first], return_inverse=True)
        rest, j = np.unique(gamma[:, s.others], axis=0, return_inverse=True)
        share, ratio = s.axis.shares(first)[0], first[:, None]
        own = self.a**2 @ (ratio / (1 + ratio * s.lam)).T + (self.c**2).sum(axis=-1) @ share.T
        of_points = np.stack([forms.shared(rest) for forms in self.left], axis=1)
        return own[:, i] + (share @ of_points)[:, i, j.reshape(-1)]

    def dot(self, x: NestedForms, gamma: np.ndarray) -> np.ndarray:
        """x'D (I + S D)⁻¹ r at known ratios, for r vectors x that genes share: m × r."""
        s, first, rest = self.nested, gamma[:, self.nested.first, None], gamma[:, self.nested.others]
        share = s.axis.shares(gamma[:, s.first])[0]
        out = (first / (1 + first * s.lam) * self.a) @ x.a.T
        for p, weight in enumerate(share.T[:, :, None]):
            out += weight * (self.left[p].dot(x.left[p], rest) + self.c[:, p] @ x.c[:, p].T)
        return out

    def rest_quadratics(self, gamma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """φ of all vectors at ratios that they share (G × 3) and its derivatives, without γ_1 Σ a² d: G × m, G × m × 3."""
        s, rest = self.nested, gamma[:, self.nested.others]
        share, along, _, speed = s.axis.shares(gamma[:, s.first])
        form, slopes = np.zeros((len(gamma), len(self.a))), np.zeros((len(gamma), len(self.a), 3))
        for p, forms in enumerate(self.left):
            value, slope = forms.quadratics(rest)
            value += (self.c[:, p] ** 2).sum(axis=-1)
            form += share[:, p, None] * value
            slopes[..., s.first] += (speed * along[:, p])[:, None] * value
            slopes[..., s.others] += share[:, p, None, None] * slope
        return form, slopes
