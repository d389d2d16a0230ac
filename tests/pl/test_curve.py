"""Curves and bands are `get.fitted` over the range of the cells, points are means computed here anew."""

from __future__ import annotations

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scanpy as sc
from matplotlib.collections import PathCollection

import flashmm_sc as fsc

GENE = "gene3"


@pytest.fixture
def aged(adata):
    """Each sample has an age; cells also have a time of their own."""
    rng = np.random.default_rng(3)
    adata.obs["age"] = adata.obs["sam"].map(
        dict(zip(sorted(set(adata.obs["sam"])), rng.uniform(20, 80, 8), strict=True))
    )
    adata.obs["time"] = rng.uniform(0, 10, adata.n_obs)
    adata.obs["day"] = rng.choice([0, 1, 5], adata.n_obs)
    return adata


def fit(adata, fixed, random="sam", **options):
    fsc.tl.lmm_de(adata, fixed, random, transform="log1p", **options)
    return adata


def points(ax, i=0):
    """Offsets of the points of the curve at a position, in order."""
    drawn = [c for c in ax.collections if isinstance(c, PathCollection)][i]
    return np.array(sorted(map(tuple, np.asarray(drawn.get_offsets()))))


def band(ax, i=0):
    """Lower and upper ends of a band."""
    (path,) = [c for c in ax.collections if not isinstance(c, PathCollection)][i].get_paths()
    x, y = path.vertices[:-1].T
    return [(y[x == at].min(), y[x == at].max()) for at in np.unique(x)]


@pytest.mark.parametrize("fixed", ["~ trt + age", "~ trt + poly(age, 2)", "~ trt * bs(age, df=3)"])
def test_a_curve_and_its_band(aged, fixed):
    fit(aged, fixed.replace("age", "time"))
    ax = fsc.pl.curve(aged, GENE, "time", conf_level=0.9, show=False)
    x = np.linspace(aged.obs["time"].min(), aged.obs["time"].max(), 100)
    model = fsc.get.fitted(aged, GENE, {"time": x}, conf_level=0.9)
    (line,) = ax.lines
    np.testing.assert_allclose(line.get_xydata(), np.column_stack([x, model["fit"]]))
    np.testing.assert_allclose(band(ax), model[["ci_low", "ci_high"]])
    assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == (GENE, "time", "mean log(1 + count)")
    assert ax.get_legend() is None


def test_a_curve_of_each_level(aged):
    fit(aged, "~ trt * time", groupby="cls")
    ax = fsc.pl.curve(aged, GENE, "time", hue="trt", group="NK", show=False)
    x = ax.lines[0].get_xdata()
    for line, level in zip(ax.lines, ["A", "B"], strict=True):
        model = fsc.get.fitted(aged, GENE, {"time": x, "trt": level}, groups="NK")
        np.testing.assert_allclose(line.get_ydata(), model["fit"])
    assert len({line.get_color() for line in ax.lines}) == len({line.get_linestyle() for line in ax.lines}) == 2
    assert ax.get_title() == "NK: gene3"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["A", "B"]
    assert ax.get_legend().get_title().get_text() == "trt"


def test_points_of_samples(aged):
    fit(aged, "~ trt + age", groupby="cls")
    ax = fsc.pl.curve(aged, GENE, "age", hue="trt", group="B", show=False)
    cells = aged.obs.assign(y=np.log1p(aged.X.toarray()[:, 3].astype(float)))
    means = cells[cells["cls"] == "B"].groupby(["trt", "sam"])[["age", "y"]].mean()
    for i, level in enumerate("AB"):
        np.testing.assert_allclose(points(ax, i), means.loc[level].sort_values("age").to_numpy(), rtol=1e-6)


def test_a_sample_has_a_point_for_each_of_few_values(aged):
    ax = fsc.pl.curve(fit(aged, "~ day"), GENE, "day", show=False)
    cells = aged.obs.assign(y=np.log1p(aged.X.toarray()[:, 3].astype(float)))
    means = cells.groupby(["sam", "day"])["y"].mean().reset_index()[["day", "y"]]
    np.testing.assert_allclose(points(ax), sorted(map(tuple, means.to_numpy())), rtol=1e-6)


