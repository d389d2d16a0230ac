"""Estimates of all genes: the optimiser's results as coefficients, variance components and their information."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.errors import listed, warn
from flashmm_sc._base.options import check_flags, check_number, check_whole, one_of, real_array
from flashmm_sc._base.rank import TOLERANCE
from flashmm_sc._base.threads import for_gene_blocks
from flashmm_sc._gaussian.genes import Genes
from flashmm_sc._gaussian.grouped.covariance import GroupedCovariance
from flashmm_sc._gaussian.grouped.genes import GroupedGenes
from flashmm_sc._gaussian.grouped.objective import GroupedObjective
from flashmm_sc._gaussian.information import expected_information, inverse_on, observed_information
from flashmm_sc._gaussian.profile import Method, Objective
from flashmm_sc._gaussian.solver import Optimum, optimise
from flashmm_sc._stats.residual import ResidualStats

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flashmm_sc._gaussian.point import Point
    from flashmm_sc._gaussian.projection import Projection
    from flashmm_sc._gaussian.structure import Structure
    from flashmm_sc._stats.summary import SummaryStats

STATUS = ("ok", "boundary", "constant", "masked", "not converged", "indefinite", "no df", "filtered", "no residual")
OK, BOUNDARY, CONSTANT, MASKED, NOT_CONVERGED, INDEFINITE, NO_DF, FILTERED, NO_RESIDUAL = range(len(STATUS))
_FEW_DIGITS = 1e-9
"""Share of the mean square from which on sums keep few digits of the residual variance."""
_EXPLAINED = 1e-6
"""Share of y'Ry left where a descent without end, or effects that can explain all cells, tell that they explain all of it."""


@dataclass(frozen=True)
class Options:
    """How to fit: the arguments of `lmm`, checked."""

    method: Method = "REML"
    nonnegative: bool = False
    max_iter: int = 100
    tol: float = 1e-16
    theta0: Sequence[float] | np.ndarray | None = None

    def __post_init__(self) -> None:
        one_of("method", self.method, Method)
        check_flags(nonnegative=self.nonnegative)
        check_whole("max_iter", self.max_iter, 1)
        check_number("tol", self.tol, 0.0, 1.0, "It is a rise in 2 log-likelihood.")


@dataclass(frozen=True, eq=False)
class Estimates:
    """What tests need of m fitted genes: coefficients m × p, theta m × (K+1) and its covariance; NaN if not fitted."""

    coef: np.ndarray
    theta: np.ndarray
    theta_cov: np.ndarray

    @property
    def fitted(self) -> np.ndarray:
        """Positions of the genes that were fitted."""
        return np.flatnonzero(np.isfinite(self.theta).all(axis=1))


@dataclass(frozen=True, eq=False)
class Fit(Estimates):
    """All results of m genes: arrays m × ..., NaN where a gene has none. `status` holds positions in `STATUS`."""

    theta_se: np.ndarray
    grad: np.ndarray
    loglik: np.ndarray
    n_iter: np.ndarray
    status: np.ndarray

    @classmethod
    def empty(cls, m: int, p: int, size: int) -> Fit:
        """Room for m genes, p coefficients and so many variances and covariances."""
        nan = lambda *shape: np.full((m, *shape), np.nan)
        return cls(
            coef=nan(p),
            theta=nan(size + 1),
            theta_cov=nan(size + 1, size + 1),
            theta_se=nan(size + 1),
            grad=nan(size + 1),
            loglik=nan(),
            n_iter=np.zeros(m, int),
            status=np.full(m, CONSTANT, np.int8),
        )


