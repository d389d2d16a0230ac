"""Which fixed effects can be estimated within the levels of a random component, told from sums over cells.

With X's columns scaled to unit norm and X'X = L L', Q = X L⁻ᵀ is an orthonormal basis of their span. With B = Z'Q

    M_k = I - B_k'(Z_k'Z_k)⁻B_k

has the eigenvalues 1 - ρ², ρ the canonical correlations of X and Z_k. Its null space are the fixed columns constant within
the levels of component k, Q w = X b = Z_k u. So rank Z_k'RZ_k = rank Z_k'Z_k - its dimension, and c'β = (L⁻¹c)'Q'Xβ can't
be estimated within the levels exactly when some such w'L⁻¹c is not zero. X scaled, centred or combined gives the same M_k.

Of w_i'M_k w_j = (X b_i)'(X b_j - Z_k u_j), sums over cells leave rounding in proportion to their large multiples that
cancel, (|b_i| + |u_i|)(|b_j| + |u_j|). What is less is zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.linalg import solve_triangular
from scipy.linalg.lapack import dpstrf
from scipy.sparse.csgraph import connected_components

from flashmm_sc._base.linalg import diagonalised
from flashmm_sc._base.rank import TOLERANCE, rounding


@dataclass(frozen=True, eq=False)
class Within:
    """What is left of the fixed columns within the levels of one component.

    Attributes
    ----------
    levels
        rank Z_k'Z_k: levels that have cells.
    rank
        rank Z_k'RZ_k: those beyond the fixed columns constant within them.
    constant
        Null space of M_k, as rows w': · × p.
    other
        The other eigenvectors of M_k, as rows.
    turn
        Most that rounding may have turned the former towards the latter.
    """

    levels: int
    rank: int
    constant: np.ndarray
    other: np.ndarray
    turn: np.ndarray

    @classmethod
    def of(cls, ZZ: sp.csr_array, B: np.ndarray, Li: np.ndarray) -> Within:
        """From Z_k'Z_k, B_k and L⁻¹."""
        levels, H, U = _regression(ZZ, B)
        value, vector = diagonalised(np.eye(len(Li)) - H.T @ H)
        size = np.abs(Li.T @ vector).sum(axis=0) + np.linalg.norm(U @ vector, axis=0)
        error = rounding(np.outer(size, size))
        null = value <= error.diagonal()
        turn = error[np.ix_(null, ~null)] / value[~null]
        return cls(levels, levels - int(null.sum()), vector.T[null], vector.T[~null], turn)

    def needs_levels(self, c: np.ndarray) -> np.ndarray:
        """Which of the columns L⁻¹c (p × r) can't be estimated within the levels."""
        return (np.abs(self.constant @ c) > self.turn @ np.abs(self.other @ c)).any(axis=0)


def _regression(ZZ: sp.csr_array, B: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """Rank of Z'Z, H with H'H = B'(Z'Z)⁻B, and the coefficients (Z'Z)⁻B of Z's columns scaled to unit norm.

    Columns that overlap with no other, as levels mostly, need nothing; groups of columns that overlap are factorised with
    pivoting, which tells those that depend on the others.
    """
    norm = np.sqrt(ZZ.diagonal())
    kept = np.flatnonzero(norm)
    scale = sp.diags_array(1 / norm[kept])
    unit, B = sp.csr_array(scale @ ZZ[kept][:, kept] @ scale), B[kept] / norm[kept, None]
    _, label = connected_components(unit, directed=False)
    size = np.bincount(label)
    alone = size[label] == 1
    parts = [(B[alone], B[alone])]
    together = np.flatnonzero(~alone)
    groups = np.split(together[np.argsort(label[together], kind="stable")], np.cumsum(size[size > 1])[:-1])
    for columns in groups if together.size else []:
        C, pivot, rank, _ = dpstrf(unit[columns][:, columns].toarray(), tol=TOLERANCE, lower=1)
        C, first = C[:rank, :rank], columns[pivot[:rank] - 1]
        H = solve_triangular(C, B[first], lower=True)
        parts.append((H, solve_triangular(C, H, lower=True, trans=1)))
    H, U = (np.vstack(matrices) for matrices in zip(*parts, strict=True))
    return len(H), H, U
