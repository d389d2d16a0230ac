from __future__ import annotations

import warnings

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from plot_examples import COEF, NOT_IN_3, NOWHERE, results

import flashmm_sc as fsc

LOG2 = np.log(2)


def points(ax):
    """x, y and whether they are filled, of points with data."""
    (those,) = (c for c in ax.collections if isinstance(c, PathCollection) and len(c.get_offsets()))
    filled = [to_hex(color) != "#ffffff" for color in those.get_facecolors()]
    return np.asarray(those.get_offsets()), np.array(filled)


def intervals(ax):
    (lines,) = (c for c in ax.collections if isinstance(c, LineCollection))
    return np.array([segment[:, 0] for segment in lines.get_segments()])


def labels(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


@pytest.mark.parametrize("key", ["lmm_de", "moderated", "counts"])
def test_intervals_are_those_of_tests(key):
    adata = results()
    ax = fsc.pl.effects(adata, "Gene9", key=key, conf_level=0.9, show=False)
    fsc.tl.lmm_test(adata, COEF, key=key, conf_level=0.9)
    table = fsc.get.lmm_de_df(adata, key="lmm_test").query("variable == 'Gene9'")
    found, filled = points(ax)
    np.testing.assert_allclose(found[:, 0], table["log_fc"])
    np.testing.assert_allclose(intervals(ax), table[["ci_low", "ci_high"]] / LOG2, rtol=1e-6)
    np.testing.assert_array_equal(filled, table["adj_p_value"] < 0.05)
    assert labels(ax) == ["1", "2", "3"]
    assert ax.get_title() == f"Gene9: {COEF}"
    assert "90 % interval" in ax.get_xlabel()
    again = fsc.pl.effects(adata, "Gene9", key="lmm_test", conf_level=0.9, show=False)
    np.testing.assert_allclose(intervals(again), intervals(ax), rtol=1e-6)


def test_tests_without_intervals():
    adata = results()
    ax = fsc.pl.effects(adata, "Gene9", "up", key="two", groups="2", show=False)
    fsc.tl.lmm_test(adata, COEF, key="lmm_de", conf_level=0.95)
    table = fsc.get.lmm_de_df(adata, key="lmm_test", groups="2").query("variable == 'Gene9'")
    np.testing.assert_allclose(intervals(ax), table[["ci_low", "ci_high"]] / LOG2)
    for key in ("moderated", "counts"):
        fsc.tl.lmm_test(adata, COEF, key=key, conf_level=0.95)
        with pytest.raises(ValueError, match=r"no intervals of level 0\.9, .* with conf_level=0\.9"):
            fsc.pl.effects(adata, "Gene9", key="lmm_test", conf_level=0.9)


def test_blocks_of_contrasts_and_rows_without_result(tmp_path):
    adata = results()
    ax = fsc.pl.effects(adata, NOT_IN_3, ["Intercept", COEF], key="lmm_de", groups=["2", "3"], show=False)
    assert labels(ax) == ["2", "3", "2", "3", "Intercept", COEF]
    assert [y.get_fontweight() for y in ax.get_yticklabels()] == ["normal"] * 4 + ["bold"] * 2
    np.testing.assert_array_equal(ax.get_yticks(), [1, 2, 4, 5, 0, 3])
    assert [(text.get_text(), text.get_position()[1]) for text in ax.texts] == [(" no result", 2), (" no result", 5)]
    adata.write_h5ad(tmp_path / "a.h5ad")
    again = fsc.pl.effects(ad.read_h5ad(tmp_path / "a.h5ad"), NOT_IN_3, key="lmm_de", show=False)
    assert len(points(again)[0]) == 3


def test_one_model_has_a_row_a_contrast():
    adata = results()
    ax = fsc.pl.effects(adata, "S9", key="whole", gene_symbols="symbol", show=False)
    assert labels(ax) == ["cls[1]:trt[T.B]", "cls[2]:trt[T.B]", "cls[3]:trt[T.B]"]
    assert ax.get_title() == "S9"
    adata.uns["whole"]["params"]["log_base"] = np.nan
    plain = fsc.pl.effects(adata, "Gene9", key="whole", show=False)
    np.testing.assert_allclose(points(plain)[0][:, 0] / LOG2, points(ax)[0][:, 0])
    assert plain.get_xlabel().startswith("coefficient")


@pytest.mark.parametrize(
    ("gene", "options", "words"),
    [
        ("gene9", {}, "no gene 'gene9'. Did you mean 'Gene9'"),
        ("Gene9", {"gene_symbols": "symbols"}, "Did you mean 'symbol'"),
        ("Gene9", {"groups": "4"}, "no '4'"),
        ("Gene9", {"groups": []}, "asks for no group"),
        ("Gene9", {"coefs": "trt"}, r"no 'trt'; key='anova' has it"),
        ("Gene9", {"key": "anova"}, "F tests, which have no effects"),
        ("Gene9", {"conf_level": 1}, "conf_level=1 must be"),
        (NOWHERE, {}, "'Gene5' has no result in 'lmm_de': 'constant'"),
    ],
)
def test_bad_input(gene, options, words):
    with pytest.raises((KeyError, ValueError), match=words):
        fsc.pl.effects(results(), gene, **{"key": "lmm_de"} | options)
    assert not plt.get_fignums()


def test_intervals_are_of_the_fit_that_was_tested(adata):
    """Whatever lies under its key now: tests of a moderated fit have no intervals but those they were asked for."""
    how = {"transform": "log1p", "size_factors": "total"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fsc.FlashmmWarning)
        fsc.tl.lmm_de(adata, "~ trt", "sam", moderate=True, **how)
        fsc.tl.lmm_test(adata, "trt[T.B]")
        fsc.tl.lmm_de(adata, "~ trt", "sam", **how)
    with pytest.raises(ValueError, match=r"run fsc\.tl\.lmm_test again with conf_level=0\.95"):
        fsc.pl.effects(adata, "gene3", key="lmm_test", show=False)
    fsc.tl.lmm_test(adata, "trt[T.B]")
    assert fsc.pl.effects(adata, "gene3", key="lmm_test", show=False) is not None


def test_status_of_the_group_that_was_asked_for(adata):
    adata.X = adata.X.toarray()
    adata.X[(adata.obs["cls"] == "NK").to_numpy(), 4] = 0
    fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", size_factors="total")
    with pytest.raises(ValueError, match="The gene 'gene4' has no result in 'lmm_de': 'constant'"):
        fsc.pl.effects(adata, "gene4", groups=["NK"], show=False)
