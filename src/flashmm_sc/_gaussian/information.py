"""Information matrices of the variance components θ = (s_1, ..., s_K, s_0).

    expected    ½ tr(P V_k P V_l)
    observed    y'P V_k P V_l P y - ½ tr(P V_k P V_l)

The terms of the residual follow from V_0 = (V - Σ s_k V_k) / s_0 and P V P = P. ML has V⁻¹ in place of P in the traces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from flashmm_sc._gaussian.covariance import Factorisation
    from flashmm_sc._gaussian.point import Point


def expected_information(point: Point, nu: int) -> np.ndarray:
    """At a point of the likelihood: m × (K+1) × (K+1)."""
    s0 = point.Q / nu
    return with_residual(point.norm, point.trace, np.full_like(s0, nu), point.gamma) / (2 * s0[:, None, None] ** 2)


def expected_of_theta(factor: Factorisation, theta: np.ndarray, nu: int) -> np.ndarray:
    """The same from θ and its factor, without the data."""
    trace, norm = factor.traces()
    s0 = theta[:, -1]
    return with_residual(norm, trace, np.full_like(s0, nu), factor.gamma) / (2 * s0[:, None, None] ** 2)


def observed_information(point: Point, nu: int) -> np.ndarray:
    """At a point of the likelihood: m × (K+1) × (K+1)."""
    s0 = point.Q / nu
    quadratic = with_residual(point.quad, point.v_sq, point.Q, point.gamma) / s0[:, None, None] ** 3
    return quadratic - expected_information(point, nu)


def inverse_on(matrix: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Invert the block of the kept rows and columns; zero elsewhere, NaN where it is singular."""
    both = keep[:, :, None] & keep[:, None, :]
    scale = np.sqrt(np.abs(np.einsum("ijj->ij", matrix)))
    scale = np.where(scale > 0, scale, 1.0)
    outer = scale[:, :, None] * scale[:, None, :]
    value, vector = np.linalg.eigh(np.where(both, matrix / outer, np.eye(matrix.shape[1])))
    size = np.abs(value)
    value[size.min(axis=1) < 1e-14 * size.max(axis=1)] = np.nan
    return np.where(both, (vector / value[:, None, :]) @ vector.swapaxes(1, 2) / outer, 0.0)


def with_residual(kl: np.ndarray, k: np.ndarray, whole: np.ndarray, gamma: np.ndarray) -> np.ndarray:
    """Border a K × K form by the residual's terms: k - Σ_l γ_l kl, and whole - 2 Σ γ_k k + γ' kl γ."""
    inner = np.einsum("ijk,ik->ij", kl, gamma)
    border = k - inner
    corner = whole - np.einsum("ij,ij->i", gamma, k + border)
    top = np.concatenate([kl, border[:, :, None]], axis=2)
    return np.concatenate([top, np.concatenate([border, corner[:, None]], axis=1)[:, None]], axis=1)
