"""Chunks decoded here hold what h5py reads, and damaged ones are refused."""

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

from flashmm_sc._stream.h5chunks import read, readable

FILTERS = [
    {"compression": "gzip"},
    {"compression": "lzf"},
    {"shuffle": True},
    {"compression": "gzip", "shuffle": True},
    {"compression": "lzf", "shuffle": True},
]
VALUES = {
    "zeros": np.zeros(5000, np.float32),
    "noise": np.random.default_rng(0).bytes(4 * 5000),
    "counts": np.random.default_rng(1).poisson(0.8, 5000).astype(np.float64),
    "sorted": np.sort(np.random.default_rng(2).integers(30_000, size=5000)).astype(np.int32),
    "runs": np.repeat(np.random.default_rng(3).integers(0, 9, 500), np.arange(500) % 21).astype(np.uint8),
}


@pytest.fixture
def file(tmp_path: Path) -> Iterator[h5py.File]:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        yield file


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def same(dataset: h5py.Dataset, pool: ThreadPoolExecutor, start: int, stop: int, threads: int = 2) -> None:
    ours, theirs = read(dataset, start, stop, pool, threads), dataset[start:stop]
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("filters", FILTERS, ids=lambda filters: " ".join(map(str, filters.values())))
@pytest.mark.parametrize("values", VALUES.values(), ids=list(VALUES))
def test_vectors(file: h5py.File, pool: ThreadPoolExecutor, values: Any, filters: dict[str, Any]) -> None:
    values = np.frombuffer(values, np.int32) if isinstance(values, bytes) else values
    dataset = file.create_dataset("x", data=values, chunks=(700,), **filters)
    assert readable(dataset)
    for start, stop in ((0, len(values)), (0, 700), (699, 1401), (710, 720), (1400, 1400), (4000, 10**6), (9, 3)):
        same(dataset, pool, start, stop)


@pytest.mark.parametrize("chunks", [(16, 16), (7, 50), (100, 3), (1, 1), (100, 50)])
def test_rows_of_matrices(file: h5py.File, pool: ThreadPoolExecutor, chunks: tuple[int, int]) -> None:
    values = np.random.default_rng(0).poisson(1, (100, 50)).astype(np.float32)
    dataset = file.create_dataset("x", data=values, chunks=chunks, compression="gzip")
    for start, stop in ((0, 100), (15, 17), (16, 32), (95, 100), (50, 50)):
        same(dataset, pool, start, stop, threads=3)


def test_chunks_never_written_or_not_filtered(file: h5py.File, pool: ThreadPoolExecutor) -> None:
    dataset = file.create_dataset("x", (40,), "f4", chunks=(8,), compression="lzf", fillvalue=3.5)
    dataset[8:16] = np.arange(8)
    dataset.id.write_direct_chunk((24,), np.arange(8, dtype="f4").tobytes(), filter_mask=1)
    assert set(read(dataset, 0, 8, pool)) == {3.5}
    assert list(read(dataset, 24, 32, pool)) == list(range(8))
    same(dataset, pool, 0, 40)


@pytest.mark.parametrize("compression", ["gzip", "lzf"])
def test_files_of_anndata(tmp_path: Path, pool: ThreadPoolExecutor, compression: str) -> None:
    dense = np.random.default_rng(0).poisson(0.3, (3000, 200)).astype(np.float32)
    ad.AnnData(sp.csr_matrix(dense), layers={"dense": dense}).write_h5ad(tmp_path / "a.h5ad", compression=compression)
    with h5py.File(tmp_path / "a.h5ad") as file:
        for name in ("X/data", "X/indices", "layers/dense"):
            assert readable(file[name])
            same(file[name], pool, 1234, 2500)


def test_what_is_left_to_h5py(file: h5py.File) -> None:
    cases = {
        "contiguous": {"data": np.zeros(9)},
        "unfiltered": {"data": np.zeros(9), "chunks": (3,)},
        "checksum": {"data": np.zeros(9), "chunks": (3,), "fletcher32": True},
        "scaled": {"data": np.zeros(9, int), "scaleoffset": 4},
        "big endian": {"data": np.zeros(9, ">f8"), "compression": "gzip"},
        "boolean": {"data": np.zeros(9, bool), "compression": "gzip"},
        "words": {"data": ["a", "b"], "compression": "gzip"},
        "cube": {"data": np.zeros((3, 3, 3)), "compression": "gzip"},
        "scalar": {"data": 1.0},
        "empty": {"data": h5py.Empty("f4")},
    }
    assert not any(readable(file.create_dataset(name, **arguments)) for name, arguments in cases.items())
    layout = h5py.VirtualLayout((9,), "f8")
    layout[:] = h5py.VirtualSource(file["contiguous"])
    assert not readable(file.create_virtual_dataset("virtual", layout))


def test_within_a_busy_pool(file: h5py.File) -> None:
    dataset = file.create_dataset("x", data=np.arange(1000), chunks=(10,), compression="gzip")
    with ThreadPoolExecutor(1) as busy:
        assert busy.submit(read, dataset, 0, 1000, busy, 4).result(60).tolist() == list(range(1000))


@pytest.mark.parametrize("filters", FILTERS, ids=lambda filters: " ".join(map(str, filters.values())))
@pytest.mark.parametrize("damage", [lambda raw: raw[:-3], lambda raw: raw[:1], lambda raw: b"\xff" * (len(raw) - 1)])
def test_damage(file: h5py.File, pool: ThreadPoolExecutor, filters: dict[str, Any], damage: Any) -> None:
    dataset = file.create_dataset("x", data=np.arange(300) // 2, chunks=(100,), **filters)
    _, raw = dataset.id.read_direct_chunk((100,))
    dataset.id.write_direct_chunk((100,), damage(raw))
    with pytest.raises(OSError, match="file is damaged: "):
        read(dataset, 0, 300, pool, 2)


def test_truncated_file(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.random.default_rng(0).random(9000), chunks=(3000,), compression="gzip")
    with h5py.File(path) as file, path.open("r+b") as raw:
        dataset = file["x"]
        raw.truncate(dataset.id.get_chunk_info(1).byte_offset + 9)
        with pytest.raises(OSError, match="file is damaged: "):
            read(dataset, 0, 9000, pool, 2)
