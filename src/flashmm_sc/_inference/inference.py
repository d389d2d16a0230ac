"""Tests of fitted genes: what all kinds of fits answer, and those of linear mixed models, moderated or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from flashmm_sc._inference.df import Ddf, check_ddf
from flashmm_sc._inference.f_tests import FTests, f_tests
from flashmm_sc._inference.mixture import Mixture
from flashmm_sc._inference.moderated import NEGLIGIBLE, grid_points
from flashmm_sc._inference.moderated_f import moderated_f_tests
from flashmm_sc._inference.moderated_t import mixture_of, moderated_tests
from flashmm_sc._inference.t_tests import Alternative, TTests, t_tests, with_intervals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flashmm_sc._gaussian.estimate import Estimates
    from flashmm_sc._gaussian.profile import Method
    from flashmm_sc._gaussian.projection import Projection
    from flashmm_sc._inference.moderated import Moderated


class Tester(Protocol):
    """Tests of m genes, fitted somehow. `mixed` tells whether they average over what isn't known of the variances."""

    @property
    def n_genes(self) -> int:
        """Number of genes, m."""

    @property
    def mixed(self) -> bool:
        """Whether tests are averages."""

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
        """Test the columns of L (p × r), with intervals where a level is given; `ddf` is by default the fit's."""

    def f_tests(self, hypotheses: Sequence[np.ndarray], *, ddf: Ddf | None = None, n_jobs: int | None = None) -> FTests:
        """Test L'β = 0 for each hypothesis L (p × r, independent columns)."""

    def used_ddf(self, ddf: Ddf | None) -> str:
        """Degrees of freedom of a test, in a word: those asked for, else the fit's."""

    def mixtures(self, c: np.ndarray, n_jobs: int | None) -> tuple[np.ndarray, Callable[[np.ndarray], Mixture], float]:
        """Which genes have tests, what is known of c'β in some of them, and by how many components of each."""


@dataclass(frozen=True, eq=False)
class Inference:
    """What tests of a fit need.

    Attributes
    ----------
    projection
        What the designs give.
    estimates
        Coefficients and variance components.
    method, ddf
        As given to the fit.
    moderated
        Posteriors of the variance ratios, over which tests average; None in a fit that is not moderated.
    """

    projection: Projection
    estimates: Estimates
    method: Method
    ddf: Ddf
    moderated: Moderated | None = None

    @property
    def n_genes(self) -> int:
        """Number of genes, m."""
        return len(self.estimates.coef)

    @property
    def mixed(self) -> bool:
        """Whether tests average over a posterior."""
        return self.moderated is not None

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
        """Test the columns of L (p × r), with intervals where a level is given; `ddf` is by default the fit's.

        Raises
        ------
        ValueError
            For degrees of freedom that can't be had.
        """
        used = self.used_ddf(ddf)
        if self.moderated is not None:
            return moderated_tests(
                self.projection,
                self.moderated,
                L,
                alternative=alternative,
                effect=effect,
                conf_level=conf_level,
                n_jobs=n_jobs,
            )
        tests = t_tests(
            self.projection, self.estimates, L, ddf=used, alternative=alternative, effect=effect, n_jobs=n_jobs
        )
        return tests if conf_level is None else with_intervals(tests, conf_level)

    def f_tests(self, hypotheses: Sequence[np.ndarray], *, ddf: Ddf | None = None, n_jobs: int | None = None) -> FTests:
        """Test L'β = 0 for each hypothesis L (p × r, independent columns).

        Raises
        ------
        ValueError
            For degrees of freedom that can't be had.
        """
        used = self.used_ddf(ddf)
        if self.moderated is not None:
            return moderated_f_tests(self.projection, self.moderated, hypotheses, n_jobs=n_jobs)
        return f_tests(self.projection, self.estimates, hypotheses, ddf=used, n_jobs=n_jobs)

    def used_ddf(self, ddf: Ddf | None) -> Ddf:
        """Degrees of freedom of a test: those asked for, else the fit's."""
        if ddf is None:
            return self.ddf
        check_ddf(ddf, self.method)
        if ddf == "kenward-roger" and self.projection.groups:
            msg = "ddf='kenward-roger' can't be had with residual variances by group; use ddf='satterthwaite'."
            raise ValueError(msg)
        if self.moderated is not None:
            msg = f"The fit is moderated: its tests average over the variance ratios. For ddf={ddf!r} fit with moderate=False."
            raise ValueError(msg)
        return ddf

    def mixtures(self, c: np.ndarray, n_jobs: int | None) -> tuple[np.ndarray, Callable[[np.ndarray], Mixture], float]:
        """Which genes have tests, what is known of c'β in some of them, and by how many components of each."""
        moderated = self.moderated
        if moderated is not None:
            points, nu = grid_points(self.projection, moderated, c[:, None]), self.projection.n - self.projection.p
            used = np.count_nonzero(moderated.weights[moderated.fitted] > NEGLIGIBLE, axis=1).mean()
            return (
                moderated.fitted,
                lambda genes: mixture_of(points, moderated.genes[genes], moderated.weights[genes], nu),
                float(used),
            )
        tests = self.t_tests(c[:, None], n_jobs=n_jobs)
        known = np.flatnonzero(np.isfinite(tests.p[:, 0]))

        def single(genes: np.ndarray) -> Mixture:
            coef, se, df = tests.coef[genes], tests.se[genes], tests.df[genes]
            return Mixture(len(genes), np.arange(len(genes)), np.ones(len(genes)), coef, se, df, df)

        return known, single, 1.0
