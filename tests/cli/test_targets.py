"""Tables in the formats that their names say."""

from __future__ import annotations

import gzip
from io import BytesIO

import pandas as pd
import pytest

from flashmm_sc.cli import _targets
from flashmm_sc.cli._main import main
from flashmm_sc.cli._targets import check_targets, write_table

FRAME = pd.DataFrame({"variable": ["a", "b,c"], "p_value": [0.1, float("nan")], "status": ["ok", "masked"]})
READ = {
    ".csv": pd.read_csv,
    ".tsv": lambda path: pd.read_csv(path, sep="\t"),
    ".csv.gz": lambda path: pd.read_csv(BytesIO(gzip.decompress(path.read_bytes()))),
    ".tsv.gz": lambda path: pd.read_csv(BytesIO(gzip.decompress(path.read_bytes())), sep="\t"),
}


@pytest.mark.parametrize("ending", READ)
def test_text(tmp_path, ending):
    path = tmp_path / f"my.table{ending}"
    check_targets([], None, path)
    write_table(FRAME, path)
    pd.testing.assert_frame_equal(READ[ending](path), FRAME)


def test_parquet(tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is optional")
    path = tmp_path / "table.parquet"
    check_targets([], None, path)
    write_table(FRAME, path)
    pd.testing.assert_frame_equal(pd.read_parquet(path), FRAME)


def test_parquet_without_pyarrow_is_refused_before_anything_is_read(adata, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_targets, "find_spec", lambda name: None)
    (tmp_path / "in.h5ad").write_text("never read")
    command = ["de", str(tmp_path / "in.h5ad"), "--fixed", "~ trt", "--random", "sam", "--table", "out.parquet"]
    assert main(command) == 2
    assert "parquet needs the package pyarrow; install it" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["out.xlsx", "out", "out.parquet.gz", "out.csv.bz2", "csv"])
def test_other_endings_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"--table .* must be the name of a file that ends in \.csv or .*\.parquet"):
        check_targets([], None, tmp_path / name)


def test_an_effect_to_draw_nowhere(tmp_path):
    with pytest.raises(ValueError, match="--plot-coef is for --plot"):
        check_targets([], None, tmp_path / "t.csv", None, "trt[T.B]")
