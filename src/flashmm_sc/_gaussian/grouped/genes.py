"""The data of genes whose cells have residual variances by group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._gaussian.genes import Genes

if TYPE_CHECKING:
    from flashmm_sc._gaussian.grouped.covariance import GroupedCovariance
    from flashmm_sc._gaussian.projection import Projection
    from flashmm_sc._stats.residual import ResidualStats

LEAST = 1e-6
"""Least residual variance of a group, relative to the gene's over all cells: where a gene is zero in all cells of a group, the
likelihood would rise without bound."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupedGenes(Genes):
    """The data of each of m genes, fixed effects projected out as in ordinary least squares.

    Attributes
    ----------
    units
        Z'y of units, m × rows.
    groups
        Q'y and y'y of groups, m × G × (p + 1).
    """

    units: np.ndarray
    groups: np.ndarray

    @classmethod
    def of_groups(
        cls, S: GroupedCovariance, projection: Projection, stats: ResidualStats, genes: slice | np.ndarray
    ) -> GroupedGenes:
        """Of some genes, from sums over the cells of each group."""
        u, p, XY = S.units, len(S.Li), stats.XY[:, genes]
        eta = S.Li @ XY
        yy = stats.own_yy[:, genes]
        units, groups = np.empty((len(u.place), XY.shape[1])), np.empty((len(u.n), p + 1, XY.shape[1]))
        lack = np.empty_like(yy)
        whole = 0.0
        for g, (one, WY, rows) in enumerate(zip(stats.groups, stats.WY, u.rows, strict=True)):
            own = WY[:, genes]
            fixed = one.columns < p
            Qy = S.Li[:, one.columns[fixed]] @ own[fixed]
            Zy = own[u.source[rows]]
            lack[g] = yy[g] - np.einsum("ij,ij->j", Zy, u.inverses[g] @ Zy)
            units[rows] = Zy - u.E[rows] @ eta
            groups[g, :p] = Qy - u.XX[g] @ eta
            groups[g, p] = yy[g] - np.einsum("ij,ij->j", eta, Qy + groups[g, :p])
            whole = whole + groups[g, p]
        least = LEAST * whole * (u.n / u.n.sum())[:, None]
        groups[:, p] += np.maximum(least - lack, 0.0)
        yRy = groups[:, p].sum(axis=0)
        r = S.split(stats.ZY[:, genes])
        units, groups = np.ascontiguousarray(units.T), np.ascontiguousarray(groups.transpose(2, 0, 1))
        return cls(projection.ols(XY).T, r, yRy, stats.yy[genes].copy(), units=units, groups=groups)

    def __getitem__(self, index: np.ndarray) -> GroupedGenes:
        its = (self.b[index], self.r[index], self.yRy[index], self.yy[index])
        return GroupedGenes(*its, units=self.units[index], groups=self.groups[index])
