"""Stored values of a row or column, decoded: where each is added, as it is read, and its transform.

Each loop does one thing, over slices: of indices into whole arrays, which might count from the end, compilers don't take
several at a time. So most of the time is left for adding.
"""

from __future__ import annotations

import numba
import numpy as np

LN2 = np.log(2.0)
TABLE_SIZE = 4096
MEMO = 64
"""Counts of one cell of which logarithms are looked up, where they are divided by its size factor."""


@numba.njit(nogil=True, cache=True)
def decode(indices, data, place, whole, kind, table, size, row, memo, at, read, count, value):
    """Write `at` = place[j] of the stored indices j where that is not -1, the values as they are `read`, and transformed.

    `whole` says that place[j] is j. Values are divided by `size`, if there is any, of cell `row`, or, if row < 0, of the
    cell that is the index, where place[j] is j or -1. Logarithms of a row's small counts are kept in `memo`. Without size and
    logarithm, `value` may be `read`.

    Return how many, or -1 - j for the first that can't be used: NaN, infinite, or negative under a logarithm.
    """
    found = _take(indices, data, place, whole, at, read)
    values, out = read[:found], value[:found]
    if not size.size:
        bad = _finite(values, out) if kind == 0 else _logarithms(values, kind, table, count[:found], out)
    elif row < 0:
        bad = _over_sizes(values, kind, size, at[:found], out)
    else:
        bad = _over_size(values, kind, size[row], memo, out)
    if bad < 0:
        return found
    for k in range(indices.size):
        bad -= whole or place[indices[k]] >= 0
        if bad < 0:
            return -1 - np.int64(indices[k])
    return found


@numba.njit(nogil=True, cache=True)
def _take(indices, data, place, whole, at, read):
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
def _log(v, kind):
    return np.log1p(v) if kind == 1 else np.log1p(v) / LN2


@numba.njit(nogil=True, cache=True)
def _finite(values, out):
    """Copy values; return the first that isn't finite, or -1, as the functions that follow."""
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
def _over_size(values, kind, size, memo, out):
    """Divide the values of a cell."""
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
def _over_sizes(values, kind, size, at, out):
    """Divide the values of a gene."""
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
