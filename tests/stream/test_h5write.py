"""HDF5 files on a disk that fills, simulated by a limit on the size of files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import h5py
import pytest

from flashmm_sc._stream.h5write import writable

resource = pytest.importorskip("resource", reason="there are no limits on the size of files here")

FULL = """
import resource, signal, sys
import anndata as ad, h5py, numpy as np
from pathlib import Path
from flashmm_sc._base.files import appearing_whole
from flashmm_sc._stats.file import write_h5ad
from flashmm_sc._stream.h5write import writable

names = np.array([f"a name {i}" for i in range(300)], dtype=object)
small = ad.AnnData(np.ones((3, 300), np.float32), uns={"names": names})
small.obs["who"] = ["x", "y", "x"]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])

def long(part):
    with writable(part, "w") as (file, check):
        data = file.create_dataset("x", (0,), float, maxshape=(None,), chunks=(1000,), compression="gzip")
        for k in range(1000):
            data.resize((1000 * (k + 1),))
            data[-1000:] = np.random.default_rng(k).random(1000)
            check()
    raise AssertionError("all of it fits")

def changed(part):
    with h5py.File(part, "w") as file:
        file["x"] = np.ones(1000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000 + limit // 4, -1))
    with writable(part, "r+") as (file, _):
        ad.io.write_elem(file, "x", small.uns)

for limit in (0, 100, 3000, 9000, 20_000):
    for write in (long, changed, lambda part: write_h5ad(small, part)):
        resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1) if write is changed else (limit, -1))
        try:
            with appearing_whole(path) as part:
                write(part)
        except OSError as error:
            assert str(error).startswith(f"{str(path)!r} can't be written: File too large. Nothing was changed;")
        else:
            raise AssertionError((limit, write))
print("done")
"""


def test_a_full_disk_is_an_error_and_python_ends_in_peace(tmp_path):
    """HDF5 can't close a file that it couldn't write: it complains of every object, and crashes when Python ends."""
    path = tmp_path / "x.h5ad"
    path.write_text("old")
    ended = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")
    assert {found.name: found.read_text() for found in tmp_path.iterdir()} == {"x.h5ad": "old"}


def test_ctrl_c_waits_until_hdf5_is_done(tmp_path):
    path = tmp_path / "x.h5"

    def interrupted():
        with writable(path, "w") as (file, check):
            file["x"] = [1.0, 2.0]
            os.kill(os.getpid(), signal.SIGINT)
            file["y"] = [3.0]
            check()
            file["z"] = [4.0]

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with h5py.File(path) as file:
        assert list(file) == ["x", "y"]
