"""Type III hypotheses of the terms of a formula."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.rank import aliased_columns
from flashmm_sc._design.fixed import FixedDesign

if TYPE_CHECKING:
    import pandas as pd

_ENOUGH = 20_000
"""Cells from which hypotheses are got, more if some columns are zero in these."""


def hypotheses(design: FixedDesign, obs: pd.DataFrame) -> dict[str, np.ndarray]:
    """Hypothesis of each term but the intercept, as columns of L (p × r).

    A main effect is tested averaged over the levels of the factors that it interacts with, which is what its columns
    say when factors are coded to sum to zero: with that design X_s, X = X_s B, its coefficients are B β, and those of the
    term are to be zero. B is the same for the cells of any study, but is got from these, by regression.
    """
    coded = _sum_to_zero(design)
    table = design.table(obs)
    p, step = len(design.names), -(-len(obs) // _ENOUGH)
    left, right = np.zeros((p, p)), np.zeros((p, p))
    for first in range(step):
        some = table.iloc[first::step]
        X, Xs = design.rows(some), coded.rows(some)
        left += Xs.T @ Xs
        right += Xs.T @ X
        if not aliased_columns(left):
            break
    B = np.linalg.solve(left, right)
    B[np.abs(B) < 1e-9 * np.abs(B).max(axis=1, keepdims=True)] = 0.0
    pairs = zip(design.terms, coded.encoding.terms, strict=True)
    return {name: B[columns].T for name, (term, columns) in pairs if term.degree}


def _sum_to_zero(design: FixedDesign) -> FixedDesign:
    """The design with every factor that is a column of obs coded to sum to zero; what it was learned from serves again."""
    plain = [f.expr for f in design.encoding.factors if f.expr in design.levels and (f.code is None or f.code.plain)]
    return FixedDesign.of(design.encoding.summing_to_zero(plain))
