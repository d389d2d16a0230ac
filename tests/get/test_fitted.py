"""Fitted means at points: those of emmeans, of the design's own rows, and what can't be asked."""

from __future__ import annotations

import re

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import reference_data as rd
import scipy.sparse as sp
from containers import assert_unchanged

import flashmm_sc as fsc

VALUES = ["fit", "se", "df", "ci_low", "ci_high"]


@pytest.fixture
def data(adata):
    adata.obs["day"] = np.random.default_rng(3).uniform(0, 10, adata.n_obs)
    return adata


@pytest.fixture
def curves(data):
    fsc.tl.lmm_de(data, "~ trt * bs(day, df=4) + cls", "sam", transform="log1p")
    return data


def test_points_and_intervals_are_those_of_emmeans():
    expected = rd.fitted()
    adata = ad.AnnData(rd.counts(), rd.obs(), pd.DataFrame(index=rd.genes()))[:, expected["gene"].unique()].copy()
    fixed = "~ cr(score, knots=[-0.7, 0, 0.6], constraints='center') * trt + cls"
    fsc.tl.lmm_de(adata, fixed, "sam", transform="log2p1")
    grid = {"trt": ["A", "B"], "score": sorted(expected["score"].unique())}
    found = fsc.get.fitted(adata, list(adata.var_names), grid)
    assert list(found) == ["variable", "trt", "score", *VALUES]
    pd.testing.assert_frame_equal(
        found.drop(columns="df").rename(columns={"variable": "gene"}),
        expected[["gene", "trt", "score", "fit", "se", "ci_low", "ci_high"]],
        rtol=1e-6,
    )
    np.testing.assert_allclose(found["df"], expected["df"], rtol=1e-6)


def test_at_points_as_contrasts_of_coefficients(curves):
    points = pd.DataFrame({"cls": ["B", "NK"], "trt": ["B", "A"]}, index=["p", "q"])
    fsc.tl.lmm_de(curves, "~ trt * cls + day", "sam", transform="log1p", key_added="other")
    found = fsc.get.fitted(curves, ["gene3", "gene1"], points, key="other", conf_level=0.9)
    assert found["variable"].tolist() == ["gene3", "gene3", "gene1", "gene1"]
    assert found["cls"].tolist() == ["B", "NK"] * 2
    mean = curves.obs["day"].mean()
    by_hand = {"B, B": [1, 1, 0, mean, 0], "A, NK": [1, 0, 1, mean, 0]}
    fsc.tl.lmm_test(curves, by_hand, key="other", conf_level=0.9)
    table = fsc.get.lmm_de_df(curves, key="lmm_test").set_index(["variable", "contrast"])
    expected = table.loc[[(gene, name) for gene in ("gene3", "gene1") for name in by_hand]]
    np.testing.assert_allclose(found[VALUES], expected[["coef", "se", "df", "ci_low", "ci_high"]], rtol=1e-9)


def test_a_point_of_nothing_is_the_mean_of_everything(curves):
    fsc.tl.lmm_de(curves, "~ trt + cls", "sam", transform="log1p", key_added="other")
    found = fsc.get.fitted(curves, "gene1", {}, key="other")
    by_level = fsc.get.fitted(curves, "gene1", {"trt": ["A", "B"]}, key="other")
    assert found.shape == (1, 6)
    np.testing.assert_allclose(found["fit"], by_level["fit"].mean())


def test_a_spline_is_followed_from_end_to_end(curves):
    days = np.linspace(curves.obs["day"].min(), curves.obs["day"].max(), 30)
    found = fsc.get.fitted(curves, "gene1", {"day": days})
    np.testing.assert_array_equal(found["day"], days)
    assert np.isfinite(found[VALUES]).all(axis=None)


def test_groups(data):
    fsc.tl.lmm_de(data, "~ trt * day", "sam", groupby="cls", transform="log1p")
    found = fsc.get.fitted(data, ["gene1", "gene2"], {"day": 5, "trt": ["A", "B"]})
    assert found["group"].tolist() == ["B", "B", "NK", "NK"] * 2
    assert found["trt"].tolist() == ["A", "B"] * 4
    alone = data[data.obs["cls"] == "NK"].copy()
    fsc.tl.lmm_de(alone, "~ trt * day", "sam", transform="log1p")
    expected = fsc.get.fitted(alone, ["gene1", "gene2"], {"day": 5, "trt": ["A", "B"]})
    only = fsc.get.fitted(data, ["gene1", "gene2"], {"day": 5, "trt": ["A", "B"]}, groups="NK")
    pd.testing.assert_frame_equal(only.drop(columns="group"), expected)
    pd.testing.assert_frame_equal(found[found["group"] == "NK"].reset_index(drop=True), only)
    none = fsc.get.fitted(data, ["gene1", "gene2"], {"day": 5}, groups=[])
    assert list(none) == ["variable", "group", "day", *VALUES]
    assert not len(none)


def test_a_column_of_obs_called_like_one_of_the_table(data):
    data.obs["fit"] = data.obs["trt"]
    fsc.tl.lmm_de(data, "~ fit", "sam", transform="log1p")
    found = fsc.get.fitted(data, "gene1", {"fit": ["A", "B"]})
    assert list(found) == ["variable", "fit_grid", *VALUES]
    assert found["fit_grid"].tolist() == ["A", "B"]


