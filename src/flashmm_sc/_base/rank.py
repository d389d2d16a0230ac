"""Linear dependence among the columns of a matrix, from its cross-product alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flashmm_sc._base.errors import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

TOLERANCE = 1e-11
"""Squared norm, relative to the column's own, below which nothing of a column is left."""
_TANGLED = 1e-6
"""The same, below which it is worth leaving out what is not its own."""


def rounding(squares: Any) -> Any:
    """Least squared norm that counts, relative to that of the columns it is combined of.

    Of a small difference between large multiples of columns only rounding error may be left: a few eps, times the square
    of the sum of these multiples.
    """
    return np.maximum(TOLERANCE, 4 * np.finfo(np.float64).eps * squares)


def dependencies(gram: NDArray[np.float64], least: float = 0.0) -> dict[int, NDArray[np.float64]]:
    """Find the columns that are linear combinations of the columns before them.

    Gram-Schmidt in the columns' own order, without pivoting, so that the same columns are aliased as in R.

    Parameters
    ----------
    gram
        Cross-product ``X'X`` of the columns, p × p.
    least
        Squared norm, relative to the column's own, below which a column depends on others even if not only rounding is left.

    Returns
    -------
    For each such column j the p coefficients b of ``X[:, j] = X @ b``, nonzero at independent columns before j only.
    """
    p = len(gram)
    norms = np.sqrt(np.diag(gram))
    scale = np.where(norms > 0, norms, 1.0)
    unit = gram / np.outer(scale, scale)
    basis = np.zeros((p, p))  # rows: orthonormal vectors, as combinations of the columns
    rank, found = 0, {}
    for j in range(p):
        projection = basis[:rank] @ unit[:, j]
        weights = projection @ basis[:rank]
        residual = unit[j, j] - projection @ projection
        if not residual > max(least, rounding((1 + np.abs(weights).sum()) ** 2)):
            weights[np.abs(weights) < np.sqrt(TOLERANCE)] = 0
            found[j] = weights * scale[j] / scale
        else:
            basis[rank] = -weights
            basis[rank, j] = 1
            basis[rank] /= np.sqrt(residual)
            rank += 1
    return found


def aliased_columns(gram: NDArray[np.float64]) -> list[int]:
    """Columns that are linear combinations of the columns before them, zero columns included (see `dependencies`)."""
    return list(dependencies(gram))


def untangled(gram: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """T, unit upper triangular, so that no column of X T is nearly a combination of those before; None where X has no such.

    Less their combinations columns keep digits that X'X hasn't, of numbers far from zero beside an intercept for example.
    """
    found = {j: weights for j, weights in dependencies(gram, _TANGLED).items() if weights.any()}
    if not found:
        return None
    basis = np.eye(len(gram))
    for j, weights in found.items():
        basis[:, j] -= weights
    return basis


def describe_dependency(name: str, weights: NDArray[np.float64], names: Sequence[str], most: int = 6) -> str:
    """Say in a sentence which combination of the other columns a column is."""
    used = np.flatnonzero(weights).tolist()
    if not used:
        return f"{name!r} is zero in every cell."
    if len(used) > most:
        return f"{name!r} is a combination of {len(used)} columns before it: {listed(names[i] for i in used)}."
    terms = [
        f"{'-' if weights[i] < 0 else '+'} "
        + ("" if np.isclose(abs(weights[i]), 1) else f"{abs(weights[i]):.4g} × ")
        + repr(names[i])
        for i in used
    ]
    return f"{name!r} equals {' '.join(terms).removeprefix('+ ')}."
