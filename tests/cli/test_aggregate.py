"""Strata from the command line, and fits of them."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import flashmm_sc as fsc
from flashmm_sc.cli._main import main

VALUES = ["--transform", "log1p", "--size-factors", "total", "--target-sum", "30", "--mask-var", "use", "--n-jobs", "1"]
MODEL = ["--fixed", "~ trt", "--random", "sam", "--groupby", "cls"]


@pytest.fixture
def source(adata, tmp_path):
    path = tmp_path / "in.h5ad"
    adata.write_h5ad(path)
    return path


def run(*arguments):
    return main(list(map(str, arguments)))


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_strata_are_written_and_fitted_as_the_cells(adata, source, tmp_path, capsys, ending):
    sums, tables = tmp_path / f"sums.{ending}", [tmp_path / "strata.csv", tmp_path / "cells.csv"]
    assert run("aggregate", source, "--by", "sam", "--by", "cls", "--out", sums, *VALUES) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{source}: 160 cells of 16 strata, 8 genes\n")
    assert said.endswith(f"Written: {sums}\n")
    expected = fsc.pp.aggregate(
        adata, ["sam", "cls"], transform="log1p", size_factors="total", target_sum=30, mask_var="use"
    )
    read = ad.read_h5ad(sums) if ending == "h5ad" else ad.read_zarr(sums)
    np.testing.assert_array_equal(read.X, expected.X)
    assert run("de", sums, *MODEL, "--table", tables[0]) == 0
    assert run("de", source, *MODEL, *VALUES, "--table", tables[1]) == 0
    ours, theirs = map(pd.read_csv, tables)
    theirs = theirs[theirs["status"] != "masked"].reset_index(drop=True)
    pd.testing.assert_frame_equal(ours.drop(columns="adj_p_value"), theirs.drop(columns="adj_p_value"), rtol=1e-9)


def test_several_files_and_raw_counts(adata, source, tmp_path):
    out = tmp_path / "sums.h5ad"
    adata[:60].write_h5ad(source)
    adata[60:].write_zarr(tmp_path / "more.zarr")
    assert run("aggregate", source, tmp_path / "more.zarr", "--by", "sam", "--transform", "none", "--out", out) == 0
    np.testing.assert_array_equal(ad.read_h5ad(out).X, fsc.pp.aggregate(adata, "sam").X)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["in.h5ad", "--by", "sam"], "the following arguments are required: --out"),
        (["none.h5ad", "--by", "sam", "--out", "sums.h5ad"], "There is no file 'none.h5ad'"),
        (["in.h5ad", "--by", "donor", "--out", "sums.h5ad"], "which is not a column of obs"),
        (["in.h5ad", "--by", "sam", "--out", "sums.csv"], "must be the name of a file that ends in .h5ad or .zarr"),
        (["in.h5ad", "--by", "sam", "--out", "in.h5ad"], "is an input, which is only read"),
    ],
)
def test_errors_are_one_plain_line(source, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    try:
        code = run("aggregate", *arguments)
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("flashmm-sc: error: ")
    assert words in error
    assert [path.name for path in tmp_path.iterdir()] == ["in.h5ad"]
