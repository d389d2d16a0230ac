"""Of a file only those columns of obs are read that a call needs, however they are stored, and names of cells for messages."""

from __future__ import annotations

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from same_results import assert_equal_results, run

import flashmm_sc as fsc
from flashmm_sc._results import cells_file
from flashmm_sc._results.files import streamed

ENDINGS = ["h5ad", "zarr"]


def written(adata, folder, ending="h5ad"):
    path = folder / f"a.{ending}"
    getattr(adata, f"write_{ending}")(path)
    return path


def columns(n):
    """A column of each kind that anndata can store."""
    words = np.resize(["b", "a", "c"], n)
    return {
        "categories": pd.Categorical(words),
        "in an order": pd.Categorical(words, ["c", "b", "a"], ordered=True),
        "of numbers": pd.Categorical(np.arange(n) % 3),
        "with a missing one": pd.Categorical(np.where(np.arange(n) == 3, None, words)),
        "texts": [f"text {i}" for i in range(n)],
        "floats": np.linspace(0, 1, n),
        "wholes": np.arange(n, dtype="int32"),
        "flags": np.arange(n) % 2 == 0,
        "flags, maybe": pd.array(np.resize([True, False, None], n), "boolean"),
        "wholes, maybe": pd.array(np.resize([1, 2, None], n), "Int64"),
    }


@pytest.fixture
def varied(adata):
    adata.obs = adata.obs.assign(**columns(adata.n_obs))
    return adata


@pytest.mark.parametrize("ending", ENDINGS)
def test_columns_are_those_of_anndata(varied, tmp_path, ending):
    path = written(varied, tmp_path, ending)
    expected = getattr(ad, f"read_{ending}")(path).obs
    with streamed(path) as cells:
        assert cells.shape == varied.shape
        assert list(cells.obs.columns) == list(expected.columns)
        for name in expected:
            pd.testing.assert_series_equal(cells.obs[name], expected[name].reset_index(drop=True))
        several = ["wholes", "categories"]
        pd.testing.assert_frame_equal(cells.obs[several], expected[several].reset_index(drop=True))
        assert list(cells.obs_names) == list(expected.index)


def of_long_ago(adata, path):
    """A file whose columns refer to their categories, as anndata wrote them before version 0.8."""
    written(adata, path.parent).rename(path)
    with h5py.File(path, "r+") as file:
        del file["obs"]
        obs = file.create_group("obs")
        obs.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.1.0", "_index": "index"})
        obs.attrs["column-order"] = np.array(list(adata.obs), dtype=object)
        obs["index"] = adata.obs_names.to_numpy(dtype=object)
        for name in adata.obs:
            if pd.api.types.is_numeric_dtype(adata.obs[name]):
                obs[name] = adata.obs[name]
                continue
            factor = pd.Categorical(adata.obs[name])
            obs[f"__categories/{name}"] = factor.categories.to_numpy(dtype=object)
            obs[name] = factor.codes
            obs[name].attrs["categories"] = obs[f"__categories/{name}"].ref
    return path


@pytest.mark.filterwarnings("ignore:Element:anndata.OldFormatWarning")
def test_a_file_of_long_ago(adata, tmp_path):
    path = of_long_ago(adata, tmp_path / "old.h5ad")
    assert ad.read_h5ad(path).obs["trt"].astype(str).tolist() == adata.obs["trt"].tolist()
    assert_equal_results(run([path]), run(adata))


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    "call",
    [
        lambda path: run([path], "~ trt", groupby="cls", size_factors="wholes + 1"),
        lambda path: fsc.tl.nbmm_de([path], "~ trt", "sam", groupby="cls", size_factors="wholes + 1"),
        lambda path: (
            fsc.summarize([path], fsc.Design.of(ad.io.read_elem(h5py.File(path)["obs"]), "~ trt + cls", "sam"))
            if path.is_file()
            else None
        ),
    ],
    ids=["lmm_de", "nbmm_de", "summarize"],
)
@pytest.mark.filterwarnings("ignore")
def test_no_other_columns_are_read_and_no_names(varied, tmp_path, monkeypatch, ending, call):
    varied.obs["wholes + 1"] = varied.obs["wholes"] + 1
    path, seen = written(varied, tmp_path, ending), set()
    monkeypatch.setattr(
        cells_file, "read", lambda element: seen.add(element.name.strip("/")) or ad.io.read_elem(element)
    )
    call(path)
    found = {name.removeprefix("obs/") for name in seen if name.startswith("obs")}
    assert found <= {"sam", "trt", "cls", "wholes + 1"}


def test_strata_of_a_file_have_all_columns_that_are_constant(varied, tmp_path):
    whole, of_file = fsc.pp.aggregate(varied, "sam"), fsc.pp.aggregate([written(varied, tmp_path)], "sam")
    assert list(of_file.obs) == list(whole.obs)
    pd.testing.assert_frame_equal(of_file.obs, whole.obs, check_dtype=False, check_categorical=False)
    assert list(of_file.uns["aggregate"]["dropped"]) == list(whole.uns["aggregate"]["dropped"])


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_missing_column_is_told_with_those_there_are(adata, tmp_path, ending):
    path = written(adata, tmp_path, ending)
    with pytest.raises(
        KeyError, match=rf"for '.*a\.{ending}' uses 'trd', which is not a column of obs. Did you mean 'trt'"
    ):
        run([path], "~ trd")
    with pytest.raises(KeyError, match=r"weights='depht'.*a\..*Did you mean 'depth'|There are: 'sam'"):
        run([path], weights="depht")


@pytest.mark.parametrize("name", ["obs/trt/codes", "obs/_index", "obs"])
def test_what_is_damaged_is_named(adata, tmp_path, name):
    path = written(adata, tmp_path)
    with h5py.File(path, "r+") as file:
        if name == "obs":
            del file["obs"].attrs["column-order"]
        elif name == "obs/_index":
            del file[name]
        else:
            codes = file[name][:-1]
            del file[name]
            ad.io.write_elem(file["obs/trt"], "codes", codes)
    with pytest.raises(OSError, match=r"a\.h5ad' can't be read: .* It may be truncated or corrupt"):
        run([path])


@pytest.mark.parametrize("part", ["X", "layers/more", "raw/X"])
def test_matrices_of_other_cells(adata, tmp_path, part):
    adata.layers["more"], adata.raw = adata.X, adata.copy()
    path = written(adata, tmp_path)
    with h5py.File(path, "r+") as file:
        *where, name = part.split("/")
        inside = file[where[0]] if where else file
        del inside[name]
        ad.io.write_elem(inside, name, adata.X[:-1])
    with pytest.raises(OSError, match=r"is of 159 cells and 12 genes, obs and var of 160 and 12"):
        run([path])


def test_only_fitted_genes_need_be_in_raw(adata, tmp_path):
    adata.raw = adata[:, adata.var["use"]].copy()
    path = written(adata, tmp_path)
    assert_equal_results(run([path], mask_var="use", use_raw=True), run(adata, mask_var="use", use_raw=True))
