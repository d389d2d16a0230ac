"""Adjusted p-values are those of statsmodels; genes that were not tested don't count."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from flashmm_sc._inference.adjustment import adjust


@pytest.mark.parametrize(("ours", "theirs"), [("benjamini-hochberg", "fdr_bh"), ("bonferroni", "bonferroni")])
def test_adjusted_p_values_are_those_of_statsmodels(ours, theirs):
    p = np.random.default_rng(0).random((50, 3)) ** 3
    p[4:7, 1] = np.nan
    p[:, 2] = np.nan
    adjusted = adjust(p, ours)
    for j in range(2):
        tested = np.isfinite(p[:, j])
        np.testing.assert_allclose(adjusted[tested, j], multipletests(p[tested, j], method=theirs)[1], rtol=1e-13)
        assert np.isnan(adjusted[~tested, j]).all()
    assert np.isnan(adjusted[:, 2]).all()


def test_all_columns_together():
    p = np.random.default_rng(0).random((50, 3)) ** 3
    p[4:7, 1] = np.nan
    expected = multipletests(p[np.isfinite(p)], method="fdr_bh")[1]
    adjusted = adjust(p, "benjamini-hochberg", "all")
    np.testing.assert_allclose(adjusted[np.isfinite(p)], expected, rtol=1e-13)
    assert np.isnan(adjusted[4:7, 1]).all()
