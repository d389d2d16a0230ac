"""Slope variables of random terms: numbers, and factors with an effect for each of their levels."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from flashmm_sc._base.errors import listed, too_few_levels
from flashmm_sc._design.columns import LARGEST, as_factor, complete_column, level_names
from flashmm_sc._design.random_terms import written

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flashmm_sc._design.random_terms import RandomTerm


_FAR = 300
"""Standard deviations from zero at which correlated slopes are refused."""


def expanded(terms: Iterable[RandomTerm], obs: pd.DataFrame) -> list[RandomTerm]:
    """Terms with a component for each level of the factors among slope variables, coded as in R.

    Beside an intercept, or another factor of the term, correlated ones are the differences from the first level; independent
    effects are those of all levels. A term with one component is correlated with nothing. Terms of another design stay what
    they are there.

    Raises
    ------
    ValueError
        For factors with one level or levels that read the same, and for dates.
    """
    found: list[RandomTerm] = []
    for term in terms:
        if (
            term.levels is None
            and term.slope
            and _is_factor(complete_column(obs, term.slope, f"random term {term.name!r}"))
        ):
            found += _levels(term, obs, found)
        else:
            found.append(replace(term, levels=term.levels or ()))
    size = Counter(term.joint for term in found)
    return [replace(term, joint=None) if term.joint and size[term.joint] == 1 else term for term in found]


def _is_factor(values: pd.Series) -> bool:
    return isinstance(values.dtype, pd.CategoricalDtype) or not pd.api.types.is_numeric_dtype(values.dtype)


def _levels(term: RandomTerm, obs: pd.DataFrame, before: Sequence[RandomTerm]) -> list[RandomTerm]:
    """The components of a factor; `before` are those before, of its own term and of others."""
    name, its = str(term.slope), f"random term {term.name!r}"
    values = complete_column(obs, name, its)
    own = [other for other in before if term.joint and other.joint == term.joint]
    reason = ""
    if values.dtype.kind in "mM":
        reason = f"is of dates ({values.dtype}); use a number, such as days since the first"
    levels = [] if reason else level_names(as_factor(values), name, its)
    if len(levels) == 1:
        reason = f"has one level only, {listed(levels)}{_instead(term, any(other.slope is None for other in own))}"
    if reason:
        raise ValueError(_refused(term, its, reason))
    coded = any(other.slope is None or other.level for other in own)
    label = term.name.removeprefix(f"{name}|")
    return [
        replace(term, name=f"{name}[{'T.' * coded}{level}]|{label}", level=level, levels=tuple(levels))
        for level in levels[coded:]
    ]


def check_sizes(terms: Sequence[RandomTerm], obs: pd.DataFrame) -> None:
    """Refuse correlated terms with no more levels than effects, before each effect takes a component.

    Terms of a single level are left to `Component.check_estimable`.
    """
    for joint in dict.fromkeys(term.joint for term in terms if term.joint):
        own = [term for term in terms if term.joint == joint]
        groups, factors = own[0].groups, {str(term.slope): term for term in own if term.levels}
        n = len(obs[list(groups)].drop_duplicates())
        if 1 < n <= len(own):
            instead = f"make them independent, {written([term.slope for term in own], groups, '||')!r}"
            for term in list(factors.values())[:1]:
                instead = f"use an interaction for a factor, '{term.grouping} + {term.interaction}'"
            texts = [name for name, term in factors.items() if len(term.levels or ()) >= n and _is_text(obs[name])]
            if texts:
                instead += f". If obs[{texts[0]!r}] holds numbers, use .astype(float)"
            raise ValueError(too_few_levels(repr(joint), len(own), n, instead))


def _is_text(values: pd.Series) -> bool:
    return values.dtype == object or isinstance(values.dtype, pd.StringDtype)


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


def check_slope(obs: pd.DataFrame, term: RandomTerm) -> None:
    """Refuse a slope variable that is not numeric or infinite, and levels that a design doesn't know."""
    name, its = str(term.slope), f"random term {term.name!r}"
    values = complete_column(obs, name, its)
    reason = ""
    if term.levels:
        unknown = sorted(set(map(str, as_factor(values).categories)) - set(term.levels))
        if unknown:
            reason = f"has levels that the design doesn't know: {listed(unknown)}; make the design from cells with all levels"
    elif _is_factor(values):
        reason = f"is not numeric but {values.dtype}, of which the design has numbers"
    elif large := int(np.count_nonzero(np.abs(values.to_numpy(dtype=np.float64)) >= LARGEST)):
        finite = np.isfinite(values.to_numpy(dtype=np.float64)).all()
        reason = f"is {f'beyond {LARGEST:g}' if finite else 'infinite'} in {large} cells"
    if reason:
        raise ValueError(_refused(term, its, reason))


def check_varies(obs: pd.DataFrame, term: RandomTerm, *, beside: bool) -> None:
    """Refuse a number that is the same in every cell; `beside` tells whether there is an intercept of the same groups."""
    slope = slope_values(obs, term)
    if np.ptp(slope) == 0:
        reason = f"is {slope[0]:g} in every cell{_instead(term, beside or slope[0] == 0)}"
        raise ValueError(_refused(term, f"random term {term.name!r}", reason))


def check_centred(obs: pd.DataFrame, term: RandomTerm) -> None:
    """Refuse a number so far from zero that sums can't tell its slopes from intercepts that are correlated with them."""
    ratio, where, better = off_centre(obs, term)
    if term.joint and ratio > _FAR:
        reason = f"is {where}, where its slopes can't be told from intercepts. {better}. The model is the same then"
        raise ValueError(_refused(term, f"random term {term.joint!r}", reason))


def off_centre(obs: pd.DataFrame, term: RandomTerm) -> tuple[float, str, str]:
    """How many standard deviations a number lies from zero, where that is, and what to do."""
    slope = slope_values(obs, term)
    mean, sd = float(slope.mean()), float(slope.std())
    where = f"far from zero in all cells (mean {mean:.6g}, standard deviation {sd:.3g})"
    better = f"Centre it: adata.obs[{term.slope!r}] -= adata.obs[{term.slope!r}].mean()"
    return abs(mean) / sd, where, better


def _instead(term: RandomTerm, needless: bool) -> str:
    return "; leave it out" if needless else f"; that is a random intercept, {term.intercept!r}"


def _refused(term: RandomTerm, its: str, reason: str) -> str:
    return f"obs[{term.slope!r}], the slope variable of {its}, {reason}."
