"""One model for all cells, or one for each category of a column of obs."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pandas as pd

from flashmm_sc._base.errors import listed, warn
from flashmm_sc._design.columns import as_factor, complete_column, repeated

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def each_group(
    obs: pd.DataFrame, groupby: str | None, build: Callable[[str, pd.DataFrame, np.ndarray], T], *, min_cells: int
) -> list[tuple[np.ndarray, T]]:
    """What `build` makes of the name, obs and cells of each category of `groupby` with enough cells, and these cells.

    Raises
    ------
    KeyError, ValueError
        What `build` raises without `groupby`; with it, only when that is so in every group. Groups left out are named in a
        warning.
    """
    if groupby is None:
        cells = np.arange(len(obs))
        return [(cells, build("", obs, cells))]
    where = f"groupby={groupby!r}"
    values = complete_column(obs, groupby, where)
    factor = as_factor(values)
    if pd.api.types.is_float_dtype(values.dtype) and pd.api.types.is_float_dtype(factor.categories.dtype):
        msg = f"{where} holds numbers that are not whole; cut them into categories, or use them in the formula."
        raise ValueError(msg)
    if twice := repeated(map(str, factor.categories)):
        msg = f"Different categories of {where} read the same: {listed(twice)}. Rename or merge them."
        raise ValueError(msg)
    built = []
    left_out: dict[str, list[str]] = {}  # names of groups by reason
    for code, name in enumerate(factor.categories):
        cells = np.flatnonzero(factor.codes == code)
        try:
            if len(cells) < min_cells:
                left_out.setdefault(f"{len(cells)} cells, fewer than min_cells={min_cells}.", []).append(str(name))
                continue
            built.append((cells, build(str(name), obs.iloc[cells], cells)))
        except ValueError as error:
            left_out.setdefault(str(error), []).append(str(name))
    details = "\n".join(f"{listed(names, len(names))}: {reason}" for reason, names in left_out.items())
    if not built:
        msg = f"The model can be fitted in no group of {where}.\n{details}"
        raise ValueError(msg)
    if left_out:
        msg = f"{len(factor.categories) - len(built)} of {len(factor.categories)} groups of {where} are left out:\n{details}"
        warn(msg)
    return built
