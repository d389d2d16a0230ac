"""The mixed model of one gene straight from the definitions, with the n × n covariance V: slow, and easy to believe.

Also small designs and data to try it on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import null_space


@dataclass(frozen=True, eq=False)
class DenseModel:
    """y = X β + Σ_k Z_k b_k + e; theta = (s_1, ..., s_K, s_0), d the columns of each Z_k in Z."""

    y: np.ndarray
    X: np.ndarray
    Z: np.ndarray
    d: tuple[int, ...]
    method: str = "REML"

    @property
    def nu(self) -> int:
        """Degrees of freedom of the likelihood: n - p for REML, n for ML."""
        n, p = self.X.shape
        return n - p if self.method == "REML" else n

    @cached_property
    def kernels(self) -> list[np.ndarray]:
        """V_k = Z_k Z_k', and the identity for the residual."""
        parts = np.split(self.Z, np.cumsum(self.d)[:-1], axis=1)
        return [Z @ Z.T for Z in parts] + [np.eye(len(self.y))]

    @cached_property
    def contrasts(self) -> np.ndarray:
        """Orthonormal error contrasts: K'X = 0."""
        return null_space(self.X.T)

    def V(self, theta: np.ndarray) -> np.ndarray:
        return sum(s * V for s, V in zip(theta, self.kernels, strict=True))

    def in_domain(self, theta: np.ndarray) -> bool:
        """Whether V (ML), or the covariance of the error contrasts (REML), is positive definite."""
        V, K = self.V(theta), self.contrasts
        return bool(np.linalg.eigvalsh(K.T @ V @ K if self.method == "REML" else V)[0] > 0)

    def P(self, theta: np.ndarray) -> np.ndarray:
        Vi = np.linalg.inv(self.V(theta))
        return Vi - Vi @ self.X @ self.cov(theta) @ self.X.T @ Vi

    def cov(self, theta: np.ndarray) -> np.ndarray:
        """Covariance of the coefficients, (X'V⁻¹X)⁻¹."""
        return np.linalg.inv(self.X.T @ np.linalg.solve(self.V(theta), self.X))

    def coef(self, theta: np.ndarray) -> np.ndarray:
        """Generalised least squares."""
        return self.cov(theta) @ self.X.T @ np.linalg.solve(self.V(theta), self.y)

    def ranef(self, theta: np.ndarray) -> np.ndarray:
        """BLUPs s_k Z_k' V⁻¹ (y - X β)."""
        residual = np.linalg.solve(self.V(theta), self.y - self.X @ self.coef(theta))
        return np.repeat(theta[:-1], self.d) * (self.Z.T @ residual)

    def loglik(self, theta: np.ndarray) -> float:
        """The (restricted) log-likelihood; -inf outside its domain."""
        if not self.in_domain(theta):
            return -np.inf
        logdet = np.linalg.slogdet(self.V(theta))[1]
        if self.method == "REML":
            logdet -= np.linalg.slogdet(self.cov(theta))[1]
        return -0.5 * (self.nu * np.log(2 * np.pi) + logdet + self.y @ self.P(theta) @ self.y)

    def profile(self, gamma: np.ndarray) -> float:
        """The log-likelihood at ratios γ_k = s_k / s_0 and the residual variance that is best for them."""
        theta = np.append(gamma, 1.0)
        if not self.in_domain(theta):
            return -np.inf
        return self.loglik(theta * (self.y @ self.P(theta) @ self.y) / self.nu)

    def grad(self, theta: np.ndarray) -> np.ndarray:
        """½ (y'P V_k P y - tr P V_k); ML has V⁻¹ in the trace."""
        Py = self.P(theta) @ self.y
        inner = self._trace_matrix(theta)
        return np.array([Py @ V @ Py - np.trace(inner @ V) for V in self.kernels]) / 2

    def expected_information(self, theta: np.ndarray) -> np.ndarray:
        """½ tr(P V_k P V_l); ML has V⁻¹ for P."""
        inner = self._trace_matrix(theta)
        products = [inner @ V for V in self.kernels]
        return np.array([[np.trace(A @ B) for A in products] for B in products]) / 2

    def observed_information(self, theta: np.ndarray) -> np.ndarray:
        """y'P V_k P V_l P y - ½ tr(P V_k P V_l), minus the second derivatives."""
        P = self.P(theta)
        parts = [V @ P @ self.y for V in self.kernels]
        return np.array([[a @ P @ b for a in parts] for b in parts]) - self.expected_information(theta)

    def theta_cov(self, theta: np.ndarray) -> np.ndarray:
        """Inverse observed information over the non-zero components; zero for the others."""
        out, free = np.zeros((len(theta), len(theta))), np.flatnonzero(theta)
        out[np.ix_(free, free)] = np.linalg.inv(self.observed_information(theta)[np.ix_(free, free)])
        return out

    def variance_gradient(self, theta: np.ndarray, c: np.ndarray) -> np.ndarray:
        """Derivatives of c'cov(β)c in theta: c'C X'V⁻¹ V_k V⁻¹X C c."""
        x = np.linalg.solve(self.V(theta), self.X @ self.cov(theta) @ c)
        return np.array([x @ V @ x for V in self.kernels])

    def satterthwaite(self, theta: np.ndarray, c: np.ndarray) -> float:
        """2 f² / (grad f' J⁻¹ grad f) for f = c'cov(β)c."""
        gradient = self.variance_gradient(theta, c)
        return 2 * (c @ self.cov(theta) @ c) ** 2 / (gradient @ self.theta_cov(theta) @ gradient)

    def containment(self, k: int, c: np.ndarray) -> float:
        """rank [X Z_k] - p where c'β can't be estimated with fixed effects of component k, else infinite."""
        Z = np.split(self.Z, np.cumsum(self.d)[:-1], axis=1)[k]
        within = self.X - Z @ np.linalg.pinv(Z) @ self.X
        lost = null_space(within / np.linalg.norm(self.X, axis=0), rcond=1e-9).T @ (c / np.linalg.norm(self.X, axis=0))
        if np.abs(lost).max(initial=0.0) < 1e-9:
            return np.inf
        return np.linalg.matrix_rank(np.hstack([self.X, Z])) - self.X.shape[1]

    def _trace_matrix(self, theta: np.ndarray) -> np.ndarray:
        return self.P(theta) if self.method == "REML" else np.linalg.inv(self.V(theta))


