"""Size factors: what the values of each cell are divided by, from an argument, a column of obs or the cells' totals."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_complex_dtype, is_numeric_dtype

from flashmm_sc._base.errors import listed, named
from flashmm_sc._design.columns import complete_column
from flashmm_sc._results.values import TOTAL
from flashmm_sc._stream.accumulate import totals
from flashmm_sc._stream.blocks import row_major

if TYPE_CHECKING:
    from flashmm_sc._design.rows import Rows, StratumRows
    from flashmm_sc._results.study import Study
    from flashmm_sc._results.values import SizeFactors, Values
    from flashmm_sc._stream.sums import CellMatrix


def _known(study: Study, size_factors: SizeFactors) -> np.ndarray | None:
    """Size factors of all cells as they are given; None for totals, which are to be read."""
    if isinstance(size_factors, str) and size_factors == TOTAL:
        return None
    if isinstance(size_factors, str):
        words = f"size_factors={size_factors!r}"
        values = complete_column(study.obs, size_factors, words)
    else:
        words, values = "size_factors", _numbers(size_factors)
    labels = getattr(size_factors, "index", None)
    if isinstance(labels, pd.Index) and labels.dtype == study.obs.index.dtype and not labels.equals(study.obs.index):
        msg = (
            "size_factors are labelled by other cells than adata, or in another order; reindex them by adata.obs_names."
        )
        raise ValueError(msg)
    if len(values) != len(study.obs):
        msg = f"{words} should hold one number a cell ({len(study.obs)}), not {len(values)}."
        raise ValueError(msg)
    dtype = values.dtype
    if not is_numeric_dtype(dtype) or is_bool_dtype(dtype) or is_complex_dtype(dtype):
        msg = f"{words} should hold numbers, not {values.dtype}."
        raise ValueError(msg)
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    bad = np.flatnonzero(~((numbers > 0) & np.isfinite(numbers)))
    if bad.size:
        msg = (
            f"{words} must be positive and finite; {bad.size} of {len(numbers)} are not: {listed(numbers[bad], 3)}, the first "
            f"at {study.describe(int(bad[0]), -1)}. Leave these cells out."
        )
        raise ValueError(msg)
    return numbers


def _numbers(size_factors: Any) -> pd.Series:
    try:
        return pd.Series(np.asarray(size_factors))
    except (TypeError, ValueError) as error:
        msg = (
            "size_factors must be 'total', a column of obs, or one number a cell, not "
            f"{type(size_factors).__name__} ({error})."
        )
        raise ValueError(msg) from error


def with_sizes(study: Study, values: Values, rows: Rows | StratumRows, n_jobs: int | None) -> Study:
    """The study with values divided by their cells' size factors, if there are to be any; its values know the target.

    Totals of cells that have no design rows may be anything. They take a pass of their own, but where each matrix gives whole cells, as CSR does, and there is a target.

    Raises
    ------
    ValueError
        For size factors that aren't one positive number a cell, and totals that can't be divided by.
    """
    if not values.sized or study.divided:
        return study
    known, target_sum = _known(study, values.size_factors), values.target_sum
    if values.weigh:
        target_sum = 1.0  # nothing that differs between parts of a study
    if known is not None:
        target = known.mean() if target_sum is None else target_sum
        return _divided(study, known / target, target)
    if target_sum is not None and all(row_major(part.X) for part in study.matrices):
        return replace(study, matrices=[replace(part, size=float(target_sum)) for part in study.matrices])
    each = []
    for part in study.matrices:
        with named(part.name):
            each.append(totals(part.X, n_jobs))
    found = np.concatenate(each)
    cells = rows.cells
    if (bad := cells[~((found[cells] >= 0) & np.isfinite(found[cells]))]).size:
        msg = (
            f"The values at {study.describe(int(bad[0]), -1)} add up to {found[bad[0]]:g}, by which they can't be divided; "
            "replace or remove values that are NaN, infinite or negative first."
        )
        raise ValueError(msg)
    found[~((found > 0) & np.isfinite(found))] = 0
    if not found.any():
        msg = "The matrix holds no counts: all totals are zero."
        raise ValueError(msg)
    target = np.median(found[found > 0]) if target_sum is None else target_sum
    return _divided(study, np.where(found > 0, found, 0.0 if values.weigh else target) / target, target)


def _divided(study: Study, size: np.ndarray, target: float) -> Study:
    def cut(part: CellMatrix) -> Any:
        return replace(part, size=size[part.start : part.start + part.X.shape[0]])

    fitted = study.fitted if study.fitted.weigh else replace(study.fitted, target_sum=float(target))
    return replace(study, matrices=[cut(part) for part in study.matrices], fitted=fitted)
