"""`flashmm-sc test`: further tests of a fit in a file, whose cells are not read."""

from __future__ import annotations

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from containers import assert_same

import flashmm_sc as fsc
from flashmm_sc._results import files
from flashmm_sc.cli._main import main

CONTRAST = ["--contrast", "double=2 * trt[T.B]"]


@pytest.fixture
def fitted(adata):
    fsc.tl.lmm_de(adata, "~ trt + cls", "sam", transform="log1p")
    adata.uns["mine"], adata.uns["number"] = {"a": 1}, 3
    return adata


@pytest.fixture
def source(fitted, tmp_path):
    """A fit in a file, whose cells can't be read."""
    path = tmp_path / "fit.h5ad"
    fitted.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        del file["X/indptr"]
        del file["obs/score"]
    return path


def run(*arguments):
    return main(["test", *map(str, arguments)])


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], {}),
        (["--alternative", "greater", "--conf-level", "0.9"], {"alternative": "greater", "conf_level": 0.9}),
        (["--lfc", "0.1", "--ddf", "residual", "--key", "lmm_de"], {"lfc": 0.1, "ddf": "residual"}),
        (["--corr-method", "bonferroni", "--corr-scope", "all"], {"corr_method": "bonferroni", "corr_scope": "all"}),
        (["--joint", "--contrast", "t=cls[T.NK]"], {"joint": True}),
    ],
)
def test_contrasts_are_those_of_lmm_test(fitted, source, tmp_path, arguments, options):
    table, before = tmp_path / "out.tsv", source.read_bytes()
    assert run(source, *CONTRAST, "--table", table, "--n-jobs", 1, *arguments) == 0
    contrasts = {"double": "2 * trt[T.B]"} | ({"t": "cls[T.NK]"} if "joint" in options else {})
    fsc.tl.lmm_test(fitted, contrasts, **options)
    expected = fsc.get.lmm_de_df(fitted, key="lmm_test")
    pd.testing.assert_frame_equal(pd.read_csv(table, sep="\t"), expected, check_dtype=False)
    assert source.read_bytes() == before


def test_terms_are_those_of_lmm_anova(fitted, source, tmp_path, capsys):
    assert run(source, "--anova", "--table", tmp_path / "out.csv") == 0
    fsc.tl.lmm_anova(fitted)
    expected = fsc.get.lmm_de_df(fitted, key="lmm_anova")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out.csv"), expected, check_dtype=False)
    out, err = capsys.readouterr()
    assert err == ""
    assert f"{source}: lmm_de, 12 genes" in out
    found = int((expected[expected["contrast"] == "trt"]["adj_p_value"] < 0.05).sum())
    assert [line.split() for line in out.splitlines() if "trt" in line] == [["trt", str(found)]]


