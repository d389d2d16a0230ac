from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from plot_examples import COEF, results

import flashmm_sc as fsc
from flashmm_sc._results.result import Result


def points(ax):
    return np.concatenate([c.get_offsets() for c in ax.collections])


def in_group(adata, group):
    return (adata.obs["cls"].astype(str) == group).to_numpy()


def by_x(found):
    return found[np.lexsort(found.T)]


@pytest.mark.parametrize("key", ["lmm_de", "moderated"])
def test_means_are_those_of_the_fixed_effects_over_cells(key):
    adata = results()
    ax = fsc.pl.ma(adata, COEF, key=key, group="2", show=False)
    table = fsc.get.lmm_de_df(adata, COEF, key=key, groups="2")
    start = fsc.get.lmm_de_df(adata, "Intercept", key=key, groups="2")["coef"]
    share = (adata.obs["trt"][in_group(adata, "2")] == "B").mean()
    expected = np.column_stack([start + share * table["coef"], table["log_fc"]])
    np.testing.assert_allclose(by_x(points(ax)), by_x(expected[np.isfinite(expected).all(axis=1)]))
    up = ((table["adj_p_value"] < 0.05) & (table["coef"] > 0)).sum()
    assert f"{up} up" in [text.get_text() for text in ax.get_legend().get_texts()]
    assert "fold change" in ax.get_ylabel()


def test_one_model_of_all_cells_and_tests_of_it():
    adata = results()
    fsc.tl.lmm_test(adata, "cls[1]:trt[T.B]", key="whole")
    tested = points(fsc.pl.ma(adata, key="lmm_test", show=False))
    np.testing.assert_allclose(tested, points(fsc.pl.ma(adata, "cls[1]:trt[T.B]", key="whole", show=False)))
    X = pd.get_dummies(adata.obs["cls"]).to_numpy(float)
    X = np.hstack([X, X * (adata.obs["trt"] == "B").to_numpy()[:, None]])
    names = [*(f"cls[{k}]" for k in (1, 2, 3)), *(f"cls[{k}]:trt[T.B]" for k in (1, 2, 3))]
    coef = [fsc.get.lmm_de_df(adata, name, key="whole")["coef"].to_numpy() for name in names]
    means = X.mean(axis=0) @ np.array(coef)
    np.testing.assert_allclose(np.sort(np.asarray(tested)[:, 0]), np.sort(means[np.isfinite(means)]))


def test_of_counts_they_are_rates():
    adata = results()
    ax = fsc.pl.ma(adata, COEF, key="counts", group="1", show=False)
    assert "count" in ax.get_xlabel()
    counts = np.delete(adata.X.toarray()[in_group(adata, "1")].sum(axis=0), 4)
    apart = np.sort(points(ax)[:, 0]) - np.sort(
        np.log2(counts)
    )  # the logarithm of all samples' sizes, the same for all genes
    np.testing.assert_allclose(apart, apart[0])
    described = Result.read(adata, "counts").models[0]
    assert apart[0] == pytest.approx(-np.log2(described["size"].sum()))


def test_grid_and_min_effect():
    axes = fsc.pl.ma(results(), groups="all", min_effect=0.3, show=False)
    assert [ax.get_title() for ax in axes] == ["1", "2", "3"]
    assert [sorted(line.get_ydata()[0] for line in ax.lines) for ax in axes] == [[-0.3, 0, 0.3]] * 3


def test_bad_input():
    adata = results()
    with pytest.raises(ValueError, match="across groups has no cells of its own"):
        fsc.pl.ma(adata, key="across")
    with pytest.raises(ValueError, match="F tests, which have no effects"):
        fsc.pl.ma(adata, key="anova", group="1")
    fsc.tl.lmm_de(adata, "~ 0 + libsize", "sam", transform="log1p", key_added="slope")
    with pytest.raises(ValueError, match=r"'~ 0 \+ libsize' has no intercept"):
        fsc.pl.ma(adata, key="slope")
    del adata.uns["lmm_de"]
    with pytest.raises(ValueError, match="'two' was made from is gone or replaced"):
        fsc.pl.ma(adata, key="two", coef="up", group="1")
    assert not plt.get_fignums()
