"""Results in scanpy's format, as scanpy's own functions read them."""

from __future__ import annotations

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

import flashmm_sc as fsc
from flashmm_sc import FlashmmWarning
from flashmm_sc.contrasts import each, pairwise

FORMAT = {"names": "O", "scores": "f4", "logfoldchanges": "f4", "pvals": "f8", "pvals_adj": "f8"}
OURS = {"scores": "z", "logfoldchanges": "log_fc", "pvals": "p_value", "pvals_adj": "adj_p_value"}
GROUPS = ["CD4+/CD25 T", "NK", "B"]


@pytest.fixture(scope="module")
def fitted():
    """Logged values of three cell types, not in the order of their names; `Gene7` is constant in all, `Gene3` in NK."""
    adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=600, n_samples=8, n_clusters=3, seed=1)
    adata.obs["cls"] = adata.obs["cls"].cat.rename_categories(GROUPS)
    adata.obs["trt"] = adata.obs["trt"].cat.rename_categories(["ctrl", "stim"])
    values = adata.X.toarray()
    values[:, adata.var_names == "Gene7"] = 0
    values[np.ix_(adata.obs["cls"] == "NK", adata.var_names == "Gene3")] = 0
    adata.X = values
    adata.obs["age"] = adata.obs["sam"].cat.codes.astype(float)
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    adata.var["symbol"] = adata.var_names.str.upper()
    fsc.tl.lmm_de(adata, "~ trt + age", "sam", groupby="cls", contrasts={"both": "trt[T.stim] + age"})
    fsc.tl.lmm_de(adata, "~ 0 + cls + cls:trt", "sam", key_added="whole")
    fsc.tl.lmm_de(adata, "~ trt + age", "sam", key_added="one")
    fsc.tl.lmm_test(adata, each("trt", by="cls"), key="whole", key_added="answers")
    fsc.tl.lmm_test(adata, pairwise("cls"), key="whole", key_added="pairs")
    return adata


@pytest.fixture
def adata(fitted):
    return fitted.copy()


@pytest.fixture
def ranked(adata):
    fsc.tl.rank_genes_groups(adata, "trt[T.stim]")
    return adata


def test_format(ranked):
    entry = ranked.uns["rank_genes_groups"]
    assert list(entry) == ["params", *FORMAT]
    for name, dtype in FORMAT.items():
        assert isinstance(entry[name], np.recarray)
        assert entry[name].dtype.names == tuple(GROUPS)
        assert entry[name].shape == (50,)
        assert {entry[name][group].dtype for group in GROUPS} == {np.dtype(dtype)}
    theirs = sc.tl.rank_genes_groups(ranked, "cls", copy=True).uns["rank_genes_groups"]
    for name in FORMAT:
        assert entry[name].dtype == theirs[name].dtype
    assert set(theirs["params"]) <= set(entry["params"])
    assert {name: value for name, value in entry["params"].items() if name != "coefs"} == {
        "groupby": "cls",
        "reference": "ctrl",
        "method": "flashmm_sc",
        "use_raw": False,
        "layer": None,
        "corr_method": "benjamini-hochberg",
        "key": "lmm_de",
    }
    assert entry["params"]["coefs"].tolist() == ["trt[T.stim]"] * 3


def test_values_are_those_of_the_table_and_genes_without_a_result_come_last(ranked):
    table = fsc.get.lmm_de_df(ranked, "trt[T.stim]").set_index(["group", "variable"])
    for group in GROUPS:
        found = sc.get.rank_genes_groups_df(ranked, group).set_index("names")
        assert sorted(found.index) == sorted(ranked.var_names)
        for theirs, ours in OURS.items():
            np.testing.assert_allclose(found[theirs], table.loc[group].loc[found.index, ours], rtol=1e-6)
        missing = 2 if group == "NK" else 1
        assert found["scores"].isna().tolist() == [False] * (50 - missing) + [True] * missing
        assert found["scores"].dropna().is_monotonic_decreasing
    assert sc.get.rank_genes_groups_df(ranked, "NK")["names"].tolist()[-2:] == ["Gene3", "Gene7"]


def test_ranks_by_size(adata):
    fsc.tl.rank_genes_groups(adata, "trt[T.stim]", rankby_abs=True)
    for group in GROUPS:
        scores = sc.get.rank_genes_groups_df(adata, group)["scores"].dropna()
        assert scores.abs().is_monotonic_decreasing
        assert scores.min() < 0 < scores.max()


