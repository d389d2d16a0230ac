"""Fitting linear mixed models to summary statistics, all genes at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flashmm_sc._arrays.shown import fit_html, fit_text
from flashmm_sc._arrays.sslmm import sslmm
from flashmm_sc._base.linalg import blas_threads
from flashmm_sc._base.options import check_flags, check_type
from flashmm_sc._base.selection import Selection, positions
from flashmm_sc._base.threads import for_gene_blocks, n_threads
from flashmm_sc._gaussian.estimate import STATUS, Estimates, Options, data_of, estimate, likelihood
from flashmm_sc._gaussian.information import expected_information
from flashmm_sc._gaussian.projection import Projection
from flashmm_sc._gaussian.structure import check_correlated
from flashmm_sc._inference.df import Ddf, check_ddf, with_df
from flashmm_sc._inference.inference import Inference
from flashmm_sc._inference.moderated import Moderated, check_moderate, moderation
from flashmm_sc._stats.summary import SummaryStats

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flashmm_sc._gaussian.profile import Method


@dataclass(frozen=True, eq=False)
class LMMFit:
    """Linear mixed models fitted to m genes.

    Attributes
    ----------
    coef, se, t, df, p
        Fixed effects, standard errors, t-values, degrees of freedom and two-sided p-values; DataFrames genes × p, on
        the scale of the fitted values. NaN for genes that were not fitted.
    theta, theta_se
        Variance components and their standard errors (expected information), genes × (K+1), the residual variance last.
    theta_cov
        Inverse of the observed information for theta, genes × (parameters + 1) × (parameters + 1), covariances being
        parameters too; zero for components at the boundary.
    loglik
        Maximum of the (restricted) log-likelihood, with its constants, as lme4 reports it.
    grad
        Derivatives of the log-likelihood with respect to theta, genes × (K+1).
    n_iter
        Steps of the optimiser.
    status
        One of "ok", "boundary" (a variance is zero, or a correlation ±1; results are valid), "constant" (no variation
        beyond the fixed effects), "no df" (degrees of freedom can't be estimated), "no residual" (fixed and random effects
        explain the gene, or can and had best: its likelihood has no maximum), "not converged" (also: that of free components
        rises up to the edge of the domain), "indefinite" (free components: optimum where V isn't; numbers as FLASHMM's).
    method, nonnegative, ddf
        As given to `lmm`.
    moderated
        The prior of the variance ratios and its posteriors, None without `moderate`. `coef` and `p` are then averages
        over the posterior, `se` is its standard deviation, t = coef / se, and `df` those at which this t has the p (at
        most n - p; where more were needed, mostly p > 0.05, `se` is a little smaller). theta stays the unshrunken
        estimate.
    stats
        The summary statistics; those of `untangled`, if they have these.
    projection
        What their designs give.

    Notes
    -----
    `cov` and `ranef` are those of theta as it stands here: Kenward and Roger's adjustment and the average of moderated
    fits are in `se` only.
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
    method: Method
    nonnegative: bool
    ddf: Ddf
    moderated: Moderated | None
    stats: SummaryStats
    projection: Projection

    @property
    def inference(self) -> Inference:
        """What tests work on."""
        estimates = Estimates(self.coef.to_numpy(), self.theta.to_numpy(), self.theta_cov)
        return Inference(self.projection, estimates, self.method, self.ddf, self.moderated)

    def cov(self) -> np.ndarray:
        """Covariance of the coefficients, genes × p × p: s_0 [(X'X)⁻¹ + A' D (I + S D)⁻¹ A]."""

        def block(theta: np.ndarray, _: slice) -> np.ndarray:
            factor = self.projection.S.factor(theta[:, :-1] / theta[:, -1:])
            return theta[:, -1, None, None] * (self.projection.XXi + factor.shared_matrix(self.projection.random_part))

        return self._by_blocks(block, (self.projection.p, self.projection.p))

    def fim(self) -> np.ndarray:
        """Expected (Fisher) information for theta, genes × (K+1) × (K+1), the residual last."""
        objective = likelihood(self.projection, self.method)

        def block(theta: np.ndarray, genes: slice) -> np.ndarray:
            point = objective(data_of(self.projection, self.stats, genes), theta[:, :-1] / theta[:, -1:])
            return expected_information(point, objective.nu)

        return self._by_blocks(block, (self.theta.shape[1], self.theta.shape[1]))

    def ranef(self) -> pd.DataFrame:
        """Best linear unbiased predictions of the random effects, genes × q: D (I + S D)⁻¹ Z'Ry."""
        objective = likelihood(self.projection, self.method)

        def block(theta: np.ndarray, genes: slice) -> np.ndarray:
            return objective.random_effects(data_of(self.projection, self.stats, genes), theta[:, :-1] / theta[:, -1:])

        values = self._by_blocks(block, (sum(self.stats.d),))
        return pd.DataFrame(values, index=self.coef.index, columns=list(self.stats.ranef_names))

    def refit(
        self, *, drop_coefs: Selection | None = None, drop_components: Selection | None = None, **options: Any
    ) -> LMMFit:
        """Fit a smaller model, or the same one with other options, to the same statistics.

        Parameters
        ----------
        drop_coefs, drop_components
            Fixed columns and random components to leave out, by name or position; by default none.
        **options
            As in `lmm`; method, ddf and nonnegative are by default as in this fit.

        Returns
        -------
        The new fit of all genes.

        Raises
        ------
        ValueError
            For what there isn't, when no coefficient or no component is left, and as `lmm`.

        Examples
        --------
        >>> import numpy as np, flashmm_sc as fsc
        >>> sample = np.arange(60) % 6
        >>> X = np.column_stack([np.ones(60), sample % 2])
        >>> fit = fsc.lmmfit(np.random.default_rng(0).normal(size=(60, 4)), X, np.eye(6)[sample])
        >>> fit.refit(drop_coefs="x2", method="ML")
        LMMFit of 4 genes by ML: 4 ok; 1 coefficients, variance components 'var1', 'residual'
        """
        names = self.stats.coef_names, self.stats.component_names
        drop = {"drop_coefs": drop_coefs, "drop_components": drop_components}
        coefs, components = (
            np.delete(np.arange(len(known)), [] if chosen is None else positions(argument, chosen, known))
            for known, (argument, chosen) in zip(names, drop.items(), strict=True)
        )
        as_here: dict[str, Any] = {"method": self.method, "ddf": self.ddf, "nonnegative": self.nonnegative}
        return lmm(self.stats.select(coefs=coefs, components=components), **(as_here | options))

    def _by_blocks(self, block: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Fill genes × shape from a function of (theta, genes); NaN where a gene was not fitted."""
        theta = self.theta.to_numpy()
        out = np.full((len(theta), *shape), np.nan)

        def work(genes: slice) -> None:
            with np.errstate(invalid="ignore", divide="ignore"):
                out[genes] = block(theta[genes], genes)

        for_gene_blocks(work, len(theta), self.projection.S.gene_bytes(self.projection.p), None)
        out[~np.isfinite(theta).all(axis=1)] = np.nan
        return out

    def __repr__(self) -> str:
        return fit_text(self)

    def _repr_html_(self) -> str:
        return fit_html(self)


def lmm(
    stats: SummaryStats,
    *,
    method: Method = "REML",
    theta0: Sequence[float] | np.ndarray | None = None,
    max_iter: int = 100,
    tol: float = 1e-16,
    ddf: Ddf = "residual",
    nonnegative: bool = False,
    moderate: bool = False,
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
        covariance matrix stays positive definite. The optimum is then a local one, inside the domain: at its edge, where
        that matrix is singular, the likelihood of many genes has no bound, which tells nothing of the data.
    moderate
        Average the tests over the posterior of the variance ratios, whose prior is learned from all genes: calibrated
        with few samples, and more powerful. `ddf` then plays no part. REML with one or two components only; falls back
        to `ddf="satterthwaite"`, with a warning, where there are fewer than 100 genes or too few levels.
    n_jobs
        Threads; by default all cores.

    Raises
    ------
    TypeError
        For options of a wrong type.
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
    check_type("stats", stats, SummaryStats, "fsc.sslmm or fsc.summarize")
    stats = stats.untangled or stats
    options = Options(method, nonnegative, max_iter, tol, theta0)
    check_flags(moderate=moderate)
    check_ddf(ddf, method)
    n_threads(n_jobs)
    if moderate:
        check_moderate(method, len(stats.d))
    check_correlated(stats.correlated, nonnegative, moderate)
    names, sparse = (stats.coef_names, stats.component_names), nonnegative and not moderate
    with blas_threads(sum(stats.d)):
        projection = Projection.of(stats.cross, stats.n, stats.d, *names, sparse=sparse, correlated=stats.correlated)
    return fit(stats, projection, options, ddf, moderate, n_jobs)


def fit(
    stats: SummaryStats,
    projection: Projection,
    options: Options,
    ddf: Ddf,
    moderate: bool,
    n_jobs: int | None,
    group: str = "",
    *,
    done: Callable[[int], object] | None = None,
) -> LMMFit:
    """`lmm` with the projection at hand and the arguments checked; `done` is told of genes fitted."""
    with blas_threads(sum(projection.d)):
        projection = projection.prepared(stats.n_genes, n_jobs, traces=options.method == "REML")
        fitted = estimate(stats, projection, options, n_jobs, done)
        moderated = moderation(stats, projection, fitted.fitted, group) if moderate else None
        ddf = "satterthwaite" if moderate else ddf
        inference = Inference(projection, fitted, options.method, ddf, moderated)
        tests = inference.t_tests(np.eye(projection.p), n_jobs=n_jobs)
    genes, coefs, thetas = map(pd.Index, (stats.gene_names, stats.coef_names, stats.theta_names))
    frame = lambda values, columns: pd.DataFrame(values, index=genes, columns=columns)
    codes = pd.Categorical.from_codes(with_df(fitted.status, tests.df), pd.Index(list(STATUS)))
    return LMMFit(
        **{name: frame(getattr(tests, name), coefs) for name in ("coef", "se", "t", "df", "p")},
        **{name: frame(getattr(fitted, name), thetas) for name in ("theta", "theta_se", "grad")},
        theta_cov=fitted.theta_cov,
        loglik=pd.Series(fitted.loglik, index=genes),
        n_iter=pd.Series(fitted.n_iter, index=genes),
        status=pd.Series(codes, index=genes),
        method=options.method,
        nonnegative=options.nonnegative,
        ddf=ddf,
        moderated=moderated,
        stats=stats,
        projection=projection,
    )


def lmmfit(
    Y: Any,
    X: Any,
    Z: Any,
    d: Sequence[int] | int | None = None,
    *,
    correlated: Sequence[Sequence[int]] = (),
    weights: Any = None,
    **options: Any,
) -> LMMFit:
    """Fit a linear mixed model to every gene from cell-level data: `sslmm`, then `lmm`.

    Parameters
    ----------
    Y
        Expression, cells × genes (FLASHMM has genes × cells); dense, sparse or DataFrame.
    X, Z, d, correlated, weights
        Designs of the fixed and random effects, the columns of each random component, which are correlated, and precision
        weights of the cells, as in `sslmm`.
    **options
        As in `lmm`.

    Returns
    -------
    The fit of all genes.

    Raises
    ------
    TypeError, ValueError
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
    stats = sslmm(X, Y, Z, d, correlated=correlated, weights=weights, n_jobs=options.get("n_jobs"))
    return lmm(stats, **options)
