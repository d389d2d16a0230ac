"""REML and ML for all genes at once: damped Newton steps on the profile likelihood of the variance ratios.

The residual variance is profiled out, s_0 = Q / ν, which leaves the ratios γ_k = s_k / s_0 and

    f(γ) = ν log Q(γ) + log det(I + S D),    Q = y'Ry - r' D (I + S D)⁻¹ r        (-2 log-likelihood + constant)
    ∂f_k = tr T_kk - ν |v_k|² / Q
    ∂²f_kl = ν (2 v_k'T_kl v_l / Q - |v_k|²|v_l|² / Q²) - |T_kl|²,    its expectation |T_kl|² - tr T_kk tr T_ll / ν

with v = (I + S D)⁻¹ r and T = (I + S D)⁻¹ S; ν = n - p for REML. ML has ν = n and takes the determinant and the
traces from Z'Z instead of S = Z'RZ. A step that leaves the domain or raises f is shortened, so f never rises.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from flashmm_sc._gaussian.dense.covariance import Factor
from flashmm_sc._gaussian.information import with_residual
from flashmm_sc._gaussian.point import Point
from flashmm_sc._gaussian.projection import Genes, Projection

_POLISH = 1e-9  # below this Newton decrement one more full step is exact to rounding
_ROUNDING = 1e-6  # f of large ratios is known no better; a Newton step may seem to raise it by as much
_SADDLE = 1e-4  # decrement below which negative curvature is followed instead of the gradient


@dataclass(frozen=True, eq=False)
class Determinant:
    """log det(I + S D), its gradient tr T_kk and, with the sign changed, its Hessian |T_kl|²."""

    ok: np.ndarray
    logdet: np.ndarray
    trace: np.ndarray
    norm: np.ndarray

    @classmethod
    def of(cls, factor: Factor) -> Determinant:
        """At the ratios of a factor."""
        return cls(factor.ok, factor.logdet, *factor.traces())

    def __getitem__(self, index: np.ndarray) -> Determinant:
        return Determinant(self.ok[index], self.logdet[index], self.trace[index], self.norm[index])


@dataclass(frozen=True, eq=False)
class Objective:
    """The profile likelihood of one model; `nu` as in the formulas."""

    projection: Projection
    method: str

    @property
    def nu(self) -> int:
        """n - p for REML, n for ML."""
        return self.projection.n - (self.projection.p if self.method == "REML" else 0)

    def __call__(self, genes: Genes, gamma: np.ndarray) -> Point:
        """Evaluate f and its derivatives."""
        factor = self.projection.S.factor(gamma)
        return self._point(genes, factor, Determinant.of(self._determinant(factor)))

    def _determinant(self, factor: Factor) -> Factor:
        """What the determinant and the traces come from."""
        return factor if self.method == "REML" else self.projection.Z.factor(factor.gamma)

    def _point(self, genes: Genes, factor: Factor, det: Determinant) -> Point:
        nu = self.nu
        v1, v2, form = factor.solve(genes.a, genes.r2)
        Q = genes.yRy - form
        ok = factor.ok & det.ok & (1e-13 * genes.yRy < Q)
        Q = np.where(ok, Q, genes.yRy)
        f = np.where(ok, nu * np.log(Q / genes.yRy) + det.logdet, np.inf)
        v_sq = factor.by_component(v1**2, v2**2)
        quad = factor.products(v1, v2)
        u = v_sq / Q[:, None]
        observed = nu * (2 * quad / Q[:, None, None] - u[:, :, None] * u[:, None, :]) - det.norm
        expected = det.norm - det.trace[:, :, None] * det.trace[:, None, :] / nu
        return Point(
            factor.gamma, f, Q, det.trace - nu * u, observed, expected, v_sq, quad, det.trace, det.norm, v1, v2
        )

    def values(self, genes: Genes, gamma: np.ndarray) -> np.ndarray:
        """f alone, at γ (G × K) that all genes share: m × G."""
        factor = self.projection.S.factor(gamma)
        return self._values(genes, factor, self._determinant(factor))

    def _values(self, genes: Genes, factor: Factor, det: Factor | Determinant) -> np.ndarray:
        left = np.maximum(1 - factor.shared_forms(genes.a, genes.r2) / genes.yRy[:, None], 1e-300)
        return np.where(factor.ok & det.ok, self.nu * np.log(left) + det.logdet, np.inf)

    @cached_property
    def _grid(self) -> tuple[Factor, Determinant, np.ndarray]:
        """Ratios to start from, multiples of q_k / tr S_kk, and there the inverse of tr(P V_k P V_l).

        From three components on, and where a factorisation is sparse, they are multiples of all together.
        """
        projection = self.projection
        trace = projection.S.factor(np.zeros((1, len(projection.d)))).traces()[0][0]
        unit = np.array(projection.d) / trace
        if len(unit) == 1:
            shares = np.append(0.0, np.geomspace(1e-3, 1e3, 40))[:, None]
        else:
            few = np.append(0.0, 10.0 ** np.arange(-1, 4))
            full = len(unit) == 2 and not projection.is_sparse
            shares = np.array(list(product(few, few))) if full else np.repeat(few[:, None], len(unit), axis=1)
        factor = projection.S.factor(shares * unit)
        det = Determinant.of(self._determinant(factor))
        information = with_residual(det.norm, det.trace, np.full(len(det.ok), self.nu), factor.gamma)
        return factor, det, np.linalg.pinv(information, hermitian=True)

    def start(self, genes: Genes, nonnegative: bool) -> Point:
        """The best point of the grid for every gene, or a step of Fisher scoring in θ from there where that is better.

        At the grid no gene needs a factorisation of its own. The step from γ = 0 is the quadratic estimate MINQUE-0.
        """
        factor, det, inverse = self._grid
        f = self._values(genes, factor, det)
        best = (_between(f) if len(self.projection.d) == 1 else f).argmin(axis=1)
        point = self._point(genes, factor[best], det[best])
        right = np.column_stack([point.v_sq, point.Q - np.sum(point.gamma * point.v_sq, axis=1)])
        theta = np.einsum("ijk,ik->ij", inverse[best], right)
        residual = np.maximum(theta[:, -1:], 0.01 * genes.yRy[:, None] / self.projection.n)
        unit = np.array(self.projection.d) / det.trace[0]
        low = 0.0 if nonnegative else -0.3 / (len(unit) * np.sqrt(np.diag(det.norm[0])))
        ahead = self(genes, np.clip(theta[:, :-1] / residual, low, 1e4 * unit))
        return point.replaced(ahead.f < point.f, ahead)


@dataclass(frozen=True, eq=False)
class Optimum:
    """Where the optimiser stopped: the last point, whether it is the optimum, and the number of steps tried."""

    point: Point
    converged: np.ndarray
    n_iter: np.ndarray


def optimise(
    objective: Objective, genes: Genes, *, nonnegative: bool, max_iter: int, tol: float, start: np.ndarray | None = None
) -> Optimum:
    """Minimise f for every gene; `tol` bounds the Newton decrement (the rise in 2 log-likelihood still to come).

    Genes leave the iteration as they converge. `start` holds ratios γ (m × K) to begin with.
    """
    m = len(genes.yRy)
    point = objective.start(genes, nonnegative) if start is None else objective(genes, start)
    converged, n_iter, scale, escape = np.zeros(m, bool), np.zeros(m, int), np.ones(m), np.ones(m, bool)
    active, subset, here = np.arange(m), genes, point
    for _ in range(max_iter):
        step, decrement, newton, saddle = _step(here, nonnegative, escape[active])
        rise = 1e-12 * (objective.nu + np.abs(here.f)) + np.where(newton, _ROUNDING, 0.0)
        gamma = here.gamma + scale[active, None] * step
        trial = objective(subset, np.maximum(gamma, 0.0) if nonnegative else gamma)
        n_iter[active] += 1
        accepted = trial.f <= here.f + rise
        scale[active] = np.where(accepted | saddle, 1.0, scale[active] / 4)
        escape[active[saddle & ~accepted]] = False
        here = here.replaced(accepted, trial)
        done = (decrement <= tol) | (newton & accepted & (decrement <= _POLISH))
        converged[active[done]] = True
        point.put(active[done], here[done])
        active, subset, here = active[~done], subset[~done], here[~done]
        if not active.size:
            break
    point.put(active, here)
    return Optimum(point, converged, n_iter)


def _step(point: Point, nonnegative: bool, escape: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Descent step of each gene, its decrement g'H⁻¹g, and whether it is Newton's (else Fisher's) or leaves a saddle.

    Components at zero, or closer to it than matters, whose gradient points outwards are held at zero. Newton's matrix
    serves where it is safely positive relative to the Fisher matrix, which is semidefinite always, or where its step is
    short. At a saddle point the step follows the negative curvature, in genes that may still `escape`.

    Free components: f falls without bound towards some edges of the domain, and a long step may skip the optimum on its
    way there. A step of length 1 in the metric |T_kl|² can't leave the domain (|Σ Δ_k T_kk| bounds the relative change
    of V), so steps are kept to it.
    """
    unit = np.sqrt(np.maximum(np.einsum("ijj->ij", point.expected), 1e-300))
    held = (point.gamma * unit < 1e-6) & (point.grad > 0) if nonnegative else np.zeros(unit.shape, bool)
    identity = np.eye(unit.shape[1])
    free = ~held[:, :, None] & ~held[:, None, :]
    scaled = lambda H: np.where(free, np.nan_to_num(H / (unit[:, :, None] * unit[:, None, :])), identity)
    grad = np.where(held, 0.0, point.grad / unit)
    value, vector = np.linalg.eigh(scaled(point.observed))
    slope = np.einsum("ijk,ij->ik", vector, grad)
    lowest = value[:, 0].copy()
    with np.errstate(divide="ignore", invalid="ignore"):
        short = np.sum((slope / value) ** 2, axis=1) < 1.0
    newton = (lowest > 0.02) | ((lowest > 1e-8) & short)
    downwards = -np.copysign(1.0, slope[:, :1]) * vector[:, :, 0]
    if nonnegative:
        outwards = lambda direction: ((direction < -1e-3) & (point.gamma * unit < 1e-6)).any(axis=1)
        downwards[outwards(downwards)] *= -1
        escape = escape & ~outwards(downwards)
    if not newton.all():
        low, vector[~newton] = np.linalg.eigh(scaled(point.expected)[~newton])
        value[~newton] = np.maximum(low, 1e-6)
        slope = np.einsum("ijk,ij->ik", vector, grad)
    step = -np.einsum("ijk,ik->ij", vector, slope / value)
    decrement = np.sum(slope**2 / value, axis=1) + np.sum(held * point.grad * point.gamma, axis=1)
    saddle = escape & (lowest < -1e-4) & (decrement < _SADDLE)
    step = np.where(saddle[:, None], 0.5 * downwards, step) / unit
    decrement[saddle] = np.inf
    if not nonnegative:
        length = np.sqrt(np.maximum(np.einsum("ij,ijk,ik->i", step, point.norm, step), 0.0))
        step /= np.maximum(1.0, length)[:, None]
    return np.where(held, -point.gamma, step), decrement, newton, saddle


def _between(f: np.ndarray) -> np.ndarray:
    """Values on a ray (m × G), lowered where a parabola through three neighbours has its minimum in between."""
    out = f.copy()
    left, middle, right = f[:, 1:-2], f[:, 2:-1], f[:, 3:]  # from the second point on they are evenly spaced in log
    inside = (middle <= left) & (middle <= right) & (left + right > 2 * middle)
    with np.errstate(divide="ignore", invalid="ignore"):
        drop = (left - right) ** 2 / (8 * (left - 2 * middle + right))
    out[:, 2:-1] -= np.where(inside, drop, 0.0)
    return out
