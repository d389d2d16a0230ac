"""Columns of obs: that they exist, that they are complete, and as factors with names that tell levels apart."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flashmm_sc._base.errors import did_you_mean, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LARGEST = 1e140
"""What values of designs stay below, so that sums of squares are finite."""
_WHOLE = 2.0**53
"""From here on floating-point numbers leave out whole ones."""


def check_columns(names: Iterable[str], columns: Iterable[object], where: str) -> None:
    """Refuse the first name that is not a column of obs; `where` says what uses it."""
    known = [str(column) for column in columns]
    for name in names:
        if not isinstance(name, str) or name not in known:
            hint = did_you_mean(name, known)
            if any(column.startswith(str(name)) and not column.isidentifier() for column in known):
                hint += " Quote a name that is not a plain word with backticks."
            msg = f"{where} uses {name!r}, which is not a column of obs. {hint}"
            raise KeyError(msg)


def complete_column(obs: pd.DataFrame, name: str, where: str) -> pd.Series:
    """Column `name` of obs; missing values, and a name that stands for several columns, are refused."""
    check_columns([name], obs.columns, where)
    values = obs[name]
    if isinstance(values, pd.DataFrame):
        msg = f"obs has {values.shape[1]} columns named {name!r}, which {where} uses. Rename or remove the others."
        raise ValueError(msg)
    if values.dtype.kind == "c":
        msg = f"obs[{name!r}], which {where} uses, holds complex numbers. Use their .real or .imag."
        raise ValueError(msg)
    missing = int(values.isna().sum())
    if missing:
        msg = (
            f"obs[{name!r}], which {where} uses, is NaN in {missing} of {len(values)} cells. "
            f"Fill them in or leave these cells out, as in adata[adata.obs[{name!r}].notna()]."
        )
        raise ValueError(msg)
    return values


def positive_numbers(given: Any, n: int, words: str, kinds: str, describe: Callable[[int], str]) -> np.ndarray:
    """One positive number for each of n cells.

    Parameters
    ----------
    given
        The numbers, in whatever holds them.
    words, kinds
        What messages call them, and what may be given instead.
    describe
        Words for a cell.

    Raises
    ------
    ValueError
        For anything else.
    """
    try:
        values = given if isinstance(given, pd.Series) else pd.Series(np.asarray(given))
    except (TypeError, ValueError) as error:
        msg = f"{words} must be {kinds}, not {type(given).__name__} ({error})."
        raise ValueError(msg) from error
    if len(values) != n:
        msg = f"{words} should hold one number a cell ({n}), not {len(values)}."
        raise ValueError(msg)
    kind = pd.api.types
    if not kind.is_numeric_dtype(values) or kind.is_bool_dtype(values) or kind.is_complex_dtype(values):
        msg = f"{words} should hold numbers, not {values.dtype}."
        raise ValueError(msg)
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    bad = np.flatnonzero(~((numbers > 0) & (numbers < LARGEST)))
    if bad.size:
        msg = (
            f"{words} must be positive and finite; {bad.size} of {n} are not: {listed(pd.unique(numbers[bad]), 3)}, the first "
            f"at {describe(int(bad[0]))}. Leave these cells out."
        )
        raise ValueError(msg)
    return numbers


def as_factor(values: pd.Series) -> pd.Categorical:
    """Values as a factor: categories in their own order, anything else sorted; unused levels are dropped."""
    if values.dtype in (np.float16, np.longdouble):  # which pandas can't tell apart
        values = values.astype(np.float64)
    if pd.api.types.is_float_dtype(values.dtype) and ((values % 1 == 0) & (values.abs() < _WHOLE)).all():
        values = values.astype("int64")  # so that levels read '1', not '1.0'
    try:
        return without_unused(pd.Categorical(values))
    except (AttributeError, TypeError, ValueError) as error:  # of pandas, at Arrow's dictionaries
        msg = f"obs[{values.name!r}] holds values that can't be levels ({error}); make them text, as with .astype(str)."
        raise ValueError(msg) from error


def without_unused(factor: pd.Categorical) -> pd.Categorical:
    """Without unused levels; pandas would sort the codes of all cells to find them."""
    seen = pd.unique(factor.codes)
    return factor if np.count_nonzero(seen >= 0) == len(factor.categories) else factor.remove_unused_categories()


def level_names(factor: pd.Categorical, name: str, where: str) -> list[str]:
    """Names of a factor's levels; those of column `name` that read the same are refused."""
    names = [str(level) for level in factor.categories]
    if twice := repeated(names):
        msg = f"Different levels of obs[{name!r}] in {where} read the same: {listed(twice)}. Rename or merge them."
        raise ValueError(msg)
    return names


def repeated(names: Iterable[str]) -> list[str]:
    """Names that occur more than once."""
    return [name for name, count in Counter(names).items() if count > 1]


def typical_row(data: pd.DataFrame) -> pd.DataFrame:
    """One row like those of a table, of no cell in particular: first levels and medians."""

    def typical(values: pd.Series) -> Any:
        if isinstance(values.dtype, pd.CategoricalDtype):
            return pd.Categorical(values.cat.categories[:1], dtype=values.dtype)
        if values.dtype == object or values.dtype == bool:
            return values.iloc[:1].to_numpy()
        middle = len(values) // 2  # a median that occurs: where no cell is, the formula may have no value
        return np.partition(values.to_numpy(), middle)[[middle]]

    return pd.DataFrame({name: typical(values) for name, values in data.items()}, index=[0])
