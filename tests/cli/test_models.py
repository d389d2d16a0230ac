"""`flashmm-sc de --model nb`, run in process on small files."""

from __future__ import annotations

import re

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import flashmm_sc as fsc
from flashmm_sc.cli._main import main


@pytest.fixture(scope="module")
def study():
    adata = fsc.datasets.simu_rnaseq(n_genes=120, n_cells=800, n_samples=8, n_clusters=2, seed=1)
    adata.layers["counts"] = adata.X.copy()
    adata.obs["depth"] = np.random.default_rng(0).uniform(1, 3, 800)
    adata.var["use"] = np.arange(120) > 9
    return adata


@pytest.fixture
def source(study, tmp_path):
    path = tmp_path / "in.h5ad"
    study.write_h5ad(path)
    return path


def run(*arguments):
    return main(["de", *map(str, arguments)])


NB = ["--model", "nb", "--fixed", "~ trt", "--sample", "sam"]


def test_results_are_those_of_nbmm_de(study, source, tmp_path, capsys):
    out, table = tmp_path / "out.h5ad", tmp_path / "out.csv.gz"
    arguments = [*NB, "--groupby", "cls", "--contrast", "down = -1 * trt[T.B]", "--out", out, "--table", table]
    assert run(source, *arguments) == 0
    said, err = capsys.readouterr()
    assert err == ""
    assert "in.h5ad: 800 cells, 120 genes" in said
    assert "boundary" not in said
    assert re.search(r"^ +cells +samples +ok$", said, re.MULTILINE)
    assert re.search(r"^  1 +\d+ +8 +120$", said, re.MULTILINE)
    assert re.search(r"^  2\|down +\d+$", said, re.MULTILINE)

    expected = fsc.tl.nbmm_de(study, "~ trt", "sam", groupby="cls", contrasts={"down": "-1 * trt[T.B]"}, copy=True)
    tables = [fsc.get.lmm_de_df(expected, key=key) for key in ("nbmm_de", "nbmm_de_contrasts")]
    pd.testing.assert_frame_equal(
        pd.read_csv(table, dtype={"group": str}), pd.concat(tables, ignore_index=True), rtol=1e-7
    )
    got = ad.read_h5ad(out)
    assert {"nbmm_de", "nbmm_de_contrasts"} < set(got.uns)
    fsc.tl.lmm_test(got, "trt[T.B]", key="nbmm_de")


@pytest.mark.parametrize(("option", "words"), [("--free-variances", "nonnegative"), ("--moderate", "moderate")])
def test_switches_are_named_as_options(source, tmp_path, capsys, option, words):
    arguments = ["--fixed", "~ trt", "--random", "(depth|sam)", "--transform", "log1p", option]
    assert run(source, *arguments, "--table", tmp_path / "out.csv") == 2
    said = capsys.readouterr().err
    assert f"Correlated random effects can't have {option}" in said
    assert words + "=" not in said


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        (["--layer", "counts"], {"layer": "counts"}),
        (["--mask-var", "use"], {"mask_var": "use"}),
        (["--size-factors", "depth"], {"size_factors": "depth"}),
        (["--normalize", "none"], {"normalize": None}),
        (["--min-counts", "2000"], {"min_counts": 2000}),
        (["--corr-method", "bonferroni", "--corr-scope", "all"], {"corr_method": "bonferroni", "corr_scope": "all"}),
        (["--sample", "sam:trt"], {"sample": "sam:trt"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.filterwarnings("ignore:Only .* genes are fitted")
def test_options(study, source, tmp_path, options, arguments):
    table = tmp_path / "out.csv"
    assert run(source, *NB, *options, "--key-added", "mine", "--table", table) == 0
    expected = fsc.tl.nbmm_de(study, **{"fixed": "~ trt", "sample": "sam"} | arguments, copy=True)
    pd.testing.assert_frame_equal(pd.read_csv(table), fsc.get.lmm_de_df(expected), rtol=1e-7)


def test_several_files(study, source, tmp_path, capsys):
    first, second, table = tmp_path / "a.h5ad", tmp_path / "b.h5ad", tmp_path / "out.csv"
    study[:300].copy().write_h5ad(first)
    study[300:].copy().write_h5ad(second)
    assert run(first, second, *NB, "--table", table) == 0
    assert "800 cells" in capsys.readouterr().out
    expected = fsc.get.lmm_de_df(fsc.tl.nbmm_de(study, "~ trt", "sam", copy=True))
    np.testing.assert_allclose(pd.read_csv(table)["p_value"], expected["p_value"], rtol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--model", "nb", "--random", "sam"],
            "--random is for --model lmm, not for --model nb, which goes by --sample",
        ),
        ([*NB[:2], "--sample", "sam", "--moderate", "--ddf", "residual"], "--ddf, --moderate are for --model lmm"),
        (["--model", "nb", "--sample", "sam", "--transform", "none"], "--transform is for --model lmm"),
        (["--model", "nb", "--sample", "sam", "--free-variances"], "--free-variances is for --model lmm"),
        (["--model", "nb"], "--model nb needs --sample COLUMN"),
        (["--sample", "sam"], "--sample is for --model nb, not for --model lmm, which goes by --random"),
        (["--random", "sam", "--normalize", "none"], "--normalize is for --model nb"),
        ([], "--model lmm needs --random TERM"),
        (["--model", "nb", "--sample", "smaple"], "sample='smaple' uses 'smaple', which is not a column of obs"),
        (["--model", "nb", "--sample", "cls"], "obs['trt'], which fixed='~ trt' uses, varies within samples"),
    ],
)
def test_errors_are_one_plain_line(source, tmp_path, capsys, arguments, words):
    before = set(tmp_path.iterdir())
    assert run(source, "--fixed", "~ trt", *arguments, "--table", tmp_path / "out.csv") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("flashmm-sc: error: ")
    assert err.count("\n") == 1
    assert words in err
    assert set(tmp_path.iterdir()) == before


def test_a_model_there_is_not(source, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(source, "--model", "poisson", "--fixed", "~ trt", "--sample", "sam", "--table", "out.csv")
    assert "invalid choice: 'poisson'" in capsys.readouterr().err
