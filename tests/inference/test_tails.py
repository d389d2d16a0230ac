"""Tails and quantiles of Student's t, through the normal distribution where they may."""

from __future__ import annotations

import numpy as np
from scipy import stats as sps

from flashmm_sc._inference.tails import df_of_tail, quantile, upper_tail


def test_tails_and_quantiles_are_those_of_student():
    t = np.concatenate([np.linspace(-8, 8, 200), np.geomspace(8, 30, 50)])
    for nu in (5, 60, 999, 1000, 1e4, 5e5):
        np.testing.assert_allclose(upper_tail(t, nu), sps.t.sf(t, nu), rtol=1e-7)
        p = np.geomspace(1e-200, 0.5, 60)
        np.testing.assert_allclose(sps.t.sf(quantile(np.log(p), nu), nu), p, rtol=1e-5)


def test_quantiles_are_finite_where_p_is_below_all_numbers():
    nu = np.array([3.0, 5.0, 30.0, 300.0, 999.0])
    for log_p in (-400.0, -650.0):
        np.testing.assert_allclose(sps.t.logsf(quantile(np.full(5, log_p), nu), nu), log_p, rtol=1e-10)
    for log_p in (-745.0, -2000.0):
        t = quantile(np.full(7, log_p), np.array([1.5, *nu, 1000.0]))
        assert np.isfinite(t).all()
        assert (np.diff(t) <= 0).all()
    np.testing.assert_allclose(quantile(np.array([-2000.0]), 999)[0], quantile(np.array([-2000.0]), 1000)[0], rtol=0.01)


def test_df_at_which_t_has_a_tail():
    df, t = np.meshgrid([3.0, 8.0, 60.0, 2000.0], [0.5, 3.0, 10.0])
    log_p = sps.t.logsf(t, df)
    np.testing.assert_allclose(quantile(log_p, df_of_tail(t, log_p, 1e5)), t, rtol=0.02)
    assert (df_of_tail(t, log_p - 5, 100.0) == 100.0).any()
