"""Columns of obs of all cells, where they come from several AnnData and files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from pandas.api.types import union_categoricals

from flashmm_sc._design.cell_design import in_memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flashmm_sc._results.cells_file import Cells


def joint_obs(several: Sequence[Cells], names: Sequence[str], wanted: Sequence[str]) -> pd.DataFrame:
    """Columns that all have, one row a cell.

    Raises
    ------
    ValueError
        For a column that is of several kinds.
    """
    tables = [in_memory(one.obs, list(wanted)) for one in several]
    columns = {name: united(name, [table[name] for table in tables], names).array for name in wanted}
    return pd.DataFrame(columns, index=pd.RangeIndex(sum(map(len, tables))), copy=False)


def shared_columns(several: Sequence[Cells], names: Sequence[str]) -> Iterator[tuple[str, pd.Series]]:
    """Each column that all have, of one kind, as it is read."""
    for name in several[0].obs.columns:
        if all(name in one.obs for one in several):
            try:
                yield str(name), united(name, [in_memory(one.obs, [name])[name] for one in several], names)
            except ValueError:
                continue


def united(name: str, each: list[pd.Series], names: Sequence[str]) -> pd.Series:
    """A column of all parts; categories are united in the order in which they come, or sorted if they are in each part.

    Sorted they are in most files, as strings become categories when they are written: the reference level should not
    depend on which file is first.
    """
    if len(each) == 1:
        return each[0]
    _check_kinds(name, each, names)
    if not all(isinstance(values.dtype, pd.CategoricalDtype) for values in each):
        return pd.concat(each, ignore_index=True)
    kind = each[0].cat.categories.dtype  # words may be stored in several ways
    each = [_with_categories_of(values, kind) for values in each]
    in_order = all(values.cat.categories.is_monotonic_increasing for values in each)
    return pd.Series(union_categoricals(each, ignore_order=True, sort_categories=in_order))


def _with_categories_of(values: pd.Series, kind: Any) -> pd.Series:
    categories: Any = values.cat.categories.astype(kind)
    return values.cat.rename_categories(categories)


def _check_kinds(name: str, each: list[pd.Series], names: Sequence[str]) -> None:
    """Refuse a column that holds numbers in one part and words, or categories, in another."""
    kinds: dict[str, str] = {}
    for values, where in zip(each, names, strict=True):
        levels = values.cat.categories if isinstance(values.dtype, pd.CategoricalDtype) else None
        numeric = pd.api.types.is_numeric_dtype(values.dtype if levels is None else levels.dtype)
        kind = "words" if not numeric else "numbers" if levels is None else f"categories of type {levels.dtype}"
        kinds.setdefault(kind, where)
    if len(kinds) > 1:
        (a, one), (b, other) = list(kinds.items())[:2]
        msg = f"obs[{name!r}] holds {a} in {one} but {b} in {other}; bring it to one type first."
        raise ValueError(msg)
