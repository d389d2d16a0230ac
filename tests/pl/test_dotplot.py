from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from plot_examples import COEF, NOT_IN_3, NOWHERE, results

import flashmm_sc as fsc


def dots(ax):
    """Colour value, area and edge of each dot, by gene and row; crosses by gene and row."""
    points, crosses = ax.collections[:2]
    genes = dict(zip(ax.get_xticks(), (label.get_text() for label in ax.get_xticklabels()), strict=True))
    rows = dict(zip(ax.get_yticks(), (label.get_text() for label in ax.get_yticklabels()), strict=True))
    at = lambda those: [(genes[x], rows[y]) for x, y in np.asarray(those.get_offsets())]
    edges = [to_hex(color) == "#000000" for color in points.get_edgecolors()]
    found = {"value": points.get_array(), "area": points.get_sizes(), "edge": edges}
    return pd.DataFrame(found, index=pd.MultiIndex.from_tuples(at(points))), at(crosses)


def test_dots_are_effects_and_evidence():
    adata = results()
    ax = fsc.pl.dotplot(adata, ["Gene1", "Gene9", NOT_IN_3], key="lmm_de", show=False)
    found, crosses = dots(ax)
    table = fsc.get.lmm_de_df(adata, COEF, key="lmm_de").set_index(["variable", "group"]).loc[found.index]
    np.testing.assert_allclose(found["value"], table["log_fc"])
    np.testing.assert_array_equal(found["edge"], table["adj_p_value"] < 0.05)
    order = table["adj_p_value"].argsort()
    assert (np.diff(found["area"].iloc[order]) <= 0).all()
    assert crosses == [(NOT_IN_3, "3")]
    low, high = ax.collections[0].get_clim()
    assert low == -high
    assert ax.get_title() == COEF


def test_legends():
    adata = results()
    ax = fsc.pl.dotplot(adata, key="moderated", show=False)
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert (texts[0], texts[-1]) == ("0", "p < 0.05")
    assert texts[-2] == "≥ 10"
    assert "fold change" in ax.figure.axes[1].get_ylabel()
    adata.varm["moderated_pval_adj"][8] = 1e-4
    again = fsc.pl.dotplot(adata, "Gene9", key="moderated", show=False)
    assert [text.get_text() for text in again.get_legend().get_texts()][-2] == "4"


@pytest.mark.parametrize("key", ["lmm_de", "counts", "anova"])
def test_best_genes_of_each_row(key):
    adata = results()
    ax = fsc.pl.dotplot(adata, 2, key=key, show=False)
    table = fsc.get.lmm_de_df(adata, "trt" if key == "anova" else COEF, key=key)
    best = [name for _, rows in table.groupby("group") for name in rows.nsmallest(2, "p_value")["variable"]]
    assert [label.get_text() for label in ax.get_xticklabels()] == list(dict.fromkeys(best))


def test_f_tests_are_coloured_by_f():
    adata = results()
    ax = fsc.pl.dotplot(adata, ["Gene9", "Gene1"], key="anova", groups="1", show=False)
    found, _ = dots(ax)
    table = fsc.get.lmm_de_df(adata, key="anova", groups="1").set_index(["variable", "contrast"])
    expected = table["f_value"].loc[["Gene9", "Gene1"]].to_list()
    np.testing.assert_allclose(found["value"], expected)
    assert ax.collections[0].get_clim()[0] == 0
    assert ax.figure.axes[1].get_ylabel() == "F"


def test_figures_grow_with_genes_and_rows():
    adata = results()
    one = fsc.pl.dotplot(adata, "Gene9", key="lmm_de", show=False).figure.get_size_inches()
    wide = fsc.pl.dotplot(adata, adata.var_names[10:60], key="two", show=False).figure.get_size_inches()
    assert wide[0] > one[0] + 10
    assert wide[1] > one[1]


def test_gene_symbols_and_own_axes(tmp_path):
    adata = results()
    ax = plt.figure().subplots()
    assert (
        fsc.pl.dotplot(adata, ["Gene1", "S9"], key="whole", gene_symbols="symbol", ax=ax, save=tmp_path / "a.pdf") is ax
    )
    assert [label.get_text() for label in ax.get_xticklabels()] == ["Gene1", "S9"]
    assert (tmp_path / "a.pdf").exists()


@pytest.mark.parametrize(
    ("genes", "options", "words"),
    [
        (["Gene9", "gene1"], {}, "no gene 'gene1'. Did you mean 'Gene1'"),
        ([], {}, "No gene was asked for"),
        (0, {}, "genes=0 is too small"),
        (2.5, {}, "genes=2.5 must be a whole number"),
        (NOWHERE, {}, "genes 'Gene5' have no result in 'lmm_de'"),
        (5, {"coefs": "trt"}, r"no 'trt'; key='anova' has it"),
        (5, {"groups": ["1", "4"]}, "no '4'"),
        (5, {"save": "a.xyz"}, "must end in"),
    ],
)
def test_bad_input(genes, options, words):
    with pytest.raises((KeyError, TypeError, ValueError), match=words):
        fsc.pl.dotplot(results(), genes, key="lmm_de", **options)
    assert not plt.get_fignums()


def test_nothing_was_fitted():
    adata = results()
    for name in ("pval", "pval_adj"):
        adata.varm[f"lmm_de_{name}"][:] = np.nan
    with pytest.raises(ValueError, match="they all have no result in 'lmm_de'"):
        fsc.pl.dotplot(adata, key="lmm_de")
    assert not plt.get_fignums()
