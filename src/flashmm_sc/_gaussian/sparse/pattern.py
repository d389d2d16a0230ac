"""The pattern of a sparse factorisation that all genes share: ordered once, laid out once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from flashmm_sc._base.errors import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashmm_sc._gaussian.gram import Gram

_MOST_PAIRS = 3e8
"""Steps of a factorisation: a few seconds a gene, and places of 4 bytes to be kept."""


@dataclass(frozen=True, eq=False)
class Pattern:
    """Where L of H = L diag(δ) L' has entries, by columns; X's columns, from q on, are dense.

    Attributes
    ----------
    order
        Columns of Z in the order of elimination.
    start, row
        First entry of each column, the diagonal, and the row of each entry.
    value
        W'W on the pattern, without B.
    kind
        Component of each column and row of the entries (K for X): 2 × entries.
    target
        For all pairs of entries below the diagonal of a column, where the entry of their two rows is.
    """

    order: np.ndarray
    start: np.ndarray
    row: np.ndarray
    value: np.ndarray
    kind: np.ndarray
    target: np.ndarray

    @property
    def entries(self) -> int:
        """Numbers of a factor."""
        return self.row.size

    @property
    def pairs(self) -> int:
        """Steps of a factorisation."""
        return self.target.size

    @classmethod
    def of(cls, gram: Gram) -> Pattern:
        """Order and lay out the factorisation, eliminating the columns with fewest neighbours first.

        Raises
        ------
        ValueError
            When it would fill in.
        """
        ZZ, ZX, XX, d = gram.ZZ, gram.ZX, gram.XX, gram.d
        q, p = ZX.shape
        order = _fewest_neighbours(ZZ)
        right = ZX[order]
        parts: list[list[Any]] = [[ZZ[order][:, order], right], [right.T, XX]]
        whole = sp.block_array(parts) if p else parts[0][0]
        lower = sp.csc_array(sp.tril(whole))
        start, row = _fill(lower, q)
        column = np.repeat(np.arange(q + p), np.diff(start))
        _check_fill(np.diff(start), d)
        place = column * (q + p) + row
        at = lambda i, j: np.searchsorted(place, j * (q + p) + i)
        value = np.zeros(row.size)
        value[at(lower.indices, np.repeat(np.arange(q + p), np.diff(lower.indptr)))] = lower.data
        pairs = (row[a:b] for a, b in zip(start[:-1] + 1, start[1:], strict=True))
        target = np.concatenate(
            [at(rows[i], rows[j]).astype(np.uint32) for rows in pairs for i, j in [_triangle(rows.size)]]
        )
        component = np.append(np.repeat(np.arange(len(d)), d)[order], np.full(p, len(d)))
        kind = np.stack([component[row], component[column]]).astype(np.uint8)
        return cls(order, start, row.astype(np.uint32), value, kind, target)


def _check_fill(sizes: np.ndarray, d: Sequence[int]) -> None:
    """Refuse components that are crossed so densely that eliminating one joins all levels of another."""
    if (sizes.astype(float) ** 2).sum() / 2 > _MOST_PAIRS:
        msg = (
            f"Random components of {listed(d)} columns are crossed with each other too densely to be fitted together; leave "
            "out one, make one a fixed term, or fit one model for each group of cells (groupby)."
        )
        raise ValueError(msg)


def _fewest_neighbours(ZZ: sp.csr_array) -> np.ndarray:
    """Order of elimination of the random columns that leaves few new entries: minimum degree, as SuperLU finds it."""
    pattern = sp.csc_matrix(ZZ, copy=True)
    pattern.data[:] = 1e-3 / pattern.shape[0]
    pattern = pattern + sp.eye(pattern.shape[0], format="csc")
    lu = splu(pattern, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    return np.argsort(lu.perm_c)


def _fill(lower: sp.csc_array, q: int) -> tuple[np.ndarray, np.ndarray]:
    """Pattern of L, columns of rows with the diagonal first; X's columns, from q on, are dense."""
    N = lower.shape[0]
    rows: list[np.ndarray] = []
    children: list[list[np.ndarray]] = [[] for _ in range(N)]
    for j in range(N):
        own = lower.indices[lower.indptr[j] : lower.indptr[j + 1]] if j < q else np.arange(j, N)
        below = np.unique(np.concatenate([own, *children[j], [j]]))
        rows.append(below)
        if below.size > 1:
            children[below[1]].append(below[1:])
    return np.append(0, np.cumsum([x.size for x in rows])), np.concatenate(rows)


def _triangle(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (i, j), i >= j, by j."""
    j, i = np.triu_indices(size)
    return i, j
