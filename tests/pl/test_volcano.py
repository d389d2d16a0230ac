from __future__ import annotations

from itertools import combinations
from pathlib import Path

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scanpy as sc
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection

import flashmm_sc as fsc
from flashmm_sc.pl import volcano

COEF = "cls[2]:trt[T.B]"


@pytest.fixture(scope="module")
def fitted() -> ad.AnnData:
    adata = fsc.datasets.simu_rnaseq(
        n_genes=80, n_cells=1500, n_samples=12, n_clusters=2, n_de_genes=30, var_random_effects=0.02, seed=1
    )
    fsc.tl.lmm_de(adata, "~ 0 + cls + cls:trt", "sam", transform="log1p")
    fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", key_added="by_cls")
    fsc.tl.lmm_test(adata, {"both": "cls[1]:trt[T.B] + cls[2]:trt[T.B]"})
    return adata


@pytest.fixture
def adata(fitted: ad.AnnData) -> ad.AnnData:
    return fitted.copy()


def column(adata: ad.AnnData, suffix: str, coef: str = COEF) -> np.ndarray:
    """A view, to write to, of what is stored for a coefficient."""
    return adata.varm[f"lmm_de_{suffix}"][:, list(adata.uns["lmm_de"]["coef_names"]).index(coef)]


def axes(adata: ad.AnnData, coef: str | None = COEF, **options: object) -> Axes:
    ax = volcano(adata, coef, show=False, **options)
    assert ax is not None
    return ax


def counts(ax: Axes) -> dict[str, int]:
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    return {text.split()[1]: int(text.split()[0].replace(",", "")) for text in texts}


def points(ax: Axes) -> np.ndarray:
    """Of genes, without the rings around labelled ones."""
    filled = [c for c in ax.collections if isinstance(c, PathCollection) and len(c.get_facecolor())]
    return np.concatenate([np.asarray(c.get_offsets()) for c in filled])


def rings(ax: Axes) -> np.ndarray:
    return np.concatenate([np.asarray(c.get_offsets()) for c in ax.collections if not len(c.get_facecolor())])


def labels(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def horizontal(ax: Axes) -> list[float]:
    ends = [np.asarray(line.get_ydata()) for line in ax.lines]
    return [float(y[0]) for y in ends if y[0] == y[1]]


# ---- what is drawn -------------------------------------------------------------------------------------------------


def test_every_gene_is_a_point(adata: ad.AnnData) -> None:
    table = fsc.get.lmm_de_df(adata, COEF)
    ax = axes(adata)
    expected = np.column_stack([table["log_fc"], -np.log10(table["p_value"])])
    assert sorted(map(tuple, points(ax))) == sorted(map(tuple, expected))
    significant = table["adj_p_value"] < 0.05
    up, down = (significant & (table["log_fc"] > 0)).sum(), (significant & (table["log_fc"] < 0)).sum()
    assert counts(ax) == {"up": up, "down": down, "other": len(table) - up - down}
    assert min(up, down) > 0
    assert ax.get_title() == COEF
    assert "fold change" in ax.get_xlabel()


def test_unknown_logarithm(adata: ad.AnnData) -> None:
    adata.uns["lmm_de"]["params"]["log_base"] = np.nan
    ax = axes(adata)
    assert ax.get_xlabel() == "coefficient"
    np.testing.assert_array_equal(np.sort(points(ax)[:, 0]), np.sort(column(adata, "coef")))


@pytest.mark.parametrize("corr_method", ["benjamini-hochberg", "bonferroni"])
def test_line_parts_significant_from_other(adata: ad.AnnData, corr_method: str) -> None:
    fsc.tl.lmm_test(adata, COEF, corr_method=corr_method)
    table = fsc.get.lmm_de_df(adata, key="lmm_test")
    (y,) = horizontal(axes(adata, key="lmm_test"))
    np.testing.assert_array_equal(-np.log10(table["p_value"]) > y, table["adj_p_value"] < 0.05)
    if corr_method == "bonferroni":
        assert 10**-y == pytest.approx(0.05 / len(table))


def test_no_line_where_nothing_crosses(adata: ad.AnnData) -> None:
    column(adata, "pval_adj")[:] = 1.0
    assert horizontal(axes(adata)) == []
    column(adata, "pval_adj")[:] = 0.0
    assert horizontal(axes(adata)) == []


def test_p_values_that_are_no_numbers_have_their_height(adata: ad.AnnData) -> None:
    """By hand: log10 of 2 Φ(-50), from the expansion of the far tail."""
    for suffix, values in {"t": 50.0, "df": 1e12, "pval": 0.0, "pval_adj": 0.0}.items():
        column(adata, suffix)[:3] = values
    drawn = points(axes(adata))
    assert len(drawn) == adata.n_vars
    expected = (50**2 / 2 + np.log(50 * np.sqrt(np.pi / 2)) + 1 / 50**2) / np.log(10)
    np.testing.assert_allclose(np.sort(drawn[:, 1])[-3:], expected, rtol=1e-6)


def test_heights_start_at_zero(adata: ad.AnnData) -> None:
    assert axes(adata).get_ylim()[0] == 0


def test_the_best_of_genes_whose_p_values_underflow_has_the_farthest_deviate(adata: ad.AnnData) -> None:
    """With few degrees of freedom a larger t says less."""
    for suffix, values in {"t": [100, 800], "df": [1e6, 200], "pval": [0, 0], "pval_adj": [0, 0]}.items():
        column(adata, suffix)[:2] = values
    assert labels(axes(adata, labels=1)) == ["Gene1"]


def test_genes_without_result_are_left_out(adata: ad.AnnData) -> None:
    for suffix in ("coef", "pval", "pval_adj"):
        column(adata, suffix)[:5] = np.nan
    ax = axes(adata)
    assert sum(counts(ax).values()) == len(points(ax)) == adata.n_vars - 5
    with pytest.warns(fsc.FlashmmWarning, match="'Gene1' can't be drawn"):
        assert labels(axes(adata, labels=["Gene1", "Gene9"])) == ["Gene9"]
    column(adata, "pval")[:] = np.nan
    with pytest.raises(ValueError, match="No gene has a result"):
        axes(adata)


def test_min_effect(adata: ad.AnnData) -> None:
    table = fsc.get.lmm_de_df(adata, COEF)
    ax = axes(adata, min_effect=0.5)
    large = (table["adj_p_value"] < 0.05) & (table["log_fc"].abs() >= 0.5)
    assert counts(ax)["up"] + counts(ax)["down"] == large.sum()
    assert len(ax.lines) == 3


def test_many_genes() -> None:
    many = fsc.datasets.simu_rnaseq(n_genes=2500, n_cells=300, n_samples=6, n_clusters=1, n_de_genes=500, seed=1)
    fsc.tl.lmm_de(many, "~ trt", "sam", transform="log1p")
    ax = axes(many, "Intercept", labels=20)
    assert all(c.get_rasterized() for c in ax.collections if len(c.get_offsets()) > 20)
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == 20
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))


