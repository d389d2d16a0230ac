from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from plot_examples import COEF, results
from scipy import stats

import flashmm_sc as fsc


def points(ax):
    return np.concatenate([c.get_offsets() for c in ax.collections if isinstance(c, PathCollection)])


def test_quantiles():
    adata = results()
    ax = fsc.pl.qq(adata, COEF, group="1", show=False)
    p = np.sort(fsc.get.lmm_de_df(adata, COEF, groups="1")["p_value"].dropna())
    np.testing.assert_allclose(points(ax)[:, 1], -np.log10(p))
    np.testing.assert_allclose(points(ax)[:, 0], -np.log10((np.arange(119) + 0.5) / 119))
    median = stats.norm.isf(np.median(p) / 2) ** 2
    assert ax.texts[0].get_text() == f"λ = {median / 0.45494:.2f}"
    assert ax.get_ylim()[0] == ax.get_xlim()[0] == 0


def test_band_holds_ordered_p_values():
    """The smallest of n is beyond q with probability (1 - q)^n."""
    ax = fsc.pl.qq(results(), group="1", show=False)
    (band,) = (c for c in ax.collections if not isinstance(c, PathCollection))
    at_smallest = band.get_paths()[0].vertices
    at_smallest = at_smallest[np.isclose(at_smallest[:, 0], -np.log10(0.5 / 119)), 1]
    expected = [-np.log10(1 - tail ** (1 / 119)) for tail in (0.025, 0.975)]
    np.testing.assert_allclose([at_smallest.min(), at_smallest.max()], expected)


def test_f_tests_that_underflow_are_at_the_top():
    adata = results()
    adata.varm["anova_pval"][:2, 0] = 0.0
    ax = fsc.pl.qq(adata, key="anova", group="1", show=False)
    top = np.sort(points(ax)[:, 1])[-3:]
    np.testing.assert_allclose(top[1:], -np.log10(5e-324))
    assert top[0] < 300


def test_grid(tmp_path):
    axes = fsc.pl.qq(results(), groups="all", title="all", show=False, save=tmp_path / "qq.png")
    assert [ax.get_title() for ax in axes] == ["1", "2", "3"]
    assert [len(points(ax)) for ax in axes] == [119, 119, 118]
    figure = axes[0].figure
    assert (figure.get_suptitle(), "expected" in figure.get_supxlabel()) == ("all", True)
    assert (tmp_path / "qq.png").exists()


def test_own_axes_and_bad_input():
    adata = results()
    ax = plt.figure().subplots()
    assert fsc.pl.qq(adata, key="across", ax=ax) is ax
    assert ax.get_title() == "difference"
    with pytest.raises(ValueError, match="use group="):
        fsc.pl.qq(adata, groups="all", ax=ax)
    plt.close("all")
    with pytest.raises(KeyError, match="no '4'"):
        fsc.pl.qq(adata, group="4")
    empty = fsc.datasets.simu_rnaseq(n_genes=5, n_cells=50, n_samples=4, n_clusters=1)
    with pytest.raises(KeyError, match=r"Run fsc\.tl\.lmm_de first"):
        fsc.pl.qq(empty)
    assert not plt.get_fignums()
