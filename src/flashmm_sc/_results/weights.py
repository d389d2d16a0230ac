"""Precision weights of the cells of a study, from an argument or a column of obs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flashmm_sc._results.per_cell import per_cell
from flashmm_sc._stats.weights import Weights

if TYPE_CHECKING:
    from flashmm_sc._results.study import Study


def with_weights(study: Study) -> Study:
    """The study whose cells have weights, if its values are to have any.

    Raises
    ------
    ValueError
        For weights that aren't one positive number a cell.
    """
    if study.fitted.weights is None:
        return study
    each = per_cell(study, "weights", study.fitted.weights)
    parts = [replace(part, precision=each[part.start : part.start + part.X.shape[0]]) for part in study.matrices]
    return replace(study, matrices=parts, weights=Weights.of(each))
