"""The compiled loops over stored values: everything that costs time proportional to the data.

Both kernels add, for every stored value u of gene j in cell i, v² to ``yy[group[i], gene[j]]`` and x v to
``WY[c, gene[j]]`` for each nonzero x = W[i, c] of the cell's design row, where v is the transform of u or, with size
factors, of u / size[i]. If they are asked for (the arrays aren't empty), they count the cells with u ≠ 0 in
``seen[group[i], gene[j]]`` and add u to ``counts`` there, and add x u / size[i] to ``WC[linear[c], gene[j]]`` where
linear[c] >= 0. Where the groups are strata, they add v to ``total[group[i], gene[j]]`` and weight[i] u to ``weighted`` there.
They visit the cells of a group and gene in the same order, so the sums are the same to the last bit for every container,
block size and number of threads.

Each works on the genes (columns) `first` to `last` only: threads take different genes and never meet. A row or column is
first decoded, then added: loops that do one thing each take less than half the time of one loop that does it all. Plain
loops instead of NumPy's functions, which take seconds to compile.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numba
import numpy as np

Transform: TypeAlias = Literal[None, "log1p", "log2p1"]
"""Of the values as they are read."""
_KINDS: dict[Transform, int] = {None: 0, "log1p": 1, "log2p1": 2}
_LN2 = np.log(2.0)
_TABLE_SIZE = 4096
_MEMO = 64
"""Counts of one cell of which logarithms are looked up, where they are divided by its size factor."""


def kind_and_table(transform: Transform) -> tuple[int, np.ndarray]:
    """A transform as the kernels know it, with transformed small counts: looking a logarithm up is faster than computing it."""
    counts = np.arange(_TABLE_SIZE, dtype=np.float64)
    table = {None: counts, "log1p": np.log1p(counts), "log2p1": np.log1p(counts) / _LN2}[transform]
    return _KINDS[transform], table


@numba.njit(nogil=True, cache=True)
def _log(v, kind):
    return np.log1p(v) if kind == 1 else np.log1p(v) / _LN2


@numba.njit(nogil=True, cache=True)
def _decode(indices, data, start, stop, last, place, kind, table, at, value):
    """Write `place[j]` and the transformed value of the stored values before index `last`; where place is -1, skip.

    Return how many, or -1 - k for the first k that can't be used: NaN, infinite, or negative under a logarithm.
    """
    size = 0
    for k in range(start, stop):
        j = indices[k]
        if j >= last:
            break
        t = place[j]
        if t < 0:
            continue
        v = np.float64(data[k])
        if kind != 0:
            if not v >= 0.0:
                return -1 - k
            count = np.uint32(v) if v < table.size else np.uint32(0)
            v = table[count] if count == v else _log(v, kind)
        if not abs(v) < np.inf:
            return -1 - k
        at[size], value[size] = t, v
        size += 1
    return size


@numba.njit(nogil=True, cache=True)
def _decode_read(indices, data, start, stop, last, place, kind, table, size, row, memo, at, value, read):
    """As `_decode`, of values divided by `size` (of cell `row`, or of the cell that is the index if row < 0).

    Values as they are read go to `read`. Logarithms of a row's small counts are kept in `memo`, NaN where there is none.
    """
    found = 0
    for k in range(start, stop):
        j = indices[k]
        if j >= last:
            break
        t = place[j]
        if t < 0:
            continue
        u = np.float64(data[k])
        if not abs(u) < np.inf or (kind != 0 and not u >= 0.0):
            return -1 - k
        v = u / size[row if row >= 0 else j] if size.size else u
        if kind != 0:
            known = memo if size.size else table
            count = np.uint32(u) if u < known.size else np.uint32(0)
            if count != u or count == 0:
                v = _log(v, kind)
            elif known[count] >= 0.0:
                v = known[count]
            else:
                v = memo[count] = _log(v, kind)
        at[found], value[found], read[found] = t, v, u
        found += 1
    return found


@numba.njit(nogil=True, cache=True, fastmath={"reassoc"})  # several values at a time
def row_totals(indptr, data, first, last, totals):
    """Write the sums of the values of cells `first` to `last` of a block of cells in CSR form."""
    for i in range(first, last):
        total = 0.0
        for k in range(indptr[i], indptr[i + 1]):
            total += np.float64(data[k])
        totals[i] = total


@numba.njit(nogil=True, cache=True)
def add_rows(
    indptr, indices, data, first, last, gene, group, order, Wp, Wi, Wx, kind, table, size, linear, weight,
    WY, yy, seen, counts, WC, total, weighted
):  # fmt: skip
    """Add a block of cells in CSR form (sorted indices), in this order; return an unusable (row, column) or (-1, -1)."""
    longest, changed = 0, size.size > 0 or (kind != 0 and seen.size + weighted.size > 0)
    for i in range(indptr.size - 1):
        longest = max(longest, indptr[i + 1] - indptr[i])
    at, value = np.empty(longest, np.uint32), np.empty(longest)
    read, memo = np.empty(longest) if changed else value, np.empty(_MEMO if changed else 0)
    for i in order:
        start, stop = indptr[i], indptr[i + 1]
        if first > 0:
            end = stop
            while start < end:
                middle = (start + end) // 2
                if indices[middle] < first:
                    start = middle + 1
                else:
                    end = middle
        if changed:
            for k in range(memo.size):
                memo[k] = np.nan
            found = _decode_read(indices, data, start, stop, last, gene, kind, table, size, i, memo, at, value, read)
        else:
            found = _decode(indices, data, start, stop, last, gene, kind, table, at, value)
        if found < 0:
            return i, np.int64(indices[-1 - found])
        squares = yy[group[i]]
        if total.size:
            both = total[group[i]]
            for k in range(found):
                both[at[k]] += value[k]
                squares[at[k]] += value[k] * value[k]
        else:
            for k in range(found):
                squares[at[k]] += value[k] * value[k]
        for e in range(Wp[i], Wp[i + 1]):
            sums, x = WY[Wi[e]], Wx[e]
            for k in range(found):
                sums[at[k]] += x * value[k]
        if weighted.size:
            cells, sums, w = seen[group[i]], weighted[group[i]], weight[i]
            for k in range(found):
                cells[at[k]] += read[k] != 0.0
                sums[at[k]] += w * read[k]
        elif seen.size:
            cells = seen[group[i]]
            for k in range(found):
                cells[at[k]] += read[k] != 0.0
        if counts.size:
            sums = counts[group[i]]
            for k in range(found):
                sums[at[k]] += read[k]
        if WC.size:
            for e in range(Wp[i], Wp[i + 1]):
                c, x = linear[Wi[e]], Wx[e] / size[i]
                if c >= 0:
                    sums = WC[c]
                    for k in range(found):
                        sums[at[k]] += x * read[k]
    return -1, -1


@numba.njit(nogil=True, cache=True)
def add_columns(
    indptr, indices, data, first, last, gene, group, order, Wp, Wi, Wx, kind, table, size, linear, weight,
    WY, yy, seen, counts, WC, total, weighted
):  # fmt: skip
    """Add a block of genes in CSC form (sorted indices); return the first unusable (row, column) or (-1, -1)."""
    changed = size.size > 0 or (kind != 0 and seen.size + weighted.size > 0)
    cell = np.full(group.size, -1)
    for i in order:
        cell[i] = i
    longest = 0
    for i in range(indptr.size - 1):
        longest = max(longest, indptr[i + 1] - indptr[i])
    at, value, memo = np.empty(longest, np.uint32), np.empty(longest), np.empty(0)
    read = np.empty(longest) if changed else value
    sums, means = np.empty(WY.shape[0]), np.empty(WC.shape[0])
    for j in range(first, last):
        t = gene[j]
        if t < 0:
            continue
        start, stop = indptr[j], indptr[j + 1]
        if changed:
            found = _decode_read(
                indices, data, start, stop, cell.size, cell, kind, table, size, -1, memo, at, value, read
            )
        else:
            found = _decode(indices, data, start, stop, cell.size, cell, kind, table, at, value)
        if found < 0:
            return np.int64(indices[-1 - found]), j
        for c in range(sums.size):
            sums[c] = WY[c, t]
        for k in range(found):
            i, v = np.int64(at[k]), value[k]
            yy[group[i], t] += v * v
            for e in range(Wp[i], Wp[i + 1]):
                sums[Wi[e]] += Wx[e] * v
        for c in range(sums.size):
            WY[c, t] = sums[c]
        if total.size:
            for k in range(found):
                total[group[at[k]], t] += value[k]
        if seen.size:
            for k in range(found):
                seen[group[at[k]], t] += read[k] != 0.0
        if counts.size:
            for k in range(found):
                counts[group[at[k]], t] += read[k]
        if weighted.size:
            for k in range(found):
                i = np.int64(at[k])
                weighted[group[i], t] += weight[i] * read[k]
        if WC.size:
            for c in range(means.size):
                means[c] = WC[c, t]
            for k in range(found):
                i = np.int64(at[k])
                for e in range(Wp[i], Wp[i + 1]):
                    c = linear[Wi[e]]
                    if c >= 0:
                        means[c] += (Wx[e] / size[i]) * read[k]
            for c in range(means.size):
                WC[c, t] = means[c]
    return -1, -1
