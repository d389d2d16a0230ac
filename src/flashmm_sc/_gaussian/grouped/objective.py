"""The profile likelihood of genes with residual variances by group, as the solver sees it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np

from flashmm_sc._base.selection import component_slices
from flashmm_sc._gaussian.point import Point
from flashmm_sc._gaussian.profile import LEAST_LEFT, Objective

if TYPE_CHECKING:
    from flashmm_sc._gaussian.genes import Genes
    from flashmm_sc._gaussian.grouped.covariance import Evaluated, GroupedCovariance
    from flashmm_sc._gaussian.grouped.genes import GroupedGenes

_STARTS = 0.03, 0.3, 3.0, 30.0
"""Ratios to start from, as multiples of those at which random effects and residuals tell alike of a level's mean."""


@dataclass(frozen=True, eq=False)
class GroupedObjective(Objective):
    """f(γ) = ν log y'Py + log det V + log det X'V⁻¹X (REML), s_0 profiled out; ML lacks the last term."""

    @property
    def grouped(self) -> GroupedCovariance:
        """The covariance, which gives v, Q, determinants and traces alike."""
        return cast("GroupedCovariance", self.solved)

    def __call__(self, genes: Genes, gamma: np.ndarray) -> Point:
        """Evaluate f and its derivatives."""
        at, nu = self._at(genes, gamma), self.nu
        f, Q = self._value(genes, at)
        u = at.squares / Q[:, None]
        observed = nu * (2 * at.quad / Q[:, None, None] - u[:, :, None] * u[:, None, :]) - at.norm
        expected = at.norm - at.trace[:, :, None] * at.trace[:, None, :] / nu
        v = self.grouped.from_levels(at.v)
        return Point(gamma, f, Q, at.trace - nu * u, observed, expected, at.squares, at.quad, at.trace, at.norm, v)

    def _at(self, genes: Genes, gamma: np.ndarray, *, derived: bool = True) -> Evaluated:
        reml, its = self.nu == self.projection.n - self.projection.p, cast("GroupedGenes", genes)
        return self.grouped.evaluate(gamma, its.units, its.groups, reml=reml, derived=derived)

    def _value(self, genes: Genes, at: Evaluated) -> tuple[np.ndarray, np.ndarray]:
        """f, and y'Py where it can be had."""
        ok = at.ok & (LEAST_LEFT * genes.yRy < at.Q)
        Q = np.where(ok, at.Q, genes.yRy)
        return np.where(ok, self.nu * np.log(Q / genes.yRy) + at.logdet, np.inf), Q

    @property
    def saturated(self) -> bool:
        """Whether effects can explain all cells is not looked for: no lattice tells of what is lower far out."""
        return False

    @property
    def gene_bytes(self) -> int:
        """Memory that a gene needs while it is fitted."""
        return self.projection.S.gene_bytes(self.projection.p)

    def tabulated(self, genes: Genes) -> Genes:
        """Every gene is evaluated by itself."""
        return genes

    def prepare(self) -> None:
        """What all genes share, before every thread works it out."""
        self._units  # noqa: B018
        self.grouped.units.inverses  # noqa: B018

    def random_part(self, genes: Genes, point: Point) -> np.ndarray:
        """By how much the coefficients of each gene differ from those of ordinary least squares, m × p."""
        eta = self._at(genes, point.gamma, derived=False).eta
        return -self.projection.original((eta @ self.grouped.Li).T).T

    def random_effects(self, genes: Genes, gamma: np.ndarray) -> np.ndarray:
        """D v, genes × q."""
        v = self.grouped.from_levels(self._at(genes, gamma).v)
        return self.grouped.restore(v.scaled(gamma[:, : len(self.projection.d)]))

    @cached_property
    def _units(self) -> tuple[np.ndarray, np.ndarray]:
        """q_k / tr Z_k'RZ_k of each component, and the share that the cells of each group have in tr Z_k'Z_k, K × G."""
        u, d = self.grouped.units, self.projection.d
        trace = self.grouped.moments()[0][: len(d)]
        share = np.zeros((len(d), len(u.n)))
        for j, place in enumerate(np.repeat(np.arange(len(u.group)), np.diff(u.row))):
            size, a = u.row[place + 1] - u.row[place], j - u.row[place]
            level = np.searchsorted(u.unit, place, side="right") - 1
            share[u.component[u.first[level] + u.place[j]], u.group[place]] += u.N[u.NN[place] + a * (size + 1)]
        filled = np.array([np.count_nonzero(self.grouped.ZZ.diagonal()[part]) for part in component_slices(d)])
        return filled / trace, share / share.sum(axis=1, keepdims=True)

    def _starts(self, genes: Genes) -> np.ndarray:
        """Parameters to start from, starts × m × P: residual variances of ordinary least squares."""
        unit, share = self._units
        own = cast("GroupedGenes", genes).groups[..., -1] / self.grouped.units.n
        ratio = own / own[:, -1:]
        size = unit * (ratio @ share.T)
        return np.array([np.column_stack([x * size, ratio[:, :-1]]) for x in _STARTS])

    def shared_values(self, genes: Genes) -> np.ndarray:
        """f at the starts: m × starts."""
        each = (self._at(genes, gamma, derived=False) for gamma in self._starts(genes))
        return np.column_stack([self._value(genes, at)[0] for at in each])

    def start(self, genes: Genes, f: np.ndarray, nonnegative: bool) -> Point:
        """The best point to start from."""
        gamma = self._starts(genes)[f.argmin(axis=1), np.arange(len(f))]
        return self(genes, gamma)

    def wells(self, f: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """No lattice tells of other optima: a second one was seen in 2 of 1,200 drawn genes."""
        return np.empty(0, int), np.empty((0, self.grouped.size))
