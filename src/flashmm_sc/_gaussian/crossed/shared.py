"""Vectors that all genes share, with what a crossed covariance keeps of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from flashmm_sc._gaussian.dense.spectrum import Products, Spectrum
from flashmm_sc._gaussian.vectors import Vectors

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, eq=False)
class CrossedShared:
    """Columns A L as rows of vectors, q columns each, and L for X's scaled columns.

    With what a covariance has besides: `spectrum` of the levels' sizes, and `between`.
    """

    spectrum: Spectrum
    between: Any
    columns: Vectors
    L: np.ndarray

    @property
    def vectors(self) -> Vectors:
        """As vectors, 1 × r × q."""
        return Vectors(self.columns.layout, tuple(part[None] for part in self.columns.parts))

    @property
    def A1(self) -> np.ndarray:
        """The columns on the levels of the largest component, q_1 × r."""
        return self.columns.parts[0].T

    @cached_property
    def squares(self) -> Products:
        """Squares of A1, to be summed."""
        return Products(self.spectrum, None, self.A1**2)

    @cached_property
    def forms(self) -> Any:
        """What they need between points."""
        return self.between.forms(self.columns)
