"""What advice on a call goes by: its cells, and how columns vary among the levels of random terms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flashmm_sc._design.rows import numbered

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flashmm_sc._design.cell_design import CellDesign
    from flashmm_sc._design.fixed import FixedDesign
    from flashmm_sc._design.random_terms import RandomTerm
    from flashmm_sc._inference.df import Ddf

_CELLS_A_VALUE = 10
"""Cells that share a level and a value, on average, from which a number is a property of samples and not of cells."""


@dataclass(frozen=True, eq=False)
class Call:
    """What advice goes by: the cells of the models, the design of one, and the options of the call."""

    obs: pd.DataFrame
    design: FixedDesign
    terms: Sequence[RandomTerm]
    n_genes: int
    groupby: str | None
    residual_by: str | None
    moderate: bool
    ddf: Ddf

    @classmethod
    def of(cls, obs: pd.DataFrame, design: CellDesign, *options: Any, **more: Any) -> Call:
        """From the cells and the designs of their fixed and random effects."""
        return cls(obs, design.fixed, [component.term for component in design.random.components], *options, **more)

    @cached_property
    def n_levels(self) -> dict[str, int]:
        """Levels of each random term, by its name."""
        return {name: _distinct(levels) for name, levels in self._levels.items()}

    def varies_within(self, name: str, term: RandomTerm) -> bool:
        """Whether a fixed column varies within the levels of a random term, among cells of one model."""
        return (term.name, name) in self._varying

    def of_cells(self, name: str) -> bool:
        """Whether a fixed column holds numbers that hardly any two cells of a level share, as the library size does."""
        dtype = self.obs[name].dtype
        number = pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)
        return number and self._n_values[name] * _CELLS_A_VALUE > len(self.obs)

    @cached_property
    def _varying(self) -> set[tuple[str, str]]:
        """Names of the random terms and of the fixed columns that vary within their levels."""
        each = {term.name: self._numbered([*term.groups, self.groupby]) for term in self.terms if self.groupby}
        found = set()
        for term, levels in (each or self._levels).items():
            n = _distinct(levels)
            found |= {(term, name) for name, codes in self._codes.items() if _pairs(levels, codes) > n}
        return found

    @cached_property
    def _n_values(self) -> dict[str, int]:
        """Pairs there are of a level of the first random term and a value of each fixed column."""
        levels = self._levels[self.terms[0].name]
        return {name: _pairs(levels, codes) for name, codes in self._codes.items()}

    @cached_property
    def _codes(self) -> dict[str, np.ndarray]:
        return {name: pd.factorize(self.obs[name])[0].astype(np.int64) for name in self.design.columns}

    @cached_property
    def _levels(self) -> dict[str, np.ndarray]:
        return {term.name: self._numbered(term.groups) for term in self.terms}

    def _numbered(self, columns: Iterable[str | None]) -> np.ndarray:
        return np.asarray(numbered(self.obs[list(dict.fromkeys(columns))], len(self.obs)), np.int64)

    @property
    def intercepts(self) -> list[RandomTerm]:
        """Terms that are no slopes."""
        return [term for term in self.terms if term.slope is None]


def _pairs(levels: np.ndarray, codes: np.ndarray) -> int:
    """How many different pairs there are."""
    return _distinct(levels * (codes.max(initial=0) + 1) + codes)


def _distinct(codes: np.ndarray) -> int:
    """How many different whole numbers there are."""
    many = codes.max(initial=0) > 10 * len(codes)
    return len(np.unique(codes)) if many else int(np.count_nonzero(np.bincount(codes)))
