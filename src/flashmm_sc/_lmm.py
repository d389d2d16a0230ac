"""Fitting linear mixed models to summary statistics, all genes at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from flashmm_sc._errors import listed, one_of
from flashmm_sc._inference import Estimates, check_ddf, t_tests
from flashmm_sc._information import expected_information, inverse_on, observed_information
from flashmm_sc._parallel import for_gene_blocks
from flashmm_sc._projection import Genes, Projection
from flashmm_sc._solver import Objective, Point, optimise
from flashmm_sc._summary import SummaryStats, sslmm

METHODS = ("REML", "ML")
STATUS = ("ok", "boundary", "constant", "masked", "not converged", "indefinite")
OK, BOUNDARY, CONSTANT, MASKED, NOT_CONVERGED, INDEFINITE = range(len(STATUS))


@dataclass(frozen=True, eq=False)
class LMMFit:
    """Linear mixed models fitted to m genes.

    Attributes
    ----------
    coef, se, t, df, p
        Fixed effects, standard errors, t-values, degrees of freedom and two-sided p-values; DataFrames genes × p, on
        the scale of the fitted values. NaN for genes that were not fitted.
    theta, theta_se
        Variance components and their standard errors (from the expected information), genes × (K+1), the residual
        variance last.
    theta_cov
        Inverse of the observed information for theta, genes × (K+1) × (K+1); zero for components at the boundary.
    loglik
        Maximum of the (restricted) log-likelihood, with its constants, as lme4 reports it.
    grad
        Derivatives of the log-likelihood with respect to theta, genes × (K+1).
    n_iter
        Steps of the optimiser.
    status
        One of "ok", "boundary" (a component is zero; results are valid), "constant" (no variation beyond the fixed
        effects), "not converged" (also: the likelihood of free components has no finite optimum), "indefinite" (free
        components: the restricted likelihood has its optimum where V is not positive definite; numbers as FLASHMM's).
    method, nonnegative, ddf
        As given to `lmm`.
    stats
        The summary statistics.
    """

    coef: pd.DataFrame
    se: pd.DataFrame
    t: pd.DataFrame
    df: pd.DataFrame
    p: pd.DataFrame
    theta: pd.DataFrame
    theta_se: pd.DataFrame
    theta_cov: np.ndarray
    loglik: pd.Series
    grad: pd.DataFrame
    n_iter: pd.Series
    status: pd.Series
    method: str
    nonnegative: bool
    ddf: str
    stats: SummaryStats
    projection: Projection

    @property
    def estimates(self) -> Estimates:
        """The arrays that tests work on."""
        return Estimates(self.coef.to_numpy(), self.theta.to_numpy(), self.theta_cov)

    def cov(self) -> np.ndarray:
        """Covariance of the coefficients, genes × p × p: s_0 [(X'X)⁻¹ + A' D (I + S D)⁻¹ A]."""
        A1, A2 = self.projection.random_part

        def block(theta: np.ndarray, genes: slice) -> np.ndarray:
            factor = self.projection.S.factor(theta[:, :-1] / theta[:, -1:])
            return theta[:, -1, None, None] * (self.projection.XXi + factor.shared_matrix(A1, A2))

        return self._by_blocks(block, (self.projection.p, self.projection.p))

    def fim(self) -> np.ndarray:
        """Expected (Fisher) information for theta, genes × (K+1) × (K+1), the residual last."""
        objective = Objective(self.projection, self.method)

        def block(theta: np.ndarray, genes: slice) -> np.ndarray:
            point = objective(Genes.of(self.projection, self.stats, genes), theta[:, :-1] / theta[:, -1:])
            return expected_information(point, objective.nu)

        return self._by_blocks(block, (self.theta.shape[1], self.theta.shape[1]))

    def ranef(self) -> pd.DataFrame:
        """Best linear unbiased predictions of the random effects, genes × q: D (I + S D)⁻¹ Z'Ry."""
        scale = np.repeat(np.arange(len(self.stats.d)), self.stats.d)

        def block(theta: np.ndarray, genes: slice) -> np.ndarray:
            data = Genes.of(self.projection, self.stats, genes)
            gamma = theta[:, :-1] / theta[:, -1:]
            v1, v2, _ = self.projection.S.factor(gamma).solve(data.a, data.r2)
            return gamma[:, scale] * self.projection.S.restore(v1, v2)

        values = self._by_blocks(block, (len(scale),))
        return pd.DataFrame(values, index=self.coef.index, columns=list(self.stats.ranef_names))

    def _by_blocks(self, block: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Fill genes × shape from a function of (theta, genes); NaN where a gene was not fitted."""
        theta = self.theta.to_numpy()
        out = np.full((len(theta), *shape), np.nan)

        def work(genes: slice) -> None:
            with np.errstate(invalid="ignore", divide="ignore"):
                out[genes] = block(theta[genes], genes)

        for_gene_blocks(work, len(theta), self.projection.gene_bytes(self.projection.p), None)
        out[~np.isfinite(theta).all(axis=1)] = np.nan
        return out

    def __repr__(self) -> str:
        counts = ", ".join(f"{n} {name}" for name, n in self.status.value_counts().items() if n)
        return (
            f"LMMFit of {self.coef.shape[0]} genes by {self.method}: {counts}; "
            f"{self.coef.shape[1]} coefficients, variance components {listed(self.theta.columns)}"
        )


def lmm(
    stats: SummaryStats,
    *,
    method: str = "REML",
    theta0: Sequence[float] | np.ndarray | None = None,
    max_iter: int = 100,
    tol: float = 1e-16,
    ddf: str = "residual",
    nonnegative: bool = False,
    n_jobs: int | None = None,
) -> LMMFit:
    """Fit a linear mixed model to every gene from summary statistics.

    y = X β + Σ_k Z_k b_k + e with b_k ~ N(0, s_k I) and e ~ N(0, s_0 I). The defaults are those of FLASHMM.

    Parameters
    ----------
    stats
        Sums over cells, from `sslmm` or put together by hand.
    method
        "REML" or "ML".
    theta0
        Variance components to start from, (s_1, ..., s_K, s_0), the same for all genes; by default the better of a
        quadratic estimate and a few fixed ratios.
    max_iter
        Most steps for a gene; genes that need more get the status "not converged".
    tol
        A gene has converged when the rise in 2 log-likelihood still to come (the Newton decrement) is below it.
    ddf
        Degrees of freedom of the tests: "residual" (n - p, as FLASHMM), "satterthwaite", or "kenward-roger" (REML only),
        which also adjusts the standard errors.
    nonnegative
        Bound variance components at zero, as lme4. False lets them be negative as in FLASHMM, as long as the
        covariance matrix stays positive definite.
    n_jobs
        Threads; by default all cores.

    Raises
    ------
    ValueError
        When the fixed columns are linearly dependent, no residual df are left, a random component lies within the
        fixed columns, or an argument is unknown.

    Notes
    -----
    Profile likelihood of the variance ratios after projecting the fixed effects out, by safeguarded Newton steps with
    Fisher scoring where the likelihood is not convex. Xu et al., Nature Communications 2026,
    doi 10.1038/s41467-026-69063-2.

    Examples
    --------
    >>> import numpy as np, flashmm_sc as fsc
    >>> rng = np.random.default_rng(0)
    >>> sample = np.arange(60) % 6
    >>> X = np.column_stack([np.ones(60), sample % 2])
    >>> Z = np.eye(6)[sample]
    >>> Y = rng.normal(size=(60, 4)) + Z @ rng.normal(size=(6, 4))
    >>> fsc.lmm(fsc.sslmm(X, Y, Z))
    LMMFit of 4 genes by REML: 4 ok; 2 coefficients, variance components 'var1', 'residual'
    """
    one_of("method", method, METHODS)
    check_ddf(ddf, method)
    projection = Projection.of(stats.XX, stats.ZX, stats.ZZ, stats.n, stats.d, stats.coef_names, stats.component_names)
    return fit(stats, projection, method, theta0, max_iter, tol, ddf, nonnegative, n_jobs)


def fit(
    stats: SummaryStats,
    projection: Projection,
    method: str,
    theta0: Sequence[float] | np.ndarray | None,
    max_iter: int,
    tol: float,
    ddf: str,
    nonnegative: bool,
    n_jobs: int | None,
) -> LMMFit:
    """`lmm` with the projection at hand and the arguments checked."""
    objective = Objective(projection, method)
    start = None if theta0 is None else _starting_ratios(theta0, len(stats.d), nonnegative)
    m, p, K = stats.n_genes, projection.p, len(stats.d)
    empty = lambda *shape: np.full((m, *shape), np.nan)
    out = {"coef": empty(p), "theta": empty(K + 1), "theta_se": empty(K + 1), "grad": empty(K + 1)}
    out |= {"theta_cov": empty(K + 1, K + 1), "loglik": empty()}
    n_iter, status = np.zeros(m, int), np.full(m, CONSTANT, np.int8)

    def work(part: slice) -> None:
        genes = Genes.of(projection, stats, part)
        use = np.flatnonzero(genes.vary())
        if not use.size:
            return
        genes, index = genes[use], use + part.start
        gamma0 = None if start is None else np.tile(start, (use.size, 1))
        best = optimise(objective, genes, nonnegative=nonnegative, max_iter=max_iter, tol=tol, start=gamma0)
        n_iter[index] = best.n_iter
        status[index] = code = _status(projection, best.point, best.converged, nonnegative)
        results = _results(objective, genes, best.point, nonnegative)
        out["grad"][index] = results.pop("grad")
        good = code != NOT_CONVERGED
        for name, values in results.items():
            out[name][index[good]] = values[good]

    for_gene_blocks(work, m, projection.gene_bytes(p), n_jobs)
    estimates = Estimates(out["coef"], out["theta"], out["theta_cov"])
    tests = t_tests(projection, estimates, np.eye(p), ddf=ddf, n_jobs=n_jobs)
    genes, coefs = list(stats.gene_names), list(stats.coef_names)
    thetas = [*stats.component_names, "residual"]
    frame = lambda values, columns: pd.DataFrame(values, index=genes, columns=columns)
    return LMMFit(
        **{name: frame(getattr(tests, name), coefs) for name in ("coef", "se", "t", "df", "p")},
        **{name: frame(out[name], thetas) for name in ("theta", "theta_se", "grad")},
        theta_cov=out["theta_cov"],
        loglik=pd.Series(out["loglik"], index=genes),
        n_iter=pd.Series(n_iter, index=genes),
        status=pd.Series(pd.Categorical.from_codes(status, list(STATUS)), index=genes),
        method=method,
        nonnegative=nonnegative,
        ddf=ddf,
        stats=stats,
        projection=projection,
    )


def lmmfit(Y: Any, X: Any, Z: Any, d: Sequence[int] | int | None = None, **options: Any) -> LMMFit:
    """Fit a linear mixed model to every gene from cell-level data: `sslmm`, then `lmm`.

    Parameters
    ----------
    Y
        Expression, cells × genes (FLASHMM has genes × cells); dense, sparse or DataFrame.
    X, Z, d
        Designs of the fixed and random effects and the columns of each random component, as in `sslmm`.
    **options
        As in `lmm`.

    Returns
    -------
    The fit of all genes.

    Raises
    ------
    ValueError
        As `sslmm` and `lmm`.

    Examples
    --------
    >>> import numpy as np, flashmm_sc as fsc
    >>> rng = np.random.default_rng(0)
    >>> sample = np.arange(60) % 6
    >>> X = np.column_stack([np.ones(60), sample % 2])
    >>> fsc.lmmfit(rng.normal(size=(60, 4)), X, np.eye(6)[sample], method="ML", nonnegative=True).method
    'ML'
    """
    return lmm(sslmm(X, Y, Z, d, n_jobs=options.get("n_jobs")), **options)


def _starting_ratios(theta0: Sequence[float] | np.ndarray, K: int, nonnegative: bool) -> np.ndarray:
    theta = np.asarray(theta0, dtype=float).reshape(-1)
    if theta.size != K + 1 or not np.isfinite(theta).all() or theta[-1] <= 0 or (nonnegative and theta.min() < 0):
        msg = f"theta0 should hold {K} variance components and a positive residual variance, not {theta.tolist()}."
        raise ValueError(msg)
    return theta[:-1] / theta[-1]


def _status(projection: Projection, point: Point, converged: np.ndarray, nonnegative: bool) -> np.ndarray:
    code = np.where(converged, OK, NOT_CONVERGED).astype(np.int8)
    if nonnegative:
        code[converged & (point.gamma == 0).any(axis=1)] = BOUNDARY
        return code
    negative = np.flatnonzero(converged & (point.gamma < 0).any(axis=1))
    if negative.size:
        code[negative[~projection.Z.factor(point.gamma[negative]).ok]] = INDEFINITE
    return code


def _results(objective: Objective, genes: Genes, point: Point, nonnegative: bool) -> dict[str, np.ndarray]:
    """Coefficients, variance components, their information and the log-likelihood at a point."""
    projection, nu, gamma = objective.projection, objective.nu, point.gamma
    s0 = point.Q / nu
    v1, v2, _ = projection.S.factor(gamma).solve(genes.a, genes.r2)
    A1, A2 = projection.random_part
    g1, D = gamma[:, projection.S.largest, None], gamma @ projection.S.member.T
    fisher = expected_information(point, nu)
    everything = np.ones(fisher.shape[:2], bool)
    free = np.column_stack([gamma != 0, everything[:, -1]]) if nonnegative else everything
    slope = -point.grad / (2 * s0[:, None])
    logdet = point.f - nu * np.log(point.Q / genes.yRy)
    constant = projection.logdet_XX if objective.method == "REML" else 0.0
    return {
        "coef": genes.b - (g1 * v1) @ A1 - (D * v2) @ A2,
        "theta": np.column_stack([gamma * s0[:, None], s0]),
        "theta_se": np.sqrt(np.einsum("ijj->ij", inverse_on(fisher, everything))),
        "theta_cov": inverse_on(observed_information(point, nu), free),
        "grad": np.column_stack([slope, -np.sum(gamma * slope, axis=1)]),
        "loglik": -0.5 * (nu * (1 + np.log(2 * np.pi * s0)) + logdet + constant),
    }
