"""Tails and quantiles of Student's t, through the normal distribution where they may."""

from __future__ import annotations

import numpy as np
from scipy import stats as sps

from flashmm_sc._inference.tails import quantile, upper_tail


def test_tails_and_quantiles_are_those_of_student():
    t = np.concatenate([np.linspace(-8, 8, 200), np.geomspace(8, 30, 50)])
    for nu in (5, 60, 999, 1000, 1e4, 5e5):
        np.testing.assert_allclose(upper_tail(t, nu), sps.t.sf(t, nu), rtol=1e-7)
        p = np.geomspace(1e-200, 0.5, 60)
        np.testing.assert_allclose(sps.t.sf(quantile(np.log(p), nu), nu), p, rtol=1e-5)
