"""The mixed model of one gene straight from the definitions, with the n × n covariance V: slow, and easy to believe.

Also small designs and data to try it on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product

import numpy as np
from scipy.linalg import null_space
from scipy.optimize import minimize


@dataclass(frozen=True, eq=False)
class DenseModel:
    """y = X β + Σ_k Z_k b_k + e; theta = (s_1, ..., s_K, s_0), d the columns of each Z_k in Z.

    The covariances of `correlated` components, pair by pair, stand between s_K and s_0. With `residuals`, the number of each
    cell's group, there is a residual variance for each group in the place of s_0.
    """

    y: np.ndarray
    X: np.ndarray
    Z: np.ndarray
    d: tuple[int, ...]
    method: str = "REML"
    correlated: tuple[tuple[int, ...], ...] = ()
    residuals: np.ndarray | None = None

    @property
    def nu(self) -> int:
        """Degrees of freedom of the likelihood: n - p for REML, n for ML."""
        n, p = self.X.shape
        return n - p if self.method == "REML" else n

    @cached_property
    def kernels(self) -> list[np.ndarray]:
        """V_k = Z_k Z_k', Z_k Z_l' + Z_l Z_k' for covariances, and the identity for the residual."""
        parts = np.split(self.Z, np.cumsum(self.d)[:-1], axis=1)
        joint = [parts[k] @ parts[l].T for k, l in self.pairs]
        groups = np.zeros(len(self.y)) if self.residuals is None else self.residuals
        return (
            [Z @ Z.T for Z in parts]
            + [V + V.T for V in joint]
            + [np.diag((groups == g) * 1.0) for g in np.unique(groups)]
        )

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Pairs of correlated components."""
        return [pair for group in self.correlated for pair in combinations(group, 2)]

    def D(self, theta: np.ndarray) -> np.ndarray:
        """Covariance of the random effects, q × q."""
        places, out = (
            np.split(np.arange(sum(self.d)), np.cumsum(self.d)[:-1]),
            np.diag(np.repeat(theta[: len(self.d)], self.d)),
        )
        for (k, l), s in zip(self.pairs, theta[len(self.d) :], strict=False):
            out[places[k], places[l]] = out[places[l], places[k]] = s
        return out

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
        """BLUPs D Z' V⁻¹ (y - X β)."""
        residual = np.linalg.solve(self.V(theta), self.y - self.X @ self.coef(theta))
        return self.D(theta) @ (self.Z.T @ residual)

    def loglik(self, theta: np.ndarray) -> float:
        """The (restricted) log-likelihood; -inf outside its domain."""
        if not self.in_domain(theta):
            return -np.inf
        logdet = np.linalg.slogdet(self.V(theta))[1]
        if self.method == "REML":
            logdet -= np.linalg.slogdet(self.cov(theta))[1]
        return -0.5 * (self.nu * np.log(2 * np.pi) + logdet + self.y @ self.P(theta) @ self.y)

    def profile(self, gamma: np.ndarray) -> float:
        """The log-likelihood at ratios γ_k = s_k / s_0 and the residual variance that is best for them.

        Of the error contrasts K'y alone: y'Py = (K'y)' (K'VK)⁻¹ K'y and log|V| + log|X'V⁻¹X| = log|K'VK| + log|X'X|.
        """
        V, K = self.V(np.append(gamma, 1.0)), self.contrasts
        try:
            within = np.linalg.cholesky(K.T @ V @ K)
            whole = within if self.method == "REML" else np.linalg.cholesky(V)
        except np.linalg.LinAlgError:
            return -np.inf
        s0 = np.square(np.linalg.solve(within, K.T @ self.y)).sum() / self.nu
        logdet = 2 * np.log(np.diag(whole)).sum()
        if self.method == "REML":
            logdet += np.linalg.slogdet(self.X.T @ self.X)[1]
        return -0.5 * (self.nu * (np.log(2 * np.pi * s0) + 1) + logdet)

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

    def satterthwaite_f(self, theta: np.ndarray, L: np.ndarray) -> tuple[float, float]:
        """F of L'β = 0 and its df: of t tests along the eigenvectors of L'cov(β)L, as lmerTest's."""
        value, vector = np.linalg.eigh(L.T @ self.cov(theta) @ L)
        along = L @ vector
        F = np.mean((along.T @ self.coef(theta)) ** 2 / value)
        nu, r = np.array([self.satterthwaite(theta, c) for c in along.T]), len(value)
        if np.ptp(nu) < 1e-8:
            return F, nu.mean()
        E = np.sum(nu / (nu - 2))
        return F, 2 * E / (E - r) if (nu > 2).all() else 2.0

    def kenward_roger(self, theta: np.ndarray, L: np.ndarray) -> tuple[np.ndarray, float, float]:
        """Adjusted covariance of L'β, F of L'β = 0 and its df (Kenward & Roger 1997)."""
        V, C, r = self.V(theta), self.cov(theta), L.shape[1]
        Vi, W = np.linalg.inv(V), np.linalg.inv(self.expected_information(theta))
        U = [Vi @ kernel @ Vi for kernel in self.kernels]
        P = [-self.X.T @ one @ self.X for one in U]
        pairs = list(product(range(len(U)), repeat=2))
        inner = sum(W[i, j] * (self.X.T @ U[i] @ V @ U[j] @ self.X - P[i] @ C @ P[j]) for i, j in pairs)
        adjusted = L.T @ (C + 2 * C @ inner @ C) @ L
        T = L @ np.linalg.solve(L.T @ C @ L, L.T)
        moved = [T @ C @ one @ C for one in P]
        A1 = sum(W[i, j] * np.trace(moved[i]) * np.trace(moved[j]) for i, j in pairs)
        A2 = sum(W[i, j] * np.trace(moved[i] @ moved[j]) for i, j in pairs)
        B, g = (A1 + 6 * A2) / (2 * r), ((r + 1) * A1 - (r + 4) * A2) / ((r + 2) * A2)
        c1, c2, c3 = np.array([g, r - g, r + 2 - g]) / (3 * r + 2 * (1 - g))
        mean, variance = 1 / (1 - A2 / r), 2 / r * (1 + c1 * B) / ((1 - c2 * B) ** 2 * (1 - c3 * B))
        df = 4 + (r + 2) / (r * variance / (2 * mean**2) - 1)
        effect = L.T @ self.coef(theta)
        return adjusted, df / (mean * (df - 2)) * (effect @ np.linalg.solve(adjusted, effect)) / r, df

    def ratios(self, x: np.ndarray) -> np.ndarray:
        """Ratios γ of any numbers: squares, and Λ Λ' of correlated components, whose Λ has the numbers row by row."""
        K = len(self.d)
        Gamma, place = np.diag(np.square(x[:K])), K
        for group in self.correlated:
            root = np.diag(x[list(group)])
            below = np.tril_indices(len(group), -1)
            root[below] = x[place : place + len(below[0])]
            place += len(below[0])
            Gamma[np.ix_(group, group)] = root @ root.T
        return np.append(np.diag(Gamma), [Gamma[pair] for pair in self.pairs])

    def maximum(self, starts: int = 4, seed: int = 0) -> float:
        """The highest log-likelihood found from random starts, variances being nonnegative."""
        rng, size = np.random.default_rng(seed), len(self.d) + len(self.pairs)
        trace = np.array([np.trace(V) for V in self.kernels[: len(self.d)]])
        unit = np.append(np.sqrt(len(self.y) / trace), np.full(len(self.pairs), 0.1))
        found = [
            minimize(lambda x: -self.profile(self.ratios(x)), unit * 10 ** rng.uniform(-1.5, 1, size), method="BFGS")
            for _ in range(starts)
        ]
        return max(-one.fun for one in found)

    def containment(self, k: int, c: np.ndarray) -> float:
        """rank [X Z_k] - p where c'β can't be estimated with fixed effects of component k, else infinite."""
        Z = np.split(self.Z, np.cumsum(self.d)[:-1], axis=1)[k]
        within = (self.X - Z @ np.linalg.pinv(Z) @ self.X) / np.linalg.norm(self.X, axis=0)
        lost = null_space(np.where(np.abs(within) > 1e-12, within, 0.0), rcond=1e-9).T @ (
            c / np.linalg.norm(self.X, axis=0)
        )
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


