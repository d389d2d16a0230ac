"""Encoding a formula cell by cell: what formulaic has to know of all cells is learned once, rows are made from it.

Each factor of the formula is evaluated over all cells by itself, which gives its levels and the state of its transforms
(the mean in `scale`, the knots of a spline). The design as a whole is only ever made for some cells at a time.

What formulaic has inside is used in this file and nowhere else.
"""

from __future__ import annotations

import re
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from formulaic import ModelSpec, SimpleFormula
from formulaic.errors import DataMismatchWarning
from formulaic.parser.types import Factor, Term
from formulaic.transforms import TRANSFORMS
from formulaic.utils.stateful_transforms import stateful_eval

from flashmm_sc._design.across import check_alike, depends, refuse
from flashmm_sc._design.columns import typical_row
from flashmm_sc._design.formula import Code, factors_of, words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from formulaic import ModelMatrix

_WARNINGS = Lock()
"""Filters of warnings belong to the whole process, and dask encodes in several threads."""


@dataclass(frozen=True)
class Learned:
    """What is learned of a factor: its kind in formulaic's words, levels in its order, and the state of transforms."""

    kind: str
    levels: list[Any] | None
    state: dict[str, Any]

    def encoder(self) -> tuple[Factor.Kind, dict[str, Any]]:
        """As formulaic keeps kind and levels."""
        return Factor.Kind(self.kind), {} if self.levels is None else {"categories": self.levels}


@dataclass(frozen=True)
class Alone:
    """A factor of the formula by itself.

    Parameters
    ----------
    expr
        What it is called: a column of obs, or Python.
    code
        The Python; None for a column of obs.
    state
        What its transforms have learned of all cells.
    spec
        formulaic's specification of a formula of this factor only, in which it is looked up.
    where
        Words for the formula in messages.
    """

    expr: str
    code: Code | None
    state: dict[str, Any]
    spec: ModelSpec
    where: str

    @classmethod
    def of(
        cls, factor: Factor, columns: list[str], data: pd.DataFrame, where: str, learned: Learned | None = None
    ) -> tuple[Alone, Any]:
        """Learn from all cells; or, with what was learned before, from any row. Give the values in these too."""
        state, encoder = ({}, {}) if learned is None else (learned.state, {factor.expr: learned.encoder()})
        code = Code.of(factor.expr, columns) if factor.eval_method is Factor.EvalMethod.PYTHON else None
        na_action = "raise" if learned is None else "ignore"
        spec = _spec([Term([_looked_up(factor)])], ensure_full_rank=False, encoder_state=encoder, na_action=na_action)
        first = cls(factor.expr, code, state, spec, where)
        value = first.value(data)
        complete = first._encoded(value, len(data)).model_spec
        return cls(factor.expr, code, state, complete.update(na_action="raise"), where), value

    @property
    def learned(self) -> Learned:
        """What it takes to put it together again."""
        kind, encoder = self.spec.encoder_state[self.expr]
        return Learned(str(kind.value), encoder.get("categories"), self.state)

    @property
    def ordered(self) -> list[str] | None:
        """Levels, the one without a column of its own first; None for numbers."""
        state = self.spec.encoder_state[self.expr][1].get("contrasts")
        if state is None:
            return None
        coded = state.contrasts.get_coding_column_names(list(state.levels), reduced_rank=True)
        return [str(level) for level in sorted(state.levels, key=lambda level: level in coded)]

    @property
    def is_number(self) -> bool:
        """Whether it is computed and a single number a cell, which can be kept in place of what it is computed of."""
        return self.code is not None and self.learned.kind == "numerical" and self.spec.column_names == (self.expr,)

    @property
    def is_split(self) -> bool:
        """Whether it is computed but no number, so that it is evaluated for some cells at a time."""
        return self.code is not None and not self.is_number

    @property
    def needs(self) -> list[str]:
        """Columns of obs from which it is computed."""
        return [self.expr] if self.code is None else list(self.code.columns.values())

    def value(self, data: pd.DataFrame) -> Any:
        """Its values in some cells, as formulaic has them before it makes columns of them."""
        if self.code is None:
            return data[self.expr]
        names = {alias: data[column] for alias, column in self.code.columns.items()}
        with _sentences(f"{self.expr!r} in {self.where}"):
            value = stateful_eval(self.code.expression, {**TRANSFORMS, **names}, {}, self.state, self.spec)
        if value is None:
            msg = f"{self.expr!r} in {self.where} has no values."
            raise ValueError(msg)
        return value

    def number(self, value: Any, n: int) -> np.ndarray:
        """One number a cell, which tells its values apart: the value itself if it is a number, else all columns mixed."""
        columns = sp.csr_array(self._encoded(value, n).__wrapped__)
        if columns.shape[0] != n:
            msg = f"{self.expr!r} in {self.where} has {columns.shape[0]} values for {n} cells."
            raise ValueError(msg)
        weights = np.random.default_rng(0).uniform(1, 2, columns.shape[1])
        return columns @ (np.ones(1) if self.is_number else weights)

    def _encoded(self, value: Any, n: int) -> ModelMatrix:
        return _encode(self.spec, {self.expr: value}, n, self.where)


