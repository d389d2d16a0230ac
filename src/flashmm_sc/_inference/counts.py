"""Tests of negative binomial mixed models: likelihood ratios at known τ², averaged over its posterior.

All genes together know how τ², the variance between samples, is distributed (`prior`); a gene's likelihood at the points
of the grid then gives its posterior ω. With z_k the signed root of the likelihood ratio at τ²_k, normal under the null,

    p = Σ_k ω_k 2 Φ(-|z_k|),    coef = Σ_k ω_k c'β̂_k,    se² = Σ_k ω_k (se_k² + (c'β̂_k - coef)²)

and an interval ends at the x for which Σ_k ω_k Φ(z_k(x)) = (1 ± level) / 2, z_k(x) the root for c'β = x: it holds what
the two-sided test doesn't reject. t is the normal deviate with that p, on infinitely many df.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import chdtrc, chdtri, log_ndtr, ndtri, ndtri_exp

from flashmm_sc._counts.regression import Pairs, Regression
from flashmm_sc._inference.f_tests import FTests
from flashmm_sc._inference.mixture import Mixture
from flashmm_sc._inference.prior import Prior, posterior
from flashmm_sc._inference.t_tests import Alternative, Intervals, TTests

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flashmm_sc._inference.df import Ddf

NEGLIGIBLE = 1e-6
"""A posterior probability that counts for nothing."""
_NEAR = 1e-4  # the last secant step, in se
_MOST_STEPS = 40


@dataclass(frozen=True, eq=False)
class CountInference:
    """What tests of a fit need.

    Attributes
    ----------
    regression
        Sample sums of the fitted genes and their design.
    fitted
        Positions of these genes among all n_genes.
    n_genes
        Number of all genes, of which those not fitted have no tests.
    prior
        Distribution of τ² by the logarithm of the rate.
    weights
        Posterior of each fitted gene, m × G.
    beta
        Its coefficients at every τ², m × G × p, in the basis of the regression.
    """

    regression: Regression
    fitted: np.ndarray
    n_genes: int
    prior: Prior
    weights: np.ndarray
    beta: np.ndarray

    @classmethod
    def of(
        cls,
        regression: Regression,
        fitted: np.ndarray,
        n_genes: int,
        *,
        prior: Callable[[np.ndarray, np.ndarray], Prior] | Prior,
        tau2: np.ndarray,
        n_jobs: int | None,
    ) -> CountInference:
        """Fit at every τ²; the prior is known, or a function learns it from log-likelihoods and log rates."""
        log_lik, beta = regression.profile(tau2, n_jobs)
        rate = np.log(regression.samples.rate)
        known = prior if isinstance(prior, Prior) else prior(log_lik, rate)
        return cls(regression, fitted, n_genes, known, posterior(known.of(rate), log_lik), beta)

    @property
    def mixed(self) -> bool:
        """Whether tests average over a posterior."""
        return True

    @cached_property
    def _pairs(self) -> tuple[Pairs, np.ndarray]:
        """Genes and the τ² that count in each, with their probabilities."""
        gene, point = np.nonzero(self.weights > NEGLIGIBLE)
        weight = self.weights[gene, point]
        weight /= np.bincount(gene, weight)[gene]
        return Pairs(gene, self.prior.gamma[point, 0], self.beta[gene, point]), weight

    @property
    def tau2(self) -> tuple[np.ndarray, np.ndarray]:
        """Posterior mean and standard deviation of τ² of each fitted gene."""
        points = self.prior.gamma[:, 0]
        mean = self.weights @ points
        return mean, np.sqrt(np.maximum(self.weights @ points**2 - mean**2, 0.0))

    def used_ddf(self, ddf: Ddf | None) -> str:
        """There are no df to choose.

        Raises
        ------
        ValueError
            For any.
        """
        if ddf is not None:
            msg = f"Tests of counts are likelihood ratio tests, without degrees of freedom: leave ddf={ddf!r} out."
            raise ValueError(msg)
        return "likelihood ratio"

    def t_tests(
        self,
        L: np.ndarray,
        *,
        ddf: Ddf | None = None,
        alternative: Alternative = "two-sided",
        effect: float = 0.0,
        conf_level: float | None = None,
        n_jobs: int | None = None,
    ) -> TTests:
        """Test the columns of L (p × r); options as in `Inference.t_tests`."""
        self.used_ddf(ddf)
        mixture = self._mixture(L, n_jobs)
        coef, se = mixture.moments()
        log_p = self._log_p(mixture, L, alternative, effect, n_jobs)
        t = ndtri_exp(log_p - np.log(2)) if alternative == "two-sided" else ndtri_exp(np.minimum(log_p, -1e-16))
        t = np.copysign(t, coef) if alternative == "two-sided" else -t if alternative == "greater" else t
        tests = {"coef": coef, "se": se, "t": t, "df": np.full_like(coef, np.inf), "p": np.exp(log_p)}
        if conf_level is None:
            return TTests(**self._spread(tests))
        low, high = (self._end(sign, (1 - conf_level) / 2, L, coef, se, n_jobs) for sign in (-1, 1))
        return Intervals(**self._spread(tests | {"ci_low": low, "ci_high": high}))

    def f_tests(self, hypotheses: Sequence[np.ndarray], *, ddf: Ddf | None = None, n_jobs: int | None = None) -> FTests:
        """Test L'β = 0 for each hypothesis L (p × r): F is the χ²_r that has the averaged p-value, over r."""
        self.used_ddf(ddf)
        pairs, weight = self._pairs
        p = np.empty((len(self.fitted), len(hypotheses)))
        F, ranks = np.empty_like(p), [L.shape[1] for L in hypotheses]
        for j, (L, r) in enumerate(zip(hypotheses, ranks, strict=True)):
            ratio = self._ratio(pairs, L, n_jobs)
            p[:, j] = np.minimum(np.bincount(pairs.gene, weight * chdtrc(r, ratio)), 1.0)
            mean = np.bincount(pairs.gene, weight * ratio) / r
            F[:, j] = np.where(p[:, j] > 0, chdtri(r, p[:, j]) / r, mean)
        df = {"df_num": np.tile(np.array(ranks, float), (len(p), 1)), "df": np.full_like(p, np.inf)}
        return FTests(**self._spread({"F": F, **df, "p": p}))

    def _ratio(self, pairs: Pairs, L: np.ndarray, n_jobs: int | None) -> np.ndarray:
        """Likelihood ratio statistics of L'β = 0; of one column the square of its corrected root, as in `t_tests`."""
        if L.shape[1] > 1:
            return self.regression.ratios(pairs, L, n_jobs)
        return self.regression.roots(pairs, L, np.zeros((len(self.fitted), 1)), n_jobs)[:, 0] ** 2

    def mixtures(self, c: np.ndarray, n_jobs: int | None) -> tuple[np.ndarray, Callable[[np.ndarray], Mixture], float]:
        """As `Inference.mixtures`: of normals, by standard errors."""
        mixture = self._mixture(c[:, None], n_jobs)
        place = np.full(self.n_genes, -1)
        place[self.fitted] = np.arange(len(self.fitted))
        return self.fitted, lambda genes: mixture.of(place[genes]), len(mixture.gene) / max(mixture.m, 1)

    def _mixture(self, L: np.ndarray, n_jobs: int | None) -> Mixture:
        pairs, weight = self._pairs
        beta, se = self.regression.estimates(pairs, L, n_jobs)
        return Mixture(len(self.fitted), pairs.gene, weight, beta, se, np.inf, np.inf)

    def _log_p(
        self, mixture: Mixture, L: np.ndarray, alternative: Alternative, effect: float, n_jobs: int | None
    ) -> np.ndarray:
        """Logarithms of the p-values, genes × r."""
        pairs, _ = self._pairs
        roots = lambda value: self.regression.roots(pairs, L, value, n_jobs)
        bound = np.full((mixture.m, L.shape[1]), effect)
        if alternative != "two-sided":
            sign = 1.0 if alternative == "greater" else -1.0
            return mixture.log_mean(log_ndtr(-sign * roots(sign * bound)))
        if effect == 0:
            return np.minimum(mixture.log_mean(np.log(2) + log_ndtr(-np.abs(roots(bound)))), 0.0)
        side = np.sign(mixture.beta)
        upper, lower = roots(bound), roots(-bound)
        near, far = np.where(side > 0, upper, -lower), np.where(side > 0, lower, -upper)
        return np.minimum(mixture.log_mean(np.logaddexp(log_ndtr(-near), log_ndtr(-far))), 0.0)

    def _end(
        self, sign: int, tail: float, L: np.ndarray, coef: np.ndarray, se: np.ndarray, n_jobs: int | None
    ) -> np.ndarray:
        """The upper end (sign 1) or lower end of the interval: secant steps on the deviate, all but linear in the end."""
        goal = -ndtri(tail)
        x = np.empty_like(coef)
        for j in range(coef.shape[1]):
            x[:, j] = self._solved(sign, goal, L[:, j : j + 1], coef[:, j], se[:, j], n_jobs)
        return x

    def _solved(
        self, sign: int, goal: float, c: np.ndarray, coef: np.ndarray, se: np.ndarray, n_jobs: int | None
    ) -> np.ndarray:
        pairs, weight = self._pairs
        x, slope = coef + sign * goal * se, 1 / se
        before = np.full((2, len(x)), np.nan)
        rest = np.arange(len(x))
        for _ in range(_MOST_STEPS):
            here = np.isin(pairs.gene, rest)
            some = pairs[here]
            z = -sign * self.regression.roots(some, c, x[:, None], n_jobs)
            tails = np.bincount(some.gene, weight[here] * np.exp(log_ndtr(-z[:, 0])), len(x))[rest]
            over = -ndtri(tails) - goal
            with np.errstate(divide="ignore", invalid="ignore"):
                found = sign * (over - before[1, rest]) / (x[rest] - before[0, rest])
            slope[rest] = np.where(np.isfinite(found) & (found * se[rest] > 0.05), found, slope[rest])
            before[:, rest] = x[rest], over
            step = -sign * np.clip(over / slope[rest], -4 * se[rest], 4 * se[rest])
            x[rest] += step
            rest = rest[np.abs(step) > _NEAR * se[rest]]
            if not len(rest):
                break
        return x

    def _spread(self, tests: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Rows of the fitted genes among all genes, NaN elsewhere."""
        out = {name: np.full((self.n_genes, values.shape[1]), np.nan) for name, values in tests.items()}
        for name, values in tests.items():
            out[name][self.fitted] = values
        return out
