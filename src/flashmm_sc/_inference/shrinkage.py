"""Adaptive shrinkage: effects drawn from a mixture of normals around zero that all genes together tell.

Estimates b_j ~ N(β_j, s_j²) of effects β_j ~ Σ_k π_k N(0, σ_k²), with σ_0 = 0: Stephens, "False discovery rates: a new
deal", Biostatistics 2017, doi 10.1093/biostatistics/kxw041. Grid, penalty and definitions are those of its R package
ashr with ``mixcompdist="normal"``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls
from scipy.special import gammaln, ndtr, softmax

from flashmm_sc._base.threads import one_blas_thread
from flashmm_sc._inference.tails import MANY_DF, normal_deviate

NULL_WEIGHT = 10
"""Dirichlet parameter of π_0, against 1 of the others: where the data can't tell, effects are zero rather than tiny."""
_STEP = np.sqrt(2)
_OPTIMAL = 1e-9
_MOST_STEPS = 200
_ROUNDING = 1e-14
_LOST = 1e-9 - 1
"""Change of an estimate's density at which a step is too long."""


@dataclass(frozen=True, eq=False)
class NormalMixture:
    """Weights π of normals around zero with standard deviations σ, ascending from 0."""

    sd: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, eq=False)
class Shrunken:
    """Posteriors of m effects; every array has length m.

    Attributes
    ----------
    coef, sd
        Mean and standard deviation.
    lfsr
        Local false sign rate: the probability of having the sign wrong, were one to name the likelier one.
    svalue
        Mean local false sign rate of all effects with one as low.
    """

    coef: np.ndarray
    sd: np.ndarray
    lfsr: np.ndarray
    svalue: np.ndarray


def normal_errors(coef: np.ndarray, se: np.ndarray, t: np.ndarray, df: np.ndarray) -> np.ndarray:
    """Standard errors s with which coef / s, held against the normal distribution, has the p-value of t.

    Lu and Stephens, arXiv 1901.10679: a normal likelihood with these serves for one with estimated variances. Near
    t = 0, where the ratio t / z is lost to rounding, it is its limit, that of the densities at zero.
    """
    half = np.minimum(df, MANY_DF) / 2
    at_zero = np.exp(gammaln(half) - gammaln(half + 0.5)) * np.sqrt(half)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.abs(t) < 1e-6, se * at_zero, np.abs(coef / normal_deviate(t, df)))


def learn(coef: np.ndarray, s: np.ndarray) -> NormalMixture:
    """The mixture of largest penalised likelihood."""
    sd = _grid(coef, s)
    return NormalMixture(sd, _weights(_log_likelihoods(sd, coef, s)))


def shrink(prior: NormalMixture, coef: np.ndarray, s: np.ndarray) -> Shrunken:
    """Posteriors of effects under a prior."""
    used = prior.weights > 0
    sd, weights = prior.sd[used], prior.weights[used]
    total = s[:, None] ** 2 + sd**2
    share = sd**2 / total
    mean, spread = coef[:, None] * share, s[:, None] * np.sqrt(share)
    w = softmax(np.log(weights) + _log_likelihoods(sd, coef, s), axis=1)
    out = (w * mean).sum(axis=1)
    variance = (w * (spread**2 + (mean - out[:, None]) ** 2)).sum(axis=1)
    # the sign of b is the likelier one in every component
    wrong = np.where(sd > 0, ndtr(-np.abs(coef / s)[:, None] * np.sqrt(share)), 1.0)
    lfsr = (w * wrong).sum(axis=1)
    return Shrunken(out, np.sqrt(variance), lfsr, _mean_of_lower(lfsr))


def _grid(coef: np.ndarray, s: np.ndarray) -> np.ndarray:
    """From small beside any error to about twice the largest effect, by √2; and zero."""
    least = s.min() / 10
    excess = (coef**2 - s**2).max()
    most = 2 * np.sqrt(excess) if excess > 0 else 8 * least
    n = max(0, int(np.ceil(np.log(most / least) / np.log(_STEP))))
    return np.concatenate([[0.0], most * _STEP ** np.arange(-n, 1.0)])


def _log_likelihoods(sd: np.ndarray, coef: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Log density of each estimate under each component, up to a constant: m × K."""
    total = s[:, None] ** 2 + sd**2
    return -0.5 * (coef[:, None] ** 2 / total + np.log(total))


def _weights(log_lik: np.ndarray) -> np.ndarray:
    """The π that maximises Σ_j log Σ_k π_k L_jk + (NULL_WEIGHT - 1) log π_0, which is concave.

    The constrained Newton method of Wang (JRSS B 2007): to second order in π the sum is -½ |S π - 2|² with S_jk =
    L_jk / (L π)_j, up to a constant; its minimum over the simplex comes from a non-negative least-squares problem.
    """
    K = log_lik.shape[1]
    L = np.vstack([np.exp(log_lik - log_lik.max(axis=1, keepdims=True)), np.eye(1, K)])  # the penalty is a row
    share = np.append(np.ones(len(log_lik)), NULL_WEIGHT - 1)
    share /= share.sum()
    pi = np.full(K, 1 / K)
    with one_blas_thread(), np.errstate(divide="ignore", invalid="ignore"):  # of steps too long
        for _ in range(_MOST_STEPS):
            S = L / (L @ pi)[:, None]
            slope = share @ S  # at the optimum 1 where π > 0, less elsewhere
            if slope.max() < 1 + _OPTIMAL:
                break
            R = np.linalg.qr(np.sqrt(share)[:, None] * (S - 2), mode="r")
            x = nnls(np.vstack([R, np.ones(K)]), np.append(np.zeros(len(R)), 1.0))[0]
            step, size = x / x.sum() - pi, 1.0
            change = S @ step
            least = share @ change / 3
            while size * change.min() < _LOST or not share @ np.log1p(size * change) >= size * least - _ROUNDING:
                size /= 2
            pi = pi + size * step
    return pi


def _mean_of_lower(lfsr: np.ndarray) -> np.ndarray:
    order = np.argsort(lfsr, kind="stable")
    out = np.empty_like(lfsr)
    out[order] = np.cumsum(lfsr[order]) / np.arange(1, len(lfsr) + 1)
    return out
