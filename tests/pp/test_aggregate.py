"""Strata as an AnnData: what it holds, that it survives what people do to an AnnData, and what is refused."""

from __future__ import annotations

import errno
import logging
import os

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from containers import assert_unchanged

import flashmm_sc as fsc

BY = ["sam", "cls"]
SIZED = {"transform": "log1p", "size_factors": "total", "target_sum": 30}


def grouped(values, obs, by):
    """Sums by stratum, as pandas gives them."""
    return pd.DataFrame(values).groupby([obs[name].to_numpy() for name in by], observed=True).sum().to_numpy()


def assert_holds(strata, adata, by, **arrays):
    for name, values in arrays.items():
        found = strata.X if name == "X" else strata.layers[name]
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, grouped(values, adata.obs, by), rtol=1e-12, err_msg=name)


def test_raw_counts_and_their_weights(adata):
    adata.obs["cls"] = adata.obs["cls"].astype("category").cat.add_categories("none of these/at all")
    adata.obs["treated"] = adata.obs["trt"] == "B"
    before = adata.copy()
    strata = fsc.pp.aggregate(adata, BY, size_factors="total")
    assert_unchanged(adata, before)
    u = adata.X.toarray().astype(float)
    s = u.sum(axis=1)
    assert_holds(strata, adata, BY, X=u, sum_sq=u**2, n_expressed=(u > 0) * 1.0, size_sum=u * s[:, None])
    assert {name for name in strata.layers if name} == {"sum_sq", "n_expressed", "size_sum"}
    assert list(strata.obs) == ["sam", "trt", "cls", "treated", "n_cells", "size", "size_sq"]
    assert list(strata.obs_names[:3]) == ["s0|B", "s0|NK", "s1|B"]
    assert strata.obs["cls"].dtype == adata.obs["cls"].dtype
    assert strata.obs["treated"].dtype == bool
    sizes = grouped(np.column_stack([np.ones(160), s, s**2]), adata.obs, BY)
    np.testing.assert_array_equal(strata.obs[["n_cells", "size", "size_sq"]], sizes)
    pd.testing.assert_frame_equal(strata.var, adata.var)
    assert strata.uns["aggregate"]["values"] == "values as they are, weighed by total"


def test_an_order_of_levels_is_kept(adata, tmp_path):
    levels = ["s9", *sorted(set(adata.obs["sam"]) - {"s9"})]
    adata.obs["sam"] = pd.Categorical(adata.obs["sam"], sorted(set(levels) | {"s9"}), ordered=True).reorder_categories(
        levels
    )
    adata.write_h5ad(tmp_path / "a.h5ad")
    for cells in (adata, [tmp_path / "a.h5ad"]):
        assert fsc.pp.aggregate(cells, "sam").obs["sam"].dtype == adata.obs["sam"].dtype


def test_logarithms(adata):
    strata = fsc.pp.aggregate(adata, "sam", **SIZED)
    u = adata.X.toarray().astype(float)
    s = u.sum(axis=1, keepdims=True) / 30
    v = np.log1p(u / s)
    assert_holds(strata, adata, ["sam"], X=v, sum_sq=v**2, n_expressed=(u > 0) * 1.0, counts=u, counts_over_size=u / s)
    assert set(strata.obs) == {"sam", "trt", "n_cells", "size", "size_sq"}
    median = fsc.pp.aggregate(adata, "sam", transform="log1p", size_factors="total").uns["aggregate"]
    assert median["target_sum"] == np.median(u.sum(axis=1))
    mean = fsc.pp.aggregate(adata, "sam", transform="log2p1", size_factors=np.arange(1, 161)).uns["aggregate"]
    assert mean["target_sum"] == np.arange(1, 161).mean()
    plain = fsc.pp.aggregate(adata, "sam", transform="log2p1")
    assert_holds(plain, adata, ["sam"], X=np.log2(1 + u), counts=u)


