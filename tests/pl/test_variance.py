"""Violins hold the shares of `get.variance_explained_df`."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scanpy as sc

import flashmm_sc as fsc


@pytest.fixture
def fitted(adata):
    adata.X = adata.X.toarray()
    adata.X[:, 4] = 0
    fsc.tl.lmm_de(adata, "~ trt + score", ["sam", "batch"], transform="log1p", groupby="cls")
    return adata


def terms(ax):
    return [text.get_text() for text in ax.get_xticklabels()]


def test_a_violin_a_term(fitted):
    ax = fsc.pl.variance(fitted, group="NK", show=False)
    table = fsc.get.variance_explained_df(fitted, groups="NK").pivot_table("share", "variable", "term")
    order = table.drop(columns="residual").median().sort_values(ascending=False).index
    np.testing.assert_allclose(table[terms(ax)[:-1]].median(), table[order].median())
    assert set(terms(ax)[:-1]) == {"trt", "score", "sam", "batch"}
    assert terms(ax)[-1] == "residual"
    *bodies, quartiles, medians = ax.collections
    for i, (body, name) in enumerate(zip(bodies, terms(ax), strict=True)):
        x, y = body.get_paths()[0].vertices.T
        np.testing.assert_allclose([y.min(), y.max()], np.sqrt([table[name].min(), table[name].max()]), atol=1e-9)
        assert abs(x - i).max() < 0.5
    shares = np.sqrt(table[terms(ax)])
    np.testing.assert_allclose(medians.get_offsets()[:, 1], np.sqrt(table[terms(ax)]).median(), atol=1e-9)
    ends = np.array([segment[:, 1] for segment in quartiles.get_segments()])
    np.testing.assert_allclose(ends, shares.quantile([0.25, 0.75]).T, atol=1e-9)
    assert ax.get_title() == "NK: 11 genes"


def test_the_scale_says_what_a_height_is(fitted):
    ax = fsc.pl.variance(fitted, group="NK", show=False)
    ticks = {float(text.get_text()): at for at, text in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True)}
    np.testing.assert_allclose(list(ticks.values()), np.sqrt(list(ticks)))
    assert {0.0, 0.1, 1.0} <= set(ticks)


def test_a_component_at_zero_in_all_genes_is_drawn(fitted):
    theta = fitted.varm["lmm_de_theta"]
    theta[:, 0] = 0
    ax = fsc.pl.variance(fitted, group="B", show=False)
    y = ax.collections[terms(ax).index("sam")].get_paths()[0].vertices[:, 1]
    assert y.max() < 0.01


def test_title_ax_show_and_save(fitted, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(True))
    sc.settings.autoshow = True
    ax = plt.figure().subplots()
    assert fsc.pl.variance(fitted, group="B", ax=ax, title="mine", save=tmp_path / "a.svg") is ax
    assert ax.get_title() == "mine"
    assert (tmp_path / "a.svg").stat().st_size > 1000
    assert not shown
    assert fsc.pl.variance(fitted, group="B") is None
    assert shown


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"group": None}, ValueError, "more than one group; choose group= among 'B', 'NK'"),
        ({"group": "n"}, KeyError, "group: the result 'lmm_de' has no 'n'"),
        ({"key": "other"}, KeyError, "holds no result"),
        ({"save": 3}, TypeError, "path of a file"),
    ],
)
def test_what_can_not_be_drawn(fitted, options, error, words):
    with pytest.raises(error, match=words):
        fsc.pl.variance(fitted, **({"group": "B", "show": False} | options))
    assert not plt.get_fignums()


def test_no_gene(fitted):
    fitted.varm["lmm_de_coef"][:] = np.nan
    with pytest.raises(ValueError, match=r"No gene was fitted in 'B'; see the column 'status'"):
        fsc.pl.variance(fitted, group="B", show=False)
    assert not plt.get_fignums()