def test_a_sample_has_a_point_for_each_tenth_of_the_range(aged):
    ax = fsc.pl.curve(fit(aged, "~ time"), GENE, "time", show=False)
    time = aged.obs["time"]
    cells = aged.obs.assign(y=np.log1p(aged.X.toarray()[:, 3].astype(float)))
    part = np.minimum((time - time.min()) // ((time.max() - time.min()) / 10), 9).rename("part")
    means = cells.groupby(["sam", part])[["time", "y"]].mean()
    np.testing.assert_allclose(points(ax), sorted(map(tuple, means.to_numpy())), rtol=1e-6)


def test_several_genes_get_a_panel_each(aged, tmp_path):
    fit(aged, "~ trt * time")
    genes = ["gene9", "gene1", "gene5"]
    axes = fsc.pl.curve(aged, genes, "time", hue="trt", title="all", show=False, save=tmp_path / "a.png")
    assert [ax.get_title() for ax in axes] == genes
    for ax, gene in zip(axes, genes, strict=True):
        alone = fsc.pl.curve(aged, gene, "time", hue="trt", show=False)
        for i in (0, 1):
            np.testing.assert_allclose(ax.lines[i].get_ydata(), alone.lines[i].get_ydata())
            np.testing.assert_allclose(points(ax, i), points(alone, i))
    assert axes[0].figure.get_suptitle() == "all"
    assert [text.get_text() for text in axes[0].figure.legends[0].get_texts()] == ["A", "B"]
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_without_cells_there_are_no_points(aged):
    fit(aged, "~ trt + time")
    expected = fsc.pl.curve(aged, GENE, "time", show=False)
    results = ad.AnnData(obs=aged.obs, var=aged.var, varm=dict(aged.varm), uns=aged.uns)
    ax = fsc.pl.curve(results, GENE, "time", show=False)
    assert not [c for c in ax.collections if isinstance(c, PathCollection)]
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), expected.lines[0].get_ydata())


def test_counts():
    adata = fsc.datasets.simu_rnaseq(n_genes=200, n_cells=800, n_samples=10, n_clusters=1, seed=1)
    ages = dict(zip(adata.obs["sam"].unique(), np.linspace(20, 70, 10), strict=True))
    adata.obs["age"] = adata.obs["sam"].map(ages).astype(float)
    fsc.tl.nbmm_de(adata, "~ age", "sam")
    ax = fsc.pl.curve(adata, "Gene7", "age", show=False)
    np.testing.assert_allclose(points(ax)[:, 0], sorted(ages.values()))
    expected = fsc.get.fitted(adata, "Gene7", {"age": ax.lines[0].get_xdata()})
    np.testing.assert_allclose(ax.lines[0].get_ydata(), expected["fit"])
    assert np.corrcoef(points(ax)[:, 1], np.interp(points(ax)[:, 0], *ax.lines[0].get_xydata().T))[0, 1] > 0


def test_show_and_ax(aged, monkeypatch):
    fit(aged, "~ time")
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(True))
    sc.settings.autoshow = True
    ax = plt.figure().subplots()
    assert fsc.pl.curve(aged, GENE, "time", ax=ax, title="mine") is ax
    assert ax.get_title() == "mine"
    assert not shown
    assert fsc.pl.curve(aged, [GENE], "time") is None
    assert shown


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"genes": ["gene1", "gen3"]}, KeyError, "There is no gene 'gen3'. Did you mean 'gene3'"),
        ({"genes": []}, ValueError, "asks for no gene"),
        (
            {"genes": ["gene1", "gene4"]},
            ValueError,
            "The gene 'gene4' was not fitted in 'NK': its status is 'constant'",
        ),
        ({"x": "tim"}, ValueError, "x='tim' is not in the model .* Did you mean 'time'"),
        ({"x": "trt"}, ValueError, "x='trt' has levels, 'A', 'B', and is no column of numbers; use fsc.pl.samples"),
        ({"hue": "cls"}, ValueError, "hue='cls' is not in the model"),
        ({"hue": "time"}, ValueError, "hue='time' is a column of numbers"),
        ({"group": None}, ValueError, "more than one group"),
        ({"group": "N"}, KeyError, "group: the result 'lmm_de' has no 'N'"),
        ({"sample": "sm"}, KeyError, "Did you mean 'sam'"),
        ({"key": "other"}, KeyError, "holds no result"),
        ({"save": "nowhere/a.png"}, ValueError, "no such folder"),
    ],
)
def test_what_can_not_be_drawn(aged, options, error, words):
    aged.X = aged.X.toarray()
    aged.X[:, 4] = 0
    fit(aged, "~ trt + time", groupby="cls")
    with pytest.raises(error, match=words):
        fsc.pl.curve(aged, **({"genes": GENE, "x": "time", "group": "NK", "show": False} | options))
    assert not plt.get_fignums()


def test_several_genes_take_no_axes(aged):
    fit(aged, "~ time")
    with pytest.raises(ValueError, match="ax= takes one gene"):
        fsc.pl.curve(aged, [GENE, "gene1"], "time", ax=plt.figure().subplots())
