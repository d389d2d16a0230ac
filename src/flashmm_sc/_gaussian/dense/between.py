"""Two components at any ratios, from points of one of them: genes need no factorisation of their own while they are fitted.

At a ratio γ_1 of the largest component, what is left of the other is G = S_22 - γ_1 C'diag(d)C = U diag(μ) U'. With
k_j = 1 / (1 + γ_2 μ_j), a and b = U'(r_2 - γ_1 C'diag(d)a) of a gene, and m = -∂μ/∂γ_1, the diagonal of U'C'diag(d²)C U,

    log det(I + S D) = -Σ log d + Σ log(1 + γ_2 μ_j)
    φ = r'D (I + S D)⁻¹ r = γ_1 Σ a² d + Σ γ_2 k_j b_j²
    tr T_11 = Σ λ d - Σ γ_2 k_j m_j    tr T_22 = Σ μ_j k_j    |T_22|² = Σ μ_j² k_j²    |T_12|² = Σ k_j² m_j

for any γ_2. In between the sums over j are interpolated (`axis`). The rest are derivatives: |T_11|² = -∂tr T_11/∂γ_1, |v_k|² = ∂φ/∂γ_k, v_k'T_kl v_l = -½ ∂²φ/∂γ_k∂γ_l.

Where X isn't projected out of S_11 and C, its columns come after those of U, with γ_2 k = 1, and their part of log det.

Negative γ_2 keep their singularities as far from the points only while |γ_2| μ is small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._gaussian.dense import kernel
from flashmm_sc._gaussian.dense.axis import Axis, Shares
from flashmm_sc._gaussian.dense.fold import Matrix

if TYPE_CHECKING:
    from flashmm_sc._gaussian.dense.fold import Fold
    from flashmm_sc._gaussian.vectors import Vectors

_NEGATIVE = 0.3
"""Largest -γ_2 μ."""
_MANY_LEFT = 60
"""Columns beside the largest of three components from which on they aren't factorised for every gene."""
_BYTES = 2**28
"""What `fold` may take."""