DESIGNS = ("sam", "crossed", "nested", "slope", "three")


def design(
    name: str, *, seed: int = 0, n: int = 60, n_samples: int = 7
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """X (cell types, their treatment effects, a covariate), Z and d of a small unbalanced experiment."""
    rng = np.random.default_rng(seed)
    sample = np.concatenate(
        [np.repeat(np.arange(n_samples), 3), rng.choice(n_samples, n - 3 * n_samples, p=_unequal(n_samples))]
    )
    cls, batch, score = np.arange(n) % 2, rng.integers(0, 4, n), rng.normal(size=n)
    C, T = np.eye(2)[cls], (sample % 2)[:, None]
    X = np.column_stack([C, C * T, rng.normal(5, 1, n)])
    sam, batches, combined = np.eye(n_samples)[sample], np.eye(4)[batch], np.eye(2 * n_samples)[2 * sample + cls]
    parts = {
        "sam": [sam],
        "crossed": [sam, batches],
        "nested": [sam, combined],
        "slope": [sam, sam * score[:, None]],
        "three": [sam, combined, batches],
    }[name]
    parts = [Z[:, Z.any(axis=0)] for Z in parts]
    return X, np.hstack(parts), tuple(Z.shape[1] for Z in parts)


def _unequal(size: int) -> np.ndarray:
    weights = 0.6 ** np.arange(size)
    return weights / weights.sum()


def simulate(X: np.ndarray, Z: np.ndarray, d: tuple[int, ...], theta: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Cells × genes; theta holds a row a gene."""
    rng = np.random.default_rng(seed)
    m, (n, p) = len(theta), X.shape
    effects = rng.normal(size=(Z.shape[1], m)) * np.sqrt(np.repeat(theta[:, :-1].T, d, axis=0))
    return X @ rng.normal(size=(p, m)) + Z @ effects + rng.normal(size=(n, m)) * np.sqrt(theta[:, -1])


def example(
    name: str, m: int = 6, *, seed: int = 0, **options: int
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...], np.ndarray]:
    """X, Z, d and Y (cells × m genes) of a design; variance components differ between genes, those of the first are zero."""
    X, Z, d = design(name, seed=seed, **options)
    theta = np.random.default_rng(seed + 1).gamma(1.5, 1.0, (m, len(d) + 1)) + 0.1
    theta[0, :-1] = 0
    return X, Z, d, simulate(X, Z, d, theta, seed=seed)
