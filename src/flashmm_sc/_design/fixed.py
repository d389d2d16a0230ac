"""The fixed-effects design: a formula and obs become labelled columns, whose rows are made for some cells at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flashmm_sc._base.errors import listed
from flashmm_sc._base.rank import dependencies, describe_dependency
from flashmm_sc._design.across import over_several_cells
from flashmm_sc._design.columns import LARGEST, as_factor, complete_column, repeated, without_unused
from flashmm_sc._design.encoding import Encoding
from flashmm_sc._design.formula import factor_names, parse_formula, used_columns, words
from flashmm_sc._design.formula_hints import centred_spline

if TYPE_CHECKING:
    from collections.abc import Iterable

    import scipy.sparse as sp
    from formulaic import SimpleFormula
    from formulaic.parser.types import Factor
    from numpy.typing import NDArray

MOST = 8
"""Aliased columns, and empty cells behind them, that an error message lists at most."""


@dataclass(frozen=True)
class FixedDesign:
    """Design of the fixed effects: what its columns mean, and how its rows are made.

    Parameters
    ----------
    names
        Names of the columns as formulaic gives them: ``cls[1]``, ``cls[1]:trt[T.B]``, ``log(libsize)``.
    terms
        Columns of each term of the formula, in order.
    levels
        Levels of each factor in the order used; the reference, which has no column of its own, first.
    columns
        Columns of obs that the formula uses.
    encoding
        How cells are encoded.
    """

    names: list[str]
    terms: dict[str, list[int]]
    levels: dict[str, list[str]]
    columns: list[str]
    encoding: Encoding

    @classmethod
    def of(cls, encoding: Encoding) -> FixedDesign:
        """Label the columns of an encoding."""
        terms = {str(term) if term.degree else "Intercept": found for term, found in encoding.terms}
        return cls(encoding.names, terms, encoding.levels, encoding.columns, encoding)

    @property
    def formula(self) -> SimpleFormula:
        """The formula as formulaic reads it."""
        return self.encoding.formula

    def used(self, obs: pd.DataFrame) -> pd.DataFrame:
        """The columns of obs that the formula uses, checked for missing values, in dtypes that formulaic knows."""
        return _used(obs, self.columns, self.encoding.where)

    @property
    def constant(self) -> np.ndarray:
        """The coefficients with X β = 1 in every cell: 1 for the intercept, or for the mean of each level without one."""
        out = np.zeros(len(self.names))
        for term, columns in self.encoding.terms:
            factors = term.factors if term.degree else ()
            if len(columns) == math.prod(len(self.levels.get(factor.expr, ())) for factor in factors):
                out[columns] = 1
        return out

    def table(self, obs: pd.DataFrame) -> pd.DataFrame:
        """What `rows` needs of all cells of obs."""
        return self.encoding.table(self.used(obs))

    def without(self, factor: str) -> str:
        """The formula without a factor, and with an intercept, as it is written."""
        quoted = lambda name: f"`{name}`" if name in self.columns and not name.isidentifier() else name
        terms = [[quoted(f.expr) for f in term.factors if f.expr != factor] for term in self.formula if term.degree]
        return f"~ {' + '.join(dict.fromkeys(':'.join(term) for term in terms if term))}"

    def over_cells(self, obs: pd.DataFrame) -> list[str]:
        """Factors whose value in a cell depends on other cells of obs."""
        computed = [factor for factor in self.encoding.factors if factor.code is not None]
        return over_several_cells(computed, self.used(obs))

    def rows(self, table: pd.DataFrame) -> sp.csr_array:
        """Design rows of some cells of the table: cells × coefficients, float64, canonical.

        Raises
        ------
        ValueError
            For values that are not finite, such as log(0); names the term.
        """
        matrix = self.encoding.rows(table)
        bad = ~(np.abs(matrix.data) < LARGEST)
        if bad.any():
            column = matrix.indices[bad][0]
            term = next(term for term, columns in self.terms.items() if column in columns)
            its = matrix.data[bad & (matrix.indices == column)]
            what = f"beyond {LARGEST:g}, whose squares don't add up," if np.isfinite(its).all() else "NaN or infinite"
            msg = f"The term {term!r} of {self.encoding.where} is {what} in {len(its)} of {len(table)} cells."
            raise ValueError(msg)
        return matrix


def fixed_design(formula: str, obs: pd.DataFrame) -> FixedDesign:
    """Learn the design of the fixed effects from all cells.

    A formula is code, as in R: don't take one from a source you wouldn't run code from.

    Parameters
    ----------
    formula
        A one-sided formula in formulaic's language, e.g. ``~ 0 + log(libsize) + cls + cls:trt``.
    obs
        One row per cell. Strings and categories are factors, numbers and booleans are covariates.

    Raises
    ------
    KeyError
        If the formula uses a column that obs lacks.
    ValueError
        If the formula can't be read or evaluated.
    """
    where = words(formula)
    parsed = parse_formula(formula, where)
    columns = used_columns(parsed, obs.columns, where)
    design = FixedDesign.of(Encoding.of(formula, parsed, columns, _used(obs, columns, where)))
    _check_names(design, where)
    return design


def check_full_rank(design: FixedDesign, XX: np.ndarray, obs: pd.DataFrame) -> None:
    """Refuse a design with aliased columns; name them and the empty cells of the factors behind them.

    Aliased is, as in R, a column that is a combination of the columns before it; X'X tells.
    """
    found = dependencies(XX)
    if not found:
        return
    names = design.names
    lines = [
        f"The fixed design is rank deficient: of its {len(names)} columns, {len(found)} "
        f"{'is a combination' if len(found) == 1 else 'are combinations'} of the columns before."
    ]
    shown = list(found.items())[:MOST]
    lines += [describe_dependency(names[j], weights, names) for j, weights in shown]
    if len(found) > MOST:
        lines.append(f"{len(found) - MOST} more: {listed(names[j] for j in list(found)[MOST:])}.")
    causes, splines = _causes(design, found, obs), _full_splines(design, found)
    lines += splines
    if causes:
        lines += [*causes, "Leave out the term, or merge or leave out the levels concerned."]
    elif not splines:
        lines.append("Leave these columns out; if numbers only seem equal because they hardly vary, centre them.")
    raise ValueError("\n".join(lines))


def _used(obs: pd.DataFrame, columns: list[str], where: str) -> pd.DataFrame:
    """Columns of obs, complete and in dtypes that formulaic knows."""
    plain = {name: _plain(complete_column(obs, name, where)) for name in columns}
    return pd.DataFrame(plain, index=range(len(obs)), copy=False)


def _plain(values: pd.Series) -> Any:
    """Values in a dtype formulaic knows: used categories, bool, int64, float64 or object."""
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return without_unused(values.array)
    if pd.api.types.is_bool_dtype(dtype):
        return values.astype(bool).array
    if pd.api.types.is_integer_dtype(dtype):
        return values.astype(np.int64).array  # products of small integers overflow
    if pd.api.types.is_float_dtype(dtype):
        return values.astype(np.float64).array
    return values.array if isinstance(dtype, np.dtype) else values.astype(object).array


def _check_names(design: FixedDesign, where: str) -> None:
    """Refuse levels or columns that read the same, a term without columns, and no columns at all."""
    if not design.names:
        msg = f"{where} gives a design without columns; '~ 1' is an intercept alone."
        raise ValueError(msg)
    named = {f"levels of {factor!r}": levels for factor, levels in design.levels.items()}
    for what, names in {**named, "columns of the design": design.names}.items():
        if twice := repeated(names):
            msg = f"Several {what} in {where} have the same name, {listed(twice)}. Rename or merge them."
            raise ValueError(msg)
    for term, columns in design.encoding.terms:
        if not columns:
            single = [f.expr for f in term.factors if len(design.levels.get(f.expr, ())) == 1]
            msg = f"The term '{term}' of {where} has no columns: {listed(single)} has a single level. Leave it out."
            raise ValueError(msg)


def _causes(design: FixedDesign, found: dict[int, NDArray[np.float64]], obs: pd.DataFrame) -> list[str]:
    """Sentences on what in obs makes columns aliased: empty cells of their term's factors, and nested factors."""
    factors = {term: [f for f in term.factors if f.expr in design.levels] for term in design.formula}
    by_column = [term for term, columns in design.encoding.terms for _ in columns]
    empty: dict[frozenset[str], list[str]] = {}
    nested: dict[str, None] = {}
    for j, weights in list(found.items())[:MOST]:
        crossed = _obs_columns(factors[by_column[j]], obs)
        if not any(empty[part] for part in empty if part <= set(crossed)):
            empty[frozenset(crossed)] = _empty_cells(obs, crossed)
        near = [by_column[j], *(by_column[i] for i in np.flatnonzero(weights))]
        inner = _obs_columns([f for term in near for f in factors[term]], obs)
        outer = _obs_columns([f for term in near for f in term.factors], obs)
        nested.update(dict.fromkeys(_nested(obs, inner, outer)))
    return [*nested, *(sentence for sentences in empty.values() for sentence in sentences)]


