"""Tails and quantiles of Student's t, through the normal distribution where they may."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as sps
from scipy.special import log_ndtr

from flashmm_sc._inference.tails import df_of_tail, log_upper_tail, normal_deviate, quantile, upper_tail


def test_tails_and_quantiles_are_those_of_student():
    t = np.concatenate([np.linspace(-8, 8, 200), np.geomspace(8, 30, 50)])
    for nu in (5, 60, 999, 1000, 1e4, 5e5):
        np.testing.assert_allclose(upper_tail(t, nu), sps.t.sf(t, nu), rtol=1e-7)
        p = np.geomspace(1e-200, 0.5, 60)
        np.testing.assert_allclose(sps.t.sf(quantile(np.log(p), nu), nu), p, rtol=1e-5)


def test_logarithms_of_tails_have_no_end():
    """Beyond the smallest floating-point number, against R 4.2.2's pt(t, df, lower=FALSE, log=TRUE)."""
    t = np.concatenate([np.zeros(1), np.linspace(0.1, 30, 200)])
    for nu in (1.5, 20, 60, 1e4):
        np.testing.assert_allclose(log_upper_tail(t, nu), sps.t.logsf(t, nu), rtol=1e-7)
    far = {
        (1e110, 3): -759.75535724899044,
        (1e20, 20): -893.50601393923478,
        (1e4, 200): -1315.8058839614052,
        (300, 5000): -7366.2480105407394,
        (60, 1e5): -1773.353071467671,
        (1e3, 1e6): -346581.07040144451,
    }
    for (t, nu), expected in far.items():
        assert log_upper_tail(np.array(t), nu) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("nu", [3, 49, 51, 1e5])
def test_normal_deviates_have_the_tails_of_t(nu):
    t = np.unique(np.outer([-1, 0, 1], np.geomspace(1e-3, 1e5, 60)))
    z = normal_deviate(t, nu)
    np.testing.assert_allclose(log_ndtr(-np.abs(z)), log_upper_tail(np.abs(t), nu), rtol=1e-10)
    assert (np.sign(z) == np.sign(t)).all()
    assert (np.diff(z) > 0).all()
    assert np.isnan(normal_deviate(np.array([np.nan, 1.0]), np.array([5.0, np.nan]))).all()


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
    np.testing.assert_allclose(quantile(log_p, df_of_tail(t, log_p, 1e5)), t, rtol=1e-8)
    assert (df_of_tail(t, log_p - 5, 100.0) == 100.0).any()
