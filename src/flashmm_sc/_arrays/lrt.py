"""Likelihood-ratio tests between nested fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from flashmm_sc._arrays.lmm import LMMFit
from flashmm_sc._base.errors import listed
from flashmm_sc._base.options import check_type
from flashmm_sc._base.selection import component_slices
from flashmm_sc._gaussian.estimate import data_of
from flashmm_sc._inference.likelihood_ratio import likelihood_ratio
from flashmm_sc._stats.correlated import lacking_covariances

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashmm_sc._gaussian.projection import Projection
    from flashmm_sc._stats.summary import SummaryStats


def lrt(fit: LMMFit, null: LMMFit | None = None) -> pd.DataFrame:
    """Compare nested fits of the same statistics by likelihood-ratio tests, gene by gene.

    Parameters
    ----------
    fit
        The larger model.
    null
        The smaller model, e.g. ``fit.refit(drop_components="sam:cls")``; it lacks fixed columns, random components or
        both. None stands for `fit` without any random effects: ordinary least squares, whose likelihood has a closed
        form.

    Returns
    -------
    DataFrame, genes × (``stat``, ``df``, ``p``): twice the difference of the log-likelihoods, differences below zero
    (rounding) as zero; the number of parameters that `null` lacks; the p-value. NaN for genes not fitted in both.

    Raises
    ------
    TypeError
        For what is no `LMMFit`.
    ValueError
        When the fits are of other statistics, or differ in method or `nonnegative`; when `null` is not nested in `fit`
        by its names, or as large; and for REML fits that differ in fixed columns, as their likelihoods are of different
        data: refit both with ``fit.refit(method="ML")``.

    Notes
    -----
    The statistic of r fixed columns, covariances and free variance components (as FLASHMM's) is referred to chi2_r.
    Components bounded at zero (`nonnegative`) have half their null distribution at the bound: with any of them among the r
    parameters, p is that of the mixture 1/2 chi2_(r-1) + 1/2 chi2_r. That is exact in large samples for one component,
    also with its r - 1 covariances, as for a slope of ``(1 + x | g)``
    (Self and Liang, Journal of the American Statistical Association 1987), where chi2_0 is a point at zero; for several
    it is the upper bound over all mixtures there can be, and therefore conservative. Components of `null` that are zero
    themselves, and few levels of a component, make the test conservative too.

    Examples
    --------
    >>> import numpy as np, flashmm_sc as fsc
    >>> sample = np.arange(60) % 6
    >>> X = np.column_stack([np.ones(60), sample % 2])
    >>> Y = np.random.default_rng(0).normal(size=(60, 4))
    >>> fit = fsc.lmmfit(Y, X, np.eye(6)[sample], method="ML", nonnegative=True)
    >>> fsc.lrt(fit, fit.refit(drop_coefs="x2")).columns.to_list()
    ['stat', 'df', 'p']
    >>> any_variance_between_samples = fsc.lrt(fit)
    """
    check_type("fit", fit, LMMFit, "fsc.lmm or fsc.lmmfit")
    stats = fit.stats
    if null is None:
        n_variances, n_others = len(stats.d), len(stats.theta_names) - 1 - len(stats.d)
        smaller = _loglik_without_random(stats, fit.projection, fit.method)
    else:
        check_type("null", null, LMMFit, "fit.refit(drop_...=...)")
        n_variances, n_others = _left_out(fit, null)
        smaller = null.loglik.to_numpy()
    df = n_variances + n_others
    stat, p = likelihood_ratio(fit.loglik.to_numpy(), smaller, df, bounded=fit.nonnegative and n_variances > 0)
    return pd.DataFrame({"stat": stat, "df": np.where(np.isnan(stat), np.nan, df), "p": p}, fit.coef.index)


def _loglik_without_random(stats: SummaryStats, projection: Projection, method: str) -> np.ndarray:
    """-1/2 [ν (1 + log(2π y'Ry / ν)) + log det X'X (REML)] + 1/2 Σ log w."""
    yRy = data_of(projection, stats).yRy
    nu, logdet = (stats.n - projection.p, projection.logdet_XX) if method == "REML" else (stats.n, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return -0.5 * (nu * (1 + np.log(2 * np.pi * yRy / nu)) + logdet - stats.log_weight_sum)


def _left_out(fit: LMMFit, null: LMMFit) -> tuple[int, int]:
    """How many variances and how many other parameters the smaller model lacks, once all else is found to be the same."""
    a, b = fit.stats, null.stats
    if a.n != b.n or list(a.gene_names) != list(b.gene_names) or not np.allclose(a.yy, b.yy, rtol=1e-9, atol=0):
        msg = "The two fits are of different cells, genes or values; get the smaller one by fit.refit(drop_...=...)."
        raise ValueError(msg)
    for option in ("method", "nonnegative"):
        mine, theirs = getattr(fit, option), getattr(null, option)
        if mine != theirs:
            msg = f"The fits have {option}={mine!r} and {option}={theirs!r}; likelihoods compare within one only."
            raise ValueError(msg)
    fixed = _lacking("fixed columns", a.coef_names, b.coef_names)
    random = _lacking("random components", a.component_names, b.component_names)
    one, other = ((stats.component_names, stats.correlated) for stats in (a, b))
    joint = lacking_covariances(one, other)
    if extra := lacking_covariances(other, one):
        msg = f"The smaller model isn't nested in the larger one, which has no {listed(extra)}."
        raise ValueError(msg)
    if not fixed and not random and not joint:
        msg = "The two fits are of the same model; drop fixed columns or random components in the smaller one."
        raise ValueError(msg)
    if fixed and fit.method == "REML":
        msg = (
            f"REML likelihoods of models with different fixed columns ({listed(fixed)}) can't be compared; "
            "refit both by fit.refit(method='ML')."
        )
        raise ValueError(msg)
    _check_shared(a, b)
    return len(random), len(fixed) + len(joint)


def _lacking(what: str, larger: Sequence[str], smaller: Sequence[str]) -> list[str]:
    extra = [name for name in smaller if name not in larger]
    if extra:
        msg = f"The smaller model isn't nested in the larger one, which has no {what} {listed(extra)}."
        raise ValueError(msg)
    return [name for name in larger if name not in smaller]


def _check_shared(a: SummaryStats, b: SummaryStats) -> None:
    """What goes by the same name in both models should have the same columns."""
    columns = [list(a.coef_names).index(name) for name in b.coef_names]
    same = np.allclose(a.plain.XX[np.ix_(columns, columns)], b.plain.XX, rtol=1e-9)
    squares, parts = [stats.ZZ.diagonal() for stats in (a, b)], component_slices(a.d)
    for name, part in zip(b.component_names, component_slices(b.d), strict=True):
        one, other = squares[0][parts[list(a.component_names).index(name)]], squares[1][part]
        same = same and one.shape == other.shape and np.allclose(one, other, rtol=1e-9)
    if not same:
        msg = "Columns of the same name differ between the fits; get the smaller one by fit.refit(drop_...=...)."
        raise ValueError(msg)
