"""The compiled loops over stored values: everything that costs time proportional to the data.

Both kernels add, for every stored value u of gene j in cell i, v² to ``yy[group[i], gene[j]]`` and x v to
``WY[c, gene[j]]`` for each nonzero x = W[i, c] of the cell's design row, where v is the transform of u or, with size
factors, of u / size[i]. If they are asked for (the arrays aren't empty), they count the cells with u ≠ 0 in
``seen[group[i], gene[j]]`` and add u to ``counts`` there, and add x u / size[i] to ``WC[linear[c], gene[j]]`` where
linear[c] >= 0. Where the groups are strata, they add v to ``total[group[i], gene[j]]`` and weight[i] u to ``weighted`` there.
Where cells have precisions, all but ``seen`` and ``counts`` are sums of what is added times precision[i].
They visit the cells of a group and gene in the same order, so the sums are the same to the last bit for every container,
block size and number of threads.

Each works on the genes (columns) `first` to `last` only: threads take different genes and never meet. A row or column is
first decoded (`decode`), then added: loops that do one thing each take less than half the time of one loop that does it
all. Plain loops instead of NumPy's functions, which take seconds to compile.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numba
import numpy as np

from flashmm_sc._stream.decode import LN2, MEMO, TABLE_SIZE, over_size, over_sizes, plain, take, taken

Transform: TypeAlias = Literal[None, "log1p", "log2p1"]
"""Of the values as they are read."""
_BATCH = 1024
"""Values of cells that are decoded before they are added, so few that they stay in the fastest cache."""
_KINDS: dict[Transform, int] = {None: 0, "log1p": 1, "log2p1": 2}


def kind_and_table(transform: Transform) -> tuple[int, np.ndarray]:
    """A transform as the kernels know it, with transformed small counts: looking a logarithm up is faster than computing it."""
    return _KINDS[transform], transformed(np.arange(TABLE_SIZE, dtype=np.float64), transform)


def transformed(values: np.ndarray, transform: Transform) -> np.ndarray:
    """The transform of many values at once, as `_log` of `decode` has that of one."""
    if transform is None:
        return values
    return np.log1p(values) / {"log1p": 1.0, "log2p1": LN2}[transform]


@numba.njit(nogil=True, cache=True, fastmath={"reassoc"})  # several values at a time
def row_totals(indptr, data, first, last, totals):
    """Write the sums of the values of cells `first` to `last` of a block of cells in CSR form."""
    for i in range(first, last):
        total = 0.0
        for k in range(indptr[i], indptr[i + 1]):
            total += np.float64(data[k])
        totals[i] = total


@numba.njit(nogil=True, cache=True)
def _longest(indptr):
    longest = 0
    for i in range(indptr.size - 1):
        longest = max(longest, indptr[i + 1] - indptr[i])
    return longest


@numba.njit(nogil=True, cache=True)
def _in_place(place, first, last):
    """Whether place[j] is j for all these."""
    elsewhere = 0
    for j in range(first, last):
        elsewhere += place[j] != j
    return elsewhere == 0


@numba.njit(nogil=True, cache=True)
def _cut(indices, start, stop, first):
    """Where the sorted indices from `start` to `stop` reach `first`."""
    while start < stop:
        middle = (start + stop) // 2
        if indices[middle] < first:
            start = middle + 1
        else:
            stop = middle
    return start


@numba.njit(nogil=True, cache=True, inline="always")
def _between(indptr, indices, i, first, last, n_genes):
    """Where the stored values of cell i of the genes `first` to `last` lie."""
    start, stop = indptr[i], indptr[i + 1]
    if first > 0:
        start = _cut(indices, start, stop, first)
    if last < n_genes:
        stop = _cut(indices, start, stop, last)
    return start, stop


@numba.njit(nogil=True, cache=True)
def _decode_rows(
    indptr, indices, data, first, last, gene, whole, cells, kind, table, size, memo, at, read, count, value, ends
):  # fmt: skip
    """Decode as many of these cells as there is room for; return how many, or which of them can't be used, and a column or -1.

    Cell r has the values from ends[r] to ends[r + 1].
    """
    n, filled = 0, 0
    for i in cells:
        start, stop = _between(indptr, indices, i, first, last, gene.size)
        if filled + stop - start > at.size:
            break
        filled += take(indices[start:stop], data[start:stop], gene, whole, at[filled:], read[filled:])
        n += 1
        ends[n] = filled
    bad = -1 if size.size else plain(read[:filled], kind, table, count, value)
    for r in range(n):
        a, b = ends[r], ends[r + 1]
        if size.size:
            bad = over_size(read[a:b], kind, size[cells[r]], memo, value[a:b])
            bad += a if bad >= 0 else 0
        if a <= bad < b:
            start, stop = _between(indptr, indices, cells[r], first, last, gene.size)
            return r, taken(indices[start:stop], gene, whole, bad - a)
    return n, -1


@numba.njit(nogil=True, cache=True)
def add_rows(
    indptr, indices, data, first, last, gene, group, order, Wp, Wi, Wx, kind, table, size, linear, weight, precision,
    WY, yy, seen, counts, WC, total, weighted
):  # fmt: skip
    """Add a block of cells in CSR form (sorted indices), in this order; return an unusable (row, column) or (-1, -1)."""
    room = max(_longest(indptr), _BATCH)
    ats, reads, count = np.empty(room, np.uint32), np.empty(room), np.empty(room, np.int32)
    values = np.empty(room) if kind != 0 or size.size else reads
    ends, memo, whole = np.zeros(_BATCH + 1, np.int64), np.empty(MEMO), _in_place(gene, first, last)
    done = 0
    while done < order.size:
        cells = order[done : done + _BATCH]
        n, bad = _decode_rows(
            indptr, indices, data, first, last, gene, whole, cells, kind, table, size, memo, ats, reads, count, values, ends
        )  # fmt: skip
        if bad >= 0:
            return cells[n], bad
        for r in range(n):
            i, own = cells[r], slice(ends[r], ends[r + 1])
            at, read, value = ats[own], reads[own], values[own]
            squares, f = yy[group[i]], precision[i] if precision.size else 1.0
            if total.size:
                both = total[group[i]]
                for k in range(at.size):
                    both[at[k]] += f * value[k]
                    squares[at[k]] += f * value[k] * value[k]
            else:
                for k in range(at.size):
                    squares[at[k]] += f * value[k] * value[k]
            for e in range(Wp[i], Wp[i + 1]):
                sums, x = WY[Wi[e]], f * Wx[e]
                for k in range(at.size):
                    sums[at[k]] += x * value[k]
            if weighted.size:
                expressed, sums, w = seen[group[i]], weighted[group[i]], f * weight[i]
                for k in range(at.size):
                    expressed[at[k]] += read[k] != 0.0
                    sums[at[k]] += w * read[k]
            elif seen.size:
                expressed = seen[group[i]]
                for k in range(at.size):
                    expressed[at[k]] += read[k] != 0.0
            if counts.size:
                sums = counts[group[i]]
                for k in range(at.size):
                    sums[at[k]] += read[k]
            if WC.size:
                for e in range(Wp[i], Wp[i + 1]):
                    c, x = linear[Wi[e]], f * Wx[e] / size[i]
                    if c >= 0:
                        sums = WC[c]
                        for k in range(at.size):
                            sums[at[k]] += x * read[k]
        done += n
    return -1, -1


@numba.njit(nogil=True, cache=True)
def add_columns(
    indptr, indices, data, first, last, gene, group, order, Wp, Wi, Wx, kind, table, size, linear, weight, precision,
    WY, yy, seen, counts, WC, total, weighted
):  # fmt: skip
    """Add a block of genes in CSC form (sorted indices); return the first unusable (row, column) or (-1, -1)."""
    cell = np.full(group.size, -1)
    for i in order:
        cell[i] = i
    longest = _longest(indptr)
    at, read, count = np.empty(longest, np.uint32), np.empty(longest), np.empty(longest, np.int32)
    value = np.empty(longest) if kind != 0 or size.size else read
    whole = _in_place(cell, 0, cell.size)
    sums, means = np.empty(WY.shape[0]), np.empty(WC.shape[0])
    for j in range(first, last):
        t = gene[j]
        if t < 0:
            continue
        start, stop = indptr[j], indptr[j + 1]
        found = take(indices[start:stop], data[start:stop], cell, whole, at, read)
        if size.size:
            bad = over_sizes(read[:found], kind, size, at[:found], value)
        else:
            bad = plain(read[:found], kind, table, count, value)
        if bad >= 0:
            return taken(indices[start:stop], cell, whole, bad), j
        for c in range(sums.size):
            sums[c] = WY[c, t]
        for k in range(found):
            i, v = np.int64(at[k]), value[k]
            f = precision[i] if precision.size else 1.0
            yy[group[i], t] += f * v * v
            for e in range(Wp[i], Wp[i + 1]):
                sums[Wi[e]] += f * Wx[e] * v
        for c in range(sums.size):
            WY[c, t] = sums[c]
        if total.size:
            for k in range(found):
                i = np.int64(at[k])
                f = precision[i] if precision.size else 1.0
                total[group[i], t] += f * value[k]
        if seen.size:
            for k in range(found):
                seen[group[at[k]], t] += read[k] != 0.0
        if counts.size:
            for k in range(found):
                counts[group[at[k]], t] += read[k]
        if weighted.size:
            for k in range(found):
                i = np.int64(at[k])
                f = precision[i] if precision.size else 1.0
                weighted[group[i], t] += f * weight[i] * read[k]
        if WC.size:
            for c in range(means.size):
                means[c] = WC[c, t]
            for k in range(found):
                i = np.int64(at[k])
                f = precision[i] if precision.size else 1.0
                for e in range(Wp[i], Wp[i + 1]):
                    c = linear[Wi[e]]
                    if c >= 0:
                        means[c] += (f * Wx[e] / size[i]) * read[k]
            for c in range(means.size):
                WC[c, t] = means[c]
    return -1, -1
