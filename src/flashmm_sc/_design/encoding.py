"""Encoding a formula cell by cell: what formulaic has to know of all cells is learned once, rows are made from it.

Each factor of the formula is evaluated over all cells by itself, which gives its levels and the state of its transforms
(the mean in `scale`, the knots of a spline). The design as a whole is only ever made for some cells at a time.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from itertools import chain
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from formulaic import ModelSpec, SimpleFormula
from formulaic.errors import DataMismatchWarning, FormulaicError
from formulaic.parser.types import Factor, Term

if TYPE_CHECKING:
    from formulaic import ModelMatrix

FAILURES = (FormulaicError, DataMismatchWarning, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What formulaic raises for a formula that doesn't fit the data."""

_WARNINGS = Lock()
"""Filters of warnings belong to the whole process, and dask encodes in several threads."""


@dataclass(frozen=True)
class Encoding:
    """A formula, and what is needed to encode any cells in the same way.

    Parameters
    ----------
    text
        The formula.
    spec
        formulaic's specification, complete with the state of transforms, levels and the structure of the columns.
    across
        Factors whose value in a cell depends on other cells, such as ``I(x - np.mean(x))``. They are evaluated over all
        cells at once, see `table`, and then looked up.
    example
        One row like those of the data, of no cell in particular: levels and medians.
    """

    text: str
    spec: ModelSpec
    across: tuple[str, ...]
    example: pd.DataFrame

    @property
    def where(self) -> str:
        """Words for the formula in messages."""
        return words(self.text)

    @classmethod
    def of(cls, text: str, formula: SimpleFormula, data: pd.DataFrame) -> Encoding:
        """Learn from all cells what encoding the formula takes.

        Raises
        ------
        ValueError
            If the formula can't be evaluated, or a factor over several cells has several columns.
        """
        where = words(text)
        transforms: dict[str, Any] = {}
        encoders: dict[str, Any] = {}
        across = []
        for factor in dict.fromkeys(factor for term in formula for factor in term.factors):
            if factor.eval_method is Factor.EvalMethod.LITERAL:
                continue
            alone = encode(_spec([Term([factor])], ensure_full_rank=False), data, where)
            transforms |= alone.model_spec.transform_state
            encoders |= alone.model_spec.encoder_state
            if factor.eval_method is Factor.EvalMethod.PYTHON and _depends(alone, data, where):
                if len(alone.model_spec.column_names) > 1:
                    msg = (
                        f"{factor.expr!r} in {where} depends in each cell on the values of other cells; compute it "
                        "before, as a column of obs, and use that."
                    )
                    raise ValueError(msg)
                across.append(factor.expr)
        return cls.from_states(text, formula, transforms, encoders, across, _example(data))

    @classmethod
    def from_states(
        cls,
        text: str,
        formula: SimpleFormula,
        transforms: dict[str, Any],
        encoders: dict[str, Any],
        across: list[str],
        example: pd.DataFrame,
    ) -> Encoding:
        """Complete the encoding of a formula: which columns there are follows from any one row."""
        terms = [Term([_looked_up(factor, across) for factor in term.factors]) for term in formula]
        spec = _spec(terms, transform_state=transforms, encoder_state=encoders).update(na_action="ignore")
        complete = encode(spec, example.assign(**dict.fromkeys(across, 0.0)), words(text)).model_spec
        return cls(text, complete.update(na_action="raise"), tuple(across), example)

    def table(self, data: pd.DataFrame) -> pd.DataFrame:
        """The columns that `rows` needs of all cells, among them the factors over several cells."""
        columns = {}
        for expr in self.across:
            alone = encode(_spec([Term([Factor(expr, eval_method="python")])]), data, self.where)
            columns[expr] = alone.__wrapped__.toarray()[:, 0]
        return data.assign(**columns)

    def rows(self, table: pd.DataFrame) -> sp.csr_array:
        """Design rows of some cells of the table, cells × columns, canonical."""
        matrix = sp.csr_array(encode(self.spec, table, self.where).__wrapped__, dtype=np.float64)
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        return matrix


def words(text: str) -> str:
    """Words for a formula in messages."""
    return f"fixed={text!r}"


def encode(spec: ModelSpec, data: pd.DataFrame, where: str) -> ModelMatrix:
    """Let formulaic evaluate a formula, in sentences of ours where it fails."""
    try:
        with _WARNINGS, warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("error", DataMismatchWarning)  # a level that is not among the known ones
            return spec.get_model_matrix(data, context={})
    except FAILURES as error:
        null = re.search(r"in `(.+)`: `\1` contains null values", str(error))
        if null:
            msg = f"{null[1]!r} in {where} is NaN in some cells, though no column it uses is."
        else:
            msg = f"{where} can't be evaluated: {error}"
        raise ValueError(msg) from error


def _example(data: pd.DataFrame) -> pd.DataFrame:
    def typical(values: pd.Series) -> Any:
        if isinstance(values.dtype, pd.CategoricalDtype):
            return pd.Categorical(values.cat.categories[:1], categories=values.cat.categories)
        if values.dtype == object or values.dtype == bool:
            return values.iloc[:1].to_numpy()
        middle = len(values) // 2  # a median that occurs: where no cell is, the formula may have no value
        return np.partition(values.to_numpy(), middle)[[middle]]

    return pd.DataFrame({name: typical(values) for name, values in data.items()}, index=[0])


def _spec(terms: list[Term], **options: Any) -> ModelSpec:
    return ModelSpec(formula=SimpleFormula(terms), na_action="raise", output="sparse", **options)


def _depends(alone: ModelMatrix, data: pd.DataFrame, where: str) -> bool:
    """Whether a factor has other values when it is evaluated over some cells only.

    Tried are a random half of them, and single cells at the extremes of the factor and of what it may use: a maximum or
    a median is mostly the same in any large part of the data.
    """
    whole = alone.__wrapped__.tocsr()
    size = np.abs(whole.data[np.isfinite(whole.data)]).max(initial=0.0)
    own = (whole[:, [j]].toarray()[:, 0] for j in range(min(8, whole.shape[1])))
    used = (values.to_numpy() for _, values in data.select_dtypes([np.number, bool]).items())
    extremes = {find(values) for values in chain(own, used) for find in (np.argmin, np.argmax)}
    half = np.random.default_rng(0).choice(len(data), min(500, len(data) // 2 + 1), replace=False)

    def differs(cells: np.ndarray) -> bool:
        try:
            again = encode(alone.model_spec, data.iloc[cells], where).__wrapped__.toarray()
        except ValueError:  # such as a level that only some cells give
            return True
        return not np.allclose(whole[cells].toarray(), again, rtol=1e-9, atol=1e-9 * size, equal_nan=True)

    return any(differs(cells) for cells in [np.sort(half), *(np.array([cell]) for cell in extremes)])


def _looked_up(factor: Factor, across: list[str]) -> Factor:
    return Factor(factor.expr, eval_method="lookup") if factor.expr in across else factor
