"""Type III hypotheses of the terms of a formula."""

from __future__ import annotations

import numpy as np
import pandas as pd
from formulaic.parser.types import Factor

from flashmm_sc._base.rank import aliased_columns
from flashmm_sc._design.encoding import Encoding
from flashmm_sc._design.fixed import FixedDesign
from flashmm_sc._design.formula import factor_names, parse_formula

_ENOUGH = 20_000
"""Cells from which hypotheses are got, more if some columns are zero in these."""


def hypotheses(design: FixedDesign, obs: pd.DataFrame) -> dict[str, np.ndarray]:
    """Hypothesis of each term but the intercept, as columns of L (p × r).

    A main effect is tested averaged over the levels of the factors that it interacts with, which is what its columns
    say when factors are coded to sum to zero: with that design X_s = X B, its coefficients are B⁻¹ β, and those of the
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
    pairs = zip(design.terms, coded.terms.values(), strict=True)
    return {name: B[columns].T for name, columns in pairs if name != "Intercept"}


def _sum_to_zero(design: FixedDesign) -> FixedDesign:
    """The design with every factor that is a column of obs coded to sum to zero; what it was learned from serves again."""
    encoding, spec = design.encoding, design.encoding.spec
    terms = [":".join(_coded(factor, design) for factor in term.factors) for term in design.formula]
    text = "~ " + " + ".join(terms if "1" in terms else ["0", *terms])
    formula = parse_formula(text, text)
    pairs = zip(formula, design.formula, strict=True)
    old = {new.expr: old.expr for a, b in pairs for new, old in zip(a.factors, b.factors, strict=True)}
    states = {expr: spec.encoder_state[old[expr]] for expr in old if old[expr] in spec.encoder_state}
    across = list(encoding.across)
    coded = Encoding.from_states(text, formula, spec.transform_state, states, across, encoding.example)
    return FixedDesign.of(coded, design.columns)


def _coded(factor: Factor, design: FixedDesign) -> str:
    if factor.expr in design.encoding.across:
        return str(factor.expr)
    names = factor_names(factor)
    if factor.expr in design.levels and len(names) == 1 and factor.expr in (names[0], f"C({names[0]})"):
        return f"C(`{names[0]}`, contr.sum)"
    return f"`{factor.expr}`" if factor.eval_method is Factor.EvalMethod.LOOKUP else str(factor.expr)