def _full_splines(design: FixedDesign, found: dict[int, NDArray[np.float64]]) -> list[str]:
    """Say of splines whose columns add up to one, among the aliased columns, what to write instead."""
    used = {i for j, weights in found.items() for i in (j, *np.flatnonzero(weights))}
    factors = {f.expr: None for term, columns in design.encoding.terms if used & set(columns) for f in term.factors}
    return [
        f"The columns of {expr} add up to one in every cell, as do an intercept and the levels of a factor. Write "
        f"{centred}, whose columns leave the constant out; or let it stand alone, '~ 0 + {expr}'."
        for expr in factors
        if (centred := centred_spline(expr))
    ]


def _obs_columns(factors: Iterable[Factor], obs: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(name for factor in factors for name in factor_names(factor, obs.columns)))


def _empty_cells(obs: pd.DataFrame, columns: list[str]) -> list[str]:
    """Say which combinations of levels no cell has."""
    crossed = [as_factor(obs[column]) for column in columns]
    shape = [len(factor.categories) for factor in crossed]
    if len(columns) < 2 or np.prod(shape, dtype=float) > 1e6:
        return []
    cells = np.ravel_multi_index([factor.codes for factor in crossed], shape)
    empty = np.flatnonzero(np.bincount(cells, minlength=np.prod(shape)) == 0)
    lines = []
    for codes in zip(*np.unravel_index(empty[:MOST], shape), strict=True):
        levels = [str(factor.categories[code]) for factor, code in zip(crossed, codes, strict=True)]
        lines.append(f"No cell has {' and '.join(f'{c} = {v!r}' for c, v in zip(columns, levels, strict=True))}.")
    if empty.size > MOST:
        lines.append(f"{empty.size - MOST} more combinations of {listed(columns)} are empty.")
    return lines


def _nested(obs: pd.DataFrame, inner: list[str], outer: list[str]) -> list[str]:
    """Say which columns don't vary within the levels of a factor."""
    return [
        f"{b!r} does not vary within the levels of {a!r}: as fixed effects they can't be told apart "
        f"(as a random term of fsc.tl.lmm_de, random='(1|{a})', {a!r} takes nothing from {b!r})."
        for a in inner
        for b in outer
        if a != b and obs[b].groupby(as_factor(obs[a]).codes).nunique().max() == 1
    ]
