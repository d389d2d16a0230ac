"""The projected data of genes: all that the solver knows of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from flashmm_sc._gaussian.covariance import Forms
    from flashmm_sc._gaussian.projection import Projection
    from flashmm_sc._gaussian.vectors import Vectors
    from flashmm_sc._stats.summary import SummaryStats


@dataclass(frozen=True, eq=False)
class Genes:
    """The projected data of each of m genes.

    Attributes
    ----------
    b
        Ordinary least squares coefficients, m × p.
    r
        Z'Ry, one vector a gene.
    yRy
        Residual sum of squares of ordinary least squares, m.
    yy
        Sum of squares, m, of which `vary` tells what is rounding.
    forms
        What r'D (I + S D)⁻¹ r and its derivatives take, where they need no factorisation.
    """

    b: np.ndarray
    r: Vectors
    yRy: np.ndarray
    yy: np.ndarray
    forms: Forms | None = None

    @classmethod
    def of(cls, projection: Projection, stats: SummaryStats, genes: slice | np.ndarray = slice(None)) -> Genes:
        """Project the data of some genes."""
        XY, ZY, yy = stats.XY[:, genes], stats.ZY[:, genes], stats.yy[genes]
        b = projection.inverse @ XY
        r = projection.S.split(ZY - projection.A @ XY)
        return cls(projection.original(b).T, r, yy - np.einsum("ij,ij->j", XY, b), yy.copy())

    def put(self, index: np.ndarray, other: Genes) -> None:
        """Overwrite the data of some genes."""
        for name, values in vars(other).items():
            if values is not None:
                getattr(self, name)[index] = values

    def __getitem__(self, index: np.ndarray) -> Genes:
        forms = None if self.forms is None else self.forms[index]
        return Genes(self.b[index], self.r[index], self.yRy[index], self.yy[index], forms)

    def vary(self, rounding: float) -> np.ndarray:
        """Which genes vary beyond the fixed effects by more than rounding."""
        return self.yRy > rounding * self.yy