def test_filters_of_scanpy(ranked):
    everything = sc.get.rank_genes_groups_df(ranked, None)
    assert everything["group"].cat.categories.tolist() == GROUPS
    assert len(everything) == 150
    kept = sc.get.rank_genes_groups_df(ranked, GROUPS, pval_cutoff=0.9, log2fc_min=0.1, gene_symbols="symbol")
    expected = everything[(everything["pvals_adj"] < 0.9) & (everything["logfoldchanges"] > 0.1)]
    assert 0 < len(kept) == len(expected) < 150
    assert kept["symbol"].tolist() == expected["names"].str.upper().tolist()


@pytest.mark.parametrize(
    ("coefs", "options", "fields", "reference"),
    [
        (None, {"key": "whole"}, GROUPS, "ctrl"),
        (None, {"key": "answers"}, GROUPS, "ctrl"),
        (["cls[NK]:trt[T.stim]", "cls[B]:trt[T.stim]"], {}, GROUPS[1:], "ctrl"),
        ("cls[NK]:trt[T.stim]", {"groupby": "cls"}, ["NK"], "ctrl"),
        ("cls[NK]:trt[T.stim]", {"groupby": "trt"}, ["stim"], "ctrl"),
        ("trt[T.stim]", {"key": "one"}, ["stim"], "ctrl"),
        (["NK vs CD4+/CD25 T", "B vs CD4+/CD25 T"], {}, GROUPS[1:], "CD4+/CD25 T"),
        ({"B": "B|age", "NK": "NK|age"}, {"groupby": "cls"}, ["B", "NK"], "zero"),
        ({"stim": "age"}, {"key": "one", "groupby": "trt"}, ["stim"], "zero"),
        (["trt[T.stim]", "age"], {"key": "one", "groupby": "cls"}, ["trt[T.stim]", "age"], "zero"),
        ("both", {}, GROUPS, "zero"),
    ],
)
def test_fields(adata, coefs, options, fields, reference):
    fsc.tl.rank_genes_groups(adata, coefs, **options)
    entry = adata.uns["rank_genes_groups"]
    assert entry["names"].dtype.names == tuple(fields)
    assert entry["params"]["reference"] == reference
    assert entry["params"]["groupby"] in adata.obs
    names = list(coefs.values()) if isinstance(coefs, dict) else coefs
    table = fsc.get.lmm_de_df(adata, names, key=options.get("key"))
    table = table if names is not None else table[table["contrast"].str.contains("stim")]
    expected = table["z"].to_numpy().reshape(-1, 50)
    for field, z in zip(fields, expected, strict=True):
        np.testing.assert_allclose(entry["scores"][field], -np.sort(-z), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:Only 4. genes are fitted:flashmm_sc.FlashmmWarning")
def test_counts(adata):
    adata.X = np.rint(np.expm1(adata.X))
    del adata.uns["log1p"]
    fsc.tl.nbmm_de(adata, "~ trt", "sam", groupby="cls")
    fsc.tl.rank_genes_groups(adata, key="nbmm_de")
    entry, table = adata.uns["rank_genes_groups"], fsc.get.lmm_de_df(adata, "trt[T.stim]", key="nbmm_de", groups="NK")
    assert entry["params"]["key"] == "nbmm_de"
    np.testing.assert_allclose(entry["logfoldchanges"]["NK"][0], table.loc[table["z"].idxmax(), "log_fc"], rtol=1e-6)


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_files(ranked, tmp_path, suffix):
    path = tmp_path / f"ranked.{suffix}"
    getattr(ranked, f"write_{suffix}")(path)
    again = getattr(ad, f"read_{suffix}")(path)
    found = sc.get.rank_genes_groups_df(again, None)
    pd.testing.assert_frame_equal(found, sc.get.rank_genes_groups_df(ranked, None), check_dtype=False)
    fsc.tl.rank_genes_groups(again, "trt[T.stim]")
    pd.testing.assert_frame_equal(sc.get.rank_genes_groups_df(again, None), found, check_dtype=False)


# scanpy's plots


@pytest.fixture
def figures():
    """Figures are closed afterwards."""
    yield
    plt.close("all")


def texts(figure):
    return {text.get_text() for text in figure.findobj(plt.Text)}


def best(adata, group, n=3):
    return set(adata.uns["rank_genes_groups"]["names"][group][:n])


@pytest.mark.usefixtures("figures")
@pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::PendingDeprecationWarning", "ignore::DeprecationWarning", "ignore:set_ticklabels"
)
class TestPlots:
    """Each shows the best genes of each group."""

    def test_ranking(self, ranked):
        sc.pl.rank_genes_groups(ranked, n_genes=3, show=False)
        shown = texts(plt.gcf())
        assert {f"{group} vs. ctrl" for group in GROUPS} <= shown
        assert set.union(*(best(ranked, group) for group in GROUPS)) <= shown

    @pytest.mark.parametrize("kind", ["dotplot", "matrixplot", "heatmap", "tracksplot", "stacked_violin"])
    def test_of_expression(self, ranked, kind):
        sc.tl.dendrogram(ranked, "cls")
        getattr(sc.pl, f"rank_genes_groups_{kind}")(ranked, n_genes=3, show=False)
        shown = texts(plt.gcf())
        assert set(GROUPS) <= shown
        assert set.union(*(best(ranked, group) for group in GROUPS)) <= shown

    @pytest.mark.parametrize("kind", ["dotplot", "matrixplot"])
    def test_of_fold_changes(self, ranked, kind):
        plot = getattr(sc.pl, f"rank_genes_groups_{kind}")(
            ranked, n_genes=3, values_to_plot="logfoldchanges", dendrogram=False, return_fig=True
        )
        values = plot.dot_color_df if kind == "dotplot" else plot.values_df
        table = fsc.get.matrix(ranked, "log_fc", coefs="trt[T.stim]")
        assert len(set(values)) > 5
        for gene in set(values) - {"Gene3"}:
            shown = np.unique(values.loc[GROUPS, [gene]], axis=1)[:, 0]
            np.testing.assert_allclose(shown, table.loc[GROUPS, gene], rtol=1e-6)

    def test_violin(self, ranked):
        axes = sc.pl.rank_genes_groups_violin(ranked, ["NK"], n_genes=3, show=False)
        assert {label.get_text() for label in axes[0].get_xticklabels()} == best(ranked, "NK")

    def test_a_fold_change_for_each_group_is_needed_as_of_scanpys_own(self, adata):
        """What the documentation says of groups without a field."""
        fsc.tl.rank_genes_groups(adata, ["cls[NK]:trt[T.stim]", "cls[B]:trt[T.stim]"], groupby="cls")
        options = {"n_genes": 3, "values_to_plot": "logfoldchanges", "dendrogram": False, "return_fig": True}
        with pytest.raises(KeyError):
            sc.pl.rank_genes_groups_dotplot(adata, **options).make_figure()
        sc.pl.rank_genes_groups_dotplot(adata[adata.obs["cls"].isin(["NK", "B"])].copy(), **options).make_figure()


