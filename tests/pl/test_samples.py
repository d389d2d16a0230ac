"""Points are means over cells computed here anew, lines join those of one sample, diamonds are `get.fitted`."""

from __future__ import annotations

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scanpy as sc
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection

import flashmm_sc as fsc

GENE = "gene3"


def points(ax):
    """Offsets and areas of the samples' points, in order of their heights."""
    drawn = [c for c in ax.collections if isinstance(c, PathCollection) and len(c.get_offsets())]
    table = np.vstack([np.column_stack([c.get_offsets(), c.get_sizes()]) for c in drawn])
    return table[np.lexsort(table.T[[0, 1]])]


def lines(ax):
    """Heights of the ends of lines."""
    return sorted(tuple(line.get_ydata()) for line in ax.lines if line.get_linestyle() == "-" and len(line.get_ydata()))


def diamonds(ax):
    """Places and heights of the fitted means, with the ends of their intervals."""
    bars = [bar for bar in ax.containers if len(bar[0].get_xdata())]
    ends = [np.array([one[:, 1] for one in bar[2][0].get_segments()]) for bar in bars]
    return np.vstack([np.column_stack([bar[0].get_xydata(), end]) for bar, end in zip(bars, ends, strict=True)])


def logged(adata, gene=GENE, target=None):
    """log(1 + x target / total) of each cell."""
    X = adata.X.toarray().astype(float)
    total = X.sum(axis=1)
    return np.log1p(X[:, adata.var_names.get_loc(gene)] * (np.median(total) if target is None else target) / total)


def fit(adata, fixed="~ trt", random="sam", **options):
    options = {"transform": "log1p", "size_factors": "total"} | options
    fsc.tl.lmm_de(adata, fixed, random, **options)
    return adata


def drawn(adata, by="trt", **options):
    return fsc.pl.samples(adata, GENE, by, show=False, **options)


