"""Precision weights of cells, as lm's and lmer's: Var(e_i) = s_0 / w_i."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights of n cells.

    Attributes
    ----------
    each
        One a cell; of cells that are known by the sums of their strata only, the mean of their stratum.
    logs
        Their logarithms; of such cells the mean logarithm.
    """

    each: np.ndarray
    logs: np.ndarray

    @classmethod
    def of(cls, each: np.ndarray) -> Weights:
        """Weights that are known one by one."""
        return cls(each, np.log(each))

    @classmethod
    def of_strata(cls, n: np.ndarray, sums: np.ndarray, log_sums: np.ndarray) -> Weights:
        """From the number of cells of each stratum, and the sums of their weights and of the logarithms of these."""
        share = lambda total: np.repeat(total / np.maximum(n, 1), n)
        return cls(share(sums), share(log_sums))

    def at(self, cells: np.ndarray | slice) -> Weights:
        """Those of some cells."""
        return Weights(self.each[cells], self.logs[cells])

    @property
    def sums(self) -> dict[str, Any]:
        """What the fit needs of them beside weighted sums, in the words of `SummaryStats`."""
        return {"weight_sum": float(self.each.sum()), "log_weight_sum": float(self.logs.sum())}

    def by_stratum(self, codes: np.ndarray, n_strata: int) -> dict[str, Any]:
        """The same of each stratum, of which these are the numbers of the cells, -1 where a cell is in none."""
        own = codes >= 0
        add = lambda values: np.bincount(codes[own], values[own], n_strata)
        return {"weight_sum": add(self.each), "log_weight_sum": add(self.logs)}
