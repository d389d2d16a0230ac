"""The cells of a call that `mask_obs` leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flashmm_sc._base.errors import named
from flashmm_sc._design.cell_design import in_memory
from flashmm_sc._design.columns import check_columns
from flashmm_sc._results.cells_file import ChosenCells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from flashmm_sc._results.cells_file import Cells, StoredCells


def chosen_cells(
    several: Sequence[AnnData | StoredCells], names: Sequence[str], mask_obs: Any
) -> tuple[list[Cells], list[str]]:
    """Of an AnnData, or of several and files, the cells of a mask, and the names of those that have any.

    Raises
    ------
    KeyError, ValueError
        When the mask is no column of obs, holds no booleans, or leaves no cell.
    """
    sizes = [one.n_obs for one in several]
    starts, total = np.cumsum([0, *sizes]).tolist(), sum(sizes)
    if isinstance(mask_obs, str):
        masks = []
        for one, name in zip(several, names, strict=True):
            with named(name):
                check_columns([mask_obs], one.obs.columns, f"mask_obs={mask_obs!r}")
                column = in_memory(one.obs, [mask_obs])[mask_obs]
                masks.append(_booleans(column, one.n_obs, f"obs[{mask_obs!r}], which mask_obs names,"))
        mask = np.concatenate(masks)
    else:
        if isinstance(mask_obs, pd.Series) and len(several) == 1 and of_others(mask_obs.index, several[0].obs_names):
            msg = "mask_obs is labelled by other cells than adata, or in another order; reindex it by adata.obs_names."
            raise ValueError(msg)
        mask = _booleans(mask_obs, total, "mask_obs")
    if not mask.any():
        msg = f"mask_obs{f'={mask_obs!r}' if isinstance(mask_obs, str) else ''} leaves no cell to use."
        raise ValueError(msg)
    rows = [np.flatnonzero(mask[start : start + size]) for start, size in zip(starts, sizes, strict=False)]
    parts = zip(several, rows, starts, names, strict=False)
    left = [(ChosenCells(one, own, start, total), name) for one, own, start, name in parts if len(own)]
    return [one for one, _ in left], [name for _, name in left]


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