def test_means_over_the_cells_of_each_sample(adata):
    fit(adata, groupby="cls")
    ax = drawn(adata, group="NK")
    cells = adata.obs.assign(y=logged(adata, target=adata.uns["lmm_de"]["params"]["target_sum"]))
    table = (
        cells[cells["cls"] == "NK"].groupby(["sam", "trt"])["y"].agg(["mean", "size"]).reset_index().sort_values("mean")
    )
    found = points(ax)
    np.testing.assert_allclose(found[:, 1], table["mean"], rtol=1e-6)
    np.testing.assert_allclose(found[:, 2] / found[:, 2].max(), table["size"] / table["size"].max())
    np.testing.assert_array_equal(np.rint(found[:, 0]), (table["trt"] == "B").astype(int))
    assert lines(ax) == []
    assert ax.get_title() == "NK: gene3"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("trt", "mean log(1 + normalised count)")
    assert [text.get_text() for text in ax.get_xticklabels()] == ["A", "B"]
    sizes = [f"{table['size'].max()} cells", f"{table['size'].min()} cells"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [*sizes, "fitted, 95 %"]


def test_groups_that_are_numbers(adata):
    adata.obs["number"] = np.where(adata.obs["cls"] == "NK", 2.0, 1.0)
    found = drawn(fit(adata, groupby="number"), group="2")
    np.testing.assert_allclose(points(found), points(drawn(fit(adata, groupby="cls"), group="NK")))


def test_fitted_means_and_their_intervals(adata):
    fit(adata, "~ trt * cls")
    ax = drawn(adata, conf_level=0.8)
    model = fsc.get.fitted(adata, GENE, {"trt": ["A", "B"]}, conf_level=0.8)
    found = diamonds(ax)
    np.testing.assert_array_equal(np.rint(found[:, 0]), [0, 1])
    np.testing.assert_allclose(found[:, 1:], model[["fit", "ci_low", "ci_high"]])


def test_lines_join_the_arms_of_a_donor(adata):
    fit(adata, "~ cls", ["sam", "sam:cls"])
    ax = drawn(adata, "cls")
    pairs = adata.obs.assign(y=logged(adata)).pivot_table("y", "sam", "cls")[["B", "NK"]]
    np.testing.assert_allclose(lines(ax), sorted(map(tuple, pairs.to_numpy())), rtol=1e-6)
    found = points(ax)
    each = [np.sort(found[np.rint(found[:, 0]) == level, 0] - level) for level in (0, 1)]
    np.testing.assert_allclose(*each, err_msg="a donor stands at the same place in both arms")


@pytest.mark.parametrize("random", ["sam:cls", ["batch", "sam"], "(1 + score|sam)"])
def test_donors_are_found_in_any_random_terms(adata, random):
    fit(adata, "~ cls + score", random)
    assert len(lines(drawn(adata, "cls"))) == 8


def test_samples_of_choice(adata):
    adata.obs["sample"] = adata.obs["sam"].astype(str) + adata.obs["cls"]
    fit(adata, "~ cls", "sample")
    assert lines(drawn(adata, "cls")) == []
    assert len(lines(drawn(adata, "cls", sample="sam"))) == 8


def test_levels_of_hue_stand_apart(adata):
    fit(adata, "~ trt * cls")
    ax = drawn(adata, "trt", hue="cls")
    table = adata.obs.assign(y=logged(adata)).groupby(["sam", "trt", "cls"])["y"].mean()
    np.testing.assert_allclose(points(ax)[:, 1], np.sort(table), rtol=1e-6)
    model = fsc.get.fitted(adata, GENE, {"cls": ["B", "NK"], "trt": ["A", "B"]})
    np.testing.assert_allclose(diamonds(ax)[:, 1], model["fit"])
    for level, its in zip(["B", "NK"], [c for c in ax.collections if len(c.get_offsets()) == 8], strict=True):
        np.testing.assert_allclose(np.sort(its.get_offsets()[:, 1]), np.sort(table.xs(level, level="cls")), rtol=1e-6)
        assert (np.modf(its.get_offsets()[:, 0] + 0.5)[0] < 0.5).all() == (level == "B")
    colors = {tuple(c.get_facecolor()[0][:3]) for c in ax.collections if len(c.get_offsets()) == 8}
    assert len(colors) == 2


def test_strata_have_the_means_of_their_cells(adata):
    expected = points(drawn(fit(adata, groupby="cls"), group="B"))
    target = adata.uns["lmm_de"]["params"]["target_sum"]
    strata = fsc.pp.aggregate(adata, ["sam", "cls"], transform="log1p", size_factors="total", target_sum=target)
    fsc.tl.lmm_de(strata, "~ trt", "sam", groupby="cls")
    np.testing.assert_allclose(points(drawn(strata, group="B")), expected, rtol=1e-6)


@pytest.mark.parametrize("where", ["layer", "raw", "backed"])
def test_values_are_those_of_the_fit(adata, tmp_path, where):
    y, by = adata.X.toarray()[:, 3], adata.obs["sam"]
    options = {"transform": None, "size_factors": None, "log_base": 2}
    words = {"layer": "mean of layer 'counts'", "raw": "mean of raw.X", "backed": "mean of X"}
    if where == "layer":
        adata.layers["counts"] = adata.X.copy()
        options["layer"] = "counts"
    elif where == "raw":
        adata.raw = adata
        options["use_raw"] = True
    if where == "backed":
        adata.write_h5ad(tmp_path / "a.h5ad")
        adata = ad.read_h5ad(tmp_path / "a.h5ad", backed="r+")
    else:
        adata.X = adata.X * 7
    ax = drawn(fit(adata, **options))
    np.testing.assert_allclose(
        points(ax)[:, 1], np.sort(by.to_frame().assign(y=y).groupby("sam")["y"].mean()), rtol=1e-6
    )
    assert ax.get_ylabel() == words[where]
    if where == "backed":
        adata.file.close()


def test_weights_and_a_column_of_size_factors(adata):
    rng = np.random.default_rng(5)
    adata.obs["w"], adata.obs["s"] = rng.uniform(0.5, 2, adata.n_obs), rng.uniform(1, 3, adata.n_obs)
    ax = drawn(fit(adata, weights="w", size_factors="s", target_sum=2.5))
    y = np.log1p(adata.X.toarray()[:, 3].astype(float) / adata.obs["s"] * 2.5)
    by = adata.obs["sam"]
    expected = (y * adata.obs["w"]).groupby(by).sum() / adata.obs["w"].groupby(by).sum()
    np.testing.assert_allclose(points(ax)[:, 1], np.sort(expected), rtol=1e-6)


@pytest.fixture(scope="module")
def counted():
    adata = fsc.datasets.simu_rnaseq(n_genes=200, n_cells=800, n_samples=8, n_clusters=2, seed=1)
    adata.obs["donor"] = adata.obs["sam"].astype(str).str[1:]
    fsc.tl.nbmm_de(adata, "~ trt", "donor:trt", groupby="cls", normalize=None)
    return adata


def test_counts_are_means_of_samples_as_the_model_knows_them(counted):
    ax = fsc.pl.samples(counted, "Gene7", "trt", group="2", show=False)
    cells = counted[counted.obs["cls"] == "2"]
    total = np.asarray(counted.X.astype(float).sum(axis=1)).ravel()[counted.obs["cls"] == "2"]
    one = np.asarray(cells[:, "Gene7"].X.todense()).ravel()
    sums = cells.obs.assign(T=one, S=total / total.mean()).groupby(["donor", "trt"], observed=True)[["T", "S"]].sum()
    prior = 2 / 8 / len(sums) * sums["S"] / sums["S"].mean()
    np.testing.assert_allclose(points(ax)[:, 1], np.sort(np.log((sums["T"] + prior) / sums["S"])), rtol=1e-6)
    assert ax.get_ylabel() == "log mean count per cell"
    assert len(lines(ax)) == 4
    n = cells.obs.groupby(["donor", "trt"], observed=True).size()
    np.testing.assert_allclose(np.sort(points(ax)[:, 2]), np.sort(90 * n / n.max()))
    model = fsc.get.fitted(counted, "Gene7", {"trt": ["A", "B"]}, groups="2")
    np.testing.assert_allclose(diamonds(ax)[:, 1], model["fit"])


def test_counts_of_strata(counted):
    strata = fsc.pp.aggregate(counted, ["donor", "trt", "cls"], size_factors="total")
    fsc.tl.nbmm_de(strata, "~ trt", "donor:trt", groupby="cls", normalize=None)
    found, expected = (fsc.pl.samples(one, "Gene7", "trt", group="2", show=False) for one in (strata, counted))
    np.testing.assert_allclose(points(found), points(expected), rtol=1e-6)


# ---- where, and what can't be drawn --------------------------------------------------------------------------------


def test_gene_symbols_and_title(adata):
    adata.var["symbol"] = [f"S{j}" for j in range(adata.n_vars)]
    fit(adata)
    ax = fsc.pl.samples(adata, "S3", "trt", gene_symbols="symbol", show=False)
    assert ax.get_title() == "S3"
    np.testing.assert_array_equal(points(ax), points(drawn(adata)))
    assert drawn(adata, title="mine").get_title() == "mine"


def test_show_ax_and_save(adata, tmp_path, monkeypatch):
    fit(adata)
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(True))
    sc.settings.autoshow = True
    ax = plt.figure().subplots()
    assert fsc.pl.samples(adata, GENE, "trt", ax=ax, save=tmp_path / "a.pdf") is ax
    assert (tmp_path / "a.pdf").stat().st_size > 1000
    assert not shown
    assert fsc.pl.samples(adata, GENE, "trt") is None
    assert shown
    sc.settings.autoshow = False
    assert isinstance(fsc.pl.samples(adata, GENE, "trt"), Axes)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"gene": ["gene3"]}, TypeError, "must be the name of one gene"),
        ({"gene": "gene33"}, KeyError, "There is no gene 'gene33'. Did you mean 'gene3'"),
        ({"by": "tr"}, ValueError, r"by='tr' is not in the model fixed='~ trt \+ score'. Did you mean 'trt'"),
        ({"by": "batch"}, ValueError, "by='batch' is not in the model"),
        ({"by": "score"}, ValueError, "by='score' is a column of numbers; fsc.pl.curve"),
        ({"hue": "trt"}, ValueError, "are the same column"),
        ({"hue": "cls"}, ValueError, "hue='cls' is not in the model"),
        ({"group": None}, ValueError, "more than one group; choose group= among 'B', 'NK'"),
        ({"group": "nk"}, KeyError, "group: the result 'lmm_de' has no 'nk'"),
        ({"sample": "sm"}, KeyError, "sample='sm' uses 'sm', which is not a column of obs. Did you mean 'sam'"),
        ({"key": "other"}, KeyError, "holds no result"),
        ({"gene": "gene4"}, ValueError, "The gene 'gene4' was not fitted in 'NK': its status is 'constant'"),
        ({"gene_symbols": "symbol"}, KeyError, "gene_symbols='symbol' is not a column"),
        ({"conf_level": 95}, ValueError, "conf_level=95 must be from 0 to 1"),
        ({"save": "a.xyz"}, ValueError, "must end in one of"),
    ],
)
def test_what_can_not_be_drawn(adata, options, error, words):
    adata.X = adata.X.toarray()
    adata.X[:, 4] = 0
    fit(adata, "~ trt + score", groupby="cls")
    with pytest.raises(error, match=words):
        fsc.pl.samples(adata, **({"gene": GENE, "by": "trt", "group": "NK", "show": False} | options))
    assert not plt.get_fignums()


