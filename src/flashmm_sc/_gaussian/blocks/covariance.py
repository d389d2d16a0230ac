"""Covariances with correlated terms: the levels of the largest are eliminated one by one, the rest is dense.

Each cell has one level of the largest term, whose c components have a block N_i = Z_i'Z_i (c × c) for each level i, and
Γ (see `structure`) for all. The other random columns Z_2 and the fixed ones, Q with Q'Q = I, are the rest U = [Z_2, Q]. With
C_i = Z_i'U and V_1 the covariance with the largest term only,

    J_i = (I + N_i Γ)⁻¹,   F_i = Z_i'V_1⁻¹U = J_i C_i,   Z_i'V_1⁻¹Z_i = J_i N_i,   G = U'V_1⁻¹U = U'U - Σ_i C_i'Γ J_i C_i

and with K2 = M (E + M'G M)⁻¹ M', where M M' = D on Z_2's columns and M = I on Q's, E = I and 0 on these,

    P = V_1⁻¹ - V_1⁻¹U K2 U'V_1⁻¹,   log det(I + S D) = Σ_i log det(I + N_i Γ) + log det(E + M'G M)

so that T = Z'P Z is block diagonal minus F K2 F' on the largest term's columns. K2 on Q's columns is the covariance of the
fixed effects. Nothing divides by Γ, which may be singular.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.selection import component_slices
from flashmm_sc._gaussian.blocks.factorisation import BlockFactorisation, BlockShared
from flashmm_sc._gaussian.blocks.terms import Terms
from flashmm_sc._gaussian.vectors import Vectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    import scipy.sparse as sp

    from flashmm_sc._gaussian.structure import Structure
    from flashmm_sc._stats.cross import CrossProducts


@dataclass(frozen=True, eq=False)
class BlockCovariance:
    """Z'RZ (or Z'Z, without X) by the levels of its largest term.

    Attributes
    ----------
    terms
        Cross-products of the largest term and the rest.
    ZZ, B
        Z'Z and Z'Q.
    Li
        L⁻¹ of X'X = L L', so that Q = X L⁻ᵀ.
    """

    terms: Terms
    ZZ: sp.csr_array
    B: np.ndarray
    Li: np.ndarray

    @classmethod
    def of(cls, cross: CrossProducts, d: Sequence[int], structure: Structure) -> BlockCovariance:
        """From the cross-products of the designs.

        Raises
        ------
        ValueError
            When the columns of correlated components are not those of the same levels.
        """
        scale = np.sqrt(np.diag(cross.XX))
        Li = np.linalg.inv(np.linalg.cholesky(cross.XX / np.outer(scale, scale))) / scale
        B = cross.ZX @ Li.T
        return cls(Terms.of(cross.ZZ, B, d, structure), cross.ZZ, B, Li)

    @property
    def between(self) -> None:
        """Every gene is factorised."""

    @property
    def cheap_forms(self) -> bool:
        """Quadratic forms at shared ratios are matrix products."""
        return True

    def split(self, r: np.ndarray) -> Vectors:
        """Columns r (q × m) as vectors, one a gene."""
        return self._cut(r.T)

    def _cut(self, rows: np.ndarray) -> Vectors:
        """Rows of q columns as vectors."""
        parts = component_slices(self.terms.d)
        return Vectors(self.terms.layout, tuple(np.ascontiguousarray(rows[..., part]) for part in parts))

    def restore(self, v: Vectors) -> np.ndarray:
        """Undo `split`: genes × q in the order of Z's columns."""
        return np.concatenate(v.parts, axis=-1)

    def shared(self, A: np.ndarray, L: np.ndarray) -> BlockShared:
        """The vectors A L that all genes share, from A (q × p) and L (p × r)."""
        return BlockShared(self.split(A @ L), self.Li @ L)

    def times(self, v: Vectors) -> Vectors:
        """S v."""
        rows = self.restore(v)
        u = rows.reshape(-1, rows.shape[-1]).T
        Su = self.ZZ @ u - self.B @ (self.B.T @ u)
        return self._cut(Su.T.reshape(rows.shape))

    def factor(self, gamma: np.ndarray) -> BlockFactorisation:
        """Factorise I + S D at the parameters of each gene (m × P)."""
        return BlockFactorisation(self.terms, gamma)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """tr S E_j (P) and tr S E_j S E_l (P × P)."""
        trace, norm = self.factor(np.zeros((1, self.terms.structure.size))).traces()
        return trace[0], norm[0]

    def eigenvalues(self, k: int) -> np.ndarray:
        """Those of S_kk, ascending."""
        part = component_slices(self.terms.d)[k]
        return np.linalg.eigvalsh(self.ZZ[part, part].toarray() - self.B[part] @ self.B[part].T)

    def prepared(self, n_genes: int, n_jobs: int | None, *, traces: bool = True) -> BlockCovariance:
        """Nothing pays here."""
        return self

    def gene_bytes(self, r: int, *, solved: bool = False) -> int:
        """Memory that a gene needs while it is fitted, or r linear combinations of it tested, by `solve` too."""
        (levels, c, n), P, q = self.terms.C.shape, self.terms.structure.size, sum(self.terms.d)
        width = r * q * (1 + P) if solved else r * n
        return 8 * (3 * levels * c * n + 8 * levels * c * c + (P + 8) * n * n + 4 * width + 20 * q)
