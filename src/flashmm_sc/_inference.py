"""From estimates to tests: standard errors, degrees of freedom and p-values of linear combinations of coefficients.

All of it follows from what the genes share (`Projection`) and each gene's coefficients and variance components, so a
test of a stored result needs no second look at the cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betainc

from flashmm_sc._parallel import for_gene_blocks
from flashmm_sc._projection import Projection

DDF = ("satterthwaite", "residual")
ALTERNATIVES = ("two-sided", "less", "greater")


@dataclass(frozen=True, eq=False)
class Estimates:
    """What tests need of m fitted genes: coefficients m × p, theta m × (K+1) and its covariance; NaN if not fitted."""

    coef: np.ndarray
    theta: np.ndarray
    theta_cov: np.ndarray


@dataclass(frozen=True, eq=False)
class TTests:
    """Tests of r linear combinations in m genes; every array is m × r."""

    coef: np.ndarray
    se: np.ndarray
    t: np.ndarray
    df: np.ndarray
    p: np.ndarray


def t_tests(
    projection: Projection,
    estimates: Estimates,
    L: np.ndarray,
    *,
    ddf: str = "residual",
    alternative: str = "two-sided",
    n_jobs: int | None = None,
) -> TTests:
    """Test c'β = 0 for the columns c of L (p × r) in every gene.

    `ddf` is "residual" (n - p, FLASHMM) or "satterthwaite": with f = c'cov(β)c and its gradient in θ,
    df = 2 f² / (grad' J⁻¹ grad), J the observed information (as lmerTest).
    """
    m, r = len(estimates.coef), L.shape[1]
    out = TTests(estimates.coef @ L, *(np.full((m, r), np.nan) for _ in range(4)))
    shared = projection.contrast(L)
    fitted = np.flatnonzero(np.isfinite(estimates.theta).all(axis=1))

    def work(part: slice) -> None:
        genes = fitted[part]
        theta = estimates.theta[genes]
        variance, gradient = moments(projection, theta, *shared)
        if ddf == "residual":
            df = np.full_like(variance, projection.n - projection.p)
        else:
            df = _satterthwaite(variance, gradient, estimates.theta_cov[genes])
        se = np.sqrt(np.where(variance > 0, variance, np.nan))
        t = out.coef[genes] / se
        out.se[genes], out.t[genes], out.df[genes] = se, t, df
        out.p[genes] = t_pvalue(t, df, alternative)

    for_gene_blocks(work, len(fitted), gene_bytes(projection, r), n_jobs)
    return out


def moments(
    projection: Projection, theta: np.ndarray, cXXic: np.ndarray, A1: np.ndarray, A2: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """c'cov(β)c (m × r) and its gradient in θ (m × r × (K+1)); the last three arguments from `Projection.contrast`.

    f = s_0 [c'(X'X)⁻¹c + (Ac)' K (Ac)], ∂f/∂s_k = |component k of (I + S D)⁻¹ A c|², and f is linear in the scale of θ.
    """
    s0 = theta[:, -1:]
    factor = projection.S.factor(theta[:, :-1] / s0)
    quad, parts = factor.shared_quadratics(A1, A2)
    variance = s0 * (cXXic + quad)
    rest = (variance - np.einsum("ijk,ik->ij", parts, theta[:, :-1])) / s0
    return variance, np.concatenate([parts, rest[..., None]], axis=2)


def _satterthwaite(variance: np.ndarray, gradient: np.ndarray, theta_cov: np.ndarray) -> np.ndarray:
    spread = np.einsum("ijk,ijk->ij", gradient @ theta_cov, gradient)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 0, 2 * variance**2 / spread, np.nan)


def t_pvalue(t: np.ndarray, df: np.ndarray, alternative: str) -> np.ndarray:
    """P-values of t, exact in the far tail: P(|T| > |t|) is the incomplete beta function at df / (df + t²)."""
    both = betainc(df / 2, 0.5, df / (df + t**2))
    if alternative == "two-sided":
        return both
    tail = (t < 0) if alternative == "less" else (t > 0)
    return np.where(tail, both / 2, 1 - both / 2)


def gene_bytes(projection: Projection, r: int) -> int:
    """Memory that a gene needs while it is fitted, or r linear combinations of it tested."""
    S = projection.S
    K = len(projection.d)
    return 8 * (12 * S.lam.size + 12 * S.n_rest**2 + 4 * r * (S.n_rest + K + 1) + 16 * K * K)
