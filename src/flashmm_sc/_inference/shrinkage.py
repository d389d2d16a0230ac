"""Adaptive shrinkage: effects drawn from a mixture of normals around zero that all genes together tell.

Estimates b_j ~ N(β_j, s_j²) of effects β_j ~ Σ_k π_k N(0, σ_k²), with σ_0 = 0: Stephens, "False discovery rates: a new
deal", Biostatistics 2017, doi 10.1093/biostatistics/kxw041. Grid, penalty and definitions are those of its R package
ashr with ``mixcompdist="normal"``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, ndtr, softmax

from flashmm_sc._inference.mixing import mixing_weights
from flashmm_sc._inference.tails import MANY_DF, normal_deviate

NULL_WEIGHT = 10
"""Dirichlet parameter of π_0, against 1 of the others: where the data can't tell, effects are zero rather than tiny."""
_STEP = np.sqrt(2)


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
    pseudo = (NULL_WEIGHT - 1.0) * (sd == 0)
    return NormalMixture(sd, mixing_weights(_log_likelihoods(sd, coef, s), pseudo))


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


def _mean_of_lower(lfsr: np.ndarray) -> np.ndarray:
    order = np.argsort(lfsr, kind="stable")
    out = np.empty_like(lfsr)
    out[order] = np.cumsum(lfsr[order]) / np.arange(1, len(lfsr) + 1)
    return out