CORRELATED = {  # components of terms with correlated effects: of the samples 1, x and z, of four batches 1 and x
    "intercept and slope": (("1", "x"),),
    "three": (("1", "x", "z"),),
    "and batch": (("1", "x"), ("batch",)),
    "two terms": (("batch", "x of batch"), ("1", "z")),
    "and slope": (("1", "x"), ("z",)),
}


def correlated_example(
    name: str, m: int = 6, *, seed: int = 0, n: int = 90
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...], tuple[tuple[int, ...], ...], np.ndarray]:
    """X, Z, d, the correlated groups and Y (cells × m genes); Γ differs between genes, and is zero or singular in two."""
    rng = np.random.default_rng(seed)
    X, samples, _ = design("sam", seed=seed, n=n)
    x, z, batch = rng.normal(0.5, 1, n), rng.uniform(-1, 1, n), np.eye(4)[rng.integers(0, 4, n)]
    columns = {"1": samples, "x": samples * x[:, None], "z": samples * z[:, None]}
    columns |= {"batch": batch, "x of batch": batch * x[:, None]}
    X = np.column_stack([X, x])
    terms, place = CORRELATED[name], 0
    groups: list[tuple[int, ...]] = []
    Y = X @ rng.normal(size=(X.shape[1], m)) + rng.normal(size=(n, m))
    for term in terms:
        groups.append(tuple(range(place, place + len(term))))
        place += len(term)
        for gene in range(m):
            root = np.tril(rng.normal(size=(len(term), len(term))))
            root *= [0.0, 1.0][gene > 0]
            root[:, 1:] *= [0.0, 1.0][gene != 1]
            Y[:, gene] += sum(
                columns[k] @ b
                for k, b in zip(term, root @ rng.normal(size=(len(term), columns[term[0]].shape[1])), strict=True)
            )
    Z = [columns[k] for term in terms for k in term]
    return X, np.hstack(Z), tuple(part.shape[1] for part in Z), tuple(g for g in groups if len(g) > 1), Y