# scanpy's tools


def test_filter_rank_genes_groups(ranked):
    sc.tl.filter_rank_genes_groups(ranked, min_fold_change=0.1, max_out_group_fraction=1)
    kept = pd.DataFrame(ranked.uns["rank_genes_groups_filtered"]["names"]).notna()
    assert kept.shape == (50, 3)
    assert 0 < kept.to_numpy().sum() < 150


def test_marker_gene_overlap(ranked):
    markers = {group: list(best(ranked, group, 5)) for group in GROUPS}
    overlap = sc.tl.marker_gene_overlap(ranked, markers, top_n_markers=5)
    assert np.diag(overlap.loc[GROUPS, GROUPS]).tolist() == [5, 5, 5]


# What can't be ranked


@pytest.fixture(scope="module")
def others(fitted):
    """Results of other kinds."""
    adata = fitted.copy()
    fsc.tl.lmm_test(adata, each("cls"), key="whole", joint=True, key_added="joint")
    fsc.tl.lmm_anova(adata, key="whole", key_added="anova")
    fsc.tl.shrink(adata, key="whole", key_added="shrunk")
    fsc.tl.lmm_variance_test(adata, key="whole", key_added="variance")
    fsc.tl.lmm_de(adata, "~ 1", "sam", key_added="mean")
    adata.uns["taken"] = {"names": 1}
    adata.obs["number"] = 1
    return adata


