"""The reference grid of a design: rows of X for levels and numbers that need not be those of any cell.

As in R's emmeans: what is not asked for is averaged over with equal weights if it has levels, and at its mean over the
cells if it is a number. A grid is learned with the design and kept as text, so that a stored fit can be asked later.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp

from flashmm_sc._base.errors import did_you_mean, listed
from flashmm_sc._design.across import depends
from flashmm_sc._design.file import from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flashmm_sc._design.fixed import FixedDesign

MOST = 200_000
"""Most rows of a grid."""


class Covariate(NamedTuple):
    """A column of numbers, over the cells."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class ReferenceGrid:
    """What a design's columns of obs can be, and rows of X for any of it.

    Attributes
    ----------
    design
        The fixed effects.
    factors
        Columns with levels: texts, categories, booleans, and numbers that the formula uses as such; the value of each
        level by its name, the reference first.
    covariates
        Columns of numbers.
    across
        Terms whose value in a cell depends on other cells, so that they have none in a grid.
    group
        Name of the group whose cells these are; empty when there is no grouping.
    """

    design: FixedDesign
    factors: dict[str, dict[str, Any]]
    covariates: dict[str, Covariate]
    across: list[str]
    group: str

    @classmethod
    def of(cls, design: FixedDesign, obs: pd.DataFrame, table: pd.DataFrame, group: str = "") -> ReferenceGrid:
        """Learn the grid from the cells of a design and its table of them."""
        data = design.used(obs)
        factors, covariates = {}, {}
        for name, values in data.items():
            levels = _levels(design, str(name), values)
            if levels is None:
                numbers = values.to_numpy(np.float64)
                covariates[str(name)] = Covariate(numbers.mean(), numbers.min(), numbers.max())
            else:
                factors[str(name)] = levels
        kept = {i: factor for i, factor in enumerate(design.encoding.factors) if factor.is_number}
        across = [factor.expr for i, factor in kept.items() if depends(factor, table[i].to_numpy(), data)]
        return cls(design, factors, covariates, across, group)

    def text(self) -> str:
        """All of it as JSON; empty if some levels are neither texts nor numbers, such as intervals."""
        rest = {
            "factors": {name: list(levels.items()) for name, levels in self.factors.items()},
            "covariates": self.covariates,
            "across": self.across,
            "group": self.group,
        }
        try:
            return json.dumps({"design": to_json(self.design, ()), **rest})
        except TypeError:
            return ""

    @classmethod
    def read(cls, text: str) -> ReferenceGrid:
        """Undo `text`. It holds a formula, which is code, as a file of `Design` does.

        Raises
        ------
        ValueError
            If it is empty, of another version or damaged.
        """
        if not text:
            msg = (
                "The fit holds no design that could be asked: it was made by an older version, or the levels of a factor "
                "are neither texts nor numbers. Make them so, as with .astype(str), or with "
                ".cat.rename_categories(str), which keeps their order, and fit again."
            )
            raise ValueError(msg)
        try:
            found = json.loads(text)
            design, _ = from_json(json.dumps(found["design"]))
        except (KeyError, TypeError, ValueError) as error:
            msg = f"The fit {error} Fit again."
            raise ValueError(msg) from error
        factors = {name: dict(levels) for name, levels in found["factors"].items()}
        covariates = {name: Covariate(*numbers) for name, numbers in found["covariates"].items()}
        return cls(design, factors, covariates, found["across"], found["group"])

    def check(self, name: str, where: str) -> None:
        """Refuse a column that is not in the model; `where` says in messages what names it."""
        known = [*self.factors, *self.covariates]
        if name not in known:
            msg = f"{where} names {name!r}, which is not in the model {self.design.encoding.where}. {did_you_mean(name, known)}"
            if self.group:
                msg += " The column of groupby= needs no naming: each group has its own model, and each is asked."
            raise ValueError(msg)

    def values(self, name: str, chosen: Any, where: str) -> list[Any]:
        """Values of a column to which `chosen`, one or several, amounts: names of levels, or numbers within the data.

        Raises
        ------
        ValueError
            For a column that is not in the model, unknown levels, and numbers outside of the range of the cells.
        """
        self.check(name, where)
        items = [chosen] if isinstance(chosen, str) or np.ndim(chosen) == 0 else list(chosen)
        if not items:
            msg = f"{where} gives no value of {name!r}."
            raise ValueError(msg)
        one = self._level if name in self.factors else self._number
        return [one(name, item, where) for item in items]

    def rows(self, points: Mapping[str, Sequence[Any]], at: Mapping[str, Sequence[Any]] | None = None) -> np.ndarray:
        """Rows of X at points (columns and their values, one a point), points × p.

        Other columns are averaged over the values in `at`, by default all levels, or the mean.

        Raises
        ------
        ValueError
            If the formula has no value there, and for more rows than can be made.
        """
        if self.across:
            msg = (
                f"{listed(self.across)} in {self.design.encoding.where} depends in each cell on the values of other cells, so "
                "it has no value at a point; use scale(), center() or a column computed before, and fit again."
            )
            raise ValueError(msg)
        usual: dict[str, Sequence[Any]] = {name: list(levels) for name, levels in self.factors.items()}
        usual |= {name: [covariate.mean] for name, covariate in self.covariates.items()}
        held = {name: values for name, values in (usual | dict(at or {})).items() if name not in points}
        n, m = len(next(iter(points.values()), [None])), math.prod(map(len, held.values()))
        if n * m > MOST:
            many = sorted(held, key=lambda name: -len(held[name]))
            msg = (
                f"Averaging over all combinations of levels takes {n * m:,} rows, more than {MOST:,}. Ask at fewer points, "
                f"or hold factors that matter little at one level, in at= or in the grid, as in {{{many[0]!r}: {held[many[0]][0]!r}}}."
            )
            raise ValueError(msg)
        others = zip(*product(*held.values()), strict=True)
        columns = {name: np.repeat(np.array(values, dtype=object), m) for name, values in points.items()}
        columns |= {name: np.tile(np.array(values, dtype=object), n) for name, values in zip(held, others, strict=True)}
        table = pd.DataFrame(
            {name: self._column(name, columns[name]) for name in self.design.columns}, index=range(n * m)
        )
        X = self.design.rows(self.design.table(table))
        sums = sp.csr_array((np.ones(n * m), np.arange(n * m), np.arange(0, n * m + 1, m)), shape=(n, n * m))
        return (sums @ X).toarray() / m

    def _level(self, name: str, item: Any, where: str) -> str:
        levels = self.factors[name]
        found = str(item) if str(item) in levels else None
        if found is None and isinstance(item, Hashable):
            found = {value: level for level, value in levels.items()}.get(item)
        if found is None:
            msg = f"{where}: {name!r} has no level {str(item)!r}. {did_you_mean(item, levels)}"
            raise ValueError(msg)
        return found

    def _number(self, name: str, item: Any, where: str) -> float:
        _, low, high = self.covariates[name]
        try:
            number = float(item)
        except (TypeError, ValueError):
            number = math.nan
        if not low <= number <= high:
            msg = f"{where}: {item!r} is outside of what {name!r} is in the cells of the model, {shown(low)} to {shown(high)}."
            raise ValueError(msg)
        return number

    def _column(self, name: str, values: np.ndarray) -> Any:
        """Names of levels, or numbers, as a column of obs."""
        if name in self.covariates:
            return values.astype(np.float64)
        like = self.design.encoding.example[name]
        levels = [self.factors[name][level] for level in values]
        return pd.Series(levels, dtype=like.dtype).array


def shown(value: Any) -> str:
    """A level, or a number with the digits that it takes."""
    if isinstance(value, str):
        return value
    return short if float(short := f"{value:g}") == value else str(value)


def _levels(design: FixedDesign, name: str, values: pd.Series) -> dict[str, Any] | None:
    """Levels of a column by their names, in the design's order; None for numbers that are used as such."""
    coded = [factor for factor in design.encoding.factors if factor.ordered is not None and factor.needs == [name]]
    number = pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype)
    if number and not coded:
        return None
    found = {str(level): level for level in pd.Categorical(values).categories.tolist()}
    order = [factor.ordered or [] for factor in coded if set(factor.ordered or ()) == set(found)]
    if order:
        return {level: found[level] for level in order[0]}
    return None if number else found
