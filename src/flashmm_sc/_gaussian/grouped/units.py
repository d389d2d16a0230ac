"""Sums of the designs by levels that no cell shares, and by groups of cells."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashmm_sc._stats.cross import CrossProducts
    from flashmm_sc._stats.residual import ResidualGroup

MOST = 500
"""Most random columns of a level: its matrices are dense, and every gene has its own."""


@dataclass(frozen=True, eq=False)
class Units:
    """Random columns in levels, whose cells of each group are a unit.

    Attributes
    ----------
    order
        Columns of Z, level by level.
    first
        Where each level begins among them, L + 1.
    component
        Component of each.
    unit
        First unit of each level, L + 1.
    group
        Group of each unit.
    row
        Where the columns of each unit begin in `place`, units + 1.
    place
        The columns of units, counted from the first one of their level.
    source
        Their positions in W'Y of the group.
    N, NN
        Z'Z of the columns of each unit, one after another, and where they begin.
    E
        Z'Q of them, rows × p.
    n
        Cells of each group.
    XX
        Q'Q of each, groups × p × p.
    """

    order: np.ndarray
    first: np.ndarray
    component: np.ndarray
    unit: np.ndarray
    group: np.ndarray
    row: np.ndarray
    place: np.ndarray
    source: np.ndarray
    N: np.ndarray
    NN: np.ndarray
    E: np.ndarray
    n: np.ndarray
    XX: np.ndarray

    @classmethod
    def of(cls, cross: CrossProducts, d: Sequence[int], groups: Sequence[ResidualGroup], Li: np.ndarray) -> Units:
        """From the cross-products of all cells and of each group.

        Raises
        ------
        ValueError
            When levels overlap so much that they are too large.
        """
        level, order, first = _levels(cross.ZZ)
        p, width = len(Li), len(Li) + len(order)
        if (size := int(np.max(np.diff(first)))) > MOST:
            msg = (
                f"residual_by takes random terms that are nested in one another: these overlap, so that {size} effects (of "
                f"{len(order)}) depend on each other, more than {MOST}. Leave out a term that crosses the others, such as batches."
            )
            raise ValueError(msg)
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        found = []
        for g, one in enumerate(groups):
            its = one.cross(p, width)
            place = np.full(width, -1)
            place[one.columns] = np.arange(len(one.columns))
            columns = one.columns[one.columns >= p] - p
            for i in np.unique(level[columns]):
                own = columns[level[columns] == i]
                own = own[np.argsort(rank[own])]
                found.append(
                    (i, g, rank[own] - first[i], place[own + p], its.ZZ[own][:, own].toarray(), its.ZX[own] @ Li.T)
                )
        found.sort(key=lambda unit: unit[:2])
        number, group, places, sources, N, E = zip(*found, strict=True)
        sizes = np.array([len(one) for one in places])
        ends = lambda counts: np.concatenate([[0], np.cumsum(counts)])
        return cls(
            order=order,
            first=first,
            component=np.repeat(np.arange(len(d)), d)[order],
            unit=ends(np.bincount(number, minlength=len(first) - 1)),
            group=np.array(group),
            row=ends(sizes),
            place=np.concatenate(places),
            source=np.concatenate(sources),
            N=np.concatenate([one.ravel() for one in N]),
            NN=ends(sizes**2),
            E=np.ascontiguousarray(np.concatenate(E)),
            n=np.array([float(one.n) for one in groups]),
            XX=np.array([Li @ one.cross(p, width).XX @ Li.T for one in groups]),
        )

    @property
    def layout(self) -> tuple[np.ndarray, ...]:
        """What the kernel takes of it."""
        return (
            self.first,
            self.component,
            self.unit,
            self.group,
            self.row,
            self.place,
            self.N,
            self.NN,
            self.E,
        )

    @cached_property
    def rows(self) -> list[np.ndarray]:
        """Rows of `place` that are of each group."""
        own = np.repeat(self.group, np.diff(self.row))
        return [np.flatnonzero(own == g) for g in range(len(self.n))]

    @cached_property
    def inverses(self) -> list[sp.csr_array]:
        """(Z'Z)⁻ of the units of each group, side by side."""
        pairs = zip(self.group, np.diff(self.row), self.NN[:-1], strict=True)
        blocks = [(g, np.linalg.pinv(self.N[at : at + size**2].reshape(size, size))) for g, size, at in pairs]
        return [
            sp.block_diag([sp.coo_array(X) for its, X in blocks if its == g], format="csr") for g in range(len(self.n))
        ]


def _levels(ZZ: sp.csr_array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The level of each column, columns by level, and where each level begins."""
    count, level = connected_components(ZZ, directed=False)
    order = np.argsort(level, kind="stable")
    return level, order, np.searchsorted(level[order], np.arange(count + 1))
