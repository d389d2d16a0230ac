"""Factors whose value in a cell depends on other cells, such as `I(x - np.mean(x))`: found by evaluating them again."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

_CHUNK = 2**17
"""Cells evaluated at a time."""


class Evaluated(Protocol):
    """A factor that can be evaluated in any cells."""

    @property
    def expr(self) -> str:
        """What it is called."""

    @property
    def where(self) -> str:
        """Words for its formula in messages."""

    @property
    def needs(self) -> list[str]:
        """Columns of obs from which it is computed."""

    def value(self, data: pd.DataFrame) -> Any:
        """Its values in some cells."""

    def number(self, value: Any, n: int) -> np.ndarray:
        """One number a cell that stands for these values."""


def depends(factor: Evaluated, whole: np.ndarray, data: pd.DataFrame, chunks: Iterable[np.ndarray] = ()) -> bool:
    """Whether a factor has other values when it is evaluated over some cells only; `whole` is its `number` over all.

    Tried are a random half of the cells, single ones at the extremes of the factor and of what it may use, as a maximum
    or a median is mostly the same in any large part of the data, and the chunks given.
    """
    n, size = len(data), _size(whole)
    frame = data[factor.needs].select_dtypes([np.number, bool])
    used = (values.to_numpy() for _, values in frame.items())  # noqa: PERF102, as no dict
    extremes = {find(values) for values in chain([whole], used) for find in (np.argmin, np.argmax)}
    half = np.random.default_rng(0).choice(n, min(500, n // 2 + 1), replace=False)

    def differs(cells: np.ndarray) -> bool:
        try:
            return not _alike(factor.number(factor.value(data.iloc[cells]), len(cells)), whole[cells], size)
        except ValueError:  # such as a level that only some cells give
            return True

    return any(differs(cells) for cells in chain([np.sort(half)], (np.array([cell]) for cell in extremes), chunks))


def over_several_cells(factors: Iterable[Evaluated], data: pd.DataFrame) -> list[str]:
    """Factors that depend on other cells, tried in all cells of the data."""
    n = len(data)
    step = min(_CHUNK, -(-n // 2))
    chunks = [np.arange(start, min(start + step, n)) for start in range(0, n, step)]
    numbers = ((factor, factor.number(factor.value(data), n)) for factor in factors)
    return [factor.expr for factor, whole in numbers if depends(factor, whole, data, chunks)]


def check_alike(factor: Evaluated, numbers: np.ndarray, whole: np.ndarray) -> None:
    """Refuse a factor that has other numbers in some cells than in the same when it was evaluated over all."""
    if not _alike(numbers, whole, _size(whole)):
        refuse(factor)


def refuse(factor: Evaluated) -> None:
    """Say that a factor depends on other cells."""
    msg = (
        f"{factor.expr!r} in {factor.where} depends in each cell on the values of other cells; compute it before, as a "
        "column of obs, and use that."
    )
    raise ValueError(msg)


def _alike(numbers: np.ndarray, others: np.ndarray, size: float) -> bool:
    """Whether numbers are equal up to rounding."""
    return bool(np.allclose(numbers, others, rtol=1e-9, atol=1e-9 * size, equal_nan=True))


def _size(numbers: np.ndarray) -> float:
    return float(np.abs(numbers[np.isfinite(numbers)]).max(initial=0.0))
