"""What statistics are put together from, checked: numbers, names and shapes that sums over cells can have."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from flashmm_sc._base.errors import listed
from flashmm_sc._base.options import check_number, real_array

_LISTS = (Sequence, np.ndarray, pd.Index, pd.Series)
_NAMES = (str, int, np.integer)


def cells(n: Any) -> int:
    """A number of cells."""
    check_number("n", n, -np.inf, hint="It is the number of cells.")
    if n < 1 or n != int(n):
        msg = f"n={n} is no number of cells; give a whole number."
        raise ValueError(msg)
    return int(n)


def sizes(d: Any, q: int) -> tuple[int, ...]:
    """Columns of each random component; one component by default."""
    values = real_array("d", [d] if isinstance(d, Number) else d)
    if not values.size:
        return (q,)
    if values.ndim > 1 or not ((values % 1 == 0) & (values >= 1)).all() or values.sum() != q:
        msg = f"d={(d,) if isinstance(d, Number) else tuple(d)} should hold the columns of each random component, {q} in total (the rows of ZX)."
        raise ValueError(msg)
    return tuple(int(k) for k in values)


def names(
    argument: str, given: Any, labels: pd.Index | None, stem: str, size: int, *, unique: bool = True
) -> list[str]:
    """Names as given, else the labels of a DataFrame, else made up."""
    if isinstance(given, str) or not _is_list(given) or not all(isinstance(name, _NAMES) for name in given):
        msg = f"{argument} must be a list of names, not {given!r}."
        raise TypeError(msg)
    source = given if len(given) else labels
    found = [f"{stem}{i + 1}" for i in range(size)] if source is None else [str(name) for name in source]
    if len(found) != size:
        msg = f"{argument}: there are {len(found)} names for {size} {stem} columns: {listed(found)}."
        raise ValueError(msg)
    if unique and len(set(found)) < size:
        repeated = [name for name, times in pd.Series(found).value_counts().items() if times > 1]
        msg = f"{argument}: names must be unique; {listed(repeated)} occur more than once."
        raise ValueError(msg)
    return found


def _is_list(given: Any) -> bool:
    return isinstance(given, _LISTS) and getattr(given, "ndim", 1) == 1


def labels_of(table: Any, axis: str) -> pd.Index | None:
    """Labels of a DataFrame on an axis, "index" or "columns"."""
    return getattr(table, axis) if isinstance(table, pd.DataFrame) else None


def slopes_of(slopes: Any, n_components: int) -> tuple[bool, ...]:
    """Of each random component whether it is a slope."""
    flags = list(slopes) if _is_list(slopes) else []
    if len(flags) != n_components or not all(isinstance(slope, bool | np.bool_) for slope in flags):
        msg = f"slopes={slopes} should say of each of the {n_components} random components whether it is a slope."
        raise ValueError(msg)
    return tuple(map(bool, flags))


def weights(n: int, total: float | None, logs: float) -> tuple[float, float]:
    """Sums that weights of n cells, by default 1, and their logarithms can have: no geometric mean above the arithmetic one."""
    total = n if total is None else total
    check_number("weight_sum", total, -np.inf)
    check_number("log_weight_sum", logs, -np.inf)
    if not (total > 0 and logs <= n * (np.log(total / n) + 1e-9)):
        msg = f"weight_sum={total} and log_weight_sum={logs} are not sums of positive weights of {n} cells and their logarithms."
        raise ValueError(msg)
    return float(total), float(logs)


def check_symmetric(name: str, matrix: Any) -> None:
    """Refuse sums of products x y and y x that differ."""
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
    """Refuse another shape, and values that are not finite."""
    if array.shape != shape:
        msg = f"{name} has shape {array.shape} where {shape} was expected from XX (p × p), XY (p × m) and ZX (q × p)."
        raise ValueError(msg)
    if not np.isfinite(array.data if isinstance(array, sp.csr_array) else array).all():
        msg = f"{name} holds NaN or infinite values; look for them in the expression matrix and the design."
        raise ValueError(msg)


def dense(name: str, matrix: Any) -> np.ndarray:
    """A matrix as float64."""
    array = None if sp.issparse(matrix) else real_array(name, matrix)
    if array is None or array.ndim != 2:
        msg = f"{name} must be a dense matrix of two dimensions; only ZZ may be sparse."
        raise ValueError(msg)
    return np.ascontiguousarray(array)
