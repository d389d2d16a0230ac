"""Slope variables of random terms: numbers, and factors with an effect for each of their levels."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from flashmm_sc._base.errors import listed
from flashmm_sc._design.columns import as_factor, complete_column

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flashmm_sc._design.random_terms import RandomTerm


def expanded(terms: Iterable[RandomTerm], obs: pd.DataFrame) -> list[RandomTerm]:
    """Terms with a component for each level of the factors among slope variables, coded as in R.

    Beside an intercept, or another factor of the term, these are the differences from the first level. A term with one
    component is correlated with nothing.

    Raises
    ------
    ValueError
        For factors with one level, and for independent effects of a factor.
    """
    found: list[RandomTerm] = []
    for term in terms:
        is_factor = term.slope is not None and not term.levels and _is_factor(obs[term.slope])
        found += _levels(term, obs, found) if is_factor else [term]
    size = Counter(term.joint for term in found)
    return [replace(term, joint=None) if size[term.joint] == 1 else term for term in found]


def _is_factor(values: pd.Series) -> bool:
    return isinstance(values.dtype, pd.CategoricalDtype) or not pd.api.types.is_numeric_dtype(values.dtype)


def _levels(term: RandomTerm, obs: pd.DataFrame, before: Sequence[RandomTerm]) -> list[RandomTerm]:
    """The components of a factor; `before` are those before, of its own term and of others."""
    name = str(term.slope)
    where = f"obs[{name!r}], the slope variable of random term {term.name!r},"
    levels = [str(level) for level in as_factor(complete_column(obs, name, f"random term {term.name!r}")).categories]
    if term.joint is None:
        group = ":".join(term.groups)
        msg = (
            f"{where} is a factor ({obs[name].dtype}), and independent effects of its levels depend on which is the first. Write "
            f"'(1 + {name}|{group})' for correlated ones, or an interaction, '{group}:{name}'."
        )
        raise ValueError(msg)
    if len(levels) < 2:
        msg = f"{where} has one level only, {listed(levels)}; that is a random intercept, {term.intercept!r}."
        raise ValueError(msg)
    own = [other for other in before if other.joint == term.joint]
    coded = any(other.slope is None or other.level for other in own)
    label = term.name.removeprefix(f"{name}|")
    return [
        replace(term, name=f"{name}[{'T.' * coded}{level}]|{label}", level=level, levels=tuple(levels))
        for level in levels[coded:]
    ]


def slope_values(obs: pd.DataFrame, term: RandomTerm) -> np.ndarray:
    """The values of a term's slope variable: numbers, or 1 where a factor has the term's level; 1 for an intercept."""
    if term.slope is None:
        return np.ones(len(obs))
    values = obs[term.slope]
    if term.level is None:
        return values.to_numpy(dtype=np.float64)
    factor = as_factor(values)
    its = np.array([str(level) == term.level for level in factor.categories])
    return its[factor.codes].astype(np.float64)


def check_slope(obs: pd.DataFrame, term: RandomTerm, where: str) -> None:
    """Refuse a slope variable that is not numeric, or does not vary, and levels that a design doesn't know."""
    name = str(term.slope)
    values = complete_column(obs, name, where)
    reason = ""
    if term.levels:
        unknown = sorted(set(map(str, as_factor(values).categories)) - set(term.levels))
        if unknown:
            reason = f"has levels that the design doesn't know: {listed(unknown)}; make the design from cells with all levels"
    elif _is_factor(values):
        reason = f"is not numeric but {values.dtype}, of which the design has numbers"
    else:
        slope = values.to_numpy(dtype=np.float64)
        if not np.isfinite(slope).all():
            reason = f"is infinite in {np.count_nonzero(~np.isfinite(slope))} cells"
        elif np.ptp(slope) == 0:
            reason = f"is {slope[0]:g} in every cell"
            if slope[0]:
                reason += f"; that is a random intercept, {term.intercept!r}"
    if reason:
        msg = f"obs[{name!r}], the slope variable of {where}, {reason}."
        raise ValueError(msg)
