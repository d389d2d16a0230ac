"""Joint F tests of several linear combinations of coefficients.

With V = L'cov(β)L and the gradient matrices G_k = W_k'W_k, W = (I + S D)⁻¹ A L (r × r for the r columns of L):

    residual         F = β'L V⁻¹ L'β / r on n - p df
    satterthwaite    the t tests along the eigenvectors of V, F = Σ t_i² / r, their df ν_i pooled by E = Σ ν_i / (ν_i - 2),
                     df = 2 E / (E - r), as lmerTest's contestMD
    kenward-roger    V adjusted (see `df`), F scaled by λ and its df as in Kenward & Roger (Biometrics 1997), with
                     A_1 = Σ_ij W_ij tr(V⁻¹G_i) tr(V⁻¹G_j) and A_2 = Σ_ij W_ij tr(V⁻¹G_i V⁻¹G_j), as pbkrtest
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import betainc

from flashmm_sc._base.errors import listed
from flashmm_sc._base.rank import aliased_columns
from flashmm_sc._base.threads import for_gene_blocks
from flashmm_sc._inference.df import (
    Combinations,
    Ddf,
    capped,
    contracted,
    inverse_expected,
    satterthwaite,
    with_scale,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashmm_sc._gaussian.covariance import Factorisation
    from flashmm_sc._gaussian.estimate import Estimates
    from flashmm_sc._gaussian.projection import Projection
    from flashmm_sc._gaussian.vectors import Vectors


@dataclass(frozen=True, eq=False)
class FTests:
    """F tests of k hypotheses in m genes: statistic, numerator and denominator df, p-value; every array is m × k."""

    F: np.ndarray
    df_num: np.ndarray
    df: np.ndarray
    p: np.ndarray


def check_independent(L: np.ndarray, names: list[str]) -> None:
    """Refuse a joint test of combinations that depend on each other."""
    dependent = aliased_columns(L.T @ L)
    if dependent:
        msg = (
            f"The contrasts of a joint test must be linearly independent, but {listed(names[j] for j in dependent)} "
            "follows from those before; leave it out."
        )
        raise ValueError(msg)


def f_tests(
    projection: Projection,
    estimates: Estimates,
    hypotheses: Sequence[np.ndarray],
    *,
    ddf: Ddf,
    n_jobs: int | None = None,
) -> FTests:
    """Test L'β = 0 in every gene for each hypothesis L (p × r, independent columns); `ddf` as in `df`."""
    tests = [_f_test(projection, estimates, L, ddf, n_jobs) for L in hypotheses]
    return FTests(*(np.column_stack(parts) for parts in zip(*tests, strict=True)))