def test_layers_raw_masks_and_any_order_of_cells(adata):
    adata.layers["twice"] = sp.csc_matrix(2 * adata.X)
    adata.raw = adata.copy()
    total = adata.X.toarray().sum(axis=1)
    plain = fsc.pp.aggregate(adata, BY, size_factors="total")
    masked = fsc.pp.aggregate(adata, BY, size_factors="total", mask_var="use", layer="twice")
    np.testing.assert_array_equal(masked.X, 2 * plain[:, adata.var["use"]].X)
    np.testing.assert_array_equal(masked.obs["size"], 2 * plain.obs["size"])
    assert plain.obs["size"].sum() == total.sum()
    part = adata[::-1, ::-1].copy()
    for other in (part, adata[:, ::-1]):
        again = fsc.pp.aggregate(other, BY, use_raw=True, size_factors="total")
        np.testing.assert_array_equal(again.X, plain.X[:, ::-1])
        np.testing.assert_array_equal(again.layers["size_sum"], plain.layers["size_sum"][:, ::-1])
        pd.testing.assert_index_equal(again.obs_names, plain.obs_names)


def test_strata_of_one_cell_are_the_cells(adata):
    adata.obs["cell"] = np.arange(160)[::-1]
    strata = fsc.pp.aggregate(adata, "cell")
    np.testing.assert_array_equal(strata.X, adata.X.toarray()[::-1])
    assert list(strata.obs_names[:2]) == ["0", "1"]
    assert {*adata.obs, "n_cells"} == {*strata.obs}


def test_names_with_a_bar_are_made_unique(adata):
    adata.obs["a"] = np.where(np.arange(160) % 2, "x|y", "x")
    adata.obs["b"] = np.where(np.arange(160) % 2, "z", "y|z")
    assert list(fsc.pp.aggregate(adata, ["a", "b"]).obs_names) == ["x|y|z", "x|y|z-1"]


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_files(adata, tmp_path, ending):
    path = tmp_path / f"sums.{ending}"
    plain = fsc.pp.aggregate(adata, BY, size_factors="total")
    lazy = fsc.pp.aggregate(adata, BY, size_factors="total", out=path)
    assert list(tmp_path.iterdir()) == [path]
    read = ad.read_h5ad(path) if ending == "h5ad" else ad.read_zarr(path)
    assert not isinstance(lazy.X, np.ndarray)
    for one in (lazy, read):
        np.testing.assert_array_equal(one.X[:], plain.X)
        for name in plain.layers:
            np.testing.assert_array_equal(one.layers[name][:], plain.layers[name])
        pd.testing.assert_frame_equal(one.obs.astype(str), plain.obs.astype(str))
        assert {**one.uns["aggregate"]}.keys() == plain.uns["aggregate"].keys()


def test_several_sources_are_one_study(adata, tmp_path):
    adata.obs["only here"] = "x"
    adata.obs["kind"] = 1
    parts = [adata[:70].copy(), adata[70:].copy()]
    parts[1].obs["kind"] = "one"
    del parts[1].obs["only here"]
    parts[1].write_zarr(tmp_path / "second.zarr")
    joint = fsc.pp.aggregate([parts[0], tmp_path / "second.zarr"], BY, size_factors="total")
    plain = fsc.pp.aggregate(adata, BY, size_factors="total")
    np.testing.assert_array_equal(joint.X, plain.X)
    assert set(joint.obs) == set(plain.obs) - {"only here", "kind"}


def test_what_varies_is_told(adata, caplog):
    with caplog.at_level(logging.INFO, "flashmm_sc"):
        fsc.pp.aggregate(adata, "sam")
    assert caplog.messages[1:-1] == ["    'cls', 'batch', 'score' vary within strata and are left out of obs"]


def spoilt(adata, how):
    if how == "nan":
        adata.obs.loc["cell7", "sam"] = np.nan
    elif how in ("n_cells", "size"):
        adata.obs[how] = 1
    elif how == "size of cells":
        adata.obs["size"] = np.arange(160)
    elif how == "inf":
        adata.X = adata.X.toarray()
        adata.X[3, 5] = np.inf
    elif how == "negative":
        adata.X = adata.X.toarray()
        adata.X[3, 5] = -1
    return adata