# ---- labels --------------------------------------------------------------------------------------------------------


def test_labels(adata: ad.AnnData) -> None:
    best = fsc.get.lmm_de_df(adata, COEF).sort_values("p_value")
    n_significant = (best["adj_p_value"] < 0.05).sum()
    ax = axes(adata, labels=4)
    assert labels(ax) == best["variable"].head(4).to_list()
    np.testing.assert_allclose(rings(ax), np.column_stack([best["log_fc"], -np.log10(best["p_value"])])[:4])
    assert len(labels(axes(adata, labels=80))) == n_significant < 80
    assert labels(axes(adata, labels=0)) == []
    assert labels(axes(adata, labels="Gene1")) == ["Gene1"]
    with pytest.raises(KeyError, match=r"no gene 'gene1'\. Did you mean 'Gene1'"):
        axes(adata, labels=["Gene2", "gene1"])


def test_gene_symbols(adata: ad.AnnData) -> None:
    adata.var["symbol"] = [None, *(f"S{i}" for i in range(1, adata.n_vars))]
    assert labels(axes(adata, labels=["Gene1", "S2"], gene_symbols="symbol")) == ["Gene1", "S2"]
    with pytest.raises(KeyError, match=r"gene_symbols='symbols' .* Did you mean 'symbol'"):
        axes(adata, gene_symbols="symbols")


# ---- which result --------------------------------------------------------------------------------------------------


def test_only_contrast_needs_no_name(adata: ad.AnnData) -> None:
    assert axes(adata, None, key="lmm_test").get_title() == "both"


def test_coef_is_needed_among_several(adata: ad.AnnData) -> None:
    with pytest.raises(ValueError, match=r"choose coef= among 'cls\[1\]', 'cls\[2\]', "):
        axes(adata, None)
    with pytest.raises(KeyError, match="Did you mean"):
        axes(adata, "cls[2]:trt[B]")


def test_groups(adata: ad.AnnData) -> None:
    with pytest.raises(ValueError, match=r"choose group= among '1', '2'.*groups='all'"):
        axes(adata, "trt[T.B]", key="by_cls")
    ax = axes(adata, "trt[T.B]", key="by_cls", group="2")
    assert ax.get_title() == axes(adata, "2|trt[T.B]", key="by_cls").get_title() == "2: trt[T.B]"
    expected = fsc.get.lmm_de_df(adata, "trt[T.B]", key="by_cls", groups="2")["log_fc"]
    np.testing.assert_array_equal(np.sort(points(ax)[:, 0]), np.sort(expected))