@pytest.mark.parametrize("store", ["fit.h5ad", "fit.zarr"])
def test_out_is_a_copy_with_the_tests(fitted, tmp_path, store):
    source, out = tmp_path / store, tmp_path / f"out{store[3:]}"
    (fitted.write_zarr if store.endswith("zarr") else fitted.write_h5ad)(source)
    assert run(source, *CONTRAST, "--out", out, "--key-added", "more") == 0
    new = (ad.read_zarr if store.endswith("zarr") else ad.read_h5ad)(out)
    fsc.tl.lmm_test(fitted, {"double": "2 * trt[T.B]"}, key_added="more")
    assert set(new.varm) == set(fitted.varm)
    for name in fitted.varm:
        assert_same(new.varm[name], fitted.varm[name])
    assert set(new.uns) == set(fitted.uns)
    assert (new.X != fitted.X).nnz == 0
    assert new.obs["score"].to_numpy().tolist() == fitted.obs["score"].tolist()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*CONTRAST], "The results would go nowhere"),
        (["--out", "out.h5ad"], "nothing to test; give --contrast NAME=EXPR or --anova"),
        (["--table", "out.csv", "--key-added", "new"], "nothing to test"),
        (["--anova", "--table", "out.csv", "--lfc", "1", "--joint"], "--lfc, --joint: for contrasts only"),
        ([*CONTRAST, "--table", "out.xlsx"], "must be the name of a file that ends in .csv or .csv.gz or .tsv"),
        ([*CONTRAST, "--out", "fit.h5ad"], "is an input, which is only read"),
        ([*CONTRAST, "--table", "out.csv", "--key", "lmm"], "Did you mean 'lmm_de'?"),
        ([*CONTRAST, "--table", "out.csv", "--key-added", "lmm_de"], "is the key of a fit"),
        ([*CONTRAST, *CONTRAST, "--table", "out.csv"], "two contrasts have the same name"),
        (["--contrast", "x=trt[B]", "--table", "out.csv"], "unknown coefficient 'trt[B]'"),
        (["--plot", "out.png"], "--plot draws one effect; choose --plot-coef among 'trt[T.B]', 'cls[T.NK]'"),
        (["--plot", "out.png", "--plot-coef", "trt[B]"], "none of the effects. Did you mean 'trt[T.B]'"),
        (["--plot", "out.gif"], "--plot 'out.gif' must be the name of a file that ends in .png or .pdf or .svg"),
        ([*CONTRAST, "--contrast", "t=cls[T.NK]", "--plot", "x.png"], "choose --plot-coef among 'double', 't'"),
    ],
)
def test_errors_are_one_plain_line(source, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert run("fit.h5ad", *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("flashmm-sc: error: ")
    assert err.count("\n") == 1
    assert words in err
    assert [path.name for path in tmp_path.iterdir()] == ["fit.h5ad"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "There is no file"),
        ("text", "is not an h5ad file"),
        ({}, "holds no results: it has no var"),
        ({"var": 1}, "has no uns"),
    ],
)
def test_files_without_results(tmp_path, capsys, content, words):
    path = tmp_path / "x.h5ad"
    if isinstance(content, str):
        path.write_text(content)
    elif content is not None:
        with h5py.File(path, "w") as file:
            file.update({name: np.ones(1) for name in content})
    assert run(path, *CONTRAST, "--table", tmp_path / "out.csv") == 2
    assert words in capsys.readouterr().err


def test_a_file_of_cells_alone(adata, tmp_path, capsys):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    assert run(tmp_path / "cells.h5ad", *CONTRAST, "--table", tmp_path / "out.csv") == 2
    assert "holds no result" in capsys.readouterr().err


def test_contrasts_or_terms(source, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(source, *CONTRAST, "--anova", "--table", "out.csv")
    assert "not allowed with argument --contrast" in capsys.readouterr().err


def test_nothing_half_written_remains(fitted, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    fitted.write_h5ad(tmp_path / "fit.h5ad")
    monkeypatch.setattr(files, "write_results", full)
    both = ["--out", tmp_path / "out.h5ad", "--table", tmp_path / "out.csv"]
    assert run(tmp_path / "fit.h5ad", *CONTRAST, *both) == 2
    assert "No space left" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["fit.h5ad"]


@pytest.mark.parametrize("option", [("--ddf", "residual"), ("--corr-method", "bonferroni"), ("--n-jobs", "2")])
def test_options_of_tests_need_tests(source, tmp_path, capsys, option):
    assert run(source, "--table", tmp_path / "t.csv", *option) == 2
    assert "There is nothing to test" in capsys.readouterr().err


def test_what_is_not_ours_is_not_overwritten(source, tmp_path, capsys):
    with h5py.File(source, "r+") as file:
        ad.io.write_elem(file["uns"], "lmm_test", {"mine": 1})
    assert run(source, "--contrast", "a=trt[T.B]", "--out", tmp_path / "new.h5ad") == 2
    assert "holds something else" in capsys.readouterr().err
    assert not (tmp_path / "new.h5ad").exists()
