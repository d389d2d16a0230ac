"""Sums over cells of rows [X Z], taken apart into those of X and of Z."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, eq=False)
class CrossProducts:
    """What the designs alone give: X'X (p × p), Z'X (q × p) and Z'Z (q × q), or those of X T, where T is the `basis`."""

    XX: np.ndarray
    ZX: np.ndarray
    ZZ: sp.csr_array
    basis: np.ndarray | None = None

    @classmethod
    def of(cls, gram: sp.csr_array, p: int, basis: np.ndarray | None = None) -> CrossProducts:
        """From W'W of rows W = [X Z] whose first p columns are X's, or X T's."""
        return cls(gram[:p, :p].toarray(), gram[p:, :p].toarray(), sp.csr_array(gram[p:, p:]), basis)

    @classmethod
    def summed(cls, parts: Sequence[CrossProducts]) -> CrossProducts:
        """Of all cells, from those of parts of them."""
        first, *rest = parts
        for one in rest:
            first = cls(first.XX + one.XX, first.ZX + one.ZX, sp.csr_array(first.ZZ + one.ZZ), first.basis)
        return first

    def without_fixed(self) -> CrossProducts:
        """Those of Z alone."""
        return CrossProducts(np.empty((0, 0)), np.empty((len(self.ZX), 0)), self.ZZ)

    @property
    def plain(self) -> CrossProducts:
        """Those of X itself."""
        if self.basis is None:
            return self
        back = np.linalg.inv(self.basis)
        return CrossProducts(back.T @ self.XX @ back, self.ZX @ back, self.ZZ)

    @property
    def width(self) -> int:
        """Columns of W, p + q."""
        return sum(self.ZX.shape)