@pytest.mark.parametrize(
    ("coefs", "options", "error", "words"),
    [
        ("trt[T.stimm]", {}, KeyError, "'trt[T.stimm]'. Did you mean 'trt[T.stim]'"),
        (None, {"key": "lmm_dee"}, KeyError, "Did you mean 'lmm_de'"),
        (None, {}, ValueError, "several coefficients a group; choose one of 'trt[T.stim]', 'age'"),
        (["NK|age", "trt[T.stim]"], {}, ValueError, "choose one of"),
        ([], {}, ValueError, "names nothing to rank"),
        ({}, {"groupby": "cls"}, ValueError, "names nothing to rank"),
        (None, {"key": "mean"}, ValueError, "only intercepts and means"),
        (None, {"key": "joint"}, ValueError, "F tests have no direction"),
        (None, {"key": "anova"}, ValueError, "F tests have no direction"),
        (None, {"key": "shrunk"}, ValueError, "local false sign rates are no p-values; give the key of the tests"),
        (None, {"key": "variance"}, ValueError, "variances have no direction"),
        ("age", {"key": "one"}, ValueError, "'age' aren't categories of a column of obs; name the column"),
        ("cls[NK]:trt[T.stim]", {}, ValueError, "could be categories of 'cls', 'trt'"),
        ("trt[T.stim]", {"groupby": "clss"}, KeyError, "'clss' is not a column of adata.obs. Did you mean 'cls'"),
        ("trt[T.stim]", {"groupby": "number"}, ValueError, "has numbers, no categories"),
        ("trt[T.stim]", {"groupby": "trt"}, ValueError, "adata.obs['trt'] has no category 'CD4+/CD25 T'"),
        ({"N": "NK|age"}, {"groupby": "cls"}, ValueError, "no category 'N'. Did you mean 'NK'"),
        ({"NK": "age"}, {"groupby": "cls", "key": "lmm_de"}, ValueError, "'age' is in several groups; give one of"),
        ({"NK": "NK|age"}, {}, ValueError, "say of which column of obs the keys"),
        ({"NK": "NK|aeg"}, {"groupby": "cls"}, KeyError, "Did you mean 'NK|age'"),
        ("trt[T.stim]", {"key_added": "taken"}, ValueError, "holds something else than ranked genes"),
        ("trt[T.stim]", {"key_added": "lmm_de"}, ValueError, "holds something else than ranked genes"),
        ("trt[T.stim]", {"key_added": 1}, ValueError, "key_added=1 can't name results in a file"),
        ("trt[T.stim]", {"groupby": 1}, TypeError, "groupby=1 must be a text"),
        ("trt[T.stim]", {"rankby_abs": "yes"}, TypeError, "rankby_abs='yes'"),
    ],
)
def test_bad_input(others, coefs, options, error, words):
    before = dict(others.uns)
    with pytest.raises(error) as caught:
        fsc.tl.rank_genes_groups(others, coefs, **options)
    assert words in str(caught.value)
    assert others.uns.keys() == before.keys()
    assert all(others.uns[key] is value for key, value in before.items())


def test_tests_whose_fit_is_gone(adata):
    for name in [name for name in adata.varm if name.startswith("lmm_de_") and "contrasts" not in name]:
        del adata.varm[name]
    del adata.uns["lmm_de"]
    with pytest.raises(ValueError, match=r"name the column of obs with the groups .*the fit that knew it is gone"):
        fsc.tl.rank_genes_groups(adata, "both")
    fsc.tl.rank_genes_groups(adata, "both", groupby="cls")
    assert adata.uns["rank_genes_groups"]["names"].dtype.names == tuple(GROUPS)


def test_results_of_older_versions(adata):
    for name in ("findings", "status_columns"):
        del adata.uns["whole"][name]
    with pytest.raises(KeyError, match="stored by an earlier version"):
        fsc.tl.rank_genes_groups(adata, key="whole")


def test_an_unknown_logarithm(adata):
    del adata.uns["log1p"]
    fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls")
    with pytest.warns(FlashmmWarning, match="log_fc is NaN") as caught:
        fsc.tl.rank_genes_groups(adata)
    assert caught[0].filename == __file__
    assert np.isnan(adata.uns["rank_genes_groups"]["logfoldchanges"]["NK"]).all()
    assert adata.uns["rank_genes_groups"]["scores"]["NK"][0] > 0


def test_ranked_genes_are_replaced(adata):
    sc.tl.rank_genes_groups(adata, "cls")
    fsc.tl.rank_genes_groups(adata, "trt[T.stim]", key_added="mine")
    fsc.tl.rank_genes_groups(adata, "age", key_added="mine")
    assert adata.uns["mine"]["params"]["coefs"].tolist() == ["age"] * 3
    assert adata.uns["rank_genes_groups"]["params"]["method"] == "t-test"


@pytest.mark.parametrize("key", ["a/b", "", 3])
def test_keys_that_files_can_not_hold(adata, key):
    fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p")
    with pytest.raises(ValueError, match="can't name results in a file"):
        fsc.tl.rank_genes_groups(adata, key_added=key)
