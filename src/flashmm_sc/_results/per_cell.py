"""Numbers that cells have, one each: a column of obs, or as they are given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from flashmm_sc._design.columns import complete_column, positive_numbers
from flashmm_sc._results.chosen import of_chosen, of_others

if TYPE_CHECKING:
    import numpy as np

    from flashmm_sc._results.study import Study

KINDS = "a column of obs, or one number a cell"


def per_cell(study: Study, argument: str, given: Any, kinds: str = KINDS) -> np.ndarray:
    """Positive numbers of all cells of a study, of an argument that names a column of obs or holds them.

    Raises
    ------
    ValueError
        When they aren't one positive number a cell, in the order of the cells; `kinds` says what may be given.
    """
    words = argument
    if isinstance(given, str):
        words = f"{argument}={given!r}"
        values = complete_column(study.obs, given, words)
    else:
        values = given = of_chosen([one for one, _ in study.sources], given, argument)
    labels = getattr(given, "index", None)
    if isinstance(labels, pd.Index) and of_others(labels, study.obs.index):
        msg = (
            f"{argument} are labelled by other cells than adata, or in another order; reindex them by adata.obs_names."
        )
        raise ValueError(msg)
    return positive_numbers(values, len(study.obs), words, kinds, lambda i: study.describe(i, -1))
