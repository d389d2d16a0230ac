"""Size factors: what the values of each cell are divided by, from an argument, a column of obs or the cells' totals."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from flashmm_sc._base.errors import named
from flashmm_sc._results.per_cell import KINDS, per_cell
from flashmm_sc._results.values import TOTAL
from flashmm_sc._stream.accumulate import totals
from flashmm_sc._stream.blocks import row_major

if TYPE_CHECKING:
    from flashmm_sc._design.rows import Rows, StratumRows
    from flashmm_sc._results.study import Study
    from flashmm_sc._results.values import Values
    from flashmm_sc._stream.sums import CellMatrix


def with_sizes(
    study: Study, values: Values, rows: Rows | StratumRows, n_jobs: int | None, show_progress: bool | None = False
) -> Study:
    """The study with values divided by their cells' size factors, if there are to be any; its values know the target.

    Totals of cells that have no design rows may be anything. They take a pass of their own, but where each matrix gives whole cells, as CSR does, and there is a target.

    Raises
    ------
    ValueError
        For size factors that aren't one positive number a cell, and totals that can't be divided by.
    """
    if not values.sized or study.divided:
        return study
    target_sum = values.target_sum
    if values.weigh:
        target_sum = 1.0  # nothing that differs between parts of a study
    if not (isinstance(values.size_factors, str) and values.size_factors == TOTAL):
        known = per_cell(study, "size_factors", values.size_factors, f"{TOTAL!r}, {KINDS}")
        target = known.mean() if target_sum is None else target_sum
        return _divided(study, known / target, target)
    if target_sum is not None and all(row_major(part.X) for part in study.matrices):
        return replace(study, matrices=[replace(part, size=float(target_sum)) for part in study.matrices])
    each = []
    for part in study.matrices:
        with named(part.name):
            each.append(totals(part.X, n_jobs, show_progress=show_progress))
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
