"""Choosing among named things, by name or by position; and parts that lie one after another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, combinations
from typing import TypeAlias

import numpy as np

from flashmm_sc._base.errors import did_you_mean, listed

Selection: TypeAlias = str | int | Iterable[str | int]


def positions(argument: str, chosen: Selection | None, names: Sequence[str]) -> np.ndarray:
    """Positions of what is chosen, in its order; all of them for None. A boolean mask will do as well.

    Raises
    ------
    ValueError
        For what there isn't, with names close to it, and for what is chosen twice.
    """
    if chosen is None:
        return np.arange(len(names))
    try:
        items = [chosen] if isinstance(chosen, str | int | np.integer) else list(chosen)
    except TypeError as error:
        msg = f"{argument}: choose by names, positions or a mask, not {type(chosen).__name__}."
        raise TypeError(msg) from error
    if items and all(isinstance(item, bool | np.bool_) for item in items):
        if len(items) != len(names):
            msg = f"{argument}: the mask has {len(items)} entries for {len(names)}."
            raise ValueError(msg)
        return np.flatnonzero(items)
    place = {name: i for i, name in enumerate(names)}
    found = np.array([_position(argument, item, place, len(names)) for item in items], dtype=int)
    kept, times = np.unique(found, return_counts=True)
    if (times > 1).any():
        msg = f"{argument}: {listed(names[i] for i in kept[times > 1])} chosen more than once."
        raise ValueError(msg)
    return found


def _position(argument: str, item: str | int, place: dict[str, int], size: int) -> int:
    if isinstance(item, int | np.integer):
        if -size <= item < size:
            return int(item) % size
        msg = f"{argument}: there is no position {item}; there are {size}."
        raise ValueError(msg)
    if str(item) not in place:
        msg = f"{argument}: there is no {str(item)!r}. {did_you_mean(str(item), place)}"
        raise ValueError(msg)
    return place[str(item)]


def component_slices(d: Sequence[int]) -> list[slice]:
    """Positions of each component's columns among the q random columns."""
    stops = list(accumulate(d))
    return [slice(stop - size, stop) for size, stop in zip(d, stops, strict=True)]


def correlated_pairs(groups: Iterable[Sequence[int]]) -> list[tuple[int, int]]:
    """Pairs of components that have a covariance, in the order of their parameters."""
    return [pair for group in groups for pair in combinations(group, 2)]
