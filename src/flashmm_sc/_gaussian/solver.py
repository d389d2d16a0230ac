"""Damped Newton steps on the profile likelihood (see `profile`) for all genes at once.

A step that leaves the domain or raises f is shortened, so f never rises. Genes in which f has several minima go down to
each.

Steps are taken in the coordinates of `structure`: the ratios themselves, and the entries of Λ of correlated components, in
which f is f(Λ Λ'), with the curvature J'H J + Σ_j g_j ∂²γ_j. These have no bound: at Λ = 0, and wherever Γ is singular, f
is even in what is zero, so that Newton's steps find such optima as they find others. Where the first variance is all but
zero, f hardly tells how the rest of a variance is shared among the entries of its row: valleys are bent, and steps short. The
components in another order have no such valley there, so genes that take long get one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.linalg import diagonalised_each
from flashmm_sc._gaussian.profile import ROUNDING, Objective

if TYPE_CHECKING:
    from collections.abc import Callable

    from flashmm_sc._gaussian.genes import Genes
    from flashmm_sc._gaussian.point import Point
    from flashmm_sc._gaussian.structure import Structure

_POLISH = 1e-12  # below this Newton decrement one more full step is exact to rounding
_ZERO = 1e-6  # ratios closer to zero than this many of their standard errors are zero
_SHORTEST = 0.01  # share of a step away from a saddle that is tried last
_EPS = 32 * np.finfo(np.float64).eps  # relative error of r'D (I + S D)⁻¹ r, as seen
_LONG = 25  # steps after which genes get other coordinates of Γ, and Newton's steps though they are long
_FLAT = 1e-3  # curvature taken for less, or for negative, in such steps
_SADDLE = 1e-4  # decrement below which negative curvature is followed instead of the gradient


@dataclass(frozen=True, eq=False)
class Optimum:
    """Where the optimiser stopped: the last point, whether it is the optimum, and the number of steps tried."""

    point: Point
    converged: np.ndarray
    n_iter: np.ndarray

    def put(self, index: np.ndarray, other: Optimum) -> None:
        """Overwrite these genes."""
        self.point.put(index, other.point)
        self.converged[index], self.n_iter[index] = other.converged, other.n_iter

    def __getitem__(self, index: np.ndarray) -> Optimum:
        return Optimum(self.point[index], self.converged[index], self.n_iter[index])


def optimise(
    objective: Objective, genes: Genes, *, nonnegative: bool, max_iter: int, tol: float, start: np.ndarray | None = None
) -> Optimum:
    """Minimise f for every gene; `tol` bounds the Newton decrement (the rise in 2 log-likelihood still to come).

    `start` holds ratios γ (m × K) to begin with; without it, genes with several wells go down each, and the lowest optimum
    is kept, the first of those that differ by rounding.
    """
    descend = partial(_descend, objective, nonnegative=nonnegative, max_iter=max_iter, tol=tol)
    if start is not None:
        best = descend(genes, objective(genes, start))
    else:
        best = _lowest(objective, genes, descend, nonnegative)
    if nonnegative:
        _settle(objective, genes, best)
    return best


def _lowest(
    objective: Objective, genes: Genes, descend: Callable[[Genes, Point], Optimum], nonnegative: bool
) -> Optimum:
    """The lowest of the optima in the wells of each gene.

    A descent that has found none, but is lower, tells that the others aren't it; that of free components may be on its way to
    the edge of the domain, where f has no bound.
    """
    f = objective.shared_values(genes)
    best = descend(genes, objective.start(genes, f, nonnegative))
    index, gamma = objective.wells(f, best.point.f)
    if index.size:
        other = descend(genes[index], objective(genes[index], gamma))
        f, lowest = np.where(other.converged | nonnegative, other.point.f, np.inf), best.point.f - ROUNDING
        np.minimum.at(lowest, index, f)
        good = np.flatnonzero((f <= lowest[index] + ROUNDING) & (f < best.point.f[index] - ROUNDING))
        first = good[np.unique(index[good], return_index=True)[1]]
        best.put(index[first], other[first])
    return best


def _settle(objective: Objective, genes: Genes, best: Optimum) -> None:
    """Put coordinates at zero that only rounding keeps from it, as where the gradient at zero is zero itself."""
    structure = objective.projection.structure
    here = _Local.of(best.point, structure)
    size = here.x * here.unit
    almost = np.where(structure.bounded, (size > 0) & (size < _ZERO), (size != 0) & (np.abs(size) < np.sqrt(_ZERO)))
    almost &= best.converged[:, None]
    index = np.flatnonzero(almost.any(axis=1))
    if index.size:
        there = objective(genes[index], structure.gamma(np.where(almost, 0.0, here.x)[index]))
        level = there.f < best.point.f[index] + ROUNDING  # far out, where f is flat, no unit tells
        best.point.put(index[level], there[level])


@dataclass(frozen=True, eq=False)
class _Local:
    """A point in coordinates x: derivatives of f there, and inverse standard errors of each coordinate by itself."""

    x: np.ndarray
    grad: np.ndarray
    observed: np.ndarray
    expected: np.ndarray
    unit: np.ndarray

    @classmethod
    def of(cls, point: Point, structure: Structure) -> _Local:
        """Of the ratios themselves, or of Λ; there the expectation has the curvature of Λ Λ' with its sign made positive.

        At Λ = 0 the entries of Λ have no standard errors, but their squares do.
        """
        unit = np.sqrt(np.maximum(np.einsum("ijj->ij", point.expected), 1e-300))
        if not structure.groups:
            return cls(point.gamma, point.grad, point.observed, point.expected, unit)
        x = structure.coordinates(point.gamma)
        J, bent = structure.jacobian(x), structure.curvature(np.nan_to_num(point.grad))
        turned = lambda H: J.swapaxes(1, 2) @ H @ J
        value, vector = np.linalg.eigh(bent)
        expected = turned(point.expected)
        own = np.where(structure.bounded, 0.0, unit[:, structure.row])
        return cls(
            x,
            np.einsum("ijk,ij->ik", J, point.grad),
            turned(point.observed) + bent,
            expected + (vector * np.abs(value)[:, None, :]) @ vector.swapaxes(1, 2),
            np.sqrt(np.maximum(np.einsum("ijj->ij", expected) + own, 1e-300)),
        )


def _descend(
    objective: Objective, genes: Genes, point: Point, *, nonnegative: bool, max_iter: int, tol: float
) -> Optimum:
    """The minimum below the point of each gene. Genes leave the iteration as they converge."""
    turns, active = objective.projection.structure.turns, np.arange(len(genes.yRy))
    bounded = turns[0].bounded & nonnegative
    converged, n_iter = np.zeros(active.shape, bool), np.zeros(active.shape, int)
    scale, escape = np.ones(active.shape), np.ones(active.shape, bool)
    subset, here = genes, point
    for i in range(max_iter):
        structure = turns[i // _LONG % len(turns)]
        local = _Local.of(here, structure)
        reach = None if nonnegative else here.norm
        step, decrement, newton, saddle = _step(local, bounded, escape[active], reach, long=nonnegative and i >= _LONG)
        blur = objective.nu * _EPS * subset.yRy / here.Q  # of f: a Newton step may seem to raise it
        trial = objective(subset, structure.gamma(_within(local.x + scale[active, None] * step, bounded)))
        n_iter[active] += 1
        accepted = trial.f - here.f <= 1e-12 * (objective.nu + np.abs(here.f)) + newton * (ROUNDING + blur)
        scale[active] = np.where(accepted, 1.0, scale[active] / 4)
        lost = active[saddle & (scale[active] < _SHORTEST)]
        escape[lost], scale[lost] = False, 1.0
        here = here.replaced(accepted, trial)
        done = (decrement <= tol) | (newton & accepted & (decrement <= np.maximum(_POLISH, blur**2 / objective.nu)))
        converged[active[done]] = True
        point.put(active[done], here[done])
        active, subset, here = active[~done], subset[~done], here[~done]
        if not active.size:
            break
    point.put(active, here)
    return Optimum(point, converged, n_iter)


def _within(x: np.ndarray, bounded: np.ndarray) -> np.ndarray:
    return np.where(bounded, np.maximum(x, 0.0), x)


def _step(
    here: _Local, bounded: np.ndarray, escape: np.ndarray, norm: np.ndarray | None, *, long: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Descent step of each gene, its decrement g'H⁻¹g, and whether it is Newton's (else Fisher's) or leaves a saddle.

    Bounded coordinates at zero, or closer to it than matters, whose gradient points outwards are held at zero. Newton's matrix
    serves where it is safely positive relative to the Fisher matrix, which is semidefinite always, or where its step is
    short. Along valleys that are nearly flat Fisher's steps creep: with `long`, Newton's serve throughout, downhill also where
    the curvature is negative, and of length 1 at most. At a saddle point the step follows the negative curvature, in genes
    that may still `escape`.

    Free components: f falls without bound towards some edges of the domain, and a long step may skip the optimum on its
    way there. A step of length 1 in the metric |T_kl|² can't leave the domain (|Σ Δ_k T_kk| bounds the relative change
    of V), so steps are kept to it, where `norm` is given.
    """
    unit = here.unit
    at_zero = bounded & (here.x * unit < _ZERO)
    held = at_zero & (here.grad > 0)
    identity = np.eye(unit.shape[1])
    free = ~held[:, :, None] & ~held[:, None, :]
    scaled = lambda H: np.where(free, np.nan_to_num(H / (unit[:, :, None] * unit[:, None, :])), identity)
    grad = np.where(held, 0.0, here.grad / unit)
    value, vector = diagonalised_each(scaled(here.observed))
    slope = np.einsum("ijk,ij->ik", vector, grad)
    lowest = value[:, 0].copy()
    with np.errstate(divide="ignore", invalid="ignore"):
        short = np.sum((slope / value) ** 2, axis=1) < 1.0
    newton = (lowest > 0.02) | ((lowest > 1e-8) & (long | short))
    downwards = -np.copysign(1.0, slope[:, :1]) * vector[:, :, 0]
    outwards = lambda direction: ((direction < -1e-3) & at_zero).any(axis=1)
    downwards[outwards(downwards)] *= -1
    escape = escape & ~outwards(downwards)
    if long:
        value = np.where(newton[:, None], value, np.maximum(np.abs(value), _FLAT))
    elif not newton.all():
        low, vector[~newton] = diagonalised_each(scaled(here.expected)[~newton])
        value[~newton] = np.maximum(low, 1e-6)
        slope = np.einsum("ijk,ij->ik", vector, grad)
    step = -np.einsum("ijk,ik->ij", vector, slope / value)
    if long:
        step /= np.maximum(1.0, np.linalg.norm(step, axis=1))[:, None]
    decrement = np.sum(slope**2 / value, axis=1) + np.sum(held * here.grad * here.x, axis=1)
    saddle = escape & (lowest < -1e-4) & (decrement < _SADDLE)
    step = np.where(saddle[:, None], 0.5 * downwards, step) / unit
    decrement[saddle] = np.inf
    if norm is not None:
        step /= np.sqrt(np.maximum(np.einsum("ij,ijk,ik->i", step, norm, step), 1.0))[:, None]
    return np.where(held, -here.x, step), decrement, newton, saddle
