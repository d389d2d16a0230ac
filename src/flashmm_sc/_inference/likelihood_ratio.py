"""Likelihood-ratio tests of nested models."""

from __future__ import annotations

import numpy as np
from scipy.stats import chi2


def likelihood_ratio(
    larger: np.ndarray, smaller: np.ndarray, df: int, *, bounded: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Statistics and p-values from log-likelihoods, where the smaller model lacks so many parameters.

    `bounded` says whether some of them are at a bound in it: variances that can't be negative.
    """
    stat = 2 * (larger - smaller)
    stat = np.where(stat < 1e-11 * (1 + np.abs(larger)), 0.0, stat)  # comparisons with NaN are false, so it stays
    p = chi2.sf(stat, df)
    if bounded:
        one_less = chi2.sf(stat, df - 1) if df > 1 else np.where(np.isnan(stat), np.nan, stat == 0)
        p = (p + one_less) / 2
    return stat, p
