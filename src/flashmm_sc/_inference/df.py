"""Denominator degrees of freedom of linear combinations of coefficients.

Everything follows from w = (I + S D)⁻¹ A c, the part of a combination c in the random columns (m genes × r
combinations), since Z_k' V⁻¹ X cov(β) c = w_k. With f = c'cov(β)c, ∂f/∂s_k = |w_k|² and θ ∂f = f:

    satterthwaite    df = 2 f² / (∂f' J⁻¹ ∂f), J the observed information
    kenward-roger    df = 2 f² / (∂f' I⁻¹ ∂f), I the expected information, and the adjusted variance
                     f + 2 Σ_ij (I⁻¹)_ij u'V_i P V_j u,   u'V_k P V_l u = w_k'T_kl w_l / s_0   (u = V⁻¹ X cov(β) c)

The terms of the residual follow from V u = X cov(β) c, which P annihilates, so that P V_0 u = -Σ γ_k P V_k u.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from flashmm_sc._base.options import one_of
from flashmm_sc._gaussian.estimate import BOUNDARY, INDEFINITE, NO_DF, OK
from flashmm_sc._gaussian.information import expected_of_theta, inverse_on

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flashmm_sc._gaussian.covariance import Factorisation, SharedVectors
    from flashmm_sc._gaussian.profile import Method
    from flashmm_sc._gaussian.projection import Projection

Ddf: TypeAlias = Literal["satterthwaite", "kenward-roger", "residual"]


def check_ddf(ddf: Ddf, method: Method) -> None:
    """Refuse unknown degrees of freedom, and Kenward-Roger's with ML."""
    one_of("ddf", ddf, Ddf)
    if ddf == "kenward-roger" and method != "REML":
        msg = "ddf='kenward-roger' rests on the REML information; use method='REML', or ddf='satterthwaite'."
        raise ValueError(msg)


@dataclass(frozen=True, eq=False)
class Combinations:
    """What genes share of r linear combinations, the columns c of L (p × r).

    Attributes
    ----------
    cXXic
        c_i'(X'X)⁻¹c_j, r × r.
    random
        Columns A c.
    """

    projection: Projection
    L: np.ndarray
    cXXic: np.ndarray
    random: SharedVectors

    @classmethod
    def of(cls, projection: Projection, L: np.ndarray) -> Combinations:
        """The columns of L (p × r)."""
        return cls(projection, L, L.T @ projection.XXi @ L, projection.shared(L))

    @cached_property
    def cap(self) -> np.ndarray:
        """Containment degrees of freedom, K × r."""
        return self.projection.containment(self.L)


def variances(
    projection: Projection, theta: np.ndarray, combos: Combinations
) -> tuple[Factorisation, np.ndarray, np.ndarray]:
    """The factor at θ, f = c'cov(β)c (m × r) and its gradient in θ (m × r × (K+1))."""
    s0 = theta[:, -1:]
    factor = projection.S.factor(theta[:, :-1] / s0)
    quad, parts = factor.shared_quadratics(combos.random)
    f = s0 * (np.diag(combos.cXXic) + quad)
    return factor, f, with_scale(f, parts, theta)


def satterthwaite(f: np.ndarray, gradient: np.ndarray, theta_cov: np.ndarray) -> np.ndarray:
    """2 f² / (∂f' cov(θ) ∂f), NaN where θ's covariance gives no answer."""
    spread = np.einsum("ijk,ijk->ij", gradient @ theta_cov, gradient)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 0, 2 * f**2 / spread, np.nan)


def kenward_roger_variance(
    projection: Projection, theta: np.ndarray, factor: Factorisation, combos: Combinations, f: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Adjusted variance of each combination (m × r), and the inverse expected information for θ.

    What is added can't be negative: where it is, next to a residual variance of zero, rounding has taken it all, and there
    is NaN.
    """
    theta_cov = inverse_expected(projection, theta, factor)
    w, _ = factor.solve(combos.random.vectors)
    more = 2 * np.einsum("ikl,ijkl->ij", contracted(theta, theta_cov), factor.products(w)) / theta[:, -1:]
    return np.where(more > -1e-6 * np.abs(f), f + more, np.nan), theta_cov


def inverse_expected(projection: Projection, theta: np.ndarray, factor: Factorisation) -> np.ndarray:
    """Inverse of the expected REML information for θ."""
    information = expected_of_theta(factor, theta, projection.n - projection.p)
    return inverse_on(information, np.ones(theta.shape, bool))


def capped(df: np.ndarray, theta: np.ndarray, cap: np.ndarray) -> np.ndarray:
    """Bound df (m × r) by the containment df of the components that a gene has at zero; they stand for missing ones."""
    bound = np.where(theta[:, :-1, None] == 0, cap, np.inf).min(axis=1)
    return np.where(np.isinf(bound), df, np.fmin(df, bound))


def with_scale(f: np.ndarray, parts: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Append ∂f/∂s_0 = (f - Σ s_k ∂f/∂s_k) / s_0, as f is homogeneous in θ; the components run along the last axis."""
    components = theta[(slice(None), *[None] * (parts.ndim - 2), slice(None, -1))]
    s0 = theta[(slice(None), -1, *[None] * (parts.ndim - 2))]
    rest = (f - (parts * components).sum(axis=-1)) / s0
    return np.concatenate([parts, rest[..., None]], axis=-1)


def contracted(theta: np.ndarray, theta_cov: np.ndarray) -> np.ndarray:
    """E'W E with E = [I; -γ'], which folds the residual's terms into those of the components: m × K × K."""
    gamma = theta[:, :-1] / theta[:, -1:]
    K = gamma.shape[1]
    E = np.concatenate([np.broadcast_to(np.eye(K), (len(gamma), K, K)), -gamma[:, None]], axis=1)
    return E.swapaxes(1, 2) @ theta_cov @ E


def with_df(status: np.ndarray, df: np.ndarray) -> NDArray[np.int8]:
    """Status codes, with "no df" for fitted genes of which some df (m × r) can't be estimated."""
    fitted = np.isin(status, (OK, BOUNDARY, INDEFINITE, NO_DF))
    lacking = np.isnan(df).any(axis=1)
    return np.select([fitted & lacking, status == NO_DF], [NO_DF, OK], status).astype(np.int8)