def test_without_the_cells(adata):
    fit(adata)
    results = ad.AnnData(obs=adata.obs, var=adata.var, varm=dict(adata.varm), uns=adata.uns)
    with pytest.raises(ValueError, match=r"from the cells, in adata\.X, which is not there: adata holds results only"):
        drawn(results)
    both = fsc.tl.lmm_de([adata[:80].copy(), adata[80:].copy()], "~ trt", "sam", transform="log1p")
    with pytest.raises(ValueError, match="adata holds no cells, as a fit of several files"):
        drawn(both)
    fit(adata, size_factors=np.ones(adata.n_obs))
    with pytest.raises(ValueError, match="was given 'size_factors' as arrays, which aren't stored"):
        drawn(adata)
    fit(adata)
    del adata.obs["sam"]
    with pytest.raises(KeyError, match="uses 'sam', which is not a column of obs"):
        drawn(adata)
    assert not plt.get_fignums()


def test_cells_that_a_fit_of_counts_had(counted):
    some = counted[counted.obs["sam"] != "A1"].copy()
    with pytest.raises(ValueError, match=r"lacks cells of the samples '1:A' of the fit 'nbmm_de'"):
        fsc.pl.samples(some, "Gene7", "trt", group="2", show=False)


def test_means_over_the_cells_that_were_chosen(adata):
    """Others may lack a level, and count neither in the means nor in the target of the size factors."""
    adata.obs["use"] = np.arange(adata.n_obs) % 3 > 0
    adata.obs["trt"] = adata.obs["trt"].where(adata.obs["use"])
    fit(adata, groupby="cls", mask_obs="use")
    some = adata[adata.obs["use"]].copy()
    fit(some, groupby="cls")
    np.testing.assert_allclose(points(drawn(adata, group="NK")), points(drawn(some, group="NK")), rtol=1e-7)
    fit(adata, groupby="cls", mask_obs=adata.obs["use"].to_numpy())
    with pytest.raises(ValueError, match="was given 'mask_obs' as arrays"):
        drawn(adata, group="NK")


def test_chosen_samples_of_counts(counted):
    chosen = (counted.obs["trt"] == "A") | (np.arange(counted.n_obs) % 2 > 0)
    counted = counted.copy()
    counted.obs["use"], some = chosen, counted[chosen].copy()
    one, other = (
        fsc.tl.nbmm_de(each, "~ trt", "sam", groupby="cls", copy=True, **how)
        for each, how in ((counted, {"mask_obs": "use"}), (some, {}))
    )
    shown = [points(fsc.pl.samples(each, "Gene7", "trt", group="2", show=False)) for each in (one, other)]
    np.testing.assert_allclose(*shown, rtol=1e-7)


def test_means_of_a_part_of_the_cells_are_over_the_size_factors_of_the_fit(adata):
    fit(adata, groupby="cls")
    whole = points(drawn(adata, group="NK"))
    np.testing.assert_allclose(points(drawn(adata[adata.obs["cls"] == "NK"].copy(), group="NK")), whole, rtol=1e-7)


def test_level_of_the_intervals_in_words(adata):
    ax = drawn(fit(adata), conf_level=0.995)
    assert "fitted, 99.5 %" in [text.get_text() for text in ax.get_legend().get_texts()]
