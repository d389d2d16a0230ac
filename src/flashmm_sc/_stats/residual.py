"""Sums over groups of cells that have a residual variance each: of each group those of its own columns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from flashmm_sc._stats.cross import CrossProducts
from flashmm_sc._stats.summary import SummaryStats

if TYPE_CHECKING:
    from collections.abc import Sequence

    import scipy.sparse as sp


@dataclass(frozen=True, eq=False)
class ResidualGroup:
    """The design of the cells of one group.

    Attributes
    ----------
    name
        Name of the group.
    n
        Number of its cells.
    columns
        Columns of W = [X Z] that are not zero in all of them, ascending.
    gram
        W'W of these columns.
    """

    name: str
    n: int
    columns: np.ndarray
    gram: sp.csr_array

    def without_fixed(self, p: int) -> ResidualGroup:
        """The same without the first p columns, X's."""
        own = np.flatnonzero(self.columns >= p)
        return replace(self, columns=self.columns[own] - p, gram=self.gram[own][:, own])

    def cross(self, p: int, width: int) -> CrossProducts:
        """The cross-products of all columns, the first p of them X's."""
        gram = self.gram.tocoo()
        whole = type(gram)((gram.data, (self.columns[gram.row], self.columns[gram.col])), shape=(width, width))
        return CrossProducts.of(whole.tocsr(), p)


@dataclass(frozen=True, kw_only=True, eq=False)
class ResidualStats(SummaryStats):
    """Sums over all cells, as they add up, and over those of each group.

    Attributes
    ----------
    groups
        Their designs.
    WY, own_yy
        W'Y of the columns of each group, and sums of squares, groups × genes.
    """

    groups: tuple[ResidualGroup, ...]
    WY: tuple[np.ndarray, ...]
    own_yy: np.ndarray

    @classmethod
    def of_groups(
        cls,
        cross: CrossProducts,
        groups: Sequence[ResidualGroup],
        WY: Sequence[np.ndarray],
        yy: np.ndarray,
        **labels: Any,
    ) -> ResidualStats:
        """From the cross-products of all cells, and the designs and sums of each group; `labels` as for `SummaryStats`."""
        p, whole = len(cross.XX), np.zeros((cross.width, yy.shape[1]))
        for group, own in zip(groups, WY, strict=True):
            whole[group.columns] += own
        sums = {"XY": whole[:p], "ZY": whole[p:], "yy": yy.sum(axis=0)} | vars(cross)
        n = sum(group.n for group in groups)
        return cls(**sums, n=n, groups=tuple(groups), WY=tuple(WY), own_yy=yy, **labels)

    @property
    def theta_names(self) -> list[str]:
        """Names of the variances, those of the residuals last."""
        return [*self.component_names, *residual_names([group.name for group in self.groups])]


def residual_names(groups: list[str]) -> list[str]:
    """Names of the residual variances of groups."""
    return [f"residual[{name}]" for name in groups]