def estimate(
    stats: SummaryStats,
    projection: Projection,
    options: Options,
    n_jobs: int | None,
    done: Callable[[int], object] | None = None,
) -> Fit:
    """Fit every gene; `done` is told of how many at a time."""
    objective = likelihood(projection, options.method, stats.n_genes, n_jobs)
    size = projection.structure.size
    start = None if options.theta0 is None else _starting_ratios(options.theta0, projection, options.nonnegative)
    if start is None:
        objective.prepare()
    out = Fit.empty(stats.n_genes, projection.p, size)

    @np.errstate(over="ignore", divide="ignore", invalid="ignore")  # of genes without an optimum, told by their status
    def work(part: slice) -> None:
        genes = data_of(projection, stats, part)
        use = np.flatnonzero(genes.vary(projection.rounding))
        if not use.size:
            return
        genes, index = objective.tabulated(genes[use]), use + part.start
        best = optimise(
            objective,
            genes,
            nonnegative=options.nonnegative,
            max_iter=options.max_iter,
            tol=options.tol,
            start=None if start is None else np.tile(start, (use.size, 1)),
        )
        out.n_iter[index] = best.n_iter
        out.status[index] = _status(objective, genes, best, options.nonnegative)
        results = _results(objective, genes, best.point, options)
        results["loglik"] += stats.log_weight_sum / 2
        out.grad[index] = results.pop("grad")
        good = np.isin(out.status[index], (OK, BOUNDARY, INDEFINITE))
        for name, values in results.items():
            getattr(out, name)[index[good]] = values[good]

    for_gene_blocks(work, stats.n_genes, objective.gene_bytes, n_jobs, done)
    _warn_of_digits(stats, out)
    return out


def _warn_of_digits(stats: SummaryStats, fit: Fit) -> None:
    """Name genes of whose residual variance sums over cells keep few digits."""
    with np.errstate(invalid="ignore", divide="ignore"):
        few = fit.theta[:, -1] * stats.n < _FEW_DIGITS * stats.yy
    if stats.refined is not None:
        few[stats.refined.genes] = False
    if few.any():
        names = listed(stats.gene_names[j] for j in np.flatnonzero(few).tolist())
        warn(
            f"The residual variance is less than {_FEW_DIGITS:g} of the mean square of {names}: sums over cells keep few digits "
            "of it. If the values are far from zero, subtract a constant before they are summed up, as sslmm and lmm_de do."
        )


def likelihood(projection: Projection, method: Method, n_genes: int = 1, n_jobs: int | None = None) -> Objective:
    """The objective of so many genes."""
    kind = GroupedObjective if projection.groups else Objective
    return kind.of(projection, method, n_genes, n_jobs)


def data_of(projection: Projection, stats: SummaryStats, genes: slice = slice(None)) -> Genes:
    """The data of some genes: of residuals y - X b with β = b + β' where the statistics have these."""
    data, refined = _data_of(projection, stats, genes), stats.refined
    if refined is None:
        return data
    at = np.arange(stats.n_genes)[genes]
    some = np.flatnonzero(np.isin(refined.genes, at))
    if some.size:
        its = _data_of(projection, refined.stats, some)
        b = its.b + projection.original(refined.coef[:, some]).T
        yy = np.maximum(its.yy, refined.noise[some] / TOLERANCE)  # see `vary`
        data.put(np.searchsorted(at, refined.genes[some]), replace(its, b=b, yy=yy))
    return data


def _data_of(projection: Projection, stats: SummaryStats, genes: slice | np.ndarray) -> Genes:
    if isinstance(stats, ResidualStats) and isinstance(projection.S, GroupedCovariance):
        return GroupedGenes.of_groups(projection.S, projection, stats, genes)
    return Genes.of(projection, stats, genes)


def _starting_ratios(theta0: Sequence[float] | np.ndarray, projection: Projection, nonnegative: bool) -> np.ndarray:
    size, structure = projection.structure.size, projection.structure
    try:
        theta = real_array("theta0", theta0).reshape(-1)
    except (TypeError, ValueError):
        theta = np.empty(0)
    known = theta.size == size + 1 and np.isfinite(theta).all()
    if not known or theta[-1] <= 0 or (nonnegative and not structure.nonnegative(theta[None, :-1])[0]):
        msg = f"theta0={theta0!r} should hold {size} variance components and a positive residual variance."
        raise ValueError(msg)
    gamma = theta[:-1] / theta[-1]
    if not projection.Z.factor(gamma[None]).ok.all():
        msg = f"theta0={theta.tolist()} makes the covariance of the cells indefinite; start with components nearer to zero."
        raise ValueError(msg)
    return gamma


