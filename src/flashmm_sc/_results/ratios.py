"""Ratios of fitted means on the scale of counts, which logarithms of single cells' counts compress.

With size factors, least squares gives means of counts at every point of the reference grid. A contrast of log-expression
that is a difference of two points, or of two averages of points, has a ratio: that of the means there.
"""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
from scipy.spatial import cKDTree

from flashmm_sc._design.reference_grid import ReferenceGrid

_MOST = 20_000
"""Points of a grid among which pairs are looked for."""


def log2_ratios(reference: str, means: np.ndarray, L: np.ndarray) -> np.ndarray:
    """log2 of the ratio of means for each contrast, the columns of L (p × r): genes × r.

    `means` are coefficients, genes × p, `reference` is the text of the grid. NaN for contrasts that are no difference of
    two means that the grid has, and where a mean is negative; infinite where one of the two is zero.
    """
    out = np.full((len(means), L.shape[1]), np.nan)
    for j, pair in enumerate(_pairs(reference, L)):
        if pair is not None:
            above, below = (means @ row for row in pair)
            least = 1e-9 * np.abs(means).max(axis=1)  # rounding of a mean that is zero
            above, below = (np.where(np.abs(mean) < least, 0.0, mean) for mean in (above, below))
            with np.errstate(divide="ignore", invalid="ignore"):
                out[:, j] = np.log2(above) - np.log2(below)
    return out


def _pairs(reference: str, L: np.ndarray) -> list[tuple[np.ndarray, np.ndarray] | None]:
    """For each contrast two rows of X, averaged over what it doesn't depend on, that differ by it."""
    found: list[tuple[np.ndarray, np.ndarray] | None] = [None] * L.shape[1]
    if not reference:
        return found
    grid = ReferenceGrid.read(reference)
    if grid.across:
        return found
    names = list(grid.factors)
    for kept in (some for size in range(len(names), 0, -1) for some in combinations(names, size)):
        if all(found) or np.prod([len(levels) for levels in grid.factors.values()], dtype=float) > _MOST:
            break
        points = zip(*product(*(grid.factors[name] for name in kept)), strict=True)
        try:
            rows = grid.rows(dict(zip(kept, map(list, points), strict=True)))
        except ValueError:  # the formula has no value there, as 1 / x at a mean of zero
            break
        tree = cKDTree(rows)
        for j in range(L.shape[1]):
            found[j] = found[j] or _pair(rows, tree, L[:, j])
    return found


def _pair(rows: np.ndarray, tree: cKDTree, contrast: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Averages of the rows that have a row below them by the contrast, and of those; None where none has."""
    distance, nearest = map(np.asarray, tree.query(rows - contrast))
    above = distance < 1e-9 * (1 + np.abs(contrast).max())
    return (rows[above].mean(axis=0), rows[nearest[above]].mean(axis=0)) if above.any() else None
