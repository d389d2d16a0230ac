"""Negative binomial regression of sample sums at known dispersion, for all genes at every point of a grid of τ².

    T_i ~ NB(mean S_i μ_i, dispersion d_i),    log μ_i = x_i'β,    d_i = b_i + τ² (1 + b_i)

b_i is known from the cells (`samples`), up to a design effect that all genes share. Every sample gets a prior count of
(1/8) (p/n) S_i / mean S, an eighth of a count a coefficient, so that log fold changes are finite where an arm has none; as in
edgeR's predFC.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.threads import for_gene_blocks
from flashmm_sc._counts.kernel import against_null, profile, standard_errors

if TYPE_CHECKING:
    from flashmm_sc._counts.samples import Samples

PRIOR_COUNT = 1 / 8
_NEAR_ZERO = 5e-3
"""Signed roots below which r* is lost to rounding, and the root stands for it."""
_DROP = 25.0
"""The log-likelihood's fall from its maximum beyond which points of the grid count for nothing."""


def grid() -> np.ndarray:
    """Points of τ² that all genes share: 0, and 40 evenly spaced in log from 1e-4 to 10."""
    return np.append(0.0, np.geomspace(1e-4, 10.0, 40))


@dataclass(frozen=True, eq=False)
class Pairs:
    """Genes (positions) at some τ² each, with the β (N × p) that maximises the likelihood there, in `Regression`'s basis."""

    gene: np.ndarray
    tau2: np.ndarray
    beta: np.ndarray

    def __getitem__(self, part: slice | np.ndarray) -> Pairs:
        """Some of the pairs, by a slice or a mask."""
        return Pairs(self.gene[part], self.tau2[part], self.beta[part])


@dataclass(frozen=True, eq=False)
class Regression:
    """Sample sums and their design.

    Attributes
    ----------
    samples
        Sums of counts, m genes × n samples.
    X
        Design of the samples, n × p, of full rank.
    """

    samples: Samples
    X: np.ndarray

    def of_genes(self, genes: np.ndarray) -> Regression:
        """The same of some genes."""
        return Regression(self.samples.of_genes(genes), self.X)

    def inflated(self, design_effect: float) -> Regression:
        """The same, with sums known less well."""
        return Regression(self.samples.inflated(design_effect), self.X)

    @cached_property
    def _basis(self) -> tuple[np.ndarray, np.ndarray]:
        """X = Q R: β is fitted as R β, so that scales and collinearity of covariates don't matter."""
        return np.linalg.qr(self.X)

    @cached_property
    def _offset(self) -> np.ndarray:
        return np.log(self.samples.size)

    @cached_property
    def _design(self) -> np.ndarray:
        return np.ascontiguousarray(self._basis[0].T)

    @cached_property
    def _counts(self) -> np.ndarray:
        n, p = self.X.shape
        size = self.samples.size
        return self.samples.counts + PRIOR_COUNT * p / n * size / size.mean()

    def profile(self, tau2: np.ndarray, n_jobs: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Adjusted profile log-likelihood (Cox and Reid) at every τ², up to a constant of the gene, and R β there.

        m × G and m × G × p; -inf where it is lower than the maximum by `_DROP`.
        """
        Y, X = self._counts, self._design
        m, G, p = len(Y), len(tau2), len(X)
        log_lik, beta = np.full((m, G), -np.inf), np.zeros((m, G, p))

        def work(part: slice) -> None:
            data = Y[part], self._offset, self.samples.inverse_cells, self.samples.phi[part], tau2, X
            profile(*data, G // 2, _DROP, log_lik[part], beta[part])

        for_gene_blocks(work, m, 64 * (Y.shape[1] + G * p), n_jobs)
        return log_lik, beta

    def estimates(self, pairs: Pairs, L: np.ndarray, n_jobs: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Combinations L'β (columns of L, p × r) and their standard errors at known τ²: pairs × r."""
        own = self._in_basis(L)
        se = np.empty((len(pairs.gene), len(own)))

        def work(part: slice) -> None:
            standard_errors(*self._at(pairs[part]), own, se[part])

        for_gene_blocks(work, len(pairs.gene), 64 * self.X.shape[1], n_jobs)
        return pairs.beta @ own.T, se

    def roots(self, pairs: Pairs, L: np.ndarray, value: np.ndarray, n_jobs: int | None) -> np.ndarray:
        """Signed roots r* of the likelihood ratio of c'β = value (m × r) for the columns c of L (p × r): pairs × r.

        With r the signed root, r* = r + log(u/r) / r follows the normal distribution to higher order (Skovgaard, Scandinavian
        Journal of Statistics 2001).
        """
        own = self._in_basis(L)
        ratio, log_u = self._against([own[j : j + 1] for j in range(len(own))], pairs, value, n_jobs)
        root = np.sqrt(ratio)
        sign = np.where(pairs.beta @ own.T < value[pairs.gene], -1.0, 1.0)
        safe = np.maximum(root, _NEAR_ZERO)
        return sign * (root + (log_u - np.log(safe)) / safe * (root >= _NEAR_ZERO))

    def ratios(self, pairs: Pairs, L: np.ndarray, n_jobs: int | None) -> np.ndarray:
        """Likelihood ratio statistics of L'β = 0 (L p × r, independent columns), chi-squared with r df: one a pair."""
        none = np.zeros((len(self.samples.counts), 1))
        return self._against([self._in_basis(L)], pairs, none, n_jobs)[0][:, 0]

    def _at(self, pairs: Pairs) -> tuple[np.ndarray, ...]:
        """What kernels take of the data and of pairs; contiguous, since they compile anew for any other layout."""
        data = self._counts, self._offset, self.samples.inverse_cells, self.samples.phi
        return *data, pairs.tau2, self._design, np.ascontiguousarray(pairs.gene), pairs.beta

    def _in_basis(self, L: np.ndarray) -> np.ndarray:
        """Columns of L as combinations of R β: r × p."""
        return np.ascontiguousarray(np.linalg.solve(self._basis[1].T, L).T)

    def _against(
        self, hypotheses: list[np.ndarray], pairs: Pairs, value: np.ndarray, n_jobs: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Likelihood ratios, and log u of hypotheses of one row; each is r × p, in the basis."""
        N = np.ascontiguousarray([np.linalg.svd(own)[2][len(own) :].T for own in hypotheses])
        first = np.stack([own[0] for own in hypotheses])
        D = first / (first**2).sum(axis=1, keepdims=True)
        null = first, N, np.ascontiguousarray(np.einsum("hpq,pn->hqn", N, self._design)), D, D @ self._design
        ratio, log_u = (np.zeros((len(pairs.gene), len(hypotheses))) for _ in range(2))

        def work(part: slice) -> None:
            against_null(*self._at(pairs[part]), *null, value, ratio[part], log_u[part])

        for_gene_blocks(work, len(pairs.gene), 256 * self.X.shape[1], n_jobs)
        return ratio, log_u
