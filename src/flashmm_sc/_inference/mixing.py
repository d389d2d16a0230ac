"""Mixing proportions of given densities: the nonparametric maximum-likelihood estimate on a grid, or a penalised one."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from flashmm_sc._base.threads import one_blas_thread

GAP = 1e-8
"""What the sum of log-likelihoods, over all genes together, may still lack."""
_MOST_STEPS = 200
_MOST_SETS = 100  # active sets of a step, for each point; some steps take four
_DAMPING = 1e-5
_ROUNDING = 1e-14
_LOST = 1e-9 - 1
"""Change of an observation's density at which a step is too long."""


def mixing_weights(log_lik: np.ndarray, pseudo: np.ndarray) -> np.ndarray:
    """The π that maximises Σ_g log Σ_k π_k L_gk + Σ_k pseudo_k log π_k over all probabilities π, from log L (m × K).

    The sum is concave, so that its slopes bound how far it is from its maximum. All mixtures Σ_k π_k L_gk are unique at
    the maximum, and so is π unless the likelihoods of some points are linearly dependent, over all genes.

    The constrained Newton method of Wang (JRSS B 2007): to second order in π the sum is -½ |S π - 2|² with S_gk =
    L_gk / (L π)_g, up to a constant, where the pseudo-observations are rows like the others; its minimum over the simplex
    comes from a non-negative least-squares problem in the points that have weight or deserve some.
    """
    K = len(pseudo)
    some = pseudo > 0
    L = np.vstack([np.exp(log_lik - log_lik.max(axis=1, keepdims=True)), np.eye(K)[some]])
    share = np.append(np.ones(len(log_lik)), pseudo[some])
    total = share.sum()
    share /= total
    pi = np.full(K, 1 / K)
    with one_blas_thread(), np.errstate(divide="ignore", invalid="ignore"):  # of steps too long
        for _ in range(_MOST_STEPS):
            mixture = L @ pi
            slope = (share / mixture) @ L  # at the optimum 1 where π > 0, less elsewhere
            if total * (slope.max() - 1) < GAP:
                break
            use = np.flatnonzero((pi > 0) | (slope > 1))
            S = L[:, use] / mixture[:, None]
            step, size = _newton_step(S, share, pi[use]), 1.0
            change = S @ step
            least = share @ change / 3
            while size * change.min() < _LOST or not share @ np.log1p(size * change) >= size * least - _ROUNDING:
                size /= 2
            pi[use] += size * step
    return pi


def _newton_step(S: np.ndarray, share: np.ndarray, pi: np.ndarray) -> np.ndarray:
    """To the minimum of |S x - 2|² over the simplex, by its scale: x = c π is where a step ends that leads nowhere.

    Likelihoods of neighbouring points are all but linearly dependent. A little of |x - Σx π|², which vanishes there and
    so moves no optimum, keeps the active sets of the least-squares problem from going round in circles.
    """
    K = len(pi)
    R = np.linalg.qr(np.sqrt(share)[:, None] * (S - 2), mode="r")
    A = np.vstack([R, _DAMPING * (np.eye(K) - pi[:, None]), np.ones(K)])
    x = nnls(A, np.append(np.zeros(len(A) - 1), 1.0), maxiter=_MOST_SETS * K)[0]
    return x / x.sum() - pi
