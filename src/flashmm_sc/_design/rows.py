"""Design rows of cells, made for some cells at a time: the design of an atlas never exists as a whole."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp

from flashmm_sc._base.rank import untangled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHUNK = 2**17
"""Cells encoded at a time: so many that formulaic's own time doesn't count, some 10 MB of design rows."""
_ROUNDS = 4
"""Most times that combinations are left out: powers up to the fourth of a number far from zero take three, and one to spare."""
_ALIASED = 1e-14
"""Squared norm, relative to the column's own, below which a column depends on others: 1e-7 of its size, as in R."""
_ALIKE = 50
"""Cells that share a design row, on average, from which rows are made once and looked up: a tenth of the time."""


class Piece(NamedTuple):
    """What is known of some cells: their number and, for each model, which of them are its own and a table of these."""

    n: int
    parts: list[tuple[np.ndarray, Any]]


@dataclass(frozen=True)
class Encoder:
    """Makes design rows W = [X Z], the columns of all models side by side. It can be sent to other processes.

    Attributes
    ----------
    encode
        For each model a function that makes of some rows of its table their design rows.
    start
        First column of each model.
    width
        Columns of all models.
    """

    encode: Sequence[Callable[[Any], sp.csr_array]]
    start: Sequence[int]
    width: int

    def __call__(self, piece: Piece) -> tuple[sp.csr_array, np.ndarray]:
        """Design rows of the cells, n × width, and the number of each cell's model: -1 where it belongs to none."""
        number = np.full(piece.n, -1, np.int32)
        rows = []
        for i, (cells, table) in enumerate(piece.parts):
            number[cells] = i
            if len(cells):
                own = self.encode[i](table)
                shifted = (own.data, own.indices + self.start[i], own.indptr)
                rows.append(sp.csr_array(shifted, shape=(len(cells), self.width)))
        if len(rows) == 1 and len(cells := piece.parts[number.max()][0]) == piece.n:
            return rows[0], number
        rows.append(sp.csr_array((1, self.width)))
        order = np.concatenate([cells for cells, _ in piece.parts])
        place = np.full(piece.n, len(order))
        place[order] = np.arange(len(order))
        return sp.csr_array(sp.vstack(rows, format="csr"))[place], number


