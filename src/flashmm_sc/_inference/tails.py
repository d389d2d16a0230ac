"""Tail probabilities of Student's t by the tens of millions.

Where t² is small beside the degrees of freedom they go through the normal distribution: Hill's expansion
(Communications of the ACM 1970, algorithm 395) maps t to a normal deviate with a relative error of the tail below 1e-11.
"""

from __future__ import annotations

import numpy as np
from scipy.special import betaln, hyp2f1, log_ndtr, ndtr, ndtri_exp, stdtr, stdtrit

_MANY = 1000  # df from which the quantile is found by way of the normal one


def upper_tail(t: np.ndarray, df: np.ndarray | float) -> np.ndarray:
    """P(T > t), exact for tiny t as well as in the far tail."""
    t, df = np.broadcast_arrays(t, df)
    normal = (df >= 50) & (t * t < df / 5)
    out = np.empty(t.shape)
    out[normal] = ndtr(-deviate(t[normal], df[normal]))
    out[~normal] = stdtr(df[~normal], -t[~normal])
    return out


def log_upper_tail(t: np.ndarray, df: np.ndarray | float) -> np.ndarray:
    """log P(T > t), finite also where the probability is too small for a number."""
    t, df = np.broadcast_arrays(t, df)
    with np.errstate(divide="ignore"):  # of a probability of zero
        out = np.log(upper_tail(t, df), out=np.empty(t.shape))
    normal = (df >= 50) & (t * t < df / 5)
    out[normal] = log_ndtr(-deviate(t[normal], df[normal]))
    far = ~normal & (out < -600)  # half the incomplete beta function I_x(a, 1/2), by its series
    a, x = df[far] / 2, 1 / (1 + t[far] ** 2 / df[far])
    series = np.log(hyp2f1(a + 0.5, 1.0, a + 1, x)) - np.log(2 * a) - betaln(a, 0.5)
    out[far] = a * np.log(x) + 0.5 * np.log1p(-x) + series
    return out


def normal_deviate(t: np.ndarray, df: np.ndarray | float) -> np.ndarray:
    """The normal deviate with the same tails as t, however far."""
    return np.copysign(-ndtri_exp(log_upper_tail(np.abs(t), df)), t)


def deviate(t: np.ndarray, nu: np.ndarray | float) -> np.ndarray:
    """The normal deviate with the same tail as t."""
    a = nu - 0.5
    b = 48.0 * a * a
    y = a * np.log1p(t * t / nu)
    series = ((((-0.4 * y - 3.3) * y - 24.0) * y - 85.5) / (0.8 * y * y + 100.0 + b) + y + 3.0) / b + 1.0
    return np.copysign(series * np.sqrt(y), t)


def quantile(log_p: np.ndarray, nu: float) -> np.ndarray:
    """The t >= 0 with P(T > t) = p, from log p <= log ½; finite as long as log p is."""
    if nu < _MANY:
        return -stdtrit(nu, np.exp(log_p))
    z = -ndtri_exp(log_p)
    t = np.sqrt(nu * np.expm1(z * z / (nu - 0.5)))
    for _ in range(3):  # Newton on the deviate, which is all but linear in this guess
        step = 1e-4 * (1 + t)
        slope = (deviate(t + step, nu) - deviate(t - step, nu)) / (2 * step)
        t = t - (deviate(t, nu) - z) / slope
    return t
