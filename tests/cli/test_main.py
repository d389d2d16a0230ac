"""The command line, run in process on small files."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from typing import get_args

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata.abc import CSRDataset

import flashmm_sc as fsc
from flashmm_sc._gaussian.profile import Method
from flashmm_sc._inference.adjustment import Correction
from flashmm_sc._inference.df import Ddf
from flashmm_sc._results import files
from flashmm_sc._stream.kernel import Transform
from flashmm_sc.cli._main import main

MODEL = ["--fixed", "~ 0 + cls + cls:trt", "--random", "sam"]
LOGGED = [*MODEL, "--transform", "log1p"]
QUIET = ["--fixed", "~ trt", "--random", "sam", "--transform", "log1p", "--size-factors", "total"]


@pytest.fixture
def source(adata, tmp_path):
    adata.obs["w"] = np.linspace(0.5, 2, adata.n_obs)
    """The counts in a file, with a layer, raw and things that a fit must neither need nor lose."""
    adata.obs["depth"] = np.linspace(1, 3, adata.n_obs)
    adata.raw = adata.copy()
    adata.layers["halved"] = adata.X / 2
    adata.layers["dense"] = adata.X.toarray()
    adata.obsm["X_pca"] = np.ones((adata.n_obs, 2))
    adata.varm["PCs"] = np.ones((adata.n_vars, 2))
    adata.uns["colors"] = np.array(["red", "blue"], dtype=object)
    path = tmp_path / "in.h5ad"
    adata.write_h5ad(path)
    return path


def run(*arguments):
    return main(["de", *map(str, arguments)])


def test_demo(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert max(map(len, out.splitlines())) <= 120
    assert [path.name for path in tmp_path.iterdir()] == ["flashmm_demo.h5ad"]
    said = np.array(re.findall(r"(\d+) of 10 planted genes found at FDR 0.05, (\d+) false", out), dtype=int)
    assert said.shape == (3, 2)
    assert said[:, 0].sum() >= 15
    assert said[:, 1].sum() <= 3

    adata = ad.read_h5ad("flashmm_demo.h5ad")
    table = fsc.get.lmm_de_df(adata, "trt[T.B]")
    planted = adata.var.loc[table["variable"], "de_cluster"].astype(str).to_numpy() == table["group"]
    found = table["adj_p_value"] < 0.05
    assert said.sum(axis=0).tolist() == [(found & planted).sum(), (found & ~planted).sum()]

    python, shell = re.search(r"Next, in Python:\n(.*)\nor in the shell.*?:\n(.*)", out, re.DOTALL).groups()
    exec("\n".join(line.strip() for line in python.splitlines()), {})
    command = shlex.split(shell.replace("\\\n", ""))
    assert command[0] == "flashmm-sc"
    assert main(command[1:]) == 0
    assert len(pd.read_csv("flashmm_demo.csv")) == 3 * 2 * adata.n_vars


def test_results_are_those_of_lmm_de(adata, source, tmp_path, capsys):
    before = source.read_bytes()
    out, table = tmp_path / "out.h5ad", tmp_path / "out.csv.gz"
    assert run(source, *QUIET, "--out", out, "--table", table) == 0
    assert capsys.readouterr().err == ""
    assert source.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"in.h5ad", "out.h5ad", "out.csv.gz"}

    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p", size_factors="total")
    expected = fsc.get.lmm_de_df(adata)
    pd.testing.assert_frame_equal(pd.read_csv(table), expected, check_dtype=False)
    got = ad.read_h5ad(out)
    pd.testing.assert_frame_equal(fsc.get.lmm_de_df(got), expected)
    assert set(got.varm) == set(adata.varm)
    assert set(got.uns) == {"colors", "lmm_de"}
    assert (got.X != adata.X).nnz == 0
    assert {"halved", "dense"} <= set(got.layers)
    assert "X_pca" in got.obsm
    fsc.tl.lmm_test(got, "Intercept + trt[T.B]")


@pytest.mark.parametrize("matrix", [sp.csc_matrix, lambda X: X.toarray()], ids=["csc", "dense"])
def test_other_matrices(adata, tmp_path, matrix):
    path, table = tmp_path / "in.h5ad", tmp_path / "out.csv"
    adata.X = matrix(adata.X)
    adata.write_h5ad(path)
    assert run(path, *LOGGED, "--table", table) == 0
    fsc.tl.lmm_de(adata, MODEL[1], "sam", transform="log1p")
    pd.testing.assert_frame_equal(pd.read_csv(table), fsc.get.lmm_de_df(adata), check_dtype=False)


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        (["--layer", "halved"], {"layer": "halved"}),
        (["--layer", "dense"], {"layer": "dense"}),
        (["--use-raw"], {"use_raw": True}),
        (["--mask-var", "use"], {"mask_var": "use"}),
        (["--weights", "w"], {"weights": "w"}),
        (["--residual-by", "cls"], {"residual_by": "cls"}),
        (["--random", "batch"], {"random": ["sam", "batch"]}),
        (["--groupby", "cls", "--fixed", "~ trt"], {"groupby": "cls", "fixed": "~ trt"}),
        (
            ["--method", "ML", "--ddf", "residual", "--free-variances"],
            {"method": "ML", "ddf": "residual", "nonnegative": False},
        ),
        (["--corr-method", "bonferroni", "--n-jobs", "1"], {"corr_method": "bonferroni"}),
        (["--size-factors", "total", "--target-sum", "1e4"], {"size_factors": "total", "target_sum": 1e4}),
        (["--size-factors", "depth"], {"size_factors": "depth"}),
        (["--transform", "none", "--log-base", "2"], {"transform": None, "log_base": 2}),
        (
            ["--min-cells", "75", "--groupby", "cls", "--fixed", "~ trt"],
            {"min_cells": 75, "groupby": "cls", "fixed": "~ trt"},
        ),
        (["--min-fraction", "0.7", "--min-counts", "300"], {"min_fraction": 0.7, "min_counts": 300}),
        (["--corr-scope", "all"], {"corr_scope": "all"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.filterwarnings("ignore::flashmm_sc.FlashmmWarning")
def test_options(adata, source, tmp_path, options, arguments):
    table = tmp_path / "out.csv"
    assert run(source, *LOGGED, *options, "--table", table) == 0
    fsc.tl.lmm_de(adata, **{"fixed": MODEL[1], "random": "sam", "transform": "log1p"} | arguments)
    pd.testing.assert_frame_equal(pd.read_csv(table), fsc.get.lmm_de_df(adata), check_dtype=False)


def test_contrasts_in_groups(source, tmp_path, capsys):
    out, table = tmp_path / "out.h5ad", tmp_path / "out.csv"
    contrasts = ["--contrast", "down = -1 * trt[T.B]", "--contrast", "half=trt[T.B] / 2"]
    options = ["--random", "sam", "--transform", "log1p", "--groupby", "cls", "--key-added", "by_type"]
    assert run(source, "--fixed", "~ trt", *options, *contrasts, "--out", out, "--table", table) == 0
    said = capsys.readouterr().out
    assert re.search(r"^  NK +\d+ ", said, re.MULTILINE)
    assert re.search(r"^  NK\|down +\d+$", said, re.MULTILINE)
    tests = pd.read_csv(table).pivot_table("coef", "variable", ["group", "contrast"])
    np.testing.assert_allclose(tests["B", "down"], -tests["B", "trt[T.B]"])
    np.testing.assert_allclose(tests["NK", "half"], tests["NK", "trt[T.B]"] / 2)
    assert {"by_type", "by_type_contrasts"} < set(ad.read_h5ad(out).uns)


def test_summary_counts_genes(adata, source, tmp_path, capsys):
    assert run(source, *LOGGED, "--table", tmp_path / "out.csv") == 0
    said = capsys.readouterr().out
    fsc.tl.lmm_de(adata, MODEL[1], "sam", transform="log1p")
    table = fsc.get.lmm_de_df(adata)
    assert "in.h5ad: 160 cells, 12 genes" in said
    for name, count in (table["adj_p_value"] < 0.05).groupby(table["contrast"]).sum().items():
        is_mean = ":" not in name  # of a cell type, which is no finding
        assert is_mean != bool(re.search(rf"^  {re.escape(name)} +{count}$", said, re.MULTILINE))
    assert (
        run(source, "--fixed", "~ 1", "--random", "sam", "--transform", "log1p", "--table", tmp_path / "out.csv") == 0
    )
    assert "adjusted p-value" not in capsys.readouterr().out


def test_log_base_of_scanpy_is_known(adata, tmp_path, capsys):
    adata.X = adata.X.log1p()
    adata.uns["log1p"] = {"base": None}
    path, out, table = (tmp_path / name for name in ("in.h5ad", "out.h5ad", "out.csv"))
    adata.write_h5ad(path)
    model = ["--fixed", "~ trt", "--random", "sam", "--transform", "none"]
    assert run(path, *model, "--out", out, "--table", table) == 0
    assert capsys.readouterr().err == ""
    results = pd.read_csv(table)
    np.testing.assert_allclose(results["log_fc"], results["coef"] / np.log(2))
    assert set(ad.read_h5ad(out).uns) == {"log1p", "lmm_de"}


def test_results_of_an_earlier_call_are_replaced(adata, tmp_path):
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p", ranef=True, contrasts="trt[T.B] / 2")
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p", key_added="lmm_de_2")
    old, new = tmp_path / "old.h5ad", tmp_path / "new.h5ad"
    adata.write_h5ad(old)
    new.write_text("overwritten")
    assert run(old, *LOGGED, "--out", new) == 0
    got = ad.read_h5ad(new)
    assert set(got.uns) == {"lmm_de", "lmm_de_2"}
    assert not [name for name in got.varm if "ranef" in name or "contrasts" in name]
    np.testing.assert_array_equal(got.varm["lmm_de_2_coef"], adata.varm["lmm_de_2_coef"])
    assert "ranef_names" not in got.uns["lmm_de"]
    assert got.varm["lmm_de_coef"].shape == (adata.n_vars, 4)


def test_matrices_stay_on_disk(source):
    with files.streamed(source) as adata:
        assert isinstance(adata.X, CSRDataset)
        assert isinstance(adata.raw.X, CSRDataset)
        assert isinstance(adata.layers["halved"], CSRDataset)
        assert isinstance(adata.layers["dense"], h5py.Dataset)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.h5ad", *MODEL, "--table", "out.csv"], "There is no file 'missing.h5ad'"),
        (["text.h5ad", *MODEL, "--table", "out.csv"], "is not an h5ad file"),
        (["other.h5ad", *MODEL, "--table", "out.csv"], "holds no AnnData"),
        (["in.h5ad", *MODEL], "--out OUT.h5ad, --table OUT.csv or --plot OUT.png"),
        (["in.h5ad", *MODEL, "--out", "in.h5ad"], "is an input"),
        (["in.h5ad", *MODEL, "--out", "link.h5ad"], "is an input"),
        (["in.h5ad", *MODEL, "--table", "in.h5ad"], "ends in .csv or .csv.gz"),
        (["in.h5ad", *MODEL, "--out", "out.zarr"], "ends in .h5ad"),
        (["in.h5ad", *MODEL, "--out", "folder.h5ad"], "must be the name of a file"),
        (["in.h5ad", *MODEL, "--table", "nowhere/out.csv"], "there is no such folder"),
        (["in.h5ad", "--fixed", "~ treat", "--random", "sam", "--out", "out.h5ad"], "'treat', which is not a column"),
        (["in.h5ad", "--fixed", "~ trt", "--random", "smaple", "--out", "out.h5ad"], "not a column of obs"),
        (["in.h5ad", *MODEL, "--out", "out.h5ad", "--layer", "count"], "layer='count' is not in adata.layers"),
        (["in.h5ad", *MODEL, "--out", "out.h5ad", "--key-added", "a/b"], "key_added='a/b'"),
        (["in.h5ad", *MODEL, "--out", "out.h5ad", "--key-added", "colors"], "adata.uns['colors'] holds something else"),
        (["in.h5ad", *MODEL, "--out", "out.h5ad", "--contrast", "d=cls[C]"], "unknown coefficient 'cls[C]'"),
        (["in.h5ad", *MODEL, "--out", "out.h5ad", *["--contrast", "d=cls[B]"] * 2], "the same name"),
    ],
)
def test_errors_are_one_plain_line(source, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.h5ad").write_text("not HDF5")
    (tmp_path / "folder.h5ad").mkdir()
    (tmp_path / "link.h5ad").symlink_to(source)
    h5py.File("other.h5ad", "w").close()
    before = source.read_bytes(), set(tmp_path.iterdir())
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("flashmm-sc: error: ")
    assert err.count("\n") == 1
    assert words in err
    assert (source.read_bytes(), set(tmp_path.iterdir())) == before


@pytest.mark.parametrize(
    ("option", "choices"),
    [("--transform", Transform), ("--method", Method), ("--ddf", Ddf), ("--corr-method", Correction)],
)
def test_choices_are_the_packages_own(source, capsys, option, choices):
    with pytest.raises(SystemExit, match="2"):
        run(source, *MODEL, "--table", "out.csv", option, "foo")
    err = capsys.readouterr().err
    assert err.startswith(f"flashmm-sc: error: argument {option}: invalid choice: 'foo'")
    assert err.count("\n") == 1
    assert all((choice or "none") in err for choice in get_args(choices))


def test_contrast_needs_a_name(source, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(source, *MODEL, "--table", "out.csv", "--contrast", "cls[B]")
    assert "'cls[B]' is not of the form NAME=EXPR" in capsys.readouterr().err


def test_warnings_are_plain(source, tmp_path, capsys):
    assert run(source, *MODEL, "--table", tmp_path / "out.csv") == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line[:20] for line in lines] == ["flashmm-sc: warning:"] * 3
    assert "raw counts" in lines[0]
    assert "groupby='cls'" in lines[1]
    assert "log_fc is NaN" in lines[2]


def test_nothing_half_written_remains(source, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_results", full)
    assert run(source, *LOGGED, "--out", tmp_path / "out.h5ad", "--table", tmp_path / "out.csv") == 2
    assert "No space left" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.h5ad"]


def test_interrupted(source, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(fsc.tl, "lmm_de", interrupt)
    assert run(source, *LOGGED, "--out", tmp_path / "out.h5ad") == 130
    assert [path.name for path in tmp_path.iterdir()] == ["in.h5ad"]


def test_traceback_on_request():
    with pytest.raises(FileNotFoundError):
        main(["--traceback", "de", "missing.h5ad", *MODEL, "--table", "out.csv"])


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["de", "--help"]])
def test_help(capsys, arguments):
    with pytest.raises(SystemExit, match="0"):
        main(arguments)
    assert capsys.readouterr().out.startswith("usage: flashmm-sc")


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"flashmm-sc {fsc.__version__}\n"


def test_as_a_program():
    command = [sys.executable, "-m", "flashmm_sc.cli._main", "de", "missing.h5ad", *MODEL, "--table", "out.csv"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "flashmm-sc: error: There is no file 'missing.h5ad'.\n"


def test_several_files_are_analysed_together(adata, source, tmp_path, capsys):
    first, second = tmp_path / "a.h5ad", tmp_path / "b.zarr"
    whole = ad.read_h5ad(source)
    whole[:70].copy().write_h5ad(first)
    whole[70:].copy().write_zarr(second)
    out = tmp_path / "both.h5ad"
    arguments = ["--fixed", "~ trt", "--random", "sam", "--transform", "log1p", "--out", str(out)]
    assert main(["de", str(first), str(second), *arguments]) == 0
    assert f"{first}, {second}: 160 cells, 12 genes" in capsys.readouterr().out
    fsc.tl.lmm_de(whole, "~ trt", "sam", transform="log1p")
    both = ad.read_h5ad(out)
    assert both.shape == (0, 12)
    np.testing.assert_allclose(both.varm["lmm_de_t"], whole.varm["lmm_de_t"], rtol=1e-9)


ZARR = ["--fixed", "~ trt", "--random", "sam", "--transform", "log1p"]


def test_a_zarr_store_is_copied_with_its_results(adata, source, tmp_path):
    store, out = tmp_path / "in.zarr", tmp_path / "out.zarr"
    whole = ad.read_h5ad(source)
    whole.write_zarr(store)
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    assert run(store, *ZARR, "--out", out) == 0
    fsc.tl.lmm_de(whole, "~ trt", "sam", transform="log1p")
    back = ad.read_zarr(out)
    assert back.shape == whole.shape
    assert {"X_pca"} <= set(back.obsm)
    np.testing.assert_allclose(back.varm["lmm_de_t"], whole.varm["lmm_de_t"], rtol=1e-9)
    assert fsc.get.lmm_de_df(back)["p_value"].notna().all()
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"in.h5ad", "in.zarr", "out.zarr"}


@pytest.mark.parametrize(
    ("out", "words"),
    [("out.h5ad", "ends in .zarr (it is a copy"), ("there.zarr", "is there already"), ("in.zarr", "only read")],
)
def test_where_a_zarr_store_is_not_copied(source, tmp_path, capsys, out, words):
    ad.read_h5ad(source).write_zarr(tmp_path / "in.zarr")
    (tmp_path / "there.zarr").mkdir()
    assert run(tmp_path / "in.zarr", *ZARR, "--out", tmp_path / out) == 2
    assert words in capsys.readouterr().err
    assert not list((tmp_path / "there.zarr").iterdir())


ENDED = """
import signal, sys
from flashmm_sc.cli import _main
write_table = _main.write_table
def ended(table, path):
    write_table(table, path)
    signal.raise_signal(signal.SIGTERM)
_main.write_table = ended
sys.exit(_main.main(sys.argv[1:]))
"""


def test_a_process_that_is_ended_leaves_nothing(source, tmp_path):
    command = ["de", source, *QUIET, "--out", tmp_path / "out.h5ad", "--table", tmp_path / "out.csv"]
    ended = subprocess.run(
        [sys.executable, "-c", ENDED, *map(str, command)], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr, set(tmp_path.iterdir())) == (143, "", {source})
