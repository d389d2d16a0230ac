"""`--subset`: cells with given values of columns of obs."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import flashmm_sc as fsc
from flashmm_sc._results.chosen import mask_of
from flashmm_sc.cli._main import main
from flashmm_sc.cli._subset import column_and_values, subset_values

MODEL = ["--fixed", "~ trt", "--random", "sam", "--transform", "log1p"]


@pytest.fixture
def source(adata, tmp_path):
    n = adata.n_obs
    adata.obs["odd, name"] = np.resize(["CD4+, naive", "CD4+", "naive", "a=b"], n)
    adata.obs["dose"] = np.resize([0.0, 1.0, 2.5, np.nan], n)
    adata.obs["flag"] = np.arange(n) % 3 == 0
    adata.obs["maybe"] = pd.Categorical(np.resize(["x", None], n))
    path = tmp_path / "in.h5ad"
    adata.write_h5ad(path)
    return path


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["cls=NK"], lambda obs: obs["cls"] == "NK"),
        ([" batch = x , z "], lambda obs: obs["batch"].isin(["x", "z"])),
        (["batch=x,z", "cls=NK"], lambda obs: obs["batch"].isin(["x", "z"]) & (obs["cls"] == "NK")),
        (["batch=x,z", "batch=y,z"], lambda obs: obs["batch"] == "z"),
        (["odd, name=CD4+, naive"], lambda obs: obs["odd, name"] == "CD4+, naive"),
        (["odd, name=naive, CD4+"], lambda obs: obs["odd, name"].isin(["CD4+", "naive"])),
        (["odd, name=a=b"], lambda obs: obs["odd, name"] == "a=b"),
        (["dose=1"], lambda obs: obs["dose"] == 1),
        (["flag=True"], lambda obs: obs["flag"]),
        (["maybe=x"], lambda obs: obs["maybe"] == "x"),
    ],
)
def test_cells_that_are_chosen(adata, source, texts, expected):
    mask = mask_of([adata.obs], subset_values([source], [column_and_values(text) for text in texts]))
    assert mask.dtype == bool
    assert mask.tolist() == expected(adata.obs).tolist()
    assert 0 < mask.sum() < adata.n_obs


@pytest.mark.parametrize("command", ["de", "aggregate"])
def test_as_if_the_others_were_not_there(adata, source, tmp_path, capsys, command):
    out, subset = tmp_path / "out.h5ad", ["--subset", "cls=NK", "--subset", "batch=x,y"]
    own = adata[(adata.obs["cls"] == "NK") & adata.obs["batch"].isin(["x", "y"])].copy()
    if command == "de":
        assert main(["de", str(source), *MODEL, *subset, "--table", str(tmp_path / "out.csv")]) == 0
        fsc.tl.lmm_de(own, "~ trt", "sam", transform="log1p")
        expected = fsc.get.lmm_de_df(own)
        pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out.csv"), expected, check_dtype=False)
    else:
        assert main(["aggregate", str(source), "--by", "sam", *subset, "--out", str(out)]) == 0
        expected = fsc.pp.aggregate(own, "sam")
        assert np.array_equal(ad.read_h5ad(out).X, expected.X)
    assert f"{source}: {own.n_obs} cells" in capsys.readouterr().out


def test_several_files_and_strata(adata, source, tmp_path):
    first, second, sums = (tmp_path / name for name in ("a.h5ad", "b.h5ad", "sums.h5ad"))
    adata[:70].copy().write_h5ad(first)
    adata[70:].copy().write_h5ad(second)
    assert main(["de", str(first), str(second), *MODEL, "--subset", "cls=NK", "--table", str(tmp_path / "1.csv")]) == 0
    made = ["--by", "sam", "--by", "cls", "--transform", "log1p", "--out", str(sums)]
    assert main(["aggregate", str(source), *made]) == 0
    assert main(["de", str(sums), *MODEL[:4], "--subset", "cls=NK", "--table", str(tmp_path / "2.csv")]) == 0
    own = adata[adata.obs["cls"] == "NK"].copy()
    fsc.tl.lmm_de(own, "~ trt", "sam", transform="log1p")
    for name in ("1.csv", "2.csv"):
        expected = fsc.get.lmm_de_df(own)
        pd.testing.assert_frame_equal(pd.read_csv(tmp_path / name), expected, check_dtype=False, rtol=1e-9)


def test_a_level_of_one_file_alone(adata, tmp_path):
    parts = adata[adata.obs["batch"] == "x"].copy(), adata[adata.obs["batch"] != "x"].copy()
    paths = [tmp_path / "a.h5ad", tmp_path / "b.h5ad"]
    for part, path in zip(parts, paths, strict=True):
        part.write_h5ad(path)
    assert main(["de", *map(str, paths), *MODEL, "--subset", "batch=x", "--table", str(tmp_path / "t.csv")]) == 0
    fsc.tl.lmm_de(parts[0], "~ trt", "sam", transform="log1p")
    expected = fsc.get.lmm_de_df(parts[0])
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "t.csv"), expected, check_dtype=False)


@pytest.mark.parametrize(
    ("subset", "words"),
    [
        ("class=NK", "'class', which is not a column of obs. Did you mean 'cls'?"),
        ("cls=Nk", "--subset: obs['cls'] has no 'Nk'. Did you mean 'NK'?"),
        ("cls=NK,T", "obs['cls'] has no 'T'"),
        ("cls == 'NK'", "obs['cls'] has no \"= 'NK'\""),
        ("cls=__import__('os')", "has no"),
    ],
)
def test_errors_come_before_anything_is_read(source, monkeypatch, capsys, subset, words):
    monkeypatch.setattr(fsc.tl, "lmm_de", lambda *_, **__: pytest.fail("it is read"))
    assert main(["de", str(source), *MODEL, "--subset", subset, "--table", "t.csv"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert words in err


def test_no_cell_is_left(source, capsys):
    both = ["--subset", "batch=x", "--subset", "batch=y"]
    assert main(["de", str(source), *MODEL, *both, "--table", "t.csv"]) == 2
    assert "--subset 'batch=x batch=y' leaves no cell." in capsys.readouterr().err


@pytest.mark.parametrize("model", [MODEL, ["--model", "nb", "--fixed", "~ trt", "--sample", "sam"]], ids=["lmm", "nb"])
def test_samples_of_the_result_are_those_that_were_chosen(adata, source, tmp_path, model):
    adata[adata.obs["batch"].isin(["x", "y"]) & adata.obs["flag"]].copy().write_h5ad(tmp_path / "own.h5ad")
    subset, shown = ["--subset", "batch=x,y", "--subset", "flag=True"], []
    for path, options in ((source, subset), (tmp_path / "own.h5ad", [])):
        assert main(["de", str(path), *model, *options, "--out", str(tmp_path / "out.h5ad")]) == 0
        shown.append(fsc.pl.samples(ad.read_h5ad(tmp_path / "out.h5ad"), "gene0", "trt", show=False))
    ours, theirs = ([points.get_offsets() for points in ax.collections] for ax in shown)
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other)


@pytest.mark.parametrize("text", ["cls", "=NK", "cls=", "cls= , "])
def test_what_is_no_choice(source, capsys, text):
    with pytest.raises(SystemExit, match="2"):
        main(["de", str(source), *MODEL, "--subset", text, "--table", "t.csv"])
    assert "is not of the form COLUMN=VALUE" in capsys.readouterr().err
