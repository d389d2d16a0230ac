"""A file appears whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flashmm_sc._base.files import appearing_together, appearing_whole, check_folder, temporary_zeros


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    def interrupted(part):
        part.write_text("half")
        raise KeyboardInterrupt

    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), appearing_whole(path) as part:
        interrupted(part)
    assert path.read_text() == "old"
    with appearing_whole(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_files_of_one_run_appear_together(tmp_path, monkeypatch):
    def interrupted(part, path):
        os.kill(os.getpid(), signal.SIGINT)
        return replace(part, path)

    replace = Path.replace
    paths = tmp_path / "a.txt", tmp_path / "b.txt"
    with appearing_together(paths[0], None, paths[1]) as (a, nothing, b):
        assert nothing is None
        a.write_text("old")
        b.write_text("old")
    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), appearing_together(*paths) as parts:
        [part.write_text("new") for part in parts]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "new", "b.txt": "new"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS], ids=errno.errorcode.get)
def test_what_can_not_be_written_is_named(tmp_path, number):
    words = rf"^'.*a\.csv' and '.*b\.h5ad' can't be written: {os.strerror(number)}\. Nothing was changed"
    with pytest.raises(OSError, match=words), appearing_together(tmp_path / "a.csv", tmp_path / "b.h5ad"):
        raise OSError(number, os.strerror(number))
    with pytest.raises(OSError, match=r"^the input"), appearing_whole(tmp_path / "a.csv"):
        raise OSError("the input can't be read")
    assert not list(tmp_path.iterdir())


KILLED = """
import sys
from pathlib import Path
from flashmm_sc._base.files import appearing_whole
with appearing_whole(Path(sys.argv[1])) as part:
    part.write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_goes_with_the_next(tmp_path):
    """What others still write doesn't, whatever the file is."""
    pytest.importorskip("fcntl", reason="there are no locks that end with their process here")
    start = lambda name: subprocess.Popen(
        [sys.executable, "-c", KILLED, tmp_path / name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with start("x.txt") as dead, start("y.txt") as alive:
        assert dead.stdout.readline() == alive.stdout.readline() == "writing\n"
        dead.kill()
        dead.wait()
        assert [path.name[:22] for path in tmp_path.iterdir()] == [".flashmm-sc-unfinished"] * 2
        with appearing_whole(tmp_path / "x.txt") as part:
            part.write_text("new")
        assert len(list(tmp_path.iterdir())) == 2
        alive.stdin.close()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"x.txt": "new", "y.txt": "half"}


def test_arrays_in_temporary_files_leave_nothing(tmp_path):
    def interrupted():
        with temporary_zeros(tmp_path) as new:
            one, none = new((3, 4)), new((0, 4))
            one[1] += 2
            np.testing.assert_array_equal(one.sum(axis=1), [0, 8, 0])
            assert none.shape == (0, 4)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_what_is_read_only_stays(tmp_path, monkeypatch):
    def written():
        with appearing_whole(path) as part:
            part.write_text("new")

    path = tmp_path / "x.txt"
    path.write_text("old")
    monkeypatch.setattr(os, "access", lambda which, mode: Path(which) != path)  # root may write to all
    with pytest.raises(PermissionError, match="can't be written: it is read-only"):
        written()
    assert {found.name: found.read_text() for found in tmp_path.iterdir()} == {"x.txt": "old"}


def test_a_folder_that_can_not_be_entered(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda which, mode: False)
    with pytest.raises(PermissionError, match=r"^out='x': permission denied in its folder"):
        check_folder(tmp_path / "x.txt", "out='x'")


@pytest.mark.parametrize("there", ["x.zarr", "x.zarr/zarr.json"])
def test_a_store_takes_no_name_that_was_taken_meanwhile(tmp_path, there):
    """By a file, or by the store of another process."""

    def written():
        with appearing_whole(tmp_path / "x.zarr") as part:
            part.mkdir()
            (tmp_path / there).parent.mkdir(exist_ok=True)
            (tmp_path / there).write_text("other")

    with pytest.raises(FileExistsError, match="is there already; remove it first"):
        written()
    assert [path.name for path in tmp_path.iterdir()] == ["x.zarr"]
    assert (tmp_path / there).read_text() == "other"
