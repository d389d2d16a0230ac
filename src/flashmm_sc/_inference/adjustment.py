"""p-values adjusted for the number of genes."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from scipy.stats import false_discovery_control

Correction: TypeAlias = Literal["benjamini-hochberg", "bonferroni"]
Scope: TypeAlias = Literal["column", "all"]


def adjust(p: np.ndarray, corr_method: Correction, corr_scope: Scope = "column") -> np.ndarray:
    """Adjust the p-values for the number of genes tested, each column by itself or all together; NaN stays NaN."""
    if corr_scope == "all":
        return adjust(p.reshape(-1, 1), corr_method).reshape(p.shape)
    adjusted = np.full_like(p, np.nan)
    for j in range(p.shape[1]):
        tested = np.isfinite(p[:, j])
        if corr_method == "bonferroni":
            adjusted[tested, j] = np.minimum(p[tested, j] * tested.sum(), 1.0)
        elif tested.any():
            adjusted[tested, j] = false_discovery_control(p[tested, j], method="bh")
    return adjusted
