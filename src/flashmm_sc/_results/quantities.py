"""What tables show of a result, by the names of their columns: genes × coefficients arrays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from flashmm_sc._base.errors import did_you_mean, warn
from flashmm_sc._results.deviates import deviates

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from flashmm_sc._results.result import Result

_STORED = {
    "coef": "coef",
    "log_fc": "coef",
    "log2_ratio": "log2_ratio",
    "se": "se",
    "ci_low": "ci_low",
    "ci_high": "ci_high",
    "t_value": "t",
    "z": "t",
    "sd": "sd",
    "lfsr": "lfsr",
    "s_value": "svalue",
    "f_value": "F",
    "df_num": "df_num",
    "df": "df",
    "p_value": "pval",
    "adj_p_value": "pval_adj",
}
"""Where each lies in a result, or what it is made from."""


def quantities(result: Result) -> list[str]:
    """Those that the result has, in the order of tables."""
    return [name for name, suffix in _STORED.items() if suffix in result.arrays]


def quantity(result: Result, name: str, columns: Sequence[int]) -> np.ndarray:
    """One of them, of these columns.

    Raises
    ------
    ValueError
        If the result doesn't have it.
    """
    if name not in quantities(result):
        msg = f"The result {result.key!r}, {result.what}, has no {name!r}. {did_you_mean(name, quantities(result))}"
        raise ValueError(msg)
    if name == "z":
        return deviates(result)[:, columns]
    values = result[_STORED[name]][:, columns]
    if name != "log_fc":
        return values
    factor = log2_factor(result)
    if math.isnan(factor):
        msg = (
            "log_fc is NaN, since the logarithm that the values are on isn't known: use log_base= (math.e, 2, ...) for values "
            "logged elsewhere, transform= in tl.lmm_de, or sc.pp.log1p, which notes it in adata.uns['log1p']."
        )
        warn(msg)
    return values * factor


def log2_factor(result: Result) -> float:
    """What makes log2 fold changes of coefficients, NaN where the logarithm of the fitted values isn't known."""
    return math.log(float(result.params.get("log_base", math.nan))) / math.log(2)
