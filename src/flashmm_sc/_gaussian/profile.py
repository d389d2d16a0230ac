"""The profile likelihood of the variance ratios for all genes at once, REML and ML, and where genes start to maximise it.

The residual variance is profiled out, s_0 = Q / ν, which leaves the ratios γ_k = s_k / s_0 and

    f(γ) = ν log Q(γ) + log det(I + S D),    Q = y'Ry - r' D (I + S D)⁻¹ r        (-2 log-likelihood + constant)
    ∂f_k = tr T_kk - ν |v_k|² / Q
    ∂²f_kl = ν (2 v_k'T_kl v_l / Q - |v_k|²|v_l|² / Q²) - |T_kl|²,    its expectation |T_kl|² - tr T_kk tr T_ll / ν

with v = (I + S D)⁻¹ r and T = (I + S D)⁻¹ S; ν = n - p for REML. ML has ν = n and takes the determinant and the
traces from Z'Z instead of S = Z'RZ.

f may have several minima. At ratios that all genes share it costs little, so a lattice of them tells in which genes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from flashmm_sc._gaussian.information import with_residual
from flashmm_sc._gaussian.lattice import Lattice
from flashmm_sc._gaussian.point import Point

if TYPE_CHECKING:
    from flashmm_sc._gaussian.covariance import Between, Covariance, Factorisation, Forms
    from flashmm_sc._gaussian.genes import Genes
    from flashmm_sc._gaussian.projection import Projection
    from flashmm_sc._gaussian.vectors import Vectors

ROUNDING = 1e-6  # f of large ratios is known no better
LEAST_LEFT = 1e-11  # share of y'Ry that Q must be: of less too few digits are right
_MOST = 0.9  # share of y'Ry that Q may lack with rounding that is ten times that of values between points
_HUGE = 1e5  # multiple of q_k / tr S_kk; traces of much larger ratios have few digits
_BYTES = 2**30  # what as many genes as a lattice has points may need


Method: TypeAlias = Literal["REML", "ML"]


@dataclass(frozen=True, eq=False)
class Determinant:
    """log det(I + S D), its gradient tr T_kk and, with the sign changed, its Hessian |T_kl|²."""

    ok: np.ndarray
    logdet: np.ndarray
    trace: np.ndarray
    norm: np.ndarray

    @classmethod
    def of(cls, factor: Factorisation) -> Determinant:
        """At the ratios of a factor."""
        return cls(factor.ok, factor.logdet, *factor.traces())

    def __getitem__(self, index: np.ndarray) -> Determinant:
        return Determinant(self.ok[index], self.logdet[index], self.trace[index], self.norm[index])


@dataclass(frozen=True, eq=False)
class Objective:
    """The profile likelihood of one model; `nu` as in the formulas.

    Attributes
    ----------
    projection
        What the designs give.
    nu
        n - p for REML, n for ML.
    solved, determined
        The covariances that v and Q come from, and the determinant and the traces: Z'RZ for both with REML, Z'Z for the
        latter with ML.
    """

    projection: Projection
    nu: int
    solved: Covariance
    determined: Covariance

    @classmethod
    def of(cls, projection: Projection, method: Method, n_genes: int = 1, n_jobs: int | None = None) -> Objective:
        """For so many genes."""
        if method == "REML":
            return cls(projection, projection.n - projection.p, projection.S, projection.S)
        return cls(projection, projection.n, projection.S, projection.prepared_Z(n_genes, n_jobs))

    def __call__(self, genes: Genes, gamma: np.ndarray) -> Point:
        """Evaluate f and its derivatives."""
        if genes.forms is None or self._between is None:
            return self._exact(genes, gamma)
        known = self._known(gamma)
        there = np.where(known[:, None], gamma, 0.0)
        det = Determinant(np.ones(len(gamma), bool), *self._between[1].determinant(there))
        form, v_sq, quad = genes.forms(there)
        point = self._assembled(genes, there, det, form, v_sq, quad, None)
        rest = np.flatnonzero(~known | (form > _MOST * genes.yRy))
        if rest.size:
            point.put(rest, self._exact(genes[rest], gamma[rest]))
        return point

    @cached_property
    def _between(self) -> tuple[Between, Between] | None:
        """What gives v and Q, and the determinant, without factorisations."""
        solved, determined = self.solved.between, self.determined.between
        return None if solved is None or determined is None else (solved, determined)

    def _known(self, gamma: np.ndarray) -> np.ndarray:
        """At which ratios that serves."""
        return np.all([one.knows(gamma) for one in self._between or ()], axis=0)

    def tabulated(self, genes: Genes) -> Genes:
        """Genes with what saves them factorisations of their own, if it is there."""
        return genes if self._between is None else replace(genes, forms=self._between[0].forms(genes.r))

    def random_part(self, genes: Genes, point: Point) -> np.ndarray:
        """A'D v of each gene, m × p: by how much its coefficients differ from those of ordinary least squares."""
        dot = lambda v, gamma: v.scaled(gamma).dot(self.projection.random_part.vectors)
        if genes.forms is None:
            return dot(point.v, point.gamma)
        known = self._known(point.gamma) & ((1 - _MOST) * genes.yRy < point.Q)
        out = genes.forms.dot(self._column_forms, np.where(known[:, None], point.gamma, 0.0))
        rest = np.flatnonzero(~known)
        if rest.size:
            gamma = point.gamma[rest]
            out[rest] = dot(self.solved.factor(gamma).solve(genes.r[rest])[0], gamma)
        return out

    def random_effects(self, genes: Genes, gamma: np.ndarray) -> np.ndarray:
        """D v, genes × q."""
        v, _ = self.solved.factor(gamma).solve(genes.r)
        return self.solved.restore(v.scaled(gamma))

    def _exact(self, genes: Genes, gamma: np.ndarray) -> Point:
        factor = self.solved.factor(gamma)
        return self._point(genes, factor, Determinant.of(self._determinant(factor)))

    def _determinant(self, factor: Factorisation) -> Factorisation:
        """What the determinant and the traces come from."""
        return factor if self.determined is self.solved else self.determined.factor(factor.gamma)

    def _point(self, genes: Genes, factor: Factorisation, det: Determinant) -> Point:
        v, form = factor.solve(genes.r)
        det = replace(det, ok=factor.ok & det.ok)
        return self._assembled(genes, factor.gamma, det, form, v.squares(), factor.products(v), v)

    def _assembled(
        self,
        genes: Genes,
        gamma: np.ndarray,
        det: Determinant,
        form: np.ndarray,
        v_sq: np.ndarray,
        quad: np.ndarray,
        v: Vectors | None,
    ) -> Point:
        """The point from r'D v, |v_k|² and v_k'T_kl v_l."""
        nu = self.nu
        Q = genes.yRy - form
        ok = det.ok & (LEAST_LEFT * genes.yRy < Q)
        Q = np.where(ok, Q, genes.yRy)
        f = np.where(ok, nu * np.log(Q / genes.yRy) + det.logdet, np.inf)
        u = v_sq / Q[:, None]
        observed = nu * (2 * quad / Q[:, None, None] - u[:, :, None] * u[:, None, :]) - det.norm
        expected = det.norm - det.trace[:, :, None] * det.trace[:, None, :] / nu
        return Point(gamma, f, Q, det.trace - nu * u, observed, expected, v_sq, quad, det.trace, det.norm, v)

    def values(self, genes: Genes, gamma: np.ndarray) -> np.ndarray:
        """f alone, at γ (G × K) that all genes share: m × G."""
        factor = self.solved.factor(gamma)
        return self._values(factor.shared_forms(genes.r), genes, factor, self._determinant(factor))

    def _values(self, form: np.ndarray, genes: Genes, factor: Factorisation, det: Factorisation) -> np.ndarray:
        left = np.maximum(1 - form / genes.yRy[:, None], 1e-300)
        return np.where(factor.ok & det.ok, self.nu * np.log(left) + det.logdet, np.inf)

    @cached_property
    def _lattice(self) -> Lattice:
        """Ratios that all genes share."""
        projection = self.projection
        room = _BYTES // projection.S.gene_bytes(0)
        cheap, far = self.solved.cheap_forms, self.saturated
        return Lattice.of(projection.structure, projection.d, self._trace, room, cheap=cheap, far=far)

    @cached_property
    def _trace(self) -> np.ndarray:
        """tr S E_j of each parameter."""
        return self.solved.factor(np.zeros((1, self.projection.structure.size))).traces()[0][0]

    @cached_property
    def saturated(self) -> bool:
        """Whether fixed and random effects can explain all cells: rank S = tr (I + S D)⁻¹ S D of huge D is n - p."""
        projection = self.projection
        rank, K = projection.n - projection.p, projection.structure.K
        if rank > sum(projection.d):
            return False
        gamma = np.zeros((1, projection.structure.size))
        gamma[0, :K] = _HUGE * np.array(projection.d) / self._trace[:K]
        return bool(np.sum(gamma * self.solved.factor(gamma).traces()[0]) > rank - 0.5)

    @property
    def gene_bytes(self) -> int:
        """Memory that a gene needs while it is fitted."""
        return self.projection.S.gene_bytes(self.projection.p) + 24 * self._lattice.inside.size

    @cached_property
    def _grid(self) -> tuple[Factorisation, Factorisation, Determinant, np.ndarray]:
        """The factors at these ratios; where genes start, the traces and the inverse of tr(P V_k P V_l) as well."""
        start, factor = self._lattice.start, self.solved.factor(self._lattice.gamma)
        whole = self._determinant(factor)
        det = Determinant.of(self._determinant(self.solved.factor(factor.gamma[start])))
        information = with_residual(det.norm, det.trace, np.full(len(det.ok), self.nu), factor.gamma[start])
        return factor, whole, det, np.linalg.pinv(information, hermitian=True)

    @cached_property
    def _column_forms(self) -> Forms | None:
        """What they need where genes have forms."""
        return None if self._between is None else self._between[0].forms(self.projection.random_part.vectors[0])

    def prepare(self) -> None:
        """Factorise what all genes share, before every thread does."""
        for factor in self._grid[:2]:
            factor.ok  # noqa: B018
        self.projection.random_part, self._column_forms  # noqa: B018

    def shared_values(self, genes: Genes) -> np.ndarray:
        """f where no gene needs a factorisation of its own: m × rows."""
        factor, whole, _, _ = self._grid
        if genes.forms is None:
            return self._values(factor.shared_forms(genes.r), genes, factor, whole)
        form, known = np.empty((len(genes.yRy), len(factor.gamma))), self._known(factor.gamma)
        form[:, known] = genes.forms.shared(factor.gamma[known])
        if not known.all():
            form[:, ~known] = factor[np.flatnonzero(~known)].shared_forms(genes.r)
        return self._values(form, genes, factor, whole)

    def start(self, genes: Genes, f: np.ndarray, nonnegative: bool) -> Point:
        """The best point to start from, or a step of Fisher scoring in θ from there where that is better.

        `f` holds the shared values. The step from γ = 0 is the quadratic estimate MINQUE-0.
        """
        (factor, _, det, inverse), start = self._grid, self._lattice.start
        f = f[:, start]
        best = (_between(f) if len(self.projection.d) == 1 else f).argmin(axis=1)
        if genes.forms is None:
            point = self._point(genes, factor[start[best]], det[best])
        else:
            point = self(genes, factor.gamma[start[best]])
        right = np.column_stack([point.v_sq, point.Q - np.sum(point.gamma * point.v_sq, axis=1)])
        theta = np.einsum("ijk,ik->ij", inverse[best], right)
        residual = np.maximum(theta[:, -1:], 0.01 * genes.yRy[:, None] / self.projection.n)
        structure = self.projection.structure
        unit = np.array(self.projection.d) / det.trace[0, : structure.K]
        low = 0.0 if nonnegative else -0.3 / (len(unit) * np.sqrt(np.diag(det.norm[0])[: structure.K]))
        ahead = self(genes, structure.within(theta[:, :-1] / residual, low, 1e4 * unit))
        return point.replaced(ahead.f < point.f, ahead)

    def wells(self, f: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the lattice is lower than all around, in genes with several such points or one below f `found`.

        Returns the gene and γ of each.
        """
        lattice = self._lattice
        f = f[:, : np.count_nonzero(lattice.inside)]
        if not f.size:
            return np.empty(0, int), lattice.gamma[:0]
        wells = lattice.wells(f)
        doubtful = (wells.sum(axis=1) > 1) | (f.min(axis=1) < found - ROUNDING)
        index, at = np.nonzero(wells & doubtful[:, None])
        return index, lattice.gamma[at]


def _between(f: np.ndarray) -> np.ndarray:
    """Values on a ray (m × G), lowered where a parabola through three neighbours has its minimum in between."""
    out = f.copy()
    left, middle, right = f[:, 1:-2], f[:, 2:-1], f[:, 3:]  # from the second point on they are evenly spaced in log
    inside = (middle <= left) & (middle <= right) & (left + right > 2 * middle)
    with np.errstate(divide="ignore", invalid="ignore"):
        drop = (left - right) ** 2 / (8 * (left - 2 * middle + right))
    out[:, 2:-1] -= np.where(inside, drop, 0.0)
    return out
