"""The models of counts of a call, one a group of cells: designs of samples, checked before any pass over the data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from flashmm_sc._base.errors import listed
from flashmm_sc._design import type3
from flashmm_sc._design.columns import complete_column
from flashmm_sc._design.fixed import FixedDesign, check_full_rank, fixed_design
from flashmm_sc._design.formula import parse_formula, used_columns
from flashmm_sc._design.random import Component
from flashmm_sc._design.random_terms import RandomTerm, parse_random
from flashmm_sc._design.reference_grid import ReferenceGrid
from flashmm_sc._results.groups import each_group

if TYPE_CHECKING:
    from collections.abc import Sequence

FEWEST = 2
"""Samples beyond the fixed effects that the variance between samples needs."""
_SAMPLE = "Give a column of obs, or several that tell samples apart together, as in 'donor:treatment'."


@dataclass(frozen=True, eq=False)
class CountModel:
    """The model of one group of cells.

    Attributes
    ----------
    group
        Name of the group; empty when there is no grouping.
    cells
        Positions of its cells.
    codes
        Sample of each of them.
    sample
        What tells samples apart, as it is written.
    samples
        Their names.
    obs
        Columns of the formula, one row a sample.
    design
        Design of the fixed effects.
    X
        Its rows, samples × p.
    terms
        Type III hypothesis of each fixed term, p × r.
    reference
        Its reference grid as text.
    """

    group: str
    cells: np.ndarray
    codes: np.ndarray
    sample: str
    samples: list[str]
    obs: pd.DataFrame
    design: FixedDesign
    X: np.ndarray
    terms: dict[str, np.ndarray]
    reference: str


def sample_term(sample: str | Sequence[str], columns: Sequence[str]) -> RandomTerm:
    """The term that tells samples apart: a column of obs, or several, ``"donor:trt"`` or a list.

    Raises
    ------
    KeyError, TypeError, ValueError
        For what is no column, no text, and no such term.
    """
    where = f"sample={sample!r}"
    if not isinstance(sample, str) and (not isinstance(sample, list | tuple) or not set(map(type, sample)) <= {str}):
        msg = f"{where} is of type {type(sample).__name__}. {_SAMPLE}"
        raise TypeError(msg)
    names = sample if isinstance(sample, str) else RandomTerm("", tuple(sample)).spelled
    try:
        terms = parse_random(names, columns)
    except KeyError as error:
        msg = str(error.args[0]).replace(f"random={names!r}", where, 1)
        raise KeyError(msg) from error
    except ValueError as error:
        msg = f"{where} can't be read. {_SAMPLE}"
        raise ValueError(msg) from error
    if len(terms) > 1 or terms[0].slope:
        msg = f"{where} is {'a slope' if terms[0].slope else 'several terms'}. {_SAMPLE}"
        raise ValueError(msg)
    return terms[0]


def build_count_models(
    obs: pd.DataFrame, fixed: str, sample: RandomTerm, groupby: str | None, *, min_cells: int
) -> list[CountModel]:
    """The model of every group that has one, with the numbers of its cells' samples.

    Raises
    ------
    KeyError, ValueError
        As `each_group`; for samples that have one cell each.
    """
    built = each_group(obs, groupby, lambda group, own, _: _build(group, own, fixed, sample), min_cells=min_cells)
    if all(len(model.samples) == len(cells) for cells, model in built):
        msg = (
            f"Every sample of sample={sample.spelled!r} has one cell. Samples are what many cells come from, such as donors, and "
            "the cells of one tell how exactly its sum is known. If these rows are sums that were made elsewhere, make them "
            "of the cells by fsc.pp.aggregate."
        )
        raise ValueError(msg)
    return [replace(model, cells=cells) for cells, model in built]


def _build(group: str, obs: pd.DataFrame, fixed: str, sample: RandomTerm) -> CountModel:
    levels = Component.of(sample, obs, f"sample={sample.spelled!r}")
    codes, names = levels.codes(obs), levels.levels
    first = np.unique(codes, return_index=True)[1]
    columns = used_columns(parse_formula(fixed, f"fixed={fixed!r}"), list(obs.columns), f"fixed={fixed!r}")
    _check_constant(obs, columns, codes, first, fixed, sample, names)
    samples = obs.iloc[first][columns]
    n = len(names)
    design = fixed_design(fixed, samples)
    p = len(design.names)
    if n < p + FEWEST:
        msg = (
            f"{sample.name!r} tells {n} samples apart, too few for {fixed!r}, which has {p} columns: the variance between samples "
            f"takes at least {FEWEST} more samples than columns."
        )
        raise ValueError(msg)
    table = design.table(samples)
    X = design.rows(table).toarray()
    check_full_rank(design, X.T @ X, samples)
    reference = ReferenceGrid.of(design, samples, table, group).text()
    terms = type3.hypotheses(design, samples)
    return CountModel(group, np.arange(len(obs)), codes, sample.name, names, samples, design, X, terms, reference)


def _check_constant(
    obs: pd.DataFrame,
    columns: list[str],
    codes: np.ndarray,
    first: np.ndarray,
    fixed: str,
    sample: RandomTerm,
    names: list[str],
) -> None:
    """Refuse a column of the formula that varies within a sample."""
    for name in columns:
        values = pd.factorize(complete_column(obs, name, f"fixed={fixed!r}"))[0]
        other = np.flatnonzero(values != values[first[codes]])
        if not other.size:
            continue
        one, two = (obs[name].iloc[at] for at in (first[codes[other[0]]], other[0]))
        finer = RandomTerm("", (*sample.groups, name)).spelled
        of_cells = 2 * len(np.unique(codes * len(obs) + values)) > len(obs)
        better = "" if of_cells else f"make these finer, as in sample={finer!r}, or "
        msg = (
            f"obs[{name!r}], which fixed={fixed!r} uses, varies within samples: cells of {names[codes[other[0]]]!r} have "
            f"{listed([one, two])}. Counts are summed over the cells of a sample, so it must be of samples: {better}fit cells "
            "with fsc.tl.lmm_de."
        )
        raise ValueError(msg)


def sample_codes(models: Sequence[CountModel], n: int) -> tuple[np.ndarray, int]:
    """Number of the sample of each of n cells, those of one model after another, -1 where there is none; and how many."""
    codes, start = np.full(n, -1), 0
    for model in models:
        codes[model.cells] = start + model.codes
        start += len(model.samples)
    return codes, start
