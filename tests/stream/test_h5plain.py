"""What is read without HDF5 is what h5py reads; whatever else lies in a file is left to HDF5, and damage is said."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pytest
import scipy.sparse as sp

from flashmm_sc._stream.blocks import blocks
from flashmm_sc._stream.h5plain import Plain

VALUES = np.random.default_rng(0).poisson(3, 5000)
SLICES = [(0, 5000), (0, 700), (699, 1401), (710, 720), (1400, 1400), (4000, 10**6), (9, 3)]


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Any]:
    """Write datasets of these arguments, and open the file to read them."""
    files = []

    def write(**arguments: Any) -> h5py.Dataset:
        path = tmp_path / f"x{len(files)}.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("x", **arguments)
        files.append(h5py.File(path))
        return files[-1]["x"]

    yield write
    for file in files:
        file.close()


def read(dataset: h5py.Dataset, pool: ThreadPoolExecutor, start: int, stop: int, threads: int = 2) -> np.ndarray:
    plain = Plain.of(dataset)
    assert plain is not None
    return plain.read(start, stop, pool, threads)


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i1", "u2", "i4", "i8", "u8", ">f4", ">i8"])
@pytest.mark.parametrize("chunks", [None, (700,), (1,), (5000,)])
def test_vectors(stored: Any, pool: ThreadPoolExecutor, chunks: Any, dtype: str) -> None:
    dataset = stored(data=VALUES.astype(dtype), chunks=chunks)
    for start, stop in SLICES:
        for threads in (1, 2):
            ours, theirs = read(dataset, pool, start, stop, threads), dataset[start:stop]
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)


def test_contiguous_matrices(stored: Any, pool: ThreadPoolExecutor) -> None:
    dataset = stored(data=np.arange(3_000_000.0).reshape(300, -1))
    for start, stop in ((0, 300), (17, 200), (299, 300), (5, 5)):
        np.testing.assert_array_equal(read(dataset, pool, start, stop), dataset[start:stop])


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix])
@pytest.mark.parametrize("change", ["none", "unsorted", "long", "big endian", "short"])
def test_files_of_anndata(tmp_path: Path, kind: Any, change: str) -> None:
    X = kind(np.random.default_rng(0).poisson(0.3, (3000, 200)).astype(np.float32))
    if change == "unsorted":
        for a, b in zip(X.indptr[:-1], X.indptr[1:], strict=True):
            X.indices[a:b], X.data[a:b] = X.indices[a:b][::-1].copy(), X.data[a:b][::-1].copy()
    ad.AnnData(X).write_h5ad(tmp_path / "a.h5ad")
    dtypes = {"long": ("f8", "i8"), "big endian": (">f4", ">i4"), "short": ("u2", "u2")}.get(change, ("f4", "i4"))
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        for name, dtype in zip(("data", "indices"), dtypes, strict=True):
            values = file[f"X/{name}"][:]
            del file[f"X/{name}"]
            file["X"].create_dataset(name, data=values.astype(dtype), maxshape=(None,))
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r").X
    assert all(Plain.of(backed.group[name]) for name in ("data", "indices"))
    axis = 0 if kind is sp.csr_matrix else 1
    found = np.concatenate([block.values.toarray() for block in blocks(backed, 10_000, 2)], axis)
    np.testing.assert_array_equal(found, X.toarray())


def test_what_is_left_to_hdf5(tmp_path: Path, stored: Any) -> None:
    cases = {
        "gzip": {"data": VALUES, "compression": "gzip"},
        "shuffled": {"data": VALUES, "shuffle": True},
        "checksum": {"data": VALUES, "fletcher32": True},
        "scaled": {"data": VALUES, "scaleoffset": 4},
        "boolean": {"data": VALUES > 0},
        "words": {"data": ["a", "b"]},
        "chunked matrix": {"data": VALUES.reshape(-1, 10), "chunks": (10, 5)},
        "never written": {"shape": (9,), "dtype": "f4"},
        "chunks never written": {"shape": (9,), "dtype": "f4", "chunks": (2,)},
        "elsewhere": {"shape": (9,), "dtype": "f4", "external": str(tmp_path / "raw")},
        "scalar": {"data": 1.0},
        "empty": {"data": h5py.Empty("f4")},
    }
    for name, arguments in cases.items():
        assert Plain.of(stored(**arguments)) is None, name
    layout = h5py.VirtualLayout((9,), "f8")
    layout[:] = h5py.VirtualSource(stored(data=VALUES))[:9]
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("x", layout)
    with h5py.File(tmp_path / "virtual.h5") as file:
        assert Plain.of(file["x"]) is None


@pytest.mark.parametrize("how", [{"mode": "r+"}, {"driver": "core"}, {"driver": "stdio"}], ids=str)
def test_files_opened_in_other_ways(stored: Any, tmp_path: Path, how: dict[str, str]) -> None:
    stored(data=VALUES).file.close()
    with h5py.File(tmp_path / "x0.h5", **({"mode": "r"} | how)) as file:
        assert Plain.of(file["x"]) is None
    with h5py.File(tmp_path / "block.h5", "w", userblock_size=512) as file:
        file["x"] = VALUES
    with h5py.File(tmp_path / "block.h5") as file:
        assert Plain.of(file["x"]) is None


@pytest.mark.parametrize("chunks", [None, (700,)])
def test_a_file_that_is_cut_off(stored: Any, tmp_path: Path, pool: ThreadPoolExecutor, chunks: Any) -> None:
    dataset = stored(data=VALUES, chunks=chunks)
    with (tmp_path / "x0.h5").open("r+b") as raw:
        raw.truncate(dataset.id.get_offset() + 9000 if chunks is None else dataset.id.get_chunk_info(2).byte_offset + 9)
    with pytest.raises(OSError, match=r"x0.h5 ends within /x; the file is damaged"):
        read(dataset, pool, 0, 5000)


def test_a_cut_off_file_of_anndata(tmp_path: Path) -> None:
    path = tmp_path / "a.h5ad"
    ad.AnnData(sp.random(2000, 100, 0.5, "csr", np.float32)).write_h5ad(path)
    X = ad.read_h5ad(path, backed="r").X
    coming = blocks(X, 100_000)
    next(coming)
    with path.open("r+b") as raw:
        raw.truncate(X.group["data"].id.get_chunk_info(3).byte_offset + 9)
    with pytest.raises(OSError, match=r"The cells \d+ to \d+ of 2000 can't be read: .* may be truncated or corrupt\.$"):
        list(coming)
