"""The compiled loops over stored values: everything that costs time proportional to the data.

Both kernels add, for every stored value v of gene j in cell i, v² to ``yy[group[i], gene[j]]`` and x v to
``WY[c, gene[j]]`` for each nonzero x = W[i, c] of the cell's design row. They visit the cells of a gene in the same
order, so the sums are the same to the last bit for every container, block size and number of threads.

Each works on the genes (columns) `first` to `last` only: threads take different genes and never meet.
"""

from __future__ import annotations

import numba
import numpy as np

TRANSFORMS = {None: 0, "log1p": 1, "log2p1": 2}
_LN2 = np.log(2.0)
_TABLE_SIZE = 4096


def log_table(transform: str | None) -> np.ndarray:
    """Transformed small counts, since looking up a logarithm is faster than computing it."""
    counts = np.arange(_TABLE_SIZE, dtype=np.float64)
    return {None: counts, "log1p": np.log1p(counts), "log2p1": np.log1p(counts) / _LN2}[transform]


@numba.njit(inline="always")
def _transformed(v, kind, table):  # type: ignore[no-untyped-def]
    """Value on the fitted scale; NaN where it can't be used (NaN, infinite, or negative under a logarithm)."""
    if kind != 0:
        if not v >= 0.0:
            return np.nan
        k = int(v) if v < table.size else -1
        if k == v:
            return table[k]
        v = np.log1p(v) if kind == 1 else np.log1p(v) / _LN2
    return v if abs(v) < np.inf else np.nan


@numba.njit(nogil=True, cache=True)
def add_rows(indptr, indices, data, first, last, gene, group, Wp, Wi, Wx, kind, table, WY, yy):  # type: ignore[no-untyped-def]
    """Add a block of cells in CSR form (sorted indices); return the first unusable (row, column) or (-1, -1)."""
    for i in range(indptr.size - 1):
        g = group[i]
        if g < 0:
            continue
        start, stop = indptr[i], indptr[i + 1]
        if first > 0:
            start += np.searchsorted(indices[start:stop], first)
        for k in range(start, stop):
            j = indices[k]
            if j >= last:
                break
            t = gene[j]
            if t < 0:
                continue
            v = _transformed(np.float64(data[k]), kind, table)
            if np.isnan(v):
                return i, j
            yy[g, t] += v * v
            for e in range(Wp[i], Wp[i + 1]):
                WY[Wi[e], t] += Wx[e] * v
    return -1, -1


@numba.njit(nogil=True, cache=True)
def add_columns(indptr, indices, data, first, last, gene, group, Wp, Wi, Wx, kind, table, WY, yy):  # type: ignore[no-untyped-def]
    """Add a block of genes in CSC form (sorted indices); return the first unusable (row, column) or (-1, -1)."""
    one = np.zeros(WY.shape[0])
    for j in range(first, last):
        t = gene[j]
        if t < 0:
            continue
        one[:] = 0.0
        for k in range(indptr[j], indptr[j + 1]):
            i = indices[k]
            g = group[i]
            if g < 0:
                continue
            v = _transformed(np.float64(data[k]), kind, table)
            if np.isnan(v):
                return i, j
            yy[g, t] += v * v
            for e in range(Wp[i], Wp[i + 1]):
                one[Wi[e]] += Wx[e] * v
        for c in range(one.size):
            WY[c, t] = one[c]
    return -1, -1