def _status(objective: Objective, genes: Genes, best: Optimum, nonnegative: bool) -> np.ndarray:
    point, projection = best.point, objective.projection
    explained = _EXPLAINED * genes.yRy > point.Q
    converged = best.converged & ~(explained & objective.saturated)  # f is flat where it has a limit
    code = np.where(converged, OK, np.where(explained, NO_RESIDUAL, NOT_CONVERGED)).astype(np.int8)
    if nonnegative:
        code[converged & projection.structure.boundary(point.gamma)] = BOUNDARY
        return code
    negative = np.flatnonzero(converged & (point.gamma < 0).any(axis=1))
    if negative.size:
        code[negative[~projection.Z.factor(point.gamma[negative]).ok]] = INDEFINITE
    return code


def _results(objective: Objective, genes: Genes, point: Point, options: Options) -> dict[str, np.ndarray]:
    """Coefficients, variance components, their information and the log-likelihood at a point."""
    projection, nu, gamma = objective.projection, objective.nu, point.gamma
    s0 = point.Q / nu
    fisher = expected_information(point, nu)
    everything = np.ones(fisher.shape[:2], bool)
    theta = np.column_stack([gamma * s0[:, None], s0])
    slope = -point.grad / (2 * s0[:, None])
    logdet = point.f - nu * np.log(point.Q / genes.yRy)
    constant = projection.logdet_XX if options.method == "REML" else 0.0
    return {
        "coef": genes.b - objective.random_part(genes, point),
        "theta": theta,
        "theta_se": np.sqrt(np.maximum(np.einsum("ijj->ij", inverse_on(fisher, everything)), 0.0)),
        "theta_cov": _theta_cov(projection, theta, slope, observed_information(point, nu), options.nonnegative),
        "grad": np.column_stack([slope, -np.sum(gamma * slope, axis=1)]),
        "loglik": -0.5 * (nu * (1 + np.log(2 * np.pi * s0)) + logdet + constant),
    }


def _theta_cov(
    projection: Projection, theta: np.ndarray, slope: np.ndarray, observed: np.ndarray, nonnegative: bool
) -> np.ndarray:
    """Covariance of θ from the observed information J'I J - Σ_j slope_j ∂²θ_j in the coordinates of `structure`.

    Those that don't move θ are left out: variances at zero, and what lies in the null space of a singular Γ.
    """
    structure = projection.structure
    x = structure.coordinates(theta[:, :-1])
    J, bent = np.zeros((2, *observed.shape))
    J[:, :-1, :-1], J[:, -1, -1] = structure.jacobian(x), 1.0
    bent[:, :-1, :-1] = structure.curvature(slope)
    free = (J != 0).any(axis=1)
    if nonnegative:
        free[:, :-1] &= (x != 0) | ~structure.bounded
    return J @ inverse_on(J.swapaxes(1, 2) @ observed @ J - bent, free) @ J.swapaxes(1, 2)


def largest_slope(structure: Structure, theta: np.ndarray, grad: np.ndarray, *, nonnegative: bool) -> np.ndarray:
    """Largest component of each gene's gradient, in coordinates in which it is zero at an optimum.

    Variances at zero count if the likelihood rises from there; genes without θ have the gradient of the parameters themselves.
    """
    x = structure.coordinates(theta[:, :-1])
    slope = np.einsum("ijk,ij->ik", structure.jacobian(x), grad[:, :-1])
    slope = np.where(np.isnan(x), grad[:, :-1], slope)
    if nonnegative:
        slope = np.where(structure.bounded & (x == 0), np.maximum(slope, 0.0), slope)
    return np.abs(np.column_stack([slope, grad[:, -1]])).max(axis=1)
