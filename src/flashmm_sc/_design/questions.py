"""Questions about a factor or a covariate, answered with weights of coefficients on a reference grid."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from flashmm_sc._base.errors import listed
from flashmm_sc._base.options import check_number
from flashmm_sc._design.random_terms import quoted
from flashmm_sc._design.reference_grid import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashmm_sc._design.reference_grid import ReferenceGrid

Answer: TypeAlias = "tuple[str, np.ndarray]"

_STEP = 2.0**-13
"""Step of the difference quotient, in units of the covariate's range."""


@dataclass(frozen=True)
class Question(ABC):
    """A question about a column of obs, in each combination of the levels of others.

    Attributes
    ----------
    of
        The column.
    by
        The others.
    at
        Values at which columns are held, or over which they are averaged.
    """

    of: str
    by: tuple[str, ...] = ()
    at: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.at, Mapping):
            msg = f"at={self.at!r} must be a dictionary, from columns to their values."
            raise TypeError(msg)
        for name in (self.of, *self.by, *self.at):
            if not isinstance(name, str):
                msg = f"{self} names {name!r}; name a column of obs."
                raise TypeError(msg)
        if twice := [name for i, name in enumerate((self.of, *self.by)) if name in (self.of, *self.by)[:i]]:
            msg = f"{self} names {twice[0]!r} more than once: what is asked about can't be in by=."
            raise ValueError(msg)

    def __str__(self) -> str:
        options: dict[str, Any] = {"by": self.by[0] if len(self.by) == 1 else list(self.by) or None}
        options |= {"at": dict(self.at) or None} | self._options()
        given = [repr(self.of), *(f"{name}={value!r}" for name, value in options.items() if value is not None)]
        return f"{type(self).__name__.lower()}({', '.join(given)})"

    def answers(self, grid: ReferenceGrid) -> list[Answer]:
        """Names of the answers, and weights of the p coefficients for each.

        Raises
        ------
        ValueError
            For columns and levels that are not in the model, and what can't be asked about them.
        """
        self._check(grid)
        at = {name: grid.values(name, chosen, f"at= of {self}") for name, chosen in self.at.items()}
        cells = list(product(*(at.get(name) or list(grid.factors[name]) for name in self.by)))
        own = self._values(grid, at)
        others = {name: [cell[i] for cell in cells for _ in own] for i, name in enumerate(self.by)}
        rows = grid.rows({self.of: own * len(cells)} | others, at)
        found: list[Answer] = []
        for cell, X in zip(cells, rows.reshape(len(cells), len(own), -1), strict=True):
            where = "".join(f", {name}={shown(value)}" for name, value in zip(self.by, cell, strict=True))
            found += [(f"{name}{where}", weights) for name, weights in self._compared(grid, own, X)]
        return found

    def _check(self, grid: ReferenceGrid) -> None:
        grid.check(self.of, str(self))
        for name in self.by:
            grid.check(name, f"by= of {self}")
            if name in grid.covariates and name not in self.at:
                covariate = grid.covariates[name]
                msg = (
                    f"{self}: {name!r} is a covariate, of which there are no levels; say at which values, from {shown(covariate.low)} "
                    f"to {shown(covariate.high)}, as in at={{{name!r}: [{covariate.mean:g}]}}."
                )
                raise ValueError(msg)

    def _options(self) -> dict[str, Any]:
        """Further options, for messages."""
        return {}

    @abstractmethod
    def _values(self, grid: ReferenceGrid, at: dict[str, list[Any]]) -> list[Any]:
        """Values of the column whose rows of X the answers are made of."""

    @abstractmethod
    def _compared(self, grid: ReferenceGrid, own: list[Any], X: np.ndarray) -> list[Answer]:
        """Answers from the rows at these values, in one combination of the values of `by`."""


