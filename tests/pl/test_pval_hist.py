from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from plot_examples import COEF, results

import flashmm_sc as fsc


def heights(ax):
    return [bar.get_height() for bar in ax.patches]


@pytest.mark.parametrize("key", ["lmm_de", "anova", "counts"])
def test_bars_are_numbers_of_genes(key):
    adata = results()
    ax = fsc.pl.pval_hist(adata, key=key, group="2", bins=10, show=False)
    p = fsc.get.lmm_de_df(adata, "trt" if key == "anova" else COEF, key=key, groups="2")["p_value"].dropna()
    np.testing.assert_array_equal(heights(ax), np.bincount(np.minimum(p * 10, 9).astype(int), minlength=10))
    (line,) = ax.lines
    assert set(line.get_ydata()) == {len(p) / 10}
    assert ax.get_xlabel() == "p-value"


def test_grid():
    adata = results()
    adata.varm["lmm_de_pval"][:, 3] = np.nan
    axes = fsc.pl.pval_hist(adata, COEF, groups=["1", "2"], show=False)
    assert [ax.get_title() for ax in axes] == ["1", "2"]
    assert axes[0].figure.get_suptitle() == COEF
    assert sum(heights(axes[0])) == 119
    assert [text.get_text() for text in axes[1].texts] == ["no gene has a result"]


def test_bad_input():
    adata = results()
    with pytest.raises(ValueError, match="choose group= among '1', '2', '3'"):
        fsc.pl.pval_hist(adata)
    with pytest.raises(KeyError, match=r"Did you mean 'trt\[T\.B\]'"):
        fsc.pl.pval_hist(adata, "trt[B]", group="1")
    with pytest.raises(ValueError, match="bins=0 is too small"):
        fsc.pl.pval_hist(adata, group="1", bins=0)
    adata.varm["lmm_de_pval"][:] = np.nan
    with pytest.raises(ValueError, match="No gene has a result for '1', '2', '3'"):
        fsc.pl.pval_hist(adata, groups="all")
    assert not plt.get_fignums()


def test_results_that_are_no_tests():
    adata = results()
    fsc.tl.shrink(adata, COEF, key="lmm_de")
    with pytest.raises(ValueError, match="holds shrinkage, not tests"):
        fsc.pl.pval_hist(adata, COEF, key="lmm_shrink", group="1")