def _f_test(
    projection: Projection, estimates: Estimates, L: np.ndarray, ddf: Ddf, n_jobs: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """F, numerator and denominator df, and p of one hypothesis."""
    m, r = len(estimates.coef), L.shape[1]
    out_F, out_df, out_p = np.full((3, m), np.nan)
    combos = Combinations.of(projection, L)
    effect = estimates.coef @ L
    fitted = estimates.fitted

    def work(part: slice) -> None:
        genes = fitted[part]
        theta = estimates.theta[genes]
        factor = projection.S.factor(theta[:, :-1] / theta[:, -1:])
        V = theta[:, -1, None, None] * (combos.cXXic + factor.shared_matrix(combos.random))
        if ddf == "residual":
            F, df = _wald(effect[genes], V), np.full(len(genes), float(projection.n - projection.p))
        elif ddf == "satterthwaite":
            F, df = _satterthwaite(effect[genes], V, factor, combos, theta, estimates.theta_cov[genes])
        else:
            F, df = _kenward_roger(effect[genes], V, factor, combos, theta, projection)
        if ddf != "residual":
            df = capped(df[:, None], theta, combos.cap.min(axis=1, keepdims=True))[:, 0]
        if ddf == "kenward-roger":  # what only the adjusted variances lack; containment's df may be there nevertheless
            df = np.where(np.isnan(F) & ~np.isnan(_wald(effect[genes], V)), np.nan, df)
        out_F[genes], out_df[genes] = F, df
        out_p[genes] = betainc(df / 2, r / 2, df / (df + r * F))

    for_gene_blocks(work, len(fitted), projection.S.gene_bytes(r, solved=True), n_jobs)
    return out_F, np.full(m, float(r)), out_df, out_p


def _wald(effect: np.ndarray, V: np.ndarray) -> np.ndarray:
    """effect' V⁻¹ effect / r, NaN where V is singular or not finite."""
    value, vector = np.linalg.eigh(np.nan_to_num(V))
    along = np.einsum("ijk,ij->ik", vector, effect)
    value = np.where(value > 1e-14 * value[:, -1:], value, np.nan)
    return np.mean(along**2 / value, axis=1)


def _gradients(w: Vectors, V: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """G_k = W_k'W_k of all components and the residual: m × r × r × (K+1), from W = (I + S D)⁻¹ A L of every gene."""
    return with_scale(V, w.grams(), theta)


def _satterthwaite(
    effect: np.ndarray,
    V: np.ndarray,
    factor: Factorisation,
    combos: Combinations,
    theta: np.ndarray,
    theta_cov: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    value, vector = np.linalg.eigh(np.nan_to_num(V))
    G = _gradients(factor.solve(combos.random.vectors)[0], V, theta)
    along = np.einsum("ijk,ij->ik", vector, effect)
    gradient = np.stack([np.sum(vector * (Gk @ vector), axis=1) for Gk in np.moveaxis(G, -1, 0)], axis=-1)
    nu = satterthwaite(value, gradient, theta_cov)
    return np.mean(along**2 / value, axis=1), _pooled(nu)


def _pooled(nu: np.ndarray) -> np.ndarray:
    """One df for the df of r independent t tests (m × r)."""
    r = nu.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        E = np.sum(nu / (nu - 2), axis=1)
        pooled = np.where((nu > 2).all(axis=1), 2 * E / (E - r), 2.0)
    alike = np.ptp(nu, axis=1) < 1e-8
    return np.where(np.isnan(nu).any(axis=1), np.nan, np.where(alike, nu.mean(axis=1), pooled))


def _kenward_roger(
    effect: np.ndarray,
    V: np.ndarray,
    factor: Factorisation,
    combos: Combinations,
    theta: np.ndarray,
    projection: Projection,
) -> tuple[np.ndarray, np.ndarray]:
    r = V.shape[1]
    W = inverse_expected(projection, theta, factor)
    w, _ = factor.solve(combos.random.vectors)
    E = contracted(theta, W) / theta[:, -1, None, None]
    adjusted = V.copy()
    for k in range(theta.shape[1] - 1):
        Tu, _ = factor.solve(projection.S.times(w.only(k)))
        adjusted += 2 * w.scaled(E[:, :, k]).dot(Tu)
    adjusted = (adjusted + adjusted.swapaxes(1, 2)) / 2
    ViG = np.linalg.solve(V[:, None], np.moveaxis(_gradients(w, V, theta), -1, 1))
    trace = np.einsum("ikjj->ik", ViG)
    A1 = np.einsum("ik,ikl,il->i", trace, W, trace)
    A2 = sum(W[:, k, l] * np.einsum("iab,iba->i", ViG[:, k], ViG[:, l]) for k, l in np.ndindex(W.shape[1:]))
    df, scale = _kenward_roger_df(A1, A2, r)
    return scale * _wald(effect, adjusted), df


def _kenward_roger_df(A1: np.ndarray, A2: np.ndarray, r: int) -> tuple[np.ndarray, np.ndarray]:
    """Denominator df and scale λ of F from A_1 and A_2."""
    with np.errstate(divide="ignore", invalid="ignore"):
        B = (A1 + 6 * A2) / (2 * r)
        g = ((r + 1) * A1 - (r + 4) * A2) / ((r + 2) * A2)
        below = 3 * r + 2 * (1 - g)
        c1, c2, c3 = g / below, (r - g) / below, (r + 2 - g) / below
        rho = (1 - A2 / r) ** 2 * (1 + c1 * B) / ((1 - c2 * B) ** 2 * (1 - c3 * B)) / r
        df = 4 + (r + 2) / (r * rho - 1)
        scale = np.where(np.abs(df - 2) < 1e-2, 1.0, df * (1 - A2 / r) / (df - 2))
    return df, scale
