"""Null distributions of likelihood ratios, mixtures where components are bounded at zero."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

from flashmm_sc._inference.likelihood_ratio import likelihood_ratio


@pytest.mark.parametrize(
    ("df", "bounded", "p"),
    [
        (2, False, lambda x: chi2.sf(x, 2)),
        (1, False, lambda x: chi2.sf(x, 1)),
        (1, True, lambda x: chi2.sf(x, 1) / 2),
        (3, True, lambda x: (chi2.sf(x, 2) + chi2.sf(x, 3)) / 2),
        (2, True, lambda x: (chi2.sf(x, 1) + chi2.sf(x, 2)) / 2),
    ],
)
def test_null_distributions(df, bounded, p):
    larger = np.array([3.0, 0.0, -1e-12, np.nan, 1.0, -1e6, 1e6, 1e6])
    smaller = larger - [2.0, 1e-13, -1e-12, np.nan, np.nan, 1e-6, 1e-6, 1e-4]  # the last two but one differ by rounding
    stat, ours = likelihood_ratio(larger, smaller, df, bounded=bounded)
    np.testing.assert_allclose(stat, [4, 0, 0, np.nan, np.nan, 0, 0, 2e-4], rtol=1e-6)
    np.testing.assert_allclose(ours, [p(4), 1, 1, np.nan, np.nan, 1, 1, p(2e-4)], rtol=1e-6)
