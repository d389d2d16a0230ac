"""How small p-values are, those included that are too small for a floating-point number."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import log_ndtr

from flashmm_sc._inference.tails import SMALL

if TYPE_CHECKING:
    import pandas as pd

    from flashmm_sc._results.result import Result


def evidence(table: pd.DataFrame, result: Result) -> np.ndarray:
    """-log10 of the p-values of a table; of tiny ones by the deviates z, which have the same tails.

    Infinite where p is zero and there is no deviate, as in F tests.
    """
    p = table["p_value"].to_numpy()
    with np.errstate(divide="ignore"):
        log_p = np.log10(p)
    if "z" in table:
        far = p < SMALL
        z = table["z"].to_numpy()[far]
        alternative = result.params.get("alternative", "two-sided")
        tail = {"two-sided": np.log(2) + log_ndtr(-np.abs(z)), "greater": log_ndtr(-z), "less": log_ndtr(z)}
        log_p[far] = tail[alternative] / math.log(10)
    return -log_p
