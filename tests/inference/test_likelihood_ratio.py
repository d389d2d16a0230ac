"""Null distributions of likelihood ratios, mixtures where components are bounded at zero."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

from flashmm_sc._inference.likelihood_ratio import likelihood_ratio


@pytest.mark.parametrize(
    ("fixed", "random", "nonnegative", "p"),
    [
        (2, 0, True, lambda x: chi2.sf(x, 2)),
        (0, 1, False, lambda x: chi2.sf(x, 1)),
        (1, 2, False, lambda x: chi2.sf(x, 3)),
        (0, 1, True, lambda x: chi2.sf(x, 1) / 2),
        (0, 3, True, lambda x: (chi2.sf(x, 2) + chi2.sf(x, 3)) / 2),
        (1, 1, True, lambda x: (chi2.sf(x, 1) + chi2.sf(x, 2)) / 2),
    ],
)
def test_null_distributions(fixed, random, nonnegative, p):
    larger = np.array([3.0, 0.0, -1e-12, np.nan, 1.0])
    smaller = np.array([1.0, -1e-13, 0.0, 0.0, np.nan])
    stat, ours = likelihood_ratio(larger, smaller, fixed, random, nonnegative)
    np.testing.assert_array_equal(stat, [4, 0, 0, np.nan, np.nan])
    np.testing.assert_allclose(ours, [p(4), 1, 1, np.nan, np.nan])