@dataclass(frozen=True, eq=False)
class Between:
    """S of two components at the points.

    Attributes
    ----------
    first
        Position of the largest component, 0 or 1.
    lam
        Eigenvalues λ.
    axis
        The points.
    mu, m
        Of each point, P × R.
    fold
        From rows a and r_2 to b of all points, · × P (R + columns of X).
    logdet
        What X adds to log det at each point, P.
    """

    first: int
    lam: np.ndarray
    axis: Axis
    mu: np.ndarray
    m: np.ndarray
    fold: Fold
    logdet: np.ndarray

    @classmethod
    def of(cls, first: int, lam: np.ndarray, C: np.ndarray, S22: np.ndarray, axis: Axis | None = None) -> Between:
        """Diagonalise what is left at each point."""
        axis = axis or Axis(lam[-1])
        mu, m, fold = [], [], []
        for ratio in axis.ratios:
            d = 1 / (1 + ratio * lam)
            value, U = np.linalg.eigh(S22 - ratio * (C.T * d) @ C)
            value = np.maximum(value, 0.0)
            CU = d[:, None] * (C @ U)
            mu.append(value)
            m.append(np.square(CU).sum(axis=0))
            fold.append(np.vstack([-ratio * CU, U]))
        return cls(first, lam, axis, np.array(mu), np.array(m), Matrix(np.hstack(fold)), np.zeros(len(mu)))

    @property
    def width(self) -> int:
        """Numbers that `forms` keeps of a gene besides a, P (R + columns of X)."""
        return self.mu.size + len(self.mu) * self.fold.fixed

    @staticmethod
    def pays(q1: int, R: int, K: int = 2) -> bool:
        """Whether b at all points costs less than factorising R columns a few times, and `fold` is not too large.

        With three components it takes a step a point as well.
        """
        points = Axis.size
        return (
            (K == 2 or R >= _MANY_LEFT)
            and points * (q1 + R) < 60 * R**2 + 20 * q1
            and 8 * points * (q1 + R) * R < _BYTES
        )

    def knows(self, gamma: np.ndarray) -> np.ndarray:
        """Whether the ratios of each gene (m × 2) are within range."""
        other = gamma[:, 1 - self.first]
        return self.axis.within(gamma[:, self.first]) & (other * self.mu.max() > -_NEGATIVE) & np.isfinite(other)

    def determinant(self, gamma: np.ndarray, shares: Shares | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """log det(I + S D), traces and norms at known ratios (m × 2), or their shares: m, m × 2, m × 2 × 2."""
        share, along, twice, speed = shares or self.axis.shares(gamma[:, self.first])
        one, rest = np.empty((len(gamma), 3)), np.empty((len(gamma), 6))
        first, other = (np.ascontiguousarray(gamma[:, k]) for k in (self.first, 1 - self.first))
        kernel.own_sums(self.lam, first, one)
        kernel.determinants(share, along, self.mu, self.m, other, rest)
        slope = along @ self.logdet
        trace = np.column_stack([one[:, 1] - rest[:, 4] + speed * slope, rest[:, 1]])
        own = one[:, 2] + speed * rest[:, 5] - speed**2 * (twice @ self.logdet - slope)
        norm = np.stack([own, rest[:, 3], rest[:, 3], rest[:, 2]], axis=1)
        logdet = one[:, 0] + rest[:, 0] + share @ self.logdet
        return logdet, self.turned(trace), self.turned(norm.reshape(-1, 2, 2))

    def forms(self, r: Vectors) -> Forms:
        """What genes need, from a vector r of each."""
        return Forms(self, r.parts[0], self.fold(*r.parts))

    def weights(self, share: np.ndarray, gamma: np.ndarray, power: int = 1) -> np.ndarray:
        """Weights of points (m × P) times γ_2 k, or k², of all, for X times one or zero: m × `width`."""
        out = np.empty((len(gamma), len(self.mu), self.mu.shape[1] + self.fold.fixed))
        kernel.weights(share, self.mu, np.ascontiguousarray(gamma[:, 1 - self.first]), power, out)
        return out.reshape(len(gamma), -1)

    def turned(self, values: np.ndarray) -> np.ndarray:
        """Components in their own order, from the largest first."""
        return values if self.first == 0 else np.flip(values, axis=tuple(range(1, values.ndim)))


@dataclass(frozen=True, eq=False)
class Forms:
    """φ and its derivatives for genes: a (m × q_1) and b of each."""

    between: Between
    a: np.ndarray
    b: np.ndarray

    def __getitem__(self, index: np.ndarray) -> Forms:
        return Forms(self.between, self.a[index], self.b[index])

    def __call__(self, gamma: np.ndarray, shares: Shares | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """φ, |v_k|² and v_k'T_kl v_l at known ratios (m × 2), or their shares: m, m × 2, m × 2 × 2."""
        s = self.between
        share, along, twice, speed = shares or s.axis.shares(gamma[:, s.first])
        out = np.empty((len(gamma), 9))
        own = np.ascontiguousarray(gamma[:, [s.first, 1 - s.first]])
        kernel.forms(share, along, twice, s.mu, s.lam, own, self.a, self.b.reshape(len(self.b), len(s.mu), -1), out)
        v_sq = np.column_stack([out[:, 7] + speed * out[:, 2], out[:, 1]])
        own_bend = out[:, 8] + speed**2 * (out[:, 5] - out[:, 2])
        bend = np.stack([own_bend, speed * out[:, 4], speed * out[:, 4], out[:, 3]], axis=1).reshape(-1, 2, 2)
        return out[:, 6] + out[:, 0], s.turned(v_sq), s.turned(-bend / 2)

    def shared(self, gamma: np.ndarray) -> np.ndarray:
        """φ at known ratios (G × 2) that all genes share: m × G."""
        s, first = self.between, gamma[:, self.between.first, None]
        weights = s.weights(s.axis.shares(gamma[:, s.first])[0], gamma)
        return self.a**2 @ (first / (1 + first * s.lam)).T + self.b**2 @ weights.T

    def dot(self, x: Forms, gamma: np.ndarray) -> np.ndarray:
        """x'D (I + S D)⁻¹ r at known ratios, for r vectors x that genes share: m × r."""
        s, first = self.between, gamma[:, self.between.first, None]
        share = s.axis.shares(gamma[:, s.first])[0]
        return (first / (1 + first * s.lam) * self.a) @ x.a.T + (s.weights(share, gamma) * self.b) @ x.b.T

    def quadratics(self, gamma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """φ of all vectors at ratios that they share (G × 2), and its derivatives: G × m, G × m × 2."""
        s, first = self.between, gamma[:, self.between.first, None]
        d, a_sq = 1 / (1 + first * s.lam), self.a**2
        form, slopes = self.rest_quadratics(gamma)
        slopes[..., s.first] += d**2 @ a_sq.T
        return form + first * d @ a_sq.T, slopes

    def rest_quadratics(self, gamma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Without the largest component's own part, γ_1 Σ a² d."""
        s, b_sq = self.between, (self.b**2).T
        share, along, _, speed = s.axis.shares(gamma[:, s.first])
        first = speed[:, None] * (s.weights(along, gamma) @ b_sq)
        slopes = np.stack([first, s.weights(share, gamma, 2) @ b_sq], axis=-1)
        return s.weights(share, gamma) @ b_sq, slopes if s.first == 0 else slopes[..., ::-1]
