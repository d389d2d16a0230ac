"""Stored values of a row or column, decoded: where each is added, as it is read, and its transform.

Each loop does one thing, over slices: of indices into whole arrays, which might count from the end, compilers don't take
several at a time. So most of the time is left for adding. A call takes as long as 100 values: cells that have few are
transformed together.
"""

from __future__ import annotations

import numba
import numpy as np

LN2 = np.log(2.0)
TABLE_SIZE = 4096
MEMO = 64
"""Counts of one cell of which logarithms are looked up, where they are divided by its size factor."""


@numba.njit(nogil=True, cache=True, inline="always")
def take(indices, data, place, whole, at, read):
    """Write `at` = place[j] of the stored indices j where that is not -1, and the values as they are `read`; return how many.

    `whole` says that place[j] is j.
    """
    if whole:
        for k in range(indices.size):
            at[k] = indices[k]
        for k in range(indices.size):
            read[k] = data[k]
        return indices.size
    found = 0
    for k in range(indices.size):
        t = place[np.uint32(indices[k])]
        at[found], read[found] = t, data[k]
        found += t >= 0
    return found


@numba.njit(nogil=True, cache=True)
def taken(indices, place, whole, k):
    """The index of the k-th value that is taken."""
    for j in indices:
        k -= whole or place[j] >= 0
        if k < 0:
            break
    return np.int64(j)


@numba.njit(nogil=True, cache=True)
def plain(values, kind, table, count, out):
    """Write the transform of values; return the first that can't be used, or -1: NaN, infinite, or negative under a logarithm.

    Without a logarithm, `out` may be `values`. `count` is room for as many.
    """
    return _finite(values, out) if kind == 0 else _logarithms(values, kind, table, count, out)


@numba.njit(nogil=True, cache=True)
def _log(v, kind):
    return np.log1p(v) if kind == 1 else np.log1p(v) / LN2


@numba.njit(nogil=True, cache=True)
def _finite(values, out):
    """Copy values."""
    wrong = 0
    for k in range(values.size):
        wrong += not abs(values[k]) < np.inf
    for k in range(values.size):
        out[k] = values[k]
    return _first(values, 0) if wrong else -1


@numba.njit(nogil=True, cache=True)
def _logarithms(values, kind, table, count, out):
    """Look logarithms of small counts up, compute others."""
    others = 0
    for k in range(values.size):
        v = values[k]
        count[k] = np.int32(v) if (v >= 0.0) & (v < TABLE_SIZE) else 0
        others += count[k] != v
    for k in range(values.size):
        out[k] = table[np.uint32(count[k])]
    if others:
        for k in range(values.size):
            v = values[k]
            if count[k] != v:
                if not 0.0 <= v < np.inf:
                    return k
                out[k] = _log(v, kind)
    return -1


@numba.njit(nogil=True, cache=True)
def over_size(values, kind, size, memo, out):
    """As `plain`, of the values of a cell over its size; logarithms of small counts are kept in `memo`."""
    bad = _first(values, kind)
    if bad >= 0:
        return bad
    if kind == 0:
        for k in range(values.size):
            out[k] = values[k] / size
        return -1
    for k in range(memo.size):
        memo[k] = -1.0
    for k in range(values.size):
        v = values[k]
        count = np.uint32(v) if v < memo.size else np.uint32(0)
        if count != v:
            out[k] = _log(v / size, kind)
            continue
        if memo[count] < 0.0:
            memo[count] = _log(v / size, kind)
        out[k] = memo[count]
    return -1


@numba.njit(nogil=True, cache=True)
def over_sizes(values, kind, size, at, out):
    """As `plain`, of the values of a gene, each over the size of the cell that it is `at`."""
    for k in range(values.size):
        v = values[k] / size[at[k]]
        out[k] = v if kind == 0 else _log(v, kind)
    return _first(values, kind)


@numba.njit(nogil=True, cache=True)
def _first(values, kind):
    """The first value that can't be used, or -1."""
    lowest, wrong = -np.inf if kind == 0 else 0.0, 0
    for k in range(values.size):
        wrong += not ((values[k] >= lowest) & (abs(values[k]) < np.inf))
    if wrong:
        for k in range(values.size):
            if not (values[k] >= lowest and abs(values[k]) < np.inf):
                return k
    return -1