GROUPED = ("own variances", "nested", "slope", "crossed", "samples")


def grouped_example(
    name: str, m: int = 4, *, seed: int = 0, n: int = 80
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...], np.ndarray, np.ndarray]:
    """X, Z, d, the group of each cell, which is its type, and Y (cells × m genes), whose residuals differ in scale.

    The fixed columns are types, their treatment effects and a covariate of cells. A donor lacks a type; the second gene has no
    variance between donors.
    """
    rng = np.random.default_rng(seed)
    donor, cls = np.arange(n) % 7, rng.choice(3, n, p=[0.5, 0.3, 0.2])
    cls[(donor == 0) & (cls == 2)] = 0
    C, donors, score = np.eye(3)[cls], np.eye(7)[donor], rng.normal(size=n)
    trt = donor % 2 if name != "samples" else rng.integers(0, 2, n)
    X = np.column_stack([C, C * trt[:, None], score])
    own = [donors * C[:, [j]] for j in range(3)]
    parts = {
        "own variances": [donors, *own],
        "nested": [donors, np.eye(21)[3 * donor + cls]],
        "slope": [donors, donors * score[:, None]],
        "crossed": [*own, np.eye(4)[rng.integers(0, 4, n)]],
        "samples": [donors, *own, np.eye(14)[2 * donor + trt] * C[:, [0]]],
    }[name]
    parts[-1] = parts[-1][:, parts[-1].any(axis=0)]
    Z, d = np.hstack(parts), tuple(part.shape[1] for part in parts)
    scale = np.array([0.5, 1.0, 2.0]) * rng.uniform(0.5, 2.0, (m, 3))
    Y = 3 + scale.T[cls] * rng.normal(size=(n, m))
    sd = rng.uniform(0.3, 1.5, (m, len(d)))
    sd[1] = 0.0
    for part, size in zip(parts, sd.T, strict=True):
        Y += part @ rng.normal(size=(part.shape[1], m)) * size
    return X, Z, d, cls, Y


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
