"""Tail probabilities of Student's t, and of F, by the tens of millions.

Where t² is small beside the degrees of freedom they go through the normal distribution: Hill's expansion
(Communications of the ACM 1970, algorithm 395) maps t to a normal deviate with a relative error of the tail below 1e-11.
"""

from __future__ import annotations

import numpy as np
from scipy.special import betainc, betaincinv, ndtr, ndtri_exp, stdtr, stdtrit

_MANY = 1000  # df from which the quantile is found by way of the normal one


def upper_tail(t: np.ndarray, df: np.ndarray | float) -> np.ndarray:
    """P(T > t), exact for tiny t as well as in the far tail."""
    t, df = np.broadcast_arrays(t, df)
    normal = (df >= 50) & (t * t < df / 5)
    out = np.empty(t.shape)
    out[normal] = ndtr(-deviate(t[normal], df[normal]))
    out[~normal] = stdtr(df[~normal], -t[~normal])
    return out


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


def f_upper_tail(F: np.ndarray, r: int, nu: int) -> np.ndarray:
    """P(F_rν > F); with r = 1 to the last bit that of t."""
    return 2 * upper_tail(np.sqrt(F), nu) if r == 1 else betainc(nu / 2, r / 2, nu / (nu + r * F))


def f_quantile(p: np.ndarray, r: int, nu: int) -> np.ndarray:
    """The F with P(F_rν > F) = p."""
    small = np.minimum(p, 0.5)
    far, near = betaincinv(nu / 2, r / 2, small), betaincinv(r / 2, nu / 2, np.minimum(1 - p, 0.5))
    with np.errstate(divide="ignore"):  # p may be 0
        return np.where(p < 0.5, nu / r * (1 / far - 1), nu / r * near / (1 - near))
