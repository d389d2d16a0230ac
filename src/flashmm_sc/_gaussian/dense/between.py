"""Two components at any ratios, from points of one of them: genes need no factorisation of their own while they are fitted.

At a ratio γ_1 of the largest component, what is left of the other is G = S_22 - γ_1 C'diag(d)C = U diag(μ) U'. With
k_j = 1 / (1 + γ_2 μ_j), a and b = U'(r_2 - γ_1 C'diag(d)a) of a gene, and m = -∂μ/∂γ_1, the diagonal of U'C'diag(d²)C U,

    log det(I + S D) = -Σ log d + Σ log(1 + γ_2 μ_j)
    φ = r'D (I + S D)⁻¹ r = γ_1 Σ a² d + Σ γ_2 k_j b_j²
    tr T_11 = Σ λ d - Σ γ_2 k_j m_j    tr T_22 = Σ μ_j k_j    |T_22|² = Σ μ_j² k_j²    |T_12|² = Σ k_j² m_j

for any γ_2. The sums over j are analytic in x = log(1 + τ γ_1), τ the largest λ, for |Im x| < π, so that Chebyshev points of x
give them and their slopes in between (Trefethen, Approximation Theory and Approximation Practice, theorem 8.2). The rest are
derivatives: |T_11|² = -∂tr T_11/∂γ_1, |v_k|² = ∂φ/∂γ_k, v_k'T_kl v_l = -½ ∂²φ/∂γ_k∂γ_l.

Where X isn't projected out of S_11 and C, its columns come after those of U, with γ_2 k = 1, and their part of log det.

Negative γ_2 keep their singularities as far from the points only while |γ_2| μ is small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from flashmm_sc._gaussian.chebyshev import Chebyshev
from flashmm_sc._gaussian.dense import kernel

if TYPE_CHECKING:
    from flashmm_sc._gaussian.vectors import Vectors

_POINTS = Chebyshev(50)
_LOW, _HIGH = -0.5, 8.5
"""Range of x; τ γ_1 from -.4 to 4,900."""
_NEGATIVE = 0.3
"""Largest -γ_2 μ."""
_BYTES = 2**28
"""What `fold` may take."""


class Fold(Protocol):
    """Rows a and r_2 become b of all points; `fixed` is how many columns of X come with each."""

    @property
    def fixed(self) -> int:
        """Columns of X."""

    def __call__(self, a: np.ndarray, r2: np.ndarray) -> np.ndarray:
        """b of all points, · × P (R + columns of X)."""


@dataclass(frozen=True, eq=False)
class _Matrix:
    """As a product with a matrix, (q_1 + R) × P R."""

    matrix: np.ndarray
    fixed = 0

    def __call__(self, a: np.ndarray, r2: np.ndarray) -> np.ndarray:
        return np.hstack([a, r2]) @ self.matrix


def ratios(lam: np.ndarray) -> np.ndarray:
    """γ_1 at the points, for λ ascending."""
    return np.expm1(_LOW + (_HIGH - _LOW) * (1 + _POINTS.nodes) / 2) / lam[-1]


@dataclass(frozen=True, eq=False)
class Between:
    """S of two components at the points.

    Attributes
    ----------
    first
        Position of the largest component, 0 or 1.
    lam
        Eigenvalues λ.
    mu, m
        Of each point, P × R.
    fold
        From rows a and r_2 to b of all points, · × P (R + columns of X).
    logdet
        What X adds to log det at each point, P.
    """

    first: int
    lam: np.ndarray
    mu: np.ndarray
    m: np.ndarray
    fold: Fold
    logdet: np.ndarray

    @classmethod
    def of(cls, first: int, lam: np.ndarray, C: np.ndarray, S22: np.ndarray) -> Between:
        """Diagonalise what is left at each point."""
        mu, m, fold = [], [], []
        for ratio in ratios(lam):
            d = 1 / (1 + ratio * lam)
            value, U = np.linalg.eigh(S22 - ratio * (C.T * d) @ C)
            value = np.maximum(value, 0.0)
            CU = d[:, None] * (C @ U)
            mu.append(value)
            m.append(np.square(CU).sum(axis=0))
            fold.append(np.vstack([-ratio * CU, U]))
        return cls(first, lam, np.array(mu), np.array(m), _Matrix(np.hstack(fold)), np.zeros(len(mu)))

    @property
    def width(self) -> int:
        """Numbers that `forms` keeps of a gene besides a, P (R + columns of X)."""
        return self.mu.size + len(self.mu) * self.fold.fixed

    @staticmethod
    def pays(q1: int, R: int) -> bool:
        """Whether b at all points costs less than factorising R columns a few times, and `fold` is not too large."""
        points = _POINTS.nodes.size
        return points * (q1 + R) < 60 * R**2 + 20 * q1 and 8 * points * (q1 + R) * R < _BYTES

    def knows(self, gamma: np.ndarray) -> np.ndarray:
        """Whether the ratios of each gene (m × 2) are within range."""
        with np.errstate(invalid="ignore", divide="ignore"):
            x = np.log1p(self.lam[-1] * gamma[:, self.first])
            other = gamma[:, 1 - self.first]
            return (x >= _LOW) & (x <= _HIGH) & (other * self.mu.max() > -_NEGATIVE) & np.isfinite(other)

    def determinant(self, gamma: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """log det(I + S D), traces and norms at known ratios (m × 2): m, m × 2, m × 2 × 2."""
        share, along, twice, speed = self.shares(gamma)
        one, rest = np.empty((len(gamma), 3)), np.empty((len(gamma), 6))
        kernel.own_sums(self.lam, gamma[:, self.first], one)
        kernel.determinants(share, along, self.mu, self.m, gamma[:, 1 - self.first], rest)
        slope = along @ self.logdet
        trace = np.column_stack([one[:, 1] - rest[:, 4] + speed * slope, rest[:, 1]])
        own = one[:, 2] + speed * rest[:, 5] - speed**2 * (twice @ self.logdet - slope)
        norm = np.stack([own, rest[:, 3], rest[:, 3], rest[:, 2]], axis=1)
        logdet = one[:, 0] + rest[:, 0] + share @ self.logdet
        return logdet, self.turned(trace), self.turned(norm.reshape(-1, 2, 2))

    def forms(self, r: Vectors) -> Forms:
        """What genes need, from a vector r of each."""
        return Forms(self, r.parts[0], self.fold(*r.parts))

    def quadratics(self, b_sq: np.ndarray, gamma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Σ γ_2 k b² (m × r) and its derivatives in γ_k (m × r × 2), for b² of r vectors that genes share (· × r)."""
        share, along, _, speed = self.shares(gamma)
        first = speed[:, None] * (self.weights(along, gamma) @ b_sq)
        slopes = np.stack([first, self.weights(share, gamma, 2) @ b_sq], axis=-1)
        return self.weights(share, gamma) @ b_sq, slopes if self.first == 0 else slopes[..., ::-1]

    def weights(self, share: np.ndarray, gamma: np.ndarray, power: int = 1) -> np.ndarray:
        """Weights of points (m × P) times γ_2 k, or k², of all, for X times one or zero: m × `width`."""
        out = np.empty((len(gamma), len(self.mu), self.mu.shape[1] + self.fold.fixed))
        kernel.weights(share, self.mu, gamma[:, 1 - self.first], power, out)
        return out.reshape(len(gamma), -1)

    def shares(self, gamma: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Weights of the points for values and derivatives in x (m × P each), and dx/dγ_1."""
        top = self.lam[-1]
        x, scale = np.log1p(top * gamma[:, self.first]), 2 / (_HIGH - _LOW)
        share = _POINTS.shares(scale * (x - _LOW) - 1)
        along = scale * (share @ _POINTS.slopes)
        return share, along, scale * (along @ _POINTS.slopes), top / (1 + top * gamma[:, self.first])

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

    def __call__(self, gamma: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """φ, |v_k|² and v_k'T_kl v_l at known ratios (m × 2): m, m × 2, m × 2 × 2."""
        s = self.between
        share, along, twice, speed = s.shares(gamma)
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
        return self.a**2 @ (first / (1 + first * s.lam)).T + self.b**2 @ s.weights(s.shares(gamma)[0], gamma).T

    def dot(self, x: Any, gamma: np.ndarray) -> np.ndarray:
        """x'D (I + S D)⁻¹ r at known ratios, for r vectors x that genes share: m × r."""
        s, first = self.between, gamma[:, self.between.first, None]
        own = (first / (1 + first * s.lam) * self.a) @ x.A1
        return own + (s.weights(s.shares(gamma)[0], gamma) * self.b) @ x.points
