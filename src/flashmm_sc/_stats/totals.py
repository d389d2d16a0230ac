"""Sums over all cells, from those of a random intercept."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from flashmm_sc._base.errors import listed
from flashmm_sc._base.selection import component_slices

if TYPE_CHECKING:
    from flashmm_sc._stats.summary import SummaryStats


def column_totals(stats: SummaryStats) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Sums over all cells of the columns of X, Z and Y, from a random intercept; None where there is none.

    A random intercept shares out the cells, Z_k 1 = 1, so that 1'X = 1'Z_k'X; with weights these are weighted sums, as all
    others. Where it isn't known which components are slopes, one is taken for an intercept if Z_k'Z_k is diagonal with trace n,
    or the sum of the weights, and whole without weights. So is that of a slope of values ±1:
    among candidates that give different sums the one is taken whose 1'Z_k'X are those of a vector nearest to the span of
    X, where an intercept mostly is.

    Raises
    ------
    ValueError
        When it can't be told which component is an intercept.
    """
    parts = component_slices(stats.d)
    if stats.slopes is not None:
        intercepts = [part for part, slope in zip(parts, stats.slopes, strict=True) if not slope]
        return _totals(stats, intercepts[0]) if intercepts else None
    candidates = [part for part in parts if _shares_out(stats, part)]
    if not candidates:
        return None
    found = [_totals(stats, part) for part in candidates]
    share = np.array([X @ np.linalg.solve(stats.XX, X) for X, _, _ in found]) / stats.weight_sum
    best = found[share.argmax()]
    apart = [np.abs(X - best[0]) > 1e-8 * np.sqrt(stats.weight_sum * stats.XX.diagonal()) for X, _, _ in found]
    if (np.any(apart, axis=1) & (share > share.max() - 1e-6)).any():
        names = listed(stats.component_names[parts.index(part)] for part in candidates)
        msg = (
            f"Which of {names} is a random intercept can't be told from these sums; say which components are slopes, as in "
            "dataclasses.replace(stats, slopes=[True, False])."
        )
        raise ValueError(msg)
    return best


def _totals(stats: SummaryStats, part: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """1'Z_k'X, 1'Z_k'Z and 1'Z_k'Y."""
    return stats.ZX[part].sum(axis=0), np.asarray(stats.ZZ[part].sum(axis=0)).reshape(-1), stats.ZY[part].sum(axis=0)


def _shares_out(stats: SummaryStats, part: slice) -> bool:
    """Whether Z_k'Z_k is that of indicators of which each cell has one."""
    counts = stats.ZZ[part, part]
    size, total = counts.diagonal(), cast("float", stats.weight_sum)
    error = abs(size.sum() - total) + abs(np.abs(counts.data).sum() - size.sum())
    if total == stats.n:
        error += np.abs(size - np.rint(size)).max()
    return bool(error < 1e-8 * total)
