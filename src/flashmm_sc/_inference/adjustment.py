"""p-values adjusted for the number of genes."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from scipy.stats import false_discovery_control

Correction: TypeAlias = Literal["benjamini-hochberg", "bonferroni"]
Scope: TypeAlias = Literal["column", "all"]


def adjust(
    p: np.ndarray, corr_method: Correction, corr_scope: Scope = "column", together: np.ndarray | None = None
) -> np.ndarray:
    """Adjust the p-values for the number of genes tested: of each column, or of all that belong `together`; NaN stays NaN."""
    adjusted = np.full_like(p, np.nan)
    joint = np.full(p.shape[1], corr_scope == "all")
    if together is not None:
        joint &= together
    for columns in (np.flatnonzero(joint), *np.flatnonzero(~joint)[:, None]):
        tested = np.isfinite(p[:, columns])
        found = p[:, columns][tested]
        part = np.full(tested.shape, np.nan)
        if corr_method == "bonferroni":
            part[tested] = np.minimum(found * len(found), 1.0)
        elif len(found):
            part[tested] = false_discovery_control(found, method="bh")
        adjusted[:, columns] = part
    return adjusted
