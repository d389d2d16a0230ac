"""Strata of cells: told apart by columns of obs, and summed up in one pass over a study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flashmm_sc._design.columns import as_factor, complete_column, level_names
from flashmm_sc._design.rows import CHUNK, StratumRows
from flashmm_sc._results.sizes import with_sizes
from flashmm_sc._stats.strata import Strata
from flashmm_sc._stream.sums import Tally, Zeros

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flashmm_sc._results.study import Study
    from flashmm_sc._results.values import Values


def strata_of(
    study: Study,
    codes: np.ndarray,
    n_strata: int,
    values: Values,
    *,
    n_jobs: int | None = None,
    show_progress: bool | None = None,
    new: Zeros = np.zeros,
) -> Strata:
    """Sums of each stratum of cells, over the genes of the study, in one pass.

    Size factors take part as `values` say: with `weigh` they are totals, or what is given, as they are, of which no mean
    or median is taken. Totals take a pass of their own where a matrix gives genes, not cells, at a time.

    Parameters
    ----------
    codes
        Number of the stratum of each cell of the study; the values of those with -1 play no part.
    n_strata
        How many strata there are.
    new
        Makes the arrays of the sums.

    Raises
    ------
    OSError, RuntimeError, ValueError
        As `Study.sums` and `with_sizes`.
    """
    rows = StratumRows(np.asarray(codes, dtype=np.int32), n_strata)
    study = with_sizes(study, values, rows, n_jobs, show_progress)
    apart = values.transform is not None or study.weights is not None
    tally = Tally(True, apart, strata=True, weigh=values.weigh)
    how: dict[str, Any] = {"n_jobs": n_jobs, "show_progress": show_progress, "new": new}
    sums = study.sums(rows, transform=values.transform, tally=tally, **how)
    n = np.bincount(rows.codes[rows.cells], minlength=n_strata)
    weights = {} if study.weights is None else study.weights.by_stratum(rows.codes, n_strata)
    return Strata.of(n, sums, apart=apart, weigh=values.weigh, **weights)


def numbered(obs: pd.DataFrame, by: Sequence[str]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Number the strata that columns of obs tell apart, in the order of their levels.

    Returns
    -------
    The number of each cell's stratum, the first cell of each, and their names, in which levels are joined by "|".

    Raises
    ------
    KeyError, ValueError
        For a column that is not there or incomplete.
    """
    where = f"by={list(by)}"
    factors = [as_factor(complete_column(obs, name, where)) for name in by]
    for name, factor in zip(by, factors, strict=True):
        level_names(factor, name, where)
    codes = np.zeros(len(obs), np.int64)
    for factor in factors:
        found, pairs = pd.factorize(codes * len(factor.categories) + factor.codes)
        codes = np.argsort(np.argsort(pairs))[found]
    first = np.empty(codes.max() + 1, np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    levels = [factor.categories.astype(str).to_numpy()[factor.codes[first]] for factor in factors]
    return codes, first, ["|".join(names) for names in zip(*levels, strict=True)]


def constant(
    columns: Iterable[tuple[str, pd.Series]], codes: np.ndarray, first: np.ndarray
) -> tuple[pd.DataFrame, list[str]]:
    """Columns of obs that don't vary within strata, one row a stratum, and names of those that do or can't be compared.

    Missing values are alike.
    """
    kept, dropped = {}, []
    for name, values in columns:
        if _same(values, codes, first):
            kept[name] = values.iloc[first].array
        else:
            dropped.append(name)
    return pd.DataFrame(kept, index=range(len(first))), dropped


def _same(values: pd.Series, codes: np.ndarray, first: np.ndarray) -> bool:
    try:
        for cells in (slice(CHUNK), slice(None)):  # the first tell of most columns of cells that they vary
            found = pd.factorize(values.iloc[cells])[0]
            if (found != found[first[codes[cells]]]).any():
                return False
    except (TypeError, ValueError):
        return False
    return True
