"""One component at any ratio: sums over its eigenvalues, all that `Between` adds to them left out.

With d = 1 / (1 + γ λ) and a of a gene, log det(I + S D) = -Σ log d, tr T = Σ λ d, |T|² = Σ λ² d², φ = γ Σ a² d.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._gaussian.dense import kernel

if TYPE_CHECKING:
    from flashmm_sc._gaussian.vectors import Vectors


@dataclass(frozen=True, eq=False)
class Alone:
    """S of one component: its eigenvalues λ."""

    lam: np.ndarray
    width = 0

    def knows(self, gamma: np.ndarray) -> np.ndarray:
        """Where all d of a gene's ratio (m × 1) are positive."""
        return (1 + self.lam[-1] * gamma[:, 0] > 0) & np.isfinite(gamma[:, 0])

    def determinant(self, gamma: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """log det(I + S D), traces and norms at known ratios (m × 1): m, m × 1, m × 1 × 1."""
        out = np.empty((len(gamma), 3))
        kernel.own_sums(self.lam, gamma[:, 0], out)
        return out[:, 0], out[:, 1, None], out[:, 2, None, None]

    def forms(self, r: Vectors) -> AloneForms:
        """What genes need, from a vector r of each."""
        return AloneForms(self.lam, r.parts[0])


@dataclass(frozen=True, eq=False)
class AloneForms:
    """φ and its derivatives for genes: a (m × q_1) of each."""

    lam: np.ndarray
    a: np.ndarray

    def __getitem__(self, index: np.ndarray) -> AloneForms:
        return AloneForms(self.lam, self.a[index])

    def __call__(self, gamma: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """φ, |v|² and v'T v at known ratios (m × 1): m, m × 1, m × 1 × 1."""
        out = np.empty((len(gamma), 3))
        kernel.own_forms(self.lam, gamma[:, 0], self.a, out)
        return out[:, 0], out[:, 1, None], -out[:, 2, None, None] / 2

    def shared(self, gamma: np.ndarray) -> np.ndarray:
        """φ at known ratios (G × 1) that all genes share: m × G."""
        return self.a**2 @ (gamma / (1 + gamma * self.lam)).T

    def dot(self, x: AloneForms, gamma: np.ndarray) -> np.ndarray:
        """x'D (I + S D)⁻¹ r at known ratios, for r vectors x that genes share: m × r."""
        return (gamma / (1 + gamma * self.lam) * self.a) @ x.a.T