@pytest.mark.parametrize(
    ("how", "by", "options", "error", "message"),
    [
        ("", "sample", {}, KeyError, r"by=\['sample'\] uses 'sample', which is not a column of obs"),
        ("", [], {}, TypeError, r"by=\[\] must be a column of obs, or a list of columns"),
        ("", ["sam", "sam"], {}, ValueError, "names 'sam' more than once"),
        ("nan", "sam", {}, ValueError, r"is NaN in 1 of 160 cells. Fill them in or leave these cells out"),
        ("n_cells", "sam", {}, ValueError, r"obs has a column 'n_cells', the name of what is added .* rename it"),
        ("size", "sam", {"size_factors": "total"}, ValueError, "obs has a column 'size'"),
        ("size of cells", "sam", {"size_factors": "total"}, ValueError, "obs has a column 'size'"),
        ("inf", "sam", {}, ValueError, "holds inf at cell 'cell3', gene 'gene5'"),
        ("negative", "sam", {"transform": "log1p"}, ValueError, "negative value -1 at cell 'cell3', gene 'gene5'"),
        ("", "sam", {"size_factors": "score"}, ValueError, "must be positive and finite"),
        ("", "sam", {"size_factors": "none"}, KeyError, "size_factors='none' uses 'none', which is not a column"),
        ("", "sam", {"size_factors": "total", "target_sum": 1e4}, ValueError, "target_sum=10000.0 is for a transform"),
        ("", "sam", {"out": "sums.csv"}, ValueError, "must be the name of a file that ends in .h5ad or .zarr"),
        ("", "sam", {"out": "no such/sums.h5ad"}, FileNotFoundError, "there is no such folder"),
    ],
)
def test_what_is_refused(adata, how, by, options, error, message):
    adata = spoilt(adata, how)
    before = adata.copy()
    with pytest.raises(error, match=message):
        fsc.pp.aggregate(adata, by, **options)
    assert_unchanged(adata, before)


def test_nothing_is_left_of_a_file_that_fails(adata, tmp_path):
    adata = spoilt(adata, "inf")
    with pytest.raises(ValueError, match="holds inf"):
        fsc.pp.aggregate(adata, "sam", out=tmp_path / "sums.h5ad")
    assert not list(tmp_path.iterdir())
    adata.write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(ValueError, match="is an input, which is only read"):
        fsc.pp.aggregate([tmp_path / "cells.h5ad"], "sam", out=tmp_path / "cells.h5ad")


def test_weights_of_what_is_no_count_are_advised_against(adata):
    fsc.pp.aggregate(adata, "sam", size_factors="total")  # says nothing
    adata.X = np.log1p(adata.X.toarray())
    fsc.pp.aggregate(adata, "sam")
    with pytest.warns(
        fsc.AdviceWarning, match=r"adata.X seems to hold logarithms or scaled values, while size factors"
    ):
        fsc.pp.aggregate(adata, "sam", size_factors="total")
    with pytest.warns(fsc.AdviceWarning, match=r"adata.X seems to hold logarithms already, of which transform='log1p'"):
        fsc.pp.aggregate(adata, "sam", transform="log1p")


def test_lazy_input(adata, tmp_path):
    plain = fsc.pp.aggregate(adata, BY, **SIZED)
    adata.write_zarr(tmp_path / "cells.zarr")
    lazy = fsc.pp.aggregate(ad.experimental.read_lazy(tmp_path / "cells.zarr"), BY, **SIZED)
    np.testing.assert_allclose(lazy.X, plain.X, rtol=1e-12)
    np.testing.assert_allclose(lazy.layers["counts_over_size"], plain.layers["counts_over_size"], rtol=1e-12)
    assert set(lazy.obs) == set(plain.obs)
    assert list(lazy.var["use"]) == list(plain.var["use"])


def test_strata_are_not_summed_again(adata):
    with pytest.raises(ValueError, match="adata holds strata already, not cells"):
        fsc.pp.aggregate(fsc.pp.aggregate(adata, BY), "sam")


@pytest.mark.parametrize("name", ["sums.h5ad", "sums.zarr"])
def test_no_room_for_the_sums(adata, tmp_path, monkeypatch, name):
    def full(*_):
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match=rf"^'.*{name}' can't be written: File too large\. Nothing was changed"):
        fsc.pp.aggregate(adata, BY, out=tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_store_takes_no_name_of_a_file(adata, tmp_path):
    (tmp_path / "sums.zarr").write_text("old")
    with pytest.raises(FileExistsError, match="is there already"):
        fsc.pp.aggregate(adata, BY, out=tmp_path / "sums.zarr")
    assert (tmp_path / "sums.zarr").read_text() == "old"
