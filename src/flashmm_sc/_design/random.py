"""The random-effects design: terms and obs become the levels of each variance component, and rows of indicators."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

from flashmm_sc._base.errors import listed
from flashmm_sc._design.columns import as_factor, complete_column, level_names
from flashmm_sc._design.random_terms import RandomTerm, parse_random, spelled, written
from flashmm_sc._design.slopes import check_centred, check_sizes, check_slope, check_varies, expanded, slope_values

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from flashmm_sc._design.random_terms import Random


@dataclass(frozen=True)
class RandomDesign:
    """Design of the random effects: what its columns mean, and how its rows are made.

    Parameters
    ----------
    components
        One a variance component, in the order given.
    """

    components: list[Component]

    @classmethod
    def of(cls, terms: Iterable[RandomTerm], obs: pd.DataFrame) -> RandomDesign:
        """Learn the levels of terms, whose slope variables were seen, from all cells; each column is looked at once."""
        components: list[Component] = []
        learned: dict[tuple[str, ...], Component] = {}
        seen: set[tuple[str, bool]] = set()
        for term in terms:
            if term.groups not in learned:
                learned[term.groups] = Component.of(term, obs)
            components.append(replace(learned[term.groups], term=term))
            if term.slope and (term.slope, bool(term.levels)) not in seen:
                check_slope(obs, term)
                seen.add((term.slope, bool(term.levels)))
        return cls(components)

    @property
    def names(self) -> list[str]:
        """Names of the components."""
        return [component.term.name for component in self.components]

    @property
    def levels(self) -> list[list[str]]:
        """Names of the levels of each component: ``A1``, or ``A1:CD4`` in an interaction."""
        return [component.levels for component in self.components]

    @property
    def columns(self) -> list[str]:
        """Columns of obs that the terms use."""
        used = [[*component.term.groups, component.term.slope] for component in self.components]
        return list(dict.fromkeys(name for names in used for name in names if name))

    @property
    def d(self) -> tuple[int, ...]:
        """Number of columns of each component."""
        return tuple(len(levels) for levels in self.levels)

    @property
    def slopes(self) -> list[bool]:
        """Whether each component is a slope."""
        return [component.term.slope is not None for component in self.components]

    @property
    def correlated(self) -> list[list[int]]:
        """Positions of the components of each correlated term."""
        terms: dict[str, list[int]] = {}
        for k, component in enumerate(self.components):
            if component.term.joint:
                terms.setdefault(component.term.joint, []).append(k)
        return list(terms.values())

    @property
    def words(self) -> list[str]:
        """The terms as they are written."""
        return spelled(component.term for component in self.components)

    @property
    def ranef_names(self) -> list[str]:
        """Names of the columns, `component[level]`."""
        return [f"{component.term.name}[{level}]" for component in self.components for level in component.levels]

    def rows(self, obs: pd.DataFrame) -> sp.csr_array:
        """Design rows of some cells: cells × levels of all components side by side, float64, canonical.

        1 where the cell has the level, or the value of the slope variable.
        """
        n, width = len(obs), len(self.components)
        starts = np.cumsum([0, *self.d])
        parts = zip(self.components, starts[:-1], strict=True)
        indices = np.column_stack([component.codes(obs) + start for component, start in parts])
        weights = np.column_stack([component.weights(obs) for component in self.components])
        index = np.dtype("int32" if max(n * width, starts[-1]) <= np.iinfo(np.int32).max else "int64")
        indptr = np.arange(0, n * width + 1, width, dtype=index)
        matrix = sp.csr_array((weights.ravel(), indices.ravel().astype(index), indptr), shape=(n, starts[-1]))
        matrix.eliminate_zeros()
        return matrix


def random_design(random: Random, obs: pd.DataFrame) -> RandomDesign:
    """Learn the design of the random effects from all cells.

    Parameters
    ----------
    random
        Terms, see `parse_random`.
    obs
        One row per cell. Grouping columns of any type are factors; slope variables are numbers, booleans or factors.

    Raises
    ------
    KeyError
        If a term uses a column that obs lacks.
    ValueError
        If a term can't be read, or its variance can't be estimated from these cells.
    """
    terms = expanded(parse_random(random, obs.columns), obs)
    check_sizes(terms, obs)
    design = RandomDesign.of(terms, obs)
    intercepts = {term.groups for term in terms if not term.slope}
    for component in design.components:
        component.check_estimable(len(obs))
        if component.term.slope and not component.term.levels:
            check_varies(obs, component.term, beside=component.term.groups in intercepts)
            if component.term.groups in intercepts:
                check_centred(obs, component.term)
    _check_distinct(design.components, obs)
    for group in design.correlated:
        _check_correlated([design.components[k] for k in group], obs)
    return design


@dataclass(frozen=True)
class Component:
    """The levels of one variance component.

    Parameters
    ----------
    term
        The term.
    factors
        Levels of each of its crossed factors.
    crossed
        Combinations there are of the factors before with each further one: sorted codes, that of the factors before times
        the levels of the further one, plus its code.
    levels
        Names of the levels.
    """

    term: RandomTerm
    factors: list[pd.Index]
    crossed: list[NDArray[np.int64]]
    levels: list[str]

    @classmethod
    def of(cls, term: RandomTerm, obs: pd.DataFrame, argument: str = "") -> Component:
        """Learn the levels from all cells; messages name the argument whose term it is, if it is no random term."""
        where = argument or f"random term {term.name!r}"
        codes, categories = _factor(obs, term.groups[0], where, random=not argument)
        factors, crossed, levels = [categories], [], [str(level) for level in categories]
        if len(term.groups) > 1:
            levels = [_quoted(level) for level in levels]
        for name in term.groups[1:]:
            more, others = _factor(obs, name, where, random=not argument)
            cells, codes = np.unique(codes * len(others) + more, return_inverse=True)
            pairs = zip(*np.divmod(cells, len(others)), strict=True)
            levels = [f"{levels[i]}:{_quoted(str(others[j]))}" for i, j in pairs]
            factors.append(others)
            crossed.append(cells)
        return cls(term, factors, crossed, levels)

    def check_estimable(self, n: int) -> None:
        """Refuse a single level, and one level for each of n cells."""
        if len(self.levels) < 2 or len(self.levels) == n:
            single = f"one level only, {listed(self.levels)}"
            what = "a level of its own for every cell" if len(self.levels) > 1 else single
            msg = f"The random term {self.term.name!r} has {what}: no variance can be estimated from that. Leave the term out."
            raise ValueError(msg)

    def codes(self, obs: pd.DataFrame) -> NDArray[np.int64]:
        """Level of each cell."""
        each = [_codes(obs[name], factor) for name, factor in zip(self.term.groups, self.factors, strict=True)]
        codes = each[0]
        for more, factor, cells in zip(each[1:], self.factors[1:], self.crossed, strict=True):
            codes = np.searchsorted(cells, codes * len(factor) + more)
        return codes

    def weights(self, obs: pd.DataFrame) -> NDArray[np.float64]:
        """Entry of each cell in the column of its level."""
        return slope_values(obs, self.term)


def _codes(values: pd.Series, factor: pd.Index) -> NDArray[np.int64]:
    return factor.get_indexer(pd.Index(values)).astype(np.int64)


def _check_distinct(components: list[Component], obs: pd.DataFrame) -> None:
    """Refuse two components with the same columns, whatever their names."""
    if len(components) == 1:
        return
    columns = [(component.codes(obs), component.weights(obs)) for component in components]
    for (a, (codes, weights)), (b, (others, more)) in combinations(zip(components, columns, strict=True), 2):
        m, one, other = len(a.levels), a.term, b.term
        if one.level != other.level and (one.joint, one.slope) == (other.joint, other.slope):  # levels of one factor
            continue
        alike = m == len(b.levels) and np.array_equal(weights, more)
        if alike and np.unique(codes * m + others).size == m:
            msg = (
                f"The random terms {one.name!r} and {other.name!r} group the cells in the same way: "
                "their variances can't be told apart. Leave one of them out."
            )
            raise ValueError(msg)


def _check_correlated(term: list[Component], obs: pd.DataFrame) -> None:
    """Refuse slopes that are constant within all levels, and factors of which two levels are never together in one."""
    codes, size, first = term[0].codes(obs), len(term[0].levels), term[0].term
    variables = {component.term.slope: component.term for component in term}
    for slope, one in variables.items():
        # A number without an intercept may be constant within levels: their variance grows with its square.
        if slope is None or not (one.level or first.slope is None):
            continue
        factor = as_factor(obs[slope])
        cells = np.unique(codes * len(factor.categories) + factor.codes)
        if cells.size == size:
            kept = dict.fromkeys([None, *(other for other in variables if other != slope)])
            what = "differences between these levels" if first.slope else "intercepts"
            msg = (
                f"obs[{slope!r}], the slope variable of random term {one.joint!r}, is the same in all cells of "
                f"each level of {one.grouping!r}: its effects can't be told from {what}. Leave it out: "
                f"{written(kept, one.groups)!r}."
            )
            raise ValueError(msg)
        if one.level:
            together = np.zeros((size, len(factor.categories)))
            together[np.divmod(cells, len(factor.categories))] = 1
            _check_together(together.T @ together, factor.categories, one)


def _check_together(together: NDArray[np.float64], names: pd.Index, term: RandomTerm) -> None:
    """Refuse two levels of a factor that no level of the term has both of; `together` counts those that do."""
    for i, j in np.argwhere(together == 0)[:1]:
        msg = (
            f"No level of {term.grouping!r} has cells of both {str(names[i])!r} and {str(names[j])!r} of obs[{term.slope!r}], so "
            f"the covariance of their effects in {term.joint!r} can't be estimated. Use the interaction, "
            f"'{term.grouping} + {term.interaction}'."
        )
        raise ValueError(msg)


def _factor(obs: pd.DataFrame, name: str, where: str, *, random: bool) -> tuple[NDArray[np.int64], pd.Index]:
    """Codes and levels of a grouping column."""
    values = complete_column(obs, name, where)
    factor = as_factor(values)
    if pd.api.types.is_float_dtype(values.dtype) and pd.api.types.is_float_dtype(factor.categories.dtype):
        slope = f" A slope of it reads '(0 + {name}|sam)'." if random else ""
        msg = (
            f"obs[{name!r}], which groups cells in {where}, holds numbers that are not whole.{slope} If it does name groups, "
            "make it a category with .astype('category')."
        )
        raise ValueError(msg)
    level_names(factor, name, where)
    return factor.codes.astype(np.int64), factor.categories


def _quoted(level: str) -> str:
    """A level as part of an interaction, in backticks where a colon would make 'a:b:c' mean two things."""
    return f"`{level.replace('`', '``')}`" if ":" in level or "`" in level else level
