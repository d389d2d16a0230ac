from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from plot_examples import COEF, results

import flashmm_sc as fsc


def bars(ax, container):
    return {round(bar.get_y() + bar.get_height() / 2): bar.get_width() for bar in ax.containers[container]}


@pytest.mark.parametrize("key", ["lmm_de", "moderated", "counts", "whole"])
def test_bars_are_those_of_the_summary(key):
    adata = results()
    ax = fsc.pl.hits(adata, key=key, show=False)
    table = fsc.get.summary(adata, key=key)
    np.testing.assert_array_equal(list(bars(ax, 0).values()), -table["down"])
    np.testing.assert_array_equal(list(bars(ax, 1).values()), table["up"])
    assert sorted(text.get_text() for text in ax.texts) == sorted(map(str, [*table["down"], *table["up"]]))
    assert [label.get_text() for label in ax.get_yticklabels()] == list(
        table["contrast" if key == "whole" else "group"]
    )


def test_f_tests_have_one_direction():
    adata = results()
    ax = fsc.pl.hits(adata, key="anova", alpha=0.2, show=False)
    assert list(bars(ax, 0).values()) == list(fsc.get.summary(adata, key="anova", alpha=0.2)["found"])
    assert len(ax.containers) == 1
    with pytest.raises(ValueError, match=r"F tests, which have no effects; leave min_effect=0\.5 out"):
        fsc.pl.hits(adata, key="anova", min_effect=0.5)


def test_min_effect_and_blocks():
    adata = results()
    ax = fsc.pl.hits(adata, key="two", groups=["1", "3"], min_effect=0.5, show=False)
    table = fsc.get.lmm_de_df(adata, key="two")
    large = table[(table["adj_p_value"] < 0.05) & (table["log_fc"] >= 0.5)].groupby(["contrast", "group"]).size()
    assert bars(ax, 1) == {
        y: large.get(row, 0)
        for y, row in {1: ("up", "1"), 2: ("up", "3"), 4: ("twice", "1"), 5: ("twice", "3")}.items()
    }
    assert "≥ 0.5" in ax.get_xlabel()


def test_groups_without_result():
    adata = results()
    adata.varm["lmm_de_pval_adj"][:, 3] = np.nan
    ax = fsc.pl.hits(adata, key="lmm_de", show=False)
    assert [text.get_position()[1] for text in ax.texts if text.get_text() == " not fitted"] == [1]
    assert set(bars(ax, 0)) == {0, 2}
    adata.varm["lmm_de_pval_adj"][:] = np.nan
    plt.close("all")
    with pytest.raises(ValueError, match=r"No gene has a result for 'trt\[T\.B\]'"):
        fsc.pl.hits(adata, key="lmm_de")
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"key": "nothing"}, "holds no result"),
        ({"key": "across", "groups": "1"}, "no '1'"),
        ({"key": "lmm_de", "coefs": ["trt"]}, r"no 'trt'; key='anova' has it"),
        ({"key": "lmm_de", "alpha": 0}, "alpha=0 must be"),
        ({"key": "lmm_de", "coefs": COEF, "groups": []}, "asks for no group"),
        ({"key": "means"}, "only intercepts and means of levels, which coefs= can name"),
    ],
)
def test_bad_input(options, words):
    adata = results()
    if options["key"] == "means":
        fsc.tl.lmm_de(adata, "~ 0 + trt", "sam", transform="log1p", key_added="means")
    with pytest.raises((KeyError, ValueError), match=words):
        fsc.pl.hits(adata, **options)
    assert not plt.get_fignums()


def test_no_number_stands_twice_on_the_axis_where_nothing_is_found():
    adata = results()
    adata.varm["lmm_de_pval_adj"][:] = 1.0
    ax = fsc.pl.hits(adata, COEF, key="lmm_de", groups=["1"], show=False)
    ax.figure.canvas.draw()
    ticks = [tick for tick in ax.get_xticks() if ax.get_xlim()[0] <= tick <= ax.get_xlim()[1]]
    assert ticks == [-1, 0, 1]