@dataclass(frozen=True)
class Encoding:
    """A formula, and what is needed to encode any cells in the same way.

    A factor that is computed and a number is evaluated over all cells at once, see `table`, so it may be one whose value
    in a cell depends on other cells, such as ``I(x - np.mean(x))``. Others, splines and levels, are evaluated for some
    cells at a time; those of them that have not the same values then are refused.

    Parameters
    ----------
    text
        The formula.
    formula
        The formula as it was read.
    columns
        Columns of obs that it uses.
    factors
        Its factors, each by itself.
    spec
        formulaic's specification of it all, complete with levels and the structure of the columns; factors are looked up.
    example
        One row like those of the data, of no cell in particular: levels and medians.
    summing
        Factors coded to sum to zero, whatever the formula says.
    """

    text: str
    formula: SimpleFormula
    columns: list[str]
    factors: list[Alone]
    spec: ModelSpec
    example: pd.DataFrame
    summing: frozenset[str] = field(default_factory=frozenset)

    @property
    def where(self) -> str:
        """Words for the formula in messages."""
        return words(self.text)

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return [str(name) for name in self.spec.column_names]

    @property
    def terms(self) -> list[tuple[Term, list[int]]]:
        """Terms of the formula and their columns, in order."""
        return list(zip(self.formula, self.spec.term_indices.values(), strict=True))

    @property
    def levels(self) -> dict[str, list[str]]:
        """Levels of each factor that has levels, the one without a column of its own first."""
        return {factor.expr: factor.ordered for factor in self.factors if factor.ordered is not None}

    @classmethod
    def of(cls, text: str, formula: SimpleFormula, columns: list[str], data: pd.DataFrame) -> Encoding:
        """Learn from all cells what encoding the formula takes.

        Raises
        ------
        ValueError
            If the formula can't be evaluated, or a factor that is no single number depends on other cells.
        """
        factors = []
        for factor in factors_of(formula):
            alone, value = Alone.of(factor, columns, data, words(text))
            if alone.is_split and depends(alone, alone.number(value, len(data)), data):
                refuse(alone)
            factors.append(alone)
        return cls.complete(text, formula, columns, factors, typical_row(data))

    @classmethod
    def complete(
        cls,
        text: str,
        formula: SimpleFormula,
        columns: list[str],
        factors: list[Alone],
        example: pd.DataFrame,
        summing: frozenset[str] = frozenset(),
    ) -> Encoding:
        """Complete the encoding of a formula: which columns there are follows from any one row."""
        encoders = {f.expr: (kind, dict(state)) for f in factors for kind, state in [f.spec.encoder_state[f.expr]]}
        terms = [Term([_looked_up(factor) for factor in term.factors]) for term in formula]
        spec = _spec(terms, encoder_state=encoders, na_action="ignore")
        values = {f.expr: np.zeros(1) if f.is_number else _summing(f, f.value(example), summing) for f in factors}
        complete = _encode(spec, values, 1, words(text)).model_spec.update(na_action="raise")
        return cls(text, formula, columns, factors, complete, example, summing)

    def summing_to_zero(self, factors: Iterable[str]) -> Encoding:
        """The same formula with these factors coded to sum to zero."""
        parts = self.text, self.formula, self.columns, self.factors, self.example
        return Encoding.complete(*parts, summing=frozenset(factors))

    def table(self, data: pd.DataFrame) -> pd.DataFrame:
        """What `rows` needs of all cells: columns of obs and, under its position, a number for each computed factor."""
        needed = dict.fromkeys(name for f in self.factors if not f.is_number for name in f.needs)
        computed = {i: f.number(f.value(data), len(data)) for i, f in enumerate(self.factors) if f.code is not None}
        return pd.DataFrame({name: data[name].array for name in needed} | computed, index=data.index, copy=False)

    def rows(self, table: pd.DataFrame) -> sp.csr_array:
        """Design rows of some cells of the table, cells × columns, canonical.

        Raises
        ------
        ValueError
            If the formula has no value there, or a factor not that which it has over all cells.
        """
        values = {}
        for i, factor in enumerate(self.factors):
            value = table[i] if factor.is_number else factor.value(table)
            if factor.is_split:
                check_alike(factor, factor.number(value, len(table)), table[i].to_numpy())
            values[factor.expr] = _summing(factor, value, self.summing)
        matrix = sp.csr_array(_encode(self.spec, values, len(table), self.where).__wrapped__, dtype=np.float64)
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        return matrix


def _encode(spec: ModelSpec, values: dict[str, Any], n: int, where: str) -> ModelMatrix:
    """Let formulaic make columns of the values of factors, in sentences of ours where it fails."""
    with _sentences(where):
        return spec.get_model_matrix(pd.DataFrame(index=range(n)), context=values)


@contextmanager
def _sentences(where: str) -> Iterator[None]:
    """What formulaic, or the code that a formula is, raises, in a sentence that says where."""
    try:
        with _WARNINGS, warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("error", DataMismatchWarning)  # a level that is not among the known ones
            yield
    except Exception as error:
        null = re.search(r"in `(.+)`: `\1` contains null values", str(error))
        if null:
            msg = f"{null[1]!r} in {where} is NaN in some cells, though no column it uses is."
        else:
            msg = f"{where} can't be evaluated: {str(error).rstrip('.')}."
        raise ValueError(msg) from error


def _spec(terms: list[Term], **options: Any) -> ModelSpec:
    return ModelSpec(formula=SimpleFormula(terms), output="sparse", **options)


def _looked_up(factor: Factor) -> Factor:
    """The factor as one that formulaic finds among values; numbers in the formula stay what they are."""
    literal = factor.eval_method is Factor.EvalMethod.LITERAL
    return factor if literal else Factor(factor.expr, eval_method="lookup")


def _summing(factor: Alone, value: Any, summing: frozenset[str]) -> Any:
    return TRANSFORMS["C"](value, TRANSFORMS["contr"].sum) if factor.expr in summing else value
