"""The random-effects design: terms and obs become a labelled sparse block of columns per variance component."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp

from flashmm_sc._errors import listed
from flashmm_sc._obs import as_factor, complete_column, repeated
from flashmm_sc._random_terms import RandomTerm, parse_random

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flashmm_sc._random_terms import Random


@dataclass(frozen=True)
class RandomDesign:
    """Design matrix of the random effects, with what its columns mean.

    Parameters
    ----------
    names
        One name per component, in the order given.
    levels
        Names of the levels of each component: ``A1``, or ``A1:CD4`` in an interaction.
    matrix
        Cells × levels of all components side by side, float64, canonical: 1 where the cell has the level, or the value
        of the slope variable.
    """

    names: list[str]
    levels: list[list[str]]
    matrix: sp.csr_array

    @property
    def d(self) -> tuple[int, ...]:
        """Number of columns of each component."""
        return tuple(len(levels) for levels in self.levels)


def random_design(random: Random, obs: pd.DataFrame) -> RandomDesign:
    """Build the design matrix of the random effects.

    Parameters
    ----------
    random
        Terms, see `parse_random`.
    obs
        One row per cell. Grouping columns of any type are factors; slope variables are numbers or booleans.

    Raises
    ------
    KeyError
        If a term uses a column that obs lacks.
    ValueError
        If a term can't be read, or its variance can't be estimated from these cells.
    """
    terms = parse_random(random, obs.columns)
    blocks = [_block(term, obs) for term in terms]
    _check_distinct(terms, blocks)
    n, width = len(obs), len(blocks)
    starts = np.cumsum([0, *(len(block.levels) for block in blocks)])
    indices = np.column_stack([block.codes + start for block, start in zip(blocks, starts[:-1], strict=True)])
    weights = np.column_stack([block.weights for block in blocks])
    index = np.dtype("int32" if max(n * width, starts[-1]) <= np.iinfo(np.int32).max else "int64")
    indptr = np.arange(0, n * width + 1, width, dtype=index)
    matrix = sp.csr_array((weights.ravel(), indices.ravel().astype(index), indptr), shape=(n, starts[-1]))
    matrix.eliminate_zeros()
    return RandomDesign([term.name for term in terms], [block.levels for block in blocks], matrix)


class _Block(NamedTuple):
    """Columns of one component: the level of each cell, its entry there, and the names of the levels."""

    codes: NDArray[np.int64]
    weights: NDArray[np.float64]
    levels: list[str]


def _block(term: RandomTerm, obs: pd.DataFrame) -> _Block:
    """Build the columns of one component."""
    where = f"random term {term.name!r}"
    codes, levels = _factor(obs, term.groups[0], where)
    if len(term.groups) > 1:
        levels = [_quoted(level) for level in levels]
    for name in term.groups[1:]:
        more, others = _factor(obs, name, where)
        cells, codes = np.unique(codes * len(others) + more, return_inverse=True)  # the combinations there are
        levels = [f"{levels[i]}:{_quoted(others[j])}" for i, j in zip(*np.divmod(cells, len(others)), strict=True)]
    if len(levels) < 2 or len(levels) == len(obs):
        what = "a level of its own for every cell" if len(levels) > 1 else f"one level only, {listed(levels)}"
        msg = f"The {where} has {what}: no variance can be estimated from that. Leave the term out."
        raise ValueError(msg)
    return _Block(codes, _slope(obs, term.slope, where) if term.slope else np.ones(len(obs)), levels)


def _factor(obs: pd.DataFrame, name: str, where: str) -> tuple[NDArray[np.int64], list[str]]:
    """Codes and names of the levels of a grouping column."""
    values = complete_column(obs, name, where)
    factor = as_factor(values)
    levels = [str(level) for level in factor.categories]
    if pd.api.types.is_float_dtype(values.dtype) and pd.api.types.is_float_dtype(factor.categories.dtype):
        msg = (
            f"obs[{name!r}], which groups cells in {where}, holds numbers that are not whole. A slope of it reads "
            f"'(0 + {name}|sam)'; if it does name groups, make it a category with .astype('category')."
        )
        raise ValueError(msg)
    if twice := repeated(levels):
        msg = f"Different levels of obs[{name!r}] in {where} read the same: {listed(twice)}. Rename or merge them."
        raise ValueError(msg)
    return factor.codes.astype(np.int64), levels


def _quoted(level: str) -> str:
    """A level as part of an interaction, in backticks where a colon would make 'a:b:c' mean two things."""
    return f"`{level.replace('`', '``')}`" if ":" in level or "`" in level else level


def _slope(obs: pd.DataFrame, name: str, where: str) -> NDArray[np.float64]:
    """Values of a slope variable."""
    values = complete_column(obs, name, where)
    reason = ""
    if isinstance(values.dtype, pd.CategoricalDtype) or not pd.api.types.is_numeric_dtype(values.dtype):
        reason = f"is not numeric but {values.dtype}; effects of its levels within groups are an interaction, 'sam:x'"
    else:
        slope = values.to_numpy(dtype=np.float64)
        if not np.isfinite(slope).all():
            reason = f"is infinite in {np.count_nonzero(~np.isfinite(slope))} cells"
        elif np.ptp(slope) == 0:
            reason = f"is {slope[0]:g} in every cell"
    if reason:
        msg = f"obs[{name!r}], the slope variable of {where}, {reason}."
        raise ValueError(msg)
    return slope


def _check_distinct(terms: list[RandomTerm], blocks: list[_Block]) -> None:
    """Refuse two components with the same columns, whatever their names."""
    for (one, a), (other, b) in combinations(zip(terms, blocks, strict=True), 2):
        m = len(a.levels)
        alike = m == len(b.levels) and np.array_equal(a.weights, b.weights)
        if alike and np.unique(a.codes * m + b.codes).size == m:
            msg = (
                f"The random terms {one.name!r} and {other.name!r} group the cells in the same way: "
                "their variances can't be told apart. Leave one of them out."
            )
            raise ValueError(msg)
