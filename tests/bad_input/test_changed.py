"""What results say after an adata was changed is right for the genes and cells that are there, or told."""

from __future__ import annotations

from contextlib import nullcontext

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from bad_input.changed import CUT, relabelled
from bad_input.table import M, cells, fitted

import flashmm_sc as fsc

ORDER = np.random.default_rng(5).permutation(M)


@pytest.fixture(autouse=True)
def _figures():
    yield
    plt.close("all")


def tables(adata):
    """Whatever has numbers of genes, by result: stored ones, and tests made anew."""
    found = {
        key: fsc.get.lmm_de_df(adata, key=key) for key in ("lmm_de", "grp", "two", "nb", "lmm_anova", "lmm_shrink")
    }
    for key in ("lmm_de", "grp", "two", "nb"):
        fsc.tl.lmm_test(adata, {"x": "-1 * trt[T.B]"}, key=key, key_added="x", n_jobs=1)
        fsc.tl.lmm_anova(adata, key=key, key_added="anova", n_jobs=1)
        for name in ("x", "anova"):  # p-values are adjusted over the genes that are there
            found[f"{key} {name}"] = fsc.get.lmm_de_df(adata, key=name).drop(columns="adj_p_value")
        found[f"{key} variance"] = fsc.get.variance_df(adata, key=key)
        found[f"{key} fitted"] = fsc.get.fitted(adata, None, {"trt": ["A", "B"]}, key=key)
    found["ranef"] = fsc.get.ranef_df(adata, key="lmm_de")
    found["shares"] = fsc.get.variance_explained_df(adata, key="two")
    fsc.tl.rank_genes_groups(adata, "trt[T.B]", key="grp")
    ranked = adata.uns["rank_genes_groups"]
    for group in ("x", "y"):
        found[f"ranked {group}"] = pd.DataFrame(
            {
                ours: np.asarray(ranked[name][group])
                for ours, name in (("variable", "names"), ("t", "scores"), ("p", "pvals"))
            }
        )
    return found


@pytest.fixture(scope="module")
def whole():
    return tables(fitted())


def test_numbers_stay_with_their_genes(whole):
    """Where genes are cut, reordered or renamed, also in a view, and cells left out."""
    renamed = fitted()
    names = {f"g{j}": f"new{j}" for j in range(M)}
    renamed.var_names = list(names.values())
    changed = {
        "cut": fitted()[:, CUT].copy(),
        "view": fitted()[::2, ORDER],
        "reordered": fitted()[:, ORDER].copy(),
        "renamed": renamed,
    }
    for what, adata in changed.items():
        with pytest.warns(UserWarning, match="of view") if adata.is_view else nullcontext():
            found = tables(adata)
        for name, table in found.items():
            before = whole[name].replace({"variable": names}) if what == "renamed" else whole[name]
            before = before[before["variable"].isin(adata.var_names)]
            by = [
                column
                for column in ("variable", "contrast", "component", "term", "level", "group", "trt")
                if column in table
            ]
            one, other = (each.sort_values(by).reset_index(drop=True) for each in (table, before))
            pd.testing.assert_frame_equal(one, other, rtol=1e-9, obj=f"{what}: {name}")


def test_plots_of_genes_with_one_name_are_of_the_gene_asked_for():
    """Where `gene_symbols` tell apart what var_names don't, and the cells aren't needed."""
    adata, apart = relabelled(), fitted()
    apart.var["symbol"] = adata.var["symbol"].to_numpy()
    how = {"gene_symbols": "symbol", "show": False}
    for plot, key in (("curve", "lmm_de"), ("samples", "nb"), ("ranef", "lmm_de"), ("effects", "lmm_de")):
        shown = []
        for one in (adata, apart):
            given = {"curve": [["S1", "S4"], "score"], "samples": ["S1", "trt"]}.get(plot, ["S1"])
            if plot == "curve":
                del one.layers["counts"]
                one.X = None
            axes = np.ravel(getattr(fsc.pl, plot)(one, *given, key=key, **how))
            shown.append([line.get_xydata() for ax in axes for line in ax.lines])
        assert len(shown[0]) == len(shown[1]) > 0
        for line, other in zip(*shown, strict=True):
            np.testing.assert_array_equal(line, other)


def test_points_of_other_cells_than_were_fitted_are_told():
    adata = fitted()[::2].copy()
    for key, what in (("lmm_de", "means"), ("nb", "sizes")):
        some = adata if key == "lmm_de" else fitted()[6:].copy()
        n = some.n_obs
        with pytest.warns(
            fsc.FlashmmWarning, match=rf"is of 60 cells, but adata has {n} now: the {what} of samples are of these"
        ):
            fsc.pl.samples(some, "g1", "trt", key=key, show=False)


def test_gradients_are_not_drawn_where_genes_of_the_fit_are_gone():
    panels = lambda adata: len(fsc.pl.fit_diagnostics(adata, key="lmm_de", show=False))
    assert (panels(fitted()), panels(fitted()[:, ORDER].copy()), panels(fitted()[:, CUT].copy())) == (3, 3, 2)


def test_totals_of_files_of_which_one_loses_genes():
    """The other has as many as both share, but the totals of the first were of more."""
    adata = cells()
    parts = [adata[::2].copy(), adata[1::2, :6].copy()]
    fit = fsc.tl.lmm_de(parts, "~ trt", "sam", transform="log1p", size_factors="total", n_jobs=1)
    both = ad.concat(parts)
    both.uns, both.varm = fit.uns, dict(fit.varm)
    with pytest.raises(ValueError, match="had of 6 or 12 genes, and adata has 6"):
        fsc.pl.samples(both, "g1", "trt")


def test_totals_of_genes_that_are_gone_can_be_read_from_obs():
    adata = fitted()
    adata.obs["totals"] = np.asarray(adata.layers["counts"].sum(axis=1)).ravel()
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p", size_factors="totals", n_jobs=1)
    points = lambda one: fsc.pl.samples(one, "g1", "trt", key="lmm_de", show=False).collections[0].get_offsets()
    np.testing.assert_allclose(points(adata), points(adata[:, CUT].copy()), rtol=1e-12)