@pytest.mark.parametrize("moderate", [False, True])
def test_genes_do_not_depend_on_what_else_is_asked(moderate):
    adata = fsc.datasets.simu_rnaseq(n_genes=130, n_cells=800, n_samples=10, n_clusters=2, seed=1)
    adata.X = adata.X @ sp.diags(np.arange(130) != 4, dtype=np.float32)
    fsc.tl.lmm_de(adata, "~ cls * trt", "sam", transform="log1p", moderate=moderate)
    grid = {"trt": ["A", "B"]}
    every = fsc.get.fitted(adata, None, grid)
    some = fsc.get.fitted(adata, [adata.var_names[9], adata.var_names[4]], grid)
    pd.testing.assert_frame_equal(some, every.loc[[18, 19, 8, 9]].reset_index(drop=True))
    assert some[VALUES].isna().loc[2:].all(axis=None)
    assert fsc.get.fitted(adata, adata.var_names[4], grid)["fit"].isna().all()
    assert list(fsc.get.fitted(adata, [], grid)) == list(some)
    fsc.tl.lmm_test(adata, fsc.contrasts.means("trt"), conf_level=0.95)
    np.testing.assert_allclose(every["fit"].to_numpy().reshape(-1, 2), adata.varm["lmm_test_coef"], rtol=1e-9)
    np.testing.assert_allclose(every["ci_low"].to_numpy().reshape(-1, 2), adata.varm["lmm_test_ci_low"], rtol=1e-6)


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_files(curves, tmp_path, ending):
    path = tmp_path / f"fit.{ending}"
    getattr(curves, f"write_{ending}")(path)
    read = getattr(ad, f"read_{ending}")(path)
    grid = {"day": [2, 5], "trt": "B"}
    pd.testing.assert_frame_equal(fsc.get.fitted(read, "gene1", grid), fsc.get.fitted(curves, "gene1", grid))


@pytest.mark.parametrize(
    ("asked", "grid", "options", "error", "message"),
    [
        ("gene99", {}, {}, KeyError, "genes: the result 'lmm_de' has no 'gene99'. Did you mean"),
        ("gene1", {"dya": 3}, {}, ValueError, "grid names 'dya', which is not in the model fixed="),
        ("gene1", {"batch": "x"}, {}, ValueError, "grid names 'batch', which is not in the model"),
        ("gene1", {"trt": "C"}, {}, ValueError, "grid: 'trt' has no level 'C'. There are: 'A', 'B'."),
        (
            "gene1",
            {"day": [5, 11]},
            {},
            ValueError,
            "grid: 11 is outside of what 'day' is in the cells of the model, 0.",
        ),
        ("gene1", {"day": [5, np.nan]}, {}, ValueError, "grid: nan is outside"),
        ("gene1", {"day": []}, {}, ValueError, "grid has no points"),
        ("gene1", pd.DataFrame([[1, 2]], columns=["day", "day"]), {}, ValueError, "columns of the same name"),
        (
            "gene1",
            {"trt": {"A", "B"}},
            {},
            TypeError,
            "grid: what 'trt' is to be must be one value, or several in a list",
        ),
        ("gene1", {"trt": {"A": 1}}, {}, TypeError, "not dict {'A': 1}."),
        ("gene1", {"day": [[1, 2]]}, {}, TypeError, "not list [[1, 2]]."),
        ("gene1", ["day"], {}, TypeError, "grid must be a DataFrame or a dictionary"),
        ("gene1", {}, {"conf_level": 95}, ValueError, "conf_level=95 must be from 0 to 1"),
        ("gene1", {}, {"key": "other"}, KeyError, "holds no result"),
        ("gene1", {}, {"groups": "B"}, KeyError, "has no 'B'"),
    ],
)
def test_what_can_not_be_asked(curves, asked, grid, options, error, message):
    before = curves.copy()
    with pytest.raises(error, match=re.escape(message)):
        fsc.get.fitted(curves, asked, grid, **options)
    assert_unchanged(curves, before)


def test_a_range_is_that_of_the_group(data):
    data.obs.loc[data.obs["cls"] == "NK", "day"] /= 2
    fsc.tl.lmm_de(data, "~ day", "sam", groupby="cls", transform="log1p")
    with pytest.raises(ValueError, match="grid, in group 'NK': 7 is outside"):
        fsc.get.fitted(data, "gene1", {"day": [2, 7]})
    assert len(fsc.get.fitted(data, "gene1", {"day": [2, 7]}, groups="B")) == 2


def test_the_range_that_an_error_names_can_be_asked(curves):
    with pytest.raises(ValueError, match="is outside of") as error:
        fsc.get.fitted(curves, "gene1", {"day": -1})
    low, high = re.search(r"(\S+) to (\S+)\.$", str(error.value)).groups()
    found = fsc.get.fitted(curves, "gene1", {"day": [float(low), float(high)]})
    assert np.isfinite(found[VALUES]).all(axis=None)
