"""Z'RZ by its sparse parts, with what needs no factorisation of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from flashmm_sc._base.selection import component_slices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashmm_sc._stats.cross import CrossProducts


@dataclass(frozen=True, eq=False)
class Gram:
    """S = Z'Z - Z'X (X'X)⁻¹ X'Z, or Z'Z where there is no X; nothing q × q is dense.

    Attributes
    ----------
    d
        Columns of each component.
    ZZ, ZX, XX
        Cross-products, X's columns divided by their norms.
    scale
        These norms.
    Li
        L⁻¹ of X'X = L L', of the scaled columns.
    """

    d: tuple[int, ...]
    ZZ: sp.csr_array
    ZX: sp.csr_array
    XX: np.ndarray
    scale: np.ndarray
    Li: np.ndarray

    @classmethod
    def of(cls, cross: CrossProducts, d: Sequence[int]) -> Gram:
        """From the cross-products of the designs."""
        scale = np.sqrt(np.diag(cross.XX))
        unit = cross.XX / np.outer(scale, scale)
        Li = np.linalg.inv(np.linalg.cholesky(unit))
        return cls(tuple(d), cross.ZZ, sp.csr_array(cross.ZX / scale), unit, scale, Li)

    @property
    def has_levels(self) -> bool:
        """Whether the columns of the largest component don't overlap, as the levels of a factor."""
        part = component_slices(self.d)[int(np.argmax(self.d))]
        own = self.ZZ[part, part]
        return bool(own.nnz <= own.shape[0])

    @cached_property
    def XXi(self) -> np.ndarray:
        """(X'X)⁻¹ of the scaled columns."""
        return self.Li.T @ self.Li

    @property
    def logdet_XX(self) -> float:
        """log det X'X of the scaled columns."""
        return -2 * float(np.log(np.diag(self.Li)).sum())

    def times(self, u: np.ndarray) -> np.ndarray:
        """S u for columns u (q × m)."""
        return self.ZZ @ u - self.ZX @ (self.XXi @ (self.ZX.T @ u))

    def eigenvalues(self, k: int) -> np.ndarray:
        """Those of S_kk, ascending."""
        part = component_slices(self.d)[k]
        B = self.ZX[part] @ self.Li.T
        return np.linalg.eigvalsh(self.ZZ[part, part].toarray() - B @ B.T)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """tr S_kk (K) and |S_kl|² (K × K), with S_kl = Z_k'Z_l - B_k B_l'."""
        B, parts = self.ZX @ self.Li.T, component_slices(self.d)
        BB = np.array([B[k].T @ B[k] for k in parts])
        norm = np.einsum("kij,lij->kl", BB, BB)
        for (i, k), (j, l) in product(enumerate(parts), repeat=2):
            ZZ = self.ZZ[k, l]
            norm[i, j] += (ZZ.data**2).sum() - 2 * (B[k] * (ZZ @ B[l])).sum()
        trace = [self.ZZ.diagonal()[k].sum() for k in parts] - np.einsum("kii->k", BB)
        return trace, norm
