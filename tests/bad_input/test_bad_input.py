"""Bad input is refused in words of ours, which say what, where and what to do, and leaves everything as it was."""

from __future__ import annotations

import traceback
import warnings
from pathlib import Path

import anndata as ad
import pytest
from bad_input import arrays, changed, cli, damaged, faces, pertpy, tl
from containers import assert_unchanged

import flashmm_sc as fsc
from flashmm_sc.cli._main import main

HOME = str(Path(fsc.__file__).parent)
ROWS = [*tl.ROWS, *faces.ROWS, *arrays.ROWS, *damaged.ROWS, *changed.ROWS, *pertpy.ROWS]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_bad_input_is_refused_in_our_words(row):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # anndata's, of names that are not unique
        given = row.make()
        before = given.copy() if isinstance(given, ad.AnnData) and not given.isbacked else None
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a dependency
        warnings.simplefilter("ignore", fsc.FlashmmWarning)
        with pytest.raises(row.error) as caught:
            row.call(given)
    message = str(caught.value.args[0])
    assert [word for word in row.words if word not in message] == [], message
    assert message.endswith((".", "?", "…", ")")), message
    last = traceback.extract_tb(caught.tb)[-1]
    assert last.filename.startswith(HOME), f"{last.filename} says: {message}"
    assert last.line.startswith("raise"), f"{last.line} says: {message}"
    if before is not None:
        assert_unchanged(given, before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("commands")
    cli.folder(path)
    return path


def contents(path):
    return {file: file.read_bytes() if file.is_file() else None for file in path.rglob("*")}


@pytest.mark.parametrize(("arguments", "words"), cli.COMMANDS, ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "")  # fmt: skip
def test_a_bad_command_says_one_line_and_writes_nothing(folder, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(folder)
    before = contents(folder)
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    errors = [line for line in err.splitlines() if not line.startswith("flashmm-sc: warning: ")]
    assert len(errors) == 1, err
    assert errors[0].startswith("flashmm-sc: error: ")
    assert words in errors[0]
    assert contents(folder) == before
