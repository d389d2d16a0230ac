"""From a vector of a gene to what is left of it at all points of a ratio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Fold(Protocol):
    """Rows a and r_2 become b of all points; `fixed` is how many columns of X come with each."""

    @property
    def fixed(self) -> int:
        """Columns of X."""

    def __call__(self, a: np.ndarray, r2: np.ndarray) -> np.ndarray:
        """b of all points, · × P (R + columns of X)."""


@dataclass(frozen=True, eq=False)
class Matrix:
    """As a product with a matrix, (q_1 + R) × P R; X is projected out of what it is made of."""

    matrix: np.ndarray
    fixed = 0

    def __call__(self, a: np.ndarray, r2: np.ndarray) -> np.ndarray:
        return np.hstack([a, r2]) @ self.matrix
