"""t tests as normal deviates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri_exp

from flashmm_sc._inference.tails import SMALL, log_upper_tail, normal_deviate
from flashmm_sc._results.contrasts import effect_of

if TYPE_CHECKING:
    from flashmm_sc._results.result import Result


def deviates(result: Result) -> np.ndarray:
    """The normal deviate with the p-value of each t test and the sign of its t: genes × columns."""
    t, df, params = result["t"], result["df"], result.params
    effect = effect_of(float(params.get("lfc", 0.0)), float(params["log_base"]))
    if effect == 0 or params["alternative"] != "two-sided":
        return normal_deviate(t, df)
    with np.errstate(divide="ignore", invalid="ignore"):  # p may be 0; then |effect| > bound has two far tails
        log_p, farther = np.log(result["pval"]), np.abs(t) + 2 * effect / result["se"]
    far = result["pval"] < SMALL
    log_p[far] = np.logaddexp(log_upper_tail(np.abs(t[far]), df[far]), log_upper_tail(farther[far], df[far]))
    return np.copysign(-ndtri_exp(log_p - np.log(2)), result["coef"])
