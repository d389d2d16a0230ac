"""Mixtures of scaled t distributions, and the tests and intervals they give.

Of a combination c'β it is known that (c'β̂_k - c'β) / se_k is t with ν df with probability ω_k, so that

    p = Σ_k ω_k P(|T_ν| > |c'β̂_k| / se_k),    coef = Σ_k ω_k c'β̂_k,    se² = Σ_k ω_k (se_k² + (c'β̂_k - coef)²)

and an interval ends where Σ_k ω_k P(T_ν > (x - c'β̂_k) / se_k) = (1 ± level) / 2.

The mixture is summed up by the t that has its p: df are those with which coef / se has the two-sided p, at most those of
the t it is made of. Where no df do, since a mixture has more of its mass near its centre than any t (most p > 0.05), se
gives way, so that t = coef / se and p = P(|T_df| > |t|) always hold; but not below `_LEAST` of itself, as it would have to
for effects near zero whose p is below 1 only since the c'β̂_k have either sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from scipy.special import gammaln, ndtri, stdtrit

from flashmm_sc._base.threads import for_gene_blocks
from flashmm_sc._inference.t_tests import Alternative, Intervals, TTests
from flashmm_sc._inference.tails import MANY_DF, SMALL, df_of_tail, log_upper_tail, quantile, upper_tail

if TYPE_CHECKING:
    from collections.abc import Callable

_LEAST = 0.8
_TINY = np.nextafter(0, 1)
_NEAR = 2e-5  # the last step of Newton, in se; what is left is of the order of its square
_JUMP = 4.0  # the longest, in se
_MOST_STEPS = 100


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture for each of m genes and r combinations, from N components in all.

    Attributes
    ----------
    m
        Number of genes.
    gene
        The gene that each component belongs to, N.
    weight
        Its probability ω, N; they sum to 1 in each gene.
    beta, se
        Its centre and scale, N × r.
    nu
        Its df, one for all or N × r.
    most
        The largest df that a test can have, one for all or m × 1.
    """

    m: int
    gene: np.ndarray
    weight: np.ndarray
    beta: np.ndarray
    se: np.ndarray
    nu: np.ndarray | float
    most: np.ndarray | float

    @cached_property
    def _sums(self) -> sp.csc_array:
        """Sums values of the components, N × r, over each gene by probability: m × N."""
        N = len(self.gene)
        return sp.csc_array((self.weight, self.gene, np.arange(N + 1)), shape=(self.m, N))

    def of(self, genes: np.ndarray) -> Mixture:
        """The mixtures of some genes (positions, ascending)."""
        place = np.full(self.m, -1)
        place[genes] = np.arange(len(genes))
        at = place[self.gene] >= 0
        cut = lambda values, where: values if np.ndim(values) == 0 else values[where]
        nu, most = cut(self.nu, at), cut(self.most, genes)
        return Mixture(len(genes), place[self.gene[at]], self.weight[at], self.beta[at], self.se[at], nu, most)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation, as if the components were normal: m × r each."""
        centre = np.zeros((self.m, self.beta.shape[1]))
        centre[self.gene] = self.beta  # any of a gene's, so that squares don't cancel
        apart = self.beta - centre[self.gene]
        mean = self._sums @ apart
        return centre + mean, np.sqrt(self._sums @ (self.se**2 + apart**2) - mean**2)

    def tests(self, alternative: Alternative = "two-sided", effect: float = 0.0) -> TTests:
        """Tests of all genes; options as in `t_tests`."""
        coef, se = self.moments()
        p, log_p = self._p("two-sided", 0.0)
        t, se, df = _summed_up(log_p, coef, se, self.most)
        if alternative != "two-sided" or effect != 0:
            p, log_p = self._p(alternative, effect)
            t = _t_of(p, log_p, coef, df, alternative)
        return TTests(coef, se, t, df, p)

    def intervals(self, tests: TTests, level: float) -> Intervals:
        """Add equal-tailed intervals to the two-sided tests."""
        half = stdtrit(tests.df, (1 + level) / 2) * tests.se
        low, high = (sign * self._end(sign, (1 - level) / 2, sign * tests.coef, half, tests.se) for sign in (-1, 1))
        return Intervals(**vars(tests), ci_low=low, ci_high=high)

    def log_p(self, alternative: Alternative, effect: float) -> np.ndarray:
        """Logarithms of the p-values, finite also where these are too small for a number."""
        tails = self._tails(alternative, effect)
        each = np.logaddexp.reduce([np.log(count) + log_upper_tail(t, self.nu) for t, count in tails])
        return np.minimum(self.log_mean(each), 0)

    def log_mean(self, each: np.ndarray) -> np.ndarray:
        """Logarithms of the means of what has these logarithms, N × r, over the components: m × r."""
        most = np.full((self.m, each.shape[1]), -np.inf)
        np.maximum.at(most, self.gene, each)
        return most + np.log(self._sums @ np.exp(each - most[self.gene]))

    def _p(self, alternative: Alternative, effect: float) -> tuple[np.ndarray, np.ndarray]:
        """The p-values, averaged over those of the components, and their logarithms."""
        tails = self._tails(alternative, effect)
        p = self._sums @ np.sum([count * upper_tail(t, self.nu) for t, count in tails], axis=0)
        log_p = np.log(np.clip(p, _TINY, 1))
        if len(far := np.flatnonzero((p < SMALL).any(axis=1))):
            log_p[far] = self.of(far).log_p(alternative, effect)
        return np.minimum(p, 1.0), log_p

    def _tails(self, alternative: Alternative, effect: float) -> list[tuple[np.ndarray, int]]:
        """The t-values beyond which the p-value of each component lies, and how many times."""
        if alternative != "two-sided":
            side = self.beta if alternative == "greater" else -self.beta
            return [((side - effect) / self.se, 1)]
        size = np.abs(self.beta)
        return [(size / self.se, 2)] if effect == 0 else [((size - sign * effect) / self.se, 1) for sign in (1, -1)]

    def _end(self, sign: int, tail: float, middle: np.ndarray, half: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """The x that a tail lies beyond, in the mixture mirrored for sign -1: Newton on its normal deviate, bracketed.

        The deviate is all but linear in x, so a few steps from the end for the t that sums up the mixture suffice.
        """
        x, low, high = middle + half, np.full_like(half, -np.inf), np.full_like(half, np.inf)
        rest, part = np.arange(self.m), self
        for _ in range(_MOST_STEPS):
            t = (x[rest][part.gene] - sign * part.beta) / part.se
            deviate = -ndtri(part._sums @ upper_tail(t, part.nu))
            density = part._sums @ (_density(t, part.nu) / part.se)
            over = deviate + ndtri(tail)
            low[rest], high[rest] = np.where(over <= 0, x[rest], low[rest]), np.where(over >= 0, x[rest], high[rest])
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                step = -over * np.exp(-0.5 * deviate**2) / np.sqrt(2 * np.pi) / density
            far = _JUMP * scale[rest] + np.abs(x[rest] - middle[rest])
            step = np.clip(np.where(np.isfinite(step), step, -np.copysign(far, over)), -far, far)
            new = x[rest] + step
            inside = (new >= low[rest]) & (new <= high[rest])
            x[rest] = np.where(inside, new, 0.5 * (low[rest] + high[rest]))
            near = (np.abs(step) < _NEAR * scale[rest]) & (np.abs(over) < 10 * _NEAR)
            again = np.flatnonzero(~(near | (high[rest] - low[rest] < _NEAR**2 * scale[rest])).all(axis=1))
            if not len(again):
                break
            rest, part = rest[again], part.of(again)
        return x


def mixture_tests(
    mixtures: Callable[[np.ndarray], Mixture],
    genes: np.ndarray,
    shape: tuple[int, int],
    gene_bytes: int,
    *,
    alternative: Alternative,
    effect: float,
    conf_level: float | None,
    n_jobs: int | None,
) -> TTests:
    """Tests of some genes (positions) from a function that makes the mixtures of any of them; NaN for the others."""
    kind, names = (TTests, 5) if conf_level is None else (Intervals, 7)
    out = kind(*(np.full(shape, np.nan) for _ in range(names)))

    def work(part: slice) -> None:
        mixture = mixtures(genes[part])
        tests = mixture.tests(alternative, effect)
        if conf_level is not None:
            tests = mixture.intervals(tests, conf_level)
        for name, values in vars(tests).items():
            getattr(out, name)[genes[part]] = values

    for_gene_blocks(work, len(genes), gene_bytes, n_jobs)
    return out


def _density(t: np.ndarray, nu: np.ndarray | float) -> np.ndarray:
    """The density of t; with infinite df that of the normal, all but exactly."""
    nu = np.minimum(nu, MANY_DF)
    log_constant = gammaln((nu + 1) / 2) - gammaln(nu / 2) - 0.5 * np.log(nu * np.pi)
    return np.exp(log_constant - (nu + 1) / 2 * np.log1p(t * t / nu))


def _summed_up(log_p: np.ndarray, coef: np.ndarray, se: np.ndarray, most: np.ndarray | float) -> tuple[np.ndarray, ...]:
    """t, se and df for the two-sided p, mean and standard deviation."""
    log_half = log_p - np.log(2)
    df = df_of_tail(np.abs(coef) / se, log_half, most)
    t = np.copysign(quantile(log_half, df), coef)
    with np.errstate(divide="ignore", invalid="ignore"):  # t may be 0
        se = np.clip(np.where(coef == 0, se, coef / t), _LEAST * se, se / _LEAST)
    return coef / se, se, df


def _t_of(p: np.ndarray, log_p: np.ndarray, coef: np.ndarray, df: np.ndarray, alternative: Alternative) -> np.ndarray:
    """The t that has this p-value and direction."""
    if alternative == "two-sided":
        return np.copysign(quantile(log_p - np.log(2), df), coef)
    t = quantile(np.where(p < 0.5, log_p, np.log(np.maximum(1 - p, _TINY))), df)
    return np.where((p < 0.5) == (alternative == "greater"), t, -t)
