"""The negative binomial model of one gene's sample sums straight from the definitions: slow, and easy to believe.

Also sums to try it on. A dispersion of `POISSON` is as good as none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.linalg import null_space
from scipy.optimize import minimize
from scipy.special import betaln, gammaln
from scipy.stats import chi2, norm

from flashmm_sc._counts.samples import Samples

PRIOR_COUNT = 1 / 8
NEGLIGIBLE, NEAR_ZERO, POISSON = 1e-6, 5e-3, 1e-10


@dataclass(frozen=True, eq=False)
class DenseGene:
    """y_i ~ NB(mean exp(offset_i + x_i'β), dispersion d_i)."""

    y: np.ndarray
    offset: np.ndarray
    d: np.ndarray
    X: np.ndarray

    def mean(self, beta: np.ndarray) -> np.ndarray:
        """μ."""
        return np.exp(self.offset + self.X @ beta)

    def variance(self, beta: np.ndarray) -> np.ndarray:
        """Of y: μ + d μ²."""
        mu = self.mean(beta)
        return mu + self.d * mu**2

    def log_lik(self, beta: np.ndarray) -> float:
        """The log-likelihood without log y!; betaln is exact also for the difference of large log Γ."""
        y, mu, r = self.y, self.mean(beta), 1 / self.d
        constant = np.where(y > 0, gammaln(np.maximum(y, 1e-9)) - betaln(np.maximum(y, 1e-9), r), 0.0)
        return float((constant + y * np.log(mu / (r + mu)) - r * np.log1p(mu / r)).sum())

    def score(self, beta: np.ndarray) -> np.ndarray:
        """Σ x (y - μ) / (1 + d μ)."""
        mu = self.mean(beta)
        return self.X.T @ ((self.y - mu) / (1 + self.d * mu))

    def observed(self, beta: np.ndarray) -> np.ndarray:
        """Minus the second derivatives."""
        mu = self.mean(beta)
        return (self.X.T * (mu * (1 + self.d * self.y) / (1 + self.d * mu) ** 2)) @ self.X

    def expected(self, beta: np.ndarray) -> np.ndarray:
        """Their mean, X'WX."""
        mu = self.mean(beta)
        return (self.X.T * (mu / (1 + self.d * mu))) @ self.X

    @property
    def scaled(self) -> tuple[DenseGene, np.ndarray]:
        """The same in the basis of orthonormal columns, in which numbers keep their digits, X = Q R; and R."""
        Q, R = np.linalg.qr(self.X)
        return DenseGene(self.y, self.offset, self.d, Q), R

    @cached_property
    def beta(self) -> np.ndarray:
        """The maximum of the log-likelihood."""
        own, R = self.scaled
        found = minimize(
            lambda b: -own.log_lik(b),
            own.X.T @ (np.log(self.y + 0.5) - self.offset),
            jac=lambda b: -own.score(b),
            hess=own.observed,
            method="trust-exact",
            options={"gtol": 1e-9 * (1 + self.y.sum())},
        )
        beta = found.x
        for _ in range(3):  # what is left
            beta = beta + np.linalg.solve(own.observed(beta), own.score(beta))
        return np.linalg.solve(R, beta)

    @property
    def adjusted(self) -> float:
        """Log-likelihood at the maximum less half of log |Q'WQ|: Cox and Reid."""
        own, R = self.scaled
        return self.log_lik(self.beta) - 0.5 * np.linalg.slogdet(own.expected(R @ self.beta))[1]

    def se(self, c: np.ndarray) -> float:
        """Of c'β at known dispersion."""
        own, R = self.scaled
        c = np.linalg.solve(R.T, c)
        return float(np.sqrt(c @ np.linalg.solve(own.expected(R @ self.beta), c)))

    def null(self, L: np.ndarray, value: float = 0.0) -> np.ndarray:
        """The maximum under L'β = value (of an orthonormal X)."""
        start, N = np.linalg.lstsq(L.T, np.full(L.shape[1], value), rcond=None)[0], null_space(L.T)
        if not N.size:
            return start
        rest = DenseGene(self.y, self.offset + self.X @ start, self.d, self.X @ N)
        return start + N @ rest.beta

    def ratio(self, L: np.ndarray) -> float:
        """Likelihood ratio statistic of L'β = 0."""
        own, R = self.scaled
        return 2 * (own.log_lik(own.beta) - own.log_lik(own.null(np.linalg.solve(R.T, L))))

    def root(self, c: np.ndarray, value: float = 0.0) -> float:
        """Skovgaard's r* = r + log(u / r) / r of c'β = value, in coordinates of which the first is c'β."""
        scaled, R = self.scaled
        c = np.linalg.solve(R.T, c)
        A = np.column_stack([c / (c @ c), null_space(c[None])])
        own = DenseGene(self.y, self.offset, self.d, scaled.X @ A)
        most, null = np.linalg.solve(A, scaled.beta), np.linalg.solve(A, scaled.null(c[:, None], value))
        r = np.sign(most[0] - value) * np.sqrt(max(2 * (own.log_lik(most) - own.log_lik(null)), 0.0))
        if abs(r) < NEAR_ZERO:
            return float(r)
        mu, mu0 = own.mean(most), own.mean(null)
        of_score, of_score0 = own.X / (1 + self.d * mu)[:, None], own.X / (1 + self.d * mu0)[:, None]
        of_log_lik = np.log(mu / (1 + self.d * mu)) - np.log(mu0 / (1 + self.d * mu0))
        V = np.diag(own.variance(most))
        S, q = of_score.T @ V @ of_score0, of_score.T @ V @ of_log_lik
        det = np.linalg.det
        u = np.linalg.solve(S, q)[0] * np.sqrt(det(own.observed(most))) / det(own.expected(most)) * det(S)
        u /= np.sqrt(det(own.observed(null)[1:, 1:]))
        return float(r + np.log(u / r) / r)


@dataclass(frozen=True, eq=False)
class DensePosterior:
    """A gene at all points of the grid of τ², of which `prior` are the probabilities."""

    y: np.ndarray
    size: np.ndarray
    inverse_cells: np.ndarray
    phi: float
    X: np.ndarray
    tau2: np.ndarray
    prior: np.ndarray

    @cached_property
    def points(self) -> list[DenseGene]:
        """The model at each τ², every sample with its prior count."""
        n, p = self.X.shape
        y = self.y + PRIOR_COUNT * p / n * self.size / self.size.mean()
        b = self.phi * self.inverse_cells
        d = [np.maximum(b + tau2 * (1 + b), POISSON) for tau2 in self.tau2]
        return [DenseGene(y, np.log(self.size), one, self.X) for one in d]

    @cached_property
    def weights(self) -> np.ndarray:
        """Posterior of τ²."""
        log_lik = np.array([gene.adjusted for gene in self.points])
        weights = self.prior * np.exp(log_lik - log_lik.max())
        return weights / weights.sum()

    def mean(self, value: Callable[[DenseGene], Any]) -> Any:
        """Average of a value over the posterior, points left out that count for nothing."""
        some = np.flatnonzero(self.weights > NEGLIGIBLE)
        return sum(self.weights[k] * value(self.points[k]) for k in some) / self.weights[some].sum()

    def coef(self, c: np.ndarray) -> tuple[float, float]:
        """Mean and standard deviation of c'β."""
        coef = self.mean(lambda gene: c @ gene.beta)
        return coef, np.sqrt(self.mean(lambda gene: gene.se(c) ** 2 + (c @ gene.beta - coef) ** 2))

    def p(self, c: np.ndarray, alternative: str = "two-sided", bound: float = 0.0) -> float:
        """P-value of c'β = 0, or of |c'β| <= bound."""
        if alternative == "greater":
            return self.mean(lambda gene: norm.sf(gene.root(c, bound)))
        if alternative == "less":
            return self.mean(lambda gene: norm.cdf(gene.root(c, -bound)))
        if bound == 0:
            return self.mean(lambda gene: 2 * norm.sf(abs(gene.root(c))))

        def outside(gene: DenseGene) -> float:
            side = np.sign(c @ gene.beta)
            return norm.sf(side * gene.root(c, side * bound)) + norm.sf(side * gene.root(c, -side * bound))

        return min(self.mean(outside), 1.0)

    def joint_p(self, L: np.ndarray) -> float:
        """P-value of L'β = 0."""
        return self.mean(lambda gene: chi2.sf(gene.ratio(L), L.shape[1]))


def em(lik: np.ndarray, start: np.ndarray, centre: np.ndarray, shrinkage: float, steps: int) -> np.ndarray:
    """The prior after some steps of EM, gene after gene."""
    prior = start
    for _ in range(steps):
        total = shrinkage * centre
        for gene in lik:
            joint = prior * gene
            total = total + joint / joint.sum()
        prior = total / total.sum()
    return prior


def cells_dispersion(x: np.ndarray, s: np.ndarray, sample: np.ndarray) -> float:
    """φ of one gene by moments, from its cells."""
    above, below = 0.0, 0.0
    for i in np.unique(sample):
        own, size = x[sample == i], s[sample == i]
        if np.count_nonzero(size) < 2:
            continue
        m = own.sum() / size.sum()
        left = 1 - (size**2).sum() / size.sum() ** 2  # of the residuals' squares, since m is estimated
        above += ((own - size * m) ** 2).sum() / left - own.sum()
        below += (m**2 * size**2).sum()
    return max(0.0, above / below)


def samples_of(
    n: int,
    m: int,
    *,
    tau2: Sequence[float] | np.ndarray,
    phi: float = 0.5,
    seed: int = 0,
    rate: float = 1.0,
    **mean: Any,
) -> Samples:
    """Sums drawn from the model for m genes with these τ²; `mean` may hold X and beta (m × p)."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(20, 200, n)
    size = cells * rng.uniform(0.7, 1.4, n)
    inverse_cells = rng.uniform(1.0, 1.5, n) / cells
    mu = rate * np.exp(rng.normal(0, 1, (m, 1))) * size
    if mean:
        mu = mu * np.exp(mean["beta"] @ mean["X"].T)
    return Samples(drawn(rng, mu, phi * inverse_cells, np.asarray(tau2)), size, inverse_cells, np.full(m, phi))


def drawn(rng: np.random.Generator, mu: np.ndarray, b: np.ndarray, tau2: np.ndarray) -> np.ndarray:
    """Counts of mean μ (m × n), of variance b within samples and τ² between them: NB of dispersion b + τ² (1 + b)."""
    d = b + tau2[:, None] * (1 + b)
    return rng.poisson(mu * rng.gamma(1 / np.maximum(d, 1e-12), np.maximum(d, 1e-12))).astype(float)
