"""Points of the ratio of one component, γ_1, between which functions of it are interpolated.

Functions whose singularities are at γ_1 = -1 / λ, with the eigenvalues 0 <= λ <= τ, are analytic in x = log(1 + τ γ_1) for
|Im x| < π, so that Chebyshev points of x give them and their slopes in between (Trefethen, Approximation Theory and
Approximation Practice, theorem 8.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from flashmm_sc._gaussian.chebyshev import Chebyshev

_LOW, _HIGH = -0.5, 8.5
"""Range of x; τ γ_1 from -.4 to 4,900."""
_SCALE = 2 / (_HIGH - _LOW)
Shares: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
_POINTS = {n: Chebyshev(n) for n in (36, 50)}


@dataclass(frozen=True, eq=False)
class Axis:
    """So many points for the largest eigenvalue τ: 50 for values to rounding, 36 to some ten digits."""

    top: float
    size: int = 50

    @property
    def ratios(self) -> np.ndarray:
        """γ_1 at the points."""
        return np.expm1(_LOW + (1 + _POINTS[self.size].nodes) / _SCALE) / self.top

    def within(self, gamma: np.ndarray) -> np.ndarray:
        """Which ratios are in the range."""
        with np.errstate(invalid="ignore", divide="ignore"):
            x = np.log1p(self.top * gamma)
        return (x >= _LOW) & (x <= _HIGH)

    def shares(self, gamma: np.ndarray) -> Shares:
        """Weights of the points for values and their first two derivatives in x (m × P each), and dx/dγ_1."""
        points = _POINTS[self.size]
        share = points.shares(_SCALE * (np.log1p(self.top * gamma) - _LOW) - 1)
        along = _SCALE * (share @ points.slopes)
        return share, along, _SCALE * (along @ points.slopes), self.top / (1 + self.top * gamma)
