"""p-values adjusted for the number of genes."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from scipy.stats import false_discovery_control

Correction: TypeAlias = Literal["benjamini-hochberg", "bonferroni"]


def adjust(p: np.ndarray, corr_method: Correction) -> np.ndarray:
    """Adjust the p-values of each column for the number of genes tested; NaN stays NaN."""
    adjusted = np.full_like(p, np.nan)
    for j in range(p.shape[1]):
        tested = np.isfinite(p[:, j])
        if corr_method == "bonferroni":
            adjusted[tested, j] = np.minimum(p[tested, j] * tested.sum(), 1.0)
        elif tested.any():
            adjusted[tested, j] = false_discovery_control(p[tested, j], method="bh")
    return adjusted
