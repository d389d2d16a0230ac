"""The cells of a call that `mask_obs` leaves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
from pandas.api.types import is_list_like

from flashmm_sc._base.errors import did_you_mean, named
from flashmm_sc._design.cell_design import in_memory
from flashmm_sc._design.columns import as_factor, check_columns
from flashmm_sc._results.cells_file import ChosenCells

if TYPE_CHECKING:
    from anndata import AnnData

    from flashmm_sc._results.cells_file import Cells, StoredCells

CellMask: TypeAlias = "str | Mapping[str, Any] | Sequence[bool] | np.ndarray | pd.Series | None"
"""A boolean column of obs, values to choose of columns of it, or one boolean a cell."""


def chosen_cells(
    several: Sequence[AnnData | StoredCells], names: Sequence[str], mask_obs: Any
) -> tuple[list[Cells], list[str]]:
    """Of an AnnData, or of several and files, the cells of a mask, and the names of those that have any.

    Raises
    ------
    KeyError, ValueError
        When the mask is no column of obs, names values that there aren't, holds no booleans, or leaves no cell.
    """
    sizes = [one.n_obs for one in several]
    starts, total = np.cumsum([0, *sizes]).tolist(), sum(sizes)
    if isinstance(mask_obs, str | Mapping):
        mask = mask_of([one.obs for one in several], mask_obs, names)
    else:
        if isinstance(mask_obs, pd.Series) and len(several) == 1 and of_others(mask_obs.index, several[0].obs_names):
            msg = "mask_obs is labelled by other cells than adata, or in another order; reindex it by adata.obs_names."
            raise ValueError(msg)
        mask = _booleans(mask_obs, total, "mask_obs")
    if not mask.any():
        msg = f"mask_obs{f'={mask_obs!r}' if isinstance(mask_obs, str | Mapping) else ''} leaves no cell to use."
        raise ValueError(msg)
    rows = [np.flatnonzero(mask[start : start + size]) for start, size in zip(starts, sizes, strict=False)]
    parts = zip(several, rows, starts, names, strict=False)
    left = [(ChosenCells(one, own, start, total), name) for one, own, start, name in parts if len(own)]
    return [one for one, _ in left], [name for _, name in left]


def mask_of(tables: Sequence[Any], chosen: str | Mapping[str, Any], names: Sequence[str] = ("",)) -> np.ndarray:
    """Which cells of tables of obs a boolean column chooses, or values of columns, which are to be in one of the tables."""
    values = {chosen: []} if isinstance(chosen, str) else _values(chosen)
    parts = []
    for obs, name in zip(tables, names, strict=True):
        with named(name):
            check_columns(values, obs.columns, f"mask_obs={chosen!r}")
            parts.append(in_memory(obs, list(values)))
    if isinstance(chosen, str):
        words = f"obs[{chosen!r}], which mask_obs names,"
        return np.concatenate([_booleans(part[chosen], len(part), words) for part in parts])
    mask = np.ones(sum(map(len, parts)), bool)
    for column, wanted in values.items():
        found = [levels_of(part[column]) for part in parts]
        known = dict.fromkeys(level for _, levels in found for level in levels)
        for value in wanted:
            if value not in known:
                msg = f"mask_obs: obs[{column!r}] has no {value!r}. {did_you_mean(value, known)}"
                raise ValueError(msg)
        mask &= np.concatenate([np.isin(codes, np.flatnonzero(np.isin(levels, wanted))) for codes, levels in found])
    return mask


def levels_of(values: pd.Series) -> tuple[np.ndarray, list[str]]:
    """Codes of the cells and names of the levels of a column; a missing value has none."""
    factor = as_factor(values)
    return factor.codes, list(map(_text, factor.categories))


def as_text(mask_obs: Any) -> str | None:
    """What is stored of a mask: the column, the values as JSON, or that there was one."""
    if isinstance(mask_obs, Mapping):
        return json.dumps(_values(mask_obs))
    return mask_obs if mask_obs is None or isinstance(mask_obs, str) else "given"


def from_text(text: str | None) -> str | dict[str, list[str]] | None:
    """The mask that `as_text` stored, of which "given" can't be told."""
    found: dict[str, list[str]] | str | None = json.loads(text) if text is not None and text.startswith('{"') else text
    return found


def _values(chosen: Mapping[str, Any]) -> dict[str, list[str]]:
    """Values of columns as texts, as they are compared."""
    found = {str(column): [*map(_text, its)] if is_list_like(its) else [_text(its)] for column, its in chosen.items()}
    if not found:
        msg = 'mask_obs={} names no column; give values to choose, as in mask_obs={"cell_type": ["B", "NK"]}.'
        raise ValueError(msg)
    return found


def _text(level: Any) -> str:
    return str(int(level) if isinstance(level, float) and level.is_integer() else level)


def of_chosen(cells: Sequence[Cells], given: Any, argument: str) -> Any:
    """Of one value for each cell that a call was given those of the chosen ones; all, where none are chosen."""
    chosen = [one for one in cells if isinstance(one, ChosenCells)]
    if not chosen:
        return given
    values = given if isinstance(given, pd.Series) else np.asarray(given)
    if values.shape != (chosen[0].n_given,):
        msg = f"{argument} should hold one number a cell ({chosen[0].n_given}), not {values.shape}."
        raise ValueError(msg)
    rows = np.concatenate([one.first + one.rows for one in chosen])
    return values.iloc[rows] if isinstance(values, pd.Series) and len(cells) == 1 else np.asarray(values)[rows]


def of_others(labels: pd.Index, cells: pd.Index) -> bool:
    """Whether labels, unless they are mere numbers, are those of other cells, or in another order."""
    numbers = pd.api.types.is_numeric_dtype
    return not (numbers(labels) or numbers(cells) or labels.astype(object).equals(cells.astype(object)))


def _booleans(given: Any, n: int, words: str) -> np.ndarray:
    values = np.asarray(given)
    if values.shape != (n,) or values.dtype != bool:
        fill = " Fill missing values in, as in column.fillna(False).astype(bool)." if values.shape == (n,) else ""
        msg = f"{words} must hold one True or False a cell ({n}), not {values.dtype} of shape {values.shape}.{fill}"
        raise ValueError(msg)
    return values
