"""Tests of fitted genes, moderated or not: the one place that knows which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flashmm_sc._inference.df import Ddf, check_ddf
from flashmm_sc._inference.f_tests import FTests, f_tests
from flashmm_sc._inference.moderated_f import moderated_f_tests
from flashmm_sc._inference.moderated_t import moderated_tests
from flashmm_sc._inference.t_tests import Alternative, TTests, t_tests, with_intervals

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from flashmm_sc._gaussian.estimate import Estimates
    from flashmm_sc._gaussian.profile import Method
    from flashmm_sc._gaussian.projection import Projection
    from flashmm_sc._inference.moderated import Moderated


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
        if self.moderated is not None:
            msg = f"The fit is moderated: its tests average over the variance ratios. For ddf={ddf!r} fit with moderate=False."
            raise ValueError(msg)
        return ddf