class Rows:
    """Design rows of n cells, made as they are asked for.

    Parameters
    ----------
    n
        Number of cells.
    encoder
        Makes the rows.
    parts
        For each model its cells (ascending) and what is known of them, one row each: a DataFrame or a matrix, or numbers
        of design rows that the model's encoder has.
    """

    def __init__(self, n: int, encoder: Encoder, parts: list[tuple[np.ndarray, Any]]) -> None:
        self.n, self.encoder, self.parts = n, encoder, parts
        self._last: tuple[int, int, sp.csr_array, np.ndarray] | None = None

    @classmethod
    def of(cls, W: sp.csr_array) -> Rows:
        """Rows of one model that are there already."""
        n, width = W.shape
        return cls(n, Encoder([sp.csr_array], [0], width), [(np.arange(n), W)])

    @classmethod
    def of_table(cls, encode: Callable[[Any], sp.csr_array], width: int, table: pd.DataFrame) -> Rows:
        """Rows of cells that are all of one model; of a table of many cells that are alike each row is made once."""
        n = len(table)
        if n > CHUNK and (codes := numbered(table, n // _ALIKE)) is not None:
            with suppress(ValueError):  # which all cells will raise as well, and tell of themselves
                few = encode(table.iloc[firsts(codes)])
                return cls(n, Encoder([_LookedUp(few)], [0], width), [(np.arange(n), codes)])
        return cls(n, Encoder([encode], [0], width), [(np.arange(n), table)])

    @property
    def shape(self) -> tuple[int, int]:
        """Cells × columns."""
        return self.n, self.encoder.width

    @property
    def n_models(self) -> int:
        """How many models there are."""
        return len(self.parts)

    @property
    def cells(self) -> np.ndarray:
        """Cells that belong to a model, ascending."""
        return np.sort(np.concatenate([cells for cells, _ in self.parts]))

    def piece(self, start: int, stop: int) -> Piece:
        """What is known of the cells from `start` to `stop`."""
        parts = []
        for cells, table in self.parts:
            a, b = np.searchsorted(cells, (start, stop))
            parts.append((cells[a:b] - start, _of_table(table, slice(a, b))))
        return Piece(stop - start, parts)

    def at(self, cells: np.ndarray) -> Rows:
        """Rows of some cells, in this order; those of cell -1 belong to no model."""
        parts = []
        for own, table in self.parts:
            place = np.minimum(np.searchsorted(own, cells), len(own) - 1)
            found = np.flatnonzero(own[place] == cells)
            parts.append((found, _of_table(table, place[found])))
        return Rows(len(cells), self.encoder, parts)

    def cut(self, start: int, stop: int) -> tuple[sp.csr_array, np.ndarray]:
        """Design rows and models of the cells from `start` to `stop`.

        The chunk of cells that they lie in is kept, as the next request mostly goes on there; what it still needs of a
        chunk is not made again.
        """
        if self._last is None or not (self._last[0] <= start and stop <= self._last[1]):
            made, first = [], start // CHUNK * CHUNK
            new = first
            if self._last is not None and self._last[0] <= start <= self._last[1]:
                first, new = start, self._last[1]
                made = [self.cut(first, new)] if first < new else []
            last = min(max(stop, new + CHUNK), self.n)
            made += [self.encoder(self.piece(a, min(a + CHUNK, last))) for a in range(new, last, CHUNK)]
            rows = made[0][0] if len(made) == 1 else sp.csr_array(sp.vstack([W for W, _ in made], format="csr"))
            self._last = first, last, rows, np.concatenate([number for _, number in made])
        first, last, rows, number = self._last
        if (start, stop) == (first, last):
            return rows, number
        return rows[start - first : stop - first], number[start - first : stop - first]

    def untangled(self, p: int, weights: np.ndarray | None = None) -> tuple[Rows, sp.csr_array, np.ndarray | None]:
        """Rows of one model, their W'W, and T: rows [X T, Z] where columns of X, the first p, nearly depend on those before.

        T is None where they don't, and where a column depends on others altogether.
        """
        rows, gram, basis = self, self.gram(weights), None
        first = gram.diagonal()[:p]
        for _ in range(_ROUNDS):
            turn = untangled(gram[:p, :p].toarray())
            if turn is None:
                break
            basis = turn if basis is None else basis @ turn
            encode = turned(self.encoder.encode[0], basis)
            rows = Rows(self.n, Encoder([encode], [0], self.encoder.width), self.parts)
            gram = rows.gram(weights)
            if (gram.diagonal()[:p] < _ALIASED * first).any():
                return self, self.gram(weights), None
        return rows, gram, basis

    def gram(self, weights: np.ndarray | None = None) -> sp.csr_array:
        """W'W, or with weights w of the cells W'diag(w)W."""
        encode = self.encoder.encode[0]
        if isinstance(encode, _LookedUp) and self.n_models == 1 and weights is None:
            return sp.csr_array(_gram(encode.rows, np.bincount(self.parts[0][1])))
        total = sp.csr_array((self.encoder.width, self.encoder.width))
        for start in range(0, self.n, CHUNK):
            stop = min(start + CHUNK, self.n)
            rows, _ = self.cut(start, stop)
            if weights is not None:
                root = np.repeat(np.sqrt(weights[start:stop]), np.diff(rows.indptr))
                rows = sp.csr_array((rows.data * root, rows.indices, rows.indptr), shape=rows.shape)
            total = total + _gram(rows)
        return sp.csr_array(total)


@dataclass(frozen=True, eq=False)
class _LookedUp:
    """Encodes numbers of design rows that are there."""

    rows: sp.csr_array

    def __call__(self, codes: np.ndarray) -> sp.csr_array:
        return self.rows[codes]


@dataclass(frozen=True, eq=False)
class _Turned:
    """Makes of design rows [X Z] those of [X T, Z]."""

    encode: Callable[[Any], sp.csr_array]
    basis: np.ndarray

    def __call__(self, table: Any) -> sp.csr_array:
        rows = self.encode(table)
        p = len(self.basis)
        out = sp.csr_array(sp.hstack([rows[:, :p] @ sp.csr_array(self.basis), rows[:, p:]], format="csr"))
        out.sort_indices()
        return out


def turned(encode: Callable[[Any], sp.csr_array], basis: np.ndarray | None) -> Callable[[Any], sp.csr_array]:
    """What makes design rows of [X T, Z], of what makes those of [X Z]."""
    if basis is None:
        return encode
    return (
        _LookedUp(_Turned(sp.csr_array, basis)(encode.rows))
        if isinstance(encode, _LookedUp)
        else _Turned(encode, basis)
    )


def numbered(table: Any, most: int) -> np.ndarray | None:
    """Number what differs among the rows of a table, in the order in which they come; None if that is more than `most`.

    Numbers of rows, as those that are looked up have them, are such numbers already.
    """
    if isinstance(table, np.ndarray):
        return table if table.max(initial=-1) < most else None
    first = [table.iloc[:CHUNK]] if len(table) > CHUNK else []  # which tell already if cells differ
    for some in [*first, table]:
        codes, n = np.zeros(len(some), np.int32), 1
        for name in some:
            own, found = pd.factorize(some[name], use_na_sentinel=False)
            if n > 1:
                own, found = pd.factorize(codes * np.int64(len(found)) + own)
            codes, n = own.astype(np.int32), len(found)
            if n > most:
                return None
    return codes if n <= most else None


def firsts(codes: np.ndarray) -> np.ndarray:
    """The first cell of each number, where these are in the order in which they come."""
    return np.flatnonzero(np.diff(np.maximum.accumulate(codes), prepend=-1))


@dataclass(frozen=True, eq=False)
class StratumRows:
    """Cells of strata, as `Rows` of models that have no columns.

    Attributes
    ----------
    codes
        Number of each cell's stratum, -1 where it is in none.
    n_models
        How many strata there are.
    """

    codes: np.ndarray
    n_models: int

    @property
    def shape(self) -> tuple[int, int]:
        """Cells × columns."""
        return len(self.codes), 0

    @property
    def cells(self) -> np.ndarray:
        """Cells that belong to a stratum, ascending."""
        return np.flatnonzero(self.codes >= 0)

    @property
    def encoder(self) -> Callable[[np.ndarray], tuple[sp.csr_array, np.ndarray]]:
        """Makes of a piece its rows; it can be sent to other processes."""
        return _without_columns

    def piece(self, start: int, stop: int) -> np.ndarray:
        """What is known of the cells from `start` to `stop`."""
        return self.codes[start:stop]

    def at(self, cells: np.ndarray) -> StratumRows:
        """Rows of some cells, in this order; those of cell -1 belong to no stratum."""
        return StratumRows(np.where(cells < 0, -1, self.codes[cells]).astype(np.int32), self.n_models)

    def cut(self, start: int, stop: int) -> tuple[sp.csr_array, np.ndarray]:
        """Rows without columns and strata of the cells from `start` to `stop`."""
        return _without_columns(self.piece(start, stop))


def _of_table(table: Any, which: slice | np.ndarray) -> Any:
    return table.iloc[which] if isinstance(table, pd.DataFrame) else table[which]


def _without_columns(codes: np.ndarray) -> tuple[sp.csr_array, np.ndarray]:
    return sp.csr_array((len(codes), 0)), codes.astype(np.int32, copy=False)


def _gram(W: sp.csr_array, counts: np.ndarray | None = None) -> sp.csr_array:
    """W'W of a chunk, or of so many cells of each row, to a few eps.

    Where cells of a donor share a value, all roundings of a running sum go one way: of a million squares hardly 11 digits
    are right, and few once a covariate far from zero is centred. So W is split: products of the leading 16 bits of its
    columns add up exactly, and those of the rest are 2¹⁶ times smaller. Indicators and small integers have no rest.
    """
    _, exponent = np.frexp(abs(W).max(axis=0).toarray().ravel())
    unit = np.ldexp(1.0, exponent - 16)[W.indices]
    lead, rest = W.copy(), W.copy()
    lead.data = np.rint(W.data / unit) * unit
    rest.data = W.data - lead.data
    rest.eliminate_zeros()
    each = lambda some: some if counts is None else sp.diags_array(counts.astype(np.float64), format="csr") @ some
    if not rest.nnz:
        return lead.T @ each(lead)
    crossed = lead.T @ each(rest)
    return lead.T @ each(lead) + (crossed + crossed.T + rest.T @ each(rest))
