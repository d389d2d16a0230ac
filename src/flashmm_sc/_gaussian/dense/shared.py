"""Vectors that all genes share, in the basis of a dense covariance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from flashmm_sc._gaussian.dense.spectrum import Products, Spectrum
from flashmm_sc._gaussian.vectors import Layout, Vectors

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, eq=False)
class DenseShared:
    """Vectors that all genes share, as columns: A1 (q_1 × r, in the eigenbasis) and A2 (R × r).

    With what a covariance has besides: `layout`, `spectrum`, C and `between`.
    """

    layout: Layout
    spectrum: Spectrum
    C: np.ndarray
    between: Any
    A1: np.ndarray
    A2: np.ndarray

    @property
    def vectors(self) -> Vectors:
        """As vectors, 1 × r × q."""
        return Vectors(self.layout, (self.A1.T[None], self.A2.T[None]))

    @cached_property
    def squares(self) -> Products:
        """Squares of A1, to be summed."""
        return Products(self.spectrum, None, self.A1**2)

    @cached_property
    def forms(self) -> Any:
        """What they need between points."""
        return self.between.forms(Vectors(self.layout, (self.A1.T, self.A2.T)))

    @cached_property
    def pairs(self) -> Products:
        """A1' · A1."""
        return Products(self.spectrum, self.A1, self.A1)

    @cached_property
    def crossed(self) -> Products:
        """C' · A1."""
        return Products(self.spectrum, self.C, self.A1)
