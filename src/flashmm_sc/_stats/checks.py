"""Checks of summary statistics: names, shapes, finite sums, and sums that products can have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from flashmm_sc._base.errors import listed

if TYPE_CHECKING:
    from collections.abc import Sequence


def names_of(given: Sequence[Any], index: Any, stem: str, size: int, *, unique: bool = True) -> list[str]:
    """Names on an axis: those given, else those of a DataFrame, else made up."""
    source = given if len(given) else index
    names = [f"{stem}{i + 1}" for i in range(size)] if source is None else [str(name) for name in source]
    if len(names) != size:
        msg = f"There are {len(names)} names for {size} {stem} columns: {listed(names)}."
        raise ValueError(msg)
    if unique and len(set(names)) < size:
        repeated = [name for name, times in pd.Series(names).value_counts().items() if times > 1]
        msg = f"Names must be unique; {listed(repeated)} occur more than once."
        raise ValueError(msg)
    return names


def check_weights(n: int, total: float | None, logs: float) -> None:
    """Refuse sums that no weights of n cells have: a geometric mean above the arithmetic one."""
    if total is None or not (0 < total < np.inf and -np.inf < logs <= n * (np.log(total / n) + 1e-9)):
        msg = f"weight_sum={total} and log_weight_sum={logs} are not sums of positive weights of {n} cells and their logarithms."
        raise ValueError(msg)


def check_symmetric(name: str, matrix: Any) -> None:
    """Refuse what no sums of products are."""
    apart, size = (np.abs(sp.csr_array(part).data).max(initial=0.0) for part in (matrix - matrix.T, matrix))
    if apart > 1e-8 * size:
        msg = f"{name} must be symmetric, as sums of products are; it differs from its transpose by up to {apart:.3g}."
        raise ValueError(msg)


def check_basis(basis: np.ndarray | None, p: int) -> None:
    """Refuse what makes no columns of X again."""
    if basis is not None and (basis.shape != (p, p) or abs(np.linalg.det(basis) - 1) > 1e-6):
        msg = f"basis should be a {p} × {p} matrix of determinant 1, as sslmm makes it."
        raise ValueError(msg)


def check_array(name: str, array: Any, shape: tuple[int, ...]) -> None:
    """Refuse another shape, and what is not finite."""
    if array.shape != shape:
        msg = f"{name} has shape {array.shape} where {shape} was expected from XX (p × p), XY (p × m) and ZX (q × p)."
        raise ValueError(msg)
    if not np.isfinite(array.data if isinstance(array, sp.csr_array) else array).all():
        msg = f"{name} holds NaN or infinite values; look for them in the expression matrix and the design."
        raise ValueError(msg)