def test_f_tests_have_no_volcano(adata: ad.AnnData) -> None:
    fsc.tl.lmm_test(adata, ["cls[1]:trt[T.B]", COEF], joint=True)
    with pytest.raises(ValueError, match=r"F tests, which have no effects; fsc\.pl\.dotplot"):
        axes(adata, None, key="lmm_test")


@pytest.mark.parametrize("options", [{"alpha": 0}, {"alpha": 5}, {"min_effect": -1}])
def test_bad_bounds(adata: ad.AnnData, options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=rf"{next(iter(options))}=.* must be (from 0 to 1, but not 0|0 or more)\."):
        axes(adata, **options)


def test_after_reading_back(adata: ad.AnnData, tmp_path: Path) -> None:
    adata.write_h5ad(tmp_path / "fitted.h5ad")
    ax = axes(ad.read_h5ad(tmp_path / "fitted.h5ad"))
    np.testing.assert_array_equal(points(ax), points(axes(adata)))


# ---- show and ax, as in scanpy -------------------------------------------------------------------------------------


def test_show(adata: ad.AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[bool] = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(True))
    sc.settings.autoshow = True
    ax = plt.figure().subplots()
    assert volcano(adata, COEF, ax=ax, title="mine") is ax
    assert ax.get_title() == "mine"
    assert shown == []
    assert volcano(adata, COEF) is None
    assert volcano(adata, COEF, ax=ax, show=True) is None
    assert len(shown) == 2
    sc.settings.autoshow = False
    assert isinstance(volcano(adata, COEF), Axes)
    assert len(shown) == 2


# ---- a grid of groups, and files -----------------------------------------------------------------------------------


def test_grid(adata: ad.AnnData, tmp_path: Path) -> None:
    grid = volcano(adata, "trt[T.B]", key="by_cls", groups="all", title="both", show=False, save=tmp_path / "a.png")
    assert [ax.get_title() for ax in grid] == ["1", "2"]
    assert all(ax.get_visible() for ax in grid)
    for ax, group in zip(grid, "12", strict=True):
        alone = axes(adata, "trt[T.B]", key="by_cls", group=group)
        np.testing.assert_array_equal(points(ax), points(alone))
        assert labels(ax) == labels(alone)
    assert grid[0].figure.get_suptitle() == "both"
    assert "fold change" in grid[0].figure.get_supxlabel()
    assert (tmp_path / "a.png").stat().st_size > 1000
    (one,) = volcano(adata, key="by_cls", groups="2", show=False)
    assert one.get_title() == "2"
    assert one.figure.get_suptitle() == "trt[T.B]"


def test_a_group_without_results_leaves_its_panel_empty(adata: ad.AnnData) -> None:
    adata.varm["by_cls_pval"][:, 1] = adata.varm["by_cls_coef"][:, 1] = np.nan
    grid = volcano(adata, "trt[T.B]", key="by_cls", groups="all", show=False)
    assert labels(grid[0]) == ["no gene has a result"]
    assert len(points(grid[1])) == adata.n_vars


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"group": "1", "groups": "all"}, "not both"),
        ({"groups": []}, "asks for no group"),
        ({"groups": ["1", "3"]}, "no '3'"),
        ({"group": "1", "save": "a.xyz"}, "must end in one of .*png"),
        ({"group": "1", "save": "nowhere/a.png"}, "no such folder"),
        ({"group": "1", "save": 3}, "path of a file"),
    ],
)
def test_bad_places(adata: ad.AnnData, options: dict[str, object], words: str) -> None:
    with pytest.raises((KeyError, TypeError, ValueError), match=words):
        volcano(adata, "trt[T.B]", key="by_cls", show=False, **options)
    assert not plt.get_fignums()


def test_a_grid_takes_no_axes(adata: ad.AnnData) -> None:
    with pytest.raises(ValueError, match="use group="):
        volcano(adata, "trt[T.B]", key="by_cls", groups="all", ax=plt.figure().subplots())


@pytest.mark.filterwarnings("ignore:The 'warn' method:DeprecationWarning")  # of adjustText
def test_in_a_part_of_a_figure(adata: ad.AnnData) -> None:
    left, _ = plt.figure(layout="constrained").subfigures(1, 2)
    ax = volcano(adata, COEF, ax=left.subplots(), show=False)
    assert labels(ax) == labels(axes(adata))
    assert ax.figure.canvas.figure.get_layout_engine() is not None