@dataclass(frozen=True)
class _OfLevels(Question):
    """A question that compares the means of a factor's levels."""

    def _check(self, grid: ReferenceGrid) -> None:
        super()._check(grid)
        if self.of in grid.covariates:
            msg = (
                f"{self}: {self.of!r} is a covariate, without levels. Ask for its slope, fsc.contrasts.slope({self.of!r}), or "
                f"make it a factor in the formula, C({quoted(self.of)}), and fit again."
            )
            raise ValueError(msg)
        if self.of in self.at:
            msg = f"{self}: at= can't hold {self.of!r}, whose levels are compared."
            raise ValueError(msg)

    def _values(self, grid: ReferenceGrid, at: dict[str, list[Any]]) -> list[Any]:
        return list(grid.factors[self.of])


@dataclass(frozen=True)
class Each(_OfLevels):
    """Every other level against the reference."""

    ref: str | float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        ref: Any = self.ref
        if np.ndim(ref):
            msg = f"{self}: ref= is one level, with which all others are compared."
            raise TypeError(msg)

    def _options(self) -> dict[str, Any]:
        return {"ref": self.ref}

    def _compared(self, grid: ReferenceGrid, own: list[Any], X: np.ndarray) -> list[Answer]:
        k = 0 if self.ref is None else own.index(grid.values(self.of, self.ref, str(self))[0])
        return [(f"{level} vs {own[k]}", x - X[k]) for i, (level, x) in enumerate(zip(own, X, strict=True)) if i != k]


@dataclass(frozen=True)
class Pairwise(_OfLevels):
    """Every level against those before it."""

    def _compared(self, grid: ReferenceGrid, own: list[Any], X: np.ndarray) -> list[Answer]:
        return [(f"{own[j]} vs {own[i]}", X[j] - X[i]) for i, j in combinations(range(len(own)), 2)]


@dataclass(frozen=True)
class Means(_OfLevels):
    """The mean of each level."""

    def _compared(self, grid: ReferenceGrid, own: list[Any], X: np.ndarray) -> list[Answer]:
        return list(zip(own, X, strict=True))


@dataclass(frozen=True)
class Slope(Question):
    """The derivative in a covariate, times a number of its units."""

    per: float = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("per", self.per, 0.0, hint="It is a number of units of the covariate.", without=(0.0,))

    def _options(self) -> dict[str, Any]:
        return {"per": self.per if self.per != 1 else None}

    def _check(self, grid: ReferenceGrid) -> None:
        super()._check(grid)
        if self.of in grid.factors:
            msg = f"{self}: {self.of!r} is a factor, with levels {listed(grid.factors[self.of])}; ask for each or pairwise."
            raise ValueError(msg)
        if grid.covariates[self.of].low == grid.covariates[self.of].high:
            msg = f"{self}: {self.of!r} is the same in all cells, so it has no slope."
            raise ValueError(msg)

    def _values(self, grid: ReferenceGrid, at: dict[str, list[Any]]) -> list[Any]:
        """Where the slope is taken, and five points around it, or beside it at an end of the data."""
        mean, low, high = grid.covariates[self.of]
        x, *more = at.get(self.of, [mean])
        if more:
            msg = f"{self}: the slope is that at one value of {self.of!r}; give a single one in at=."
            raise ValueError(msg)
        step = _STEP * (high - low)
        around = np.clip(x, low + 2 * step, high - 2 * step) + step * np.arange(-2, 3)
        return [x, *np.clip(around, low, high)]

    def _compared(self, grid: ReferenceGrid, own: list[Any], X: np.ndarray) -> list[Answer]:
        """The derivative of the polynomial of degree 4 through these points."""
        distances = np.array(own[1:]) - own[0]
        step = np.ptp(distances)
        weights = np.linalg.solve((distances / step) ** np.arange(5)[:, None], [0, 1, 0, 0, 0]) / step
        return [(f"{self.of} per {shown(self.per)}", self.per * (weights @ (X[1:] - X[0])))]


def names(by: str | Sequence[str] | None) -> tuple[str, ...]:
    """Columns of `by`, one, several or none."""
    if by is None or isinstance(by, str):
        return () if by is None else (by,)
    try:
        return tuple(by)
    except TypeError as error:
        msg = f"by={by!r} must be the name of a column of obs, or several in a list."
        raise TypeError(msg) from error
