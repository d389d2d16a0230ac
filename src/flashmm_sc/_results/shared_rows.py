"""Cells that share a design row: a pass sums them up as strata, and the sums of strata add up to those of the design."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from flashmm_sc._design.rows import Rows, StratumRows, firsts, numbered
from flashmm_sc._stream.sums import Sums, Tally

if TYPE_CHECKING:
    from collections.abc import Callable

_NONZEROS = 3.0
"""Least mean number of nonzeros in a design row: 400 strata take 4 to 10 ns a value, 2.5 nonzeros 5 to 11, 5 11 to 18."""
_CELLS = 50
"""Least mean number of cells of a stratum: with fewer, adding up the strata may take as long as it saves."""
_BYTES = 2**28
"""Most memory for the sums of strata; where they are far larger than caches, 5 nonzeros a row are as fast."""


def shared_rows(
    rows: Rows | StratumRows, n_genes: int, tally: Tally, *, sized: bool
) -> tuple[StratumRows, Rows, Tally] | None:
    """Strata of cells with the same design row, a row of each, and what to sum of them; None where that takes no less time.

    What tells strata apart is all that the design knows of the cells, so a covariate that varies from cell to cell makes as
    many strata as cells. `sized` says whether there are size factors.
    """
    if isinstance(rows, StratumRows):
        return None
    n = sum(len(cells) for cells, _ in rows.parts)
    height = 2 + (tally.expressed or sized) + tally.counts + sized  # arrays of Sums
    most = min(n // _CELLS, _BYTES // (8 * n_genes * height)) if n_genes else 0
    codes, first = np.full(rows.n, -1, np.int32), [np.empty(0, np.int64)]
    for cells, table in rows.parts:
        start = sum(map(len, first))
        if (found := numbered(table, most - start)) is None:
            return None
        codes[cells] = start + found
        first.append(cells[firsts(found)])
    each = rows.at(np.concatenate(first))
    nonzeros = np.diff(each.cut(0, each.n)[0].indptr)
    if nonzeros[codes[codes >= 0]].mean() < _NONZEROS:
        return None
    return StratumRows(codes, each.n), each, Tally(tally.expressed, tally.counts, strata=True)


def add_strata(
    product: Callable[[str, sp.csr_array], np.ndarray],
    rows: Rows | StratumRows,
    tally: Tally,
    sizes: np.ndarray | None = None,
) -> Sums:
    """Add up sums of strata.

    Parameters
    ----------
    product
        Gives W'S of the sums S of strata that have this name in `Sums`, for a matrix W with a row a stratum.
    rows
        The design rows of strata, or what coarser strata they are of.
    tally
        What is asked for, beside W'Y and y'y.
    sizes
        Sums of the size factors of strata, as in `Sums`.
    """
    W, number = rows.cut(0, rows.shape[0])
    own = np.flatnonzero(number >= 0)
    models = sp.csr_array((np.ones(len(own)), (own, number[own])), shape=(len(number), rows.n_models))
    yy = product("yy", models)
    none = np.zeros((0, yy.shape[1]))
    return Sums(
        WY=product("total", W) if W.shape[1] else none,
        yy=yy,
        seen=product("seen", models) if tally.expressed else none,
        counts=product("counts", models) if tally.counts else none,
        WC=product("weighted", sp.csr_array(W[:, tally.linear])) if len(tally.linear) else none,
        total=product("total", models) if tally.strata else none,
        weighted=product("weighted", models) if tally.weigh else none,
        sizes=none if sizes is None else models.T @ sizes,
    )
