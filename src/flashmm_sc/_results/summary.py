"""What was fitted and how much was found, in a table."""

from __future__ import annotations

from textwrap import indent
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from flashmm_sc._base.log import info, informs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashmm_sc._results.result import Result


ALPHA = 0.05


def summarised(result: Result, alpha: float = ALPHA) -> pd.DataFrame:
    """A row for each column of a result that is a finding, see `flashmm_sc.get.summary`."""
    q = result["svalue" if result.what == "shrinkage" else "pval_adj"]
    hit = np.nan_to_num(q, nan=1.0) < alpha
    columns = np.flatnonzero(result.findings)
    place = [result.status_columns[j] for j in columns]
    table = {"contrast": [result.names("column_names")[j] for j in columns]}
    if result.n_groups:
        table = {"group": [result.names("column_groups")[j] for j in columns]} | table
    frame = pd.DataFrame(table, columns=list(table))
    if result.what == "fit":
        frame["cells"] = [int(result.models[i]["n"]) for i in place]
    frame["tested"] = np.isfinite(q[:, columns]).sum(axis=0)
    frame["found"] = hit[:, columns].sum(axis=0)
    if "coef" in result.arrays:
        sign = np.sign(result["coef"][:, columns])
        frame["up"], frame["down"] = ((hit[:, columns] & (sign == s)).sum(axis=0) for s in (1, -1))
    names, codes = result.names("status_names"), result["status"].astype(int)
    for code in np.unique(codes):
        frame[names[code]] = (codes[:, place] == code).sum(axis=0)
    return frame


def log_summary(results: Sequence[Result]) -> None:
    """Tell at info level what results hold."""
    for result in results:
        if informs() and result.findings.any():
            found = f"{result.key}, at a false discovery rate of {ALPHA:g}:\n{summarised(result).to_string()}"
            info(indent(found, "    "))
