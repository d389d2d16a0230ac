"""Blocks: the whole matrix once, canonical, in the cheap direction, a few at a time, and the original untouched."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import anndata as ad
import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from containers import CONTAINERS, DTYPES, IN_MEMORY, assert_same, stored

from flashmm_sc._stream.blocks import ChosenRows, blocks, first_block, read_ahead, row_major


@pytest.mark.parametrize("dtype", DTYPES)
def test_blocks_make_up_the_matrix(container, counts, dtype):
    values = counts[:30].astype(dtype)
    X = container(values).X
    for block_bytes in (1, 500, 2**26):
        parts = list(blocks(X, block_bytes))
        axis = 0 if parts[0].by_rows else 1
        stack = np.concatenate([part.values.toarray() for part in parts], axis)
        np.testing.assert_array_equal(stack, values)
        sizes = [part.values.shape[axis] for part in parts]
        assert [part.start for part in parts] == np.cumsum([0, *sizes[:-1]]).tolist()
        assert all(part.values.has_canonical_format for part in parts)
        assert len(parts) == {1: values.shape[axis], 2**26: 1}.get(block_bytes, len(parts))


@pytest.mark.parametrize("name", CONTAINERS)
def test_blocks_run_along_the_rows_of_csr_and_the_columns_of_csc(name, counts, tmp_path):
    X = stored(name, counts, tmp_path).X
    assert {block.by_rows for block in blocks(X, 500)} == {"csc" not in name}


def test_blocks_that_are_views_hold_four_times_as_many_bytes(counts):
    """But not those that are copies: of whole numbers, and of chosen rows."""
    X = sp.csr_array(np.tile(counts, (20, 10)).astype(np.float32))
    most = lambda X: max(12 * block.values.nnz for block in blocks(X, 100_000))
    assert 350_000 < most(X) < 450_000
    assert 80_000 < most(X.astype(np.int32)) < 140_000
    assert 80_000 < most(ChosenRows(X, np.arange(5, X.shape[0] - 1))) < 140_000
    assert all(np.shares_memory(block.values.data, X.data) for block in blocks(X, 100_000))


@pytest.mark.parametrize("name", ["csc_array", "h5ad csr_matrix", "h5ad csc_matrix", "zarr csr_matrix"])
def test_sparse_blocks_hold_about_as_many_bytes_as_asked(name, counts, tmp_path):
    X = stored(name, np.tile(counts, (10, 10)), tmp_path).X
    sizes = [12 * block.values.nnz for block in blocks(X, 100_000)]
    assert len(sizes) > 10
    assert max(sizes) < 140_000


@pytest.mark.parametrize("name", ["C order", "F order", "h5ad C order"])
def test_dense_blocks_hold_no_more_bytes_than_asked(name, counts, tmp_path):
    X = stored(name, counts, tmp_path).X
    sizes = [8 * np.prod(block.values.shape) for block in blocks(X, 2000)]
    assert max(sizes) <= 2000
    assert sum(sizes[:-1]) > 1800 * len(sizes[:-1])


@pytest.mark.parametrize("name", IN_MEMORY)
def test_the_matrix_is_left_alone(name, counts):
    X, before = IN_MEMORY[name](counts), IN_MEMORY[name](counts)
    for block in blocks(X, 500):
        assert block.values.has_canonical_format
    assert_same(X, before)


@pytest.mark.parametrize("dtype", [np.float16, ">f4", ">i2"])
def test_dense_dtypes_that_scipy_lacks(counts, dtype):
    [block] = blocks(counts.astype(dtype))
    np.testing.assert_array_equal(block.values.toarray(), counts)


@pytest.mark.parametrize("shape", [(5, 0), (0, 5)])
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_an_empty_matrix_has_no_values(kind, shape):
    assert sum(block.values.nnz for block in blocks(kind(np.zeros(shape)))) == 0


@pytest.mark.parametrize("kind", [sp.coo_matrix, sp.lil_matrix, sp.coo_array])
def test_other_sparse_formats_are_converted(kind, counts):
    [block] = blocks(kind(counts))
    np.testing.assert_array_equal(block.values.toarray(), counts)


@pytest.mark.parametrize("kind", [lambda values: values.tolist(), ad.AnnData])
def test_other_containers_are_refused(kind, counts):
    X = kind(counts)
    with pytest.raises(TypeError, match=rf"Can't stream a matrix of type .*{type(X).__name__}; give"):
        blocks(X)


# Chunks of files


CHUNKS = [(1, 12), (160, 1), (7, 5), (50, 12), (160, 12), (160, 5), (33, 1)]


@pytest.mark.parametrize(("chunks", "compression"), [(None, None), *product(CHUNKS, [None, "gzip", "lzf"])])
def test_dense_files_are_read_in_whole_chunks(counts, tmp_path, chunks, compression):
    with h5py.File(tmp_path / "X.h5", "w") as file:
        X = file.create_dataset("X", data=counts, chunks=chunks, compression=compression)
        for block_bytes in (1, 2000, 2**26):
            parts = list(blocks(X, block_bytes, 2))
            axis = 0 if parts[0].by_rows else 1
            stack = np.concatenate([part.values.toarray() for part in parts], axis)
            np.testing.assert_array_equal(stack, counts)
            step = chunks[axis] if chunks else 1
            assert all(part.start % step == 0 for part in parts)
            assert len(parts) == 1 or block_bytes < 2**26


@pytest.mark.parametrize("chunks", [(1, 12), (160, 1), (7, 5), (160, 12)])
@pytest.mark.parametrize("version", [2, 3])
def test_dense_zarr_arrays_are_read_in_whole_chunks(counts, tmp_path, chunks, version):
    X = zarr.create_array(str(tmp_path / "X.zarr"), data=counts, chunks=chunks, zarr_format=version)
    for block_bytes in (1, 2000, 2**26):
        parts = list(blocks(X, block_bytes))
        axis = 0 if parts[0].by_rows else 1
        np.testing.assert_array_equal(np.concatenate([part.values.toarray() for part in parts], axis), counts)
        assert all(part.start % chunks[axis] == 0 for part in parts)


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix])
@pytest.mark.parametrize("block_bytes", [500, 5000, 2**26])
def test_shards_of_a_zarr_store_are_read_by_their_chunks(counts, tmp_path, kind, block_bytes):
    """A block takes the chunks that it needs, and not the whole shard, which may be a matrix."""
    stored = kind(counts)
    store = zarr.open_group(str(tmp_path / "X.zarr"), mode="w", zarr_format=3)
    ad.io.write_elem(store, "X", stored, dataset_kwargs={"chunks": (64,), "shards": (512,)})
    assert store["X/data"].shards == (512,)
    parts = list(blocks(ad.io.sparse_dataset(store["X"]), block_bytes, 2))
    assert (len(parts) == 1) == (block_bytes == 2**26)
    stack = np.concatenate([part.values.toarray() for part in parts], 0 if parts[0].by_rows else 1)
    np.testing.assert_array_equal(stack, counts)


def test_dense_files_are_taken_along_the_axis_that_reads_less_at_once(counts, tmp_path):
    with h5py.File(tmp_path / "X.h5", "w") as file:
        for chunks, by_rows in {(10, 12): True, (160, 1): False, (40, 3): True, (80, 1): False}.items():
            X = file.create_dataset(str(chunks), data=counts, chunks=chunks)
            assert {block.by_rows for block in blocks(X, 1)} == {by_rows}


def test_chunks_too_large_to_be_streamed_are_refused(tmp_path):
    with h5py.File(tmp_path / "X.h5", "w") as file:
        X = file.create_dataset("X", (2**16, 2**14), "f4", chunks=(2**15, 2**13))  # nothing is stored
        with pytest.raises(ValueError, match=r"in chunks of 32768 × 8192 values, which can't be read in blocks"):
            next(iter(blocks(X)))
        file.create_group("sparse").attrs.update(
            {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": (3, 4)}
        )
        for name, kind in (("data", "f4"), ("indices", "i4")):
            file["sparse"].create_dataset(name, (2**28,), kind, chunks=(2**27,))
        file["sparse"].create_dataset("indptr", data=[0, 5, 6, 2**28])
        with pytest.raises(ValueError, match=r"in chunks of 134217728 values, which can't be read in blocks"):
            next(iter(blocks(ad.io.sparse_dataset(file["sparse"]))))


# What doesn't fit together


def put(name, at, value):
    def change(file):
        file[f"X/{name}"][at] = value

    return change


def cut_off(name, less):
    def change(file):
        values = file[f"X/{name}"][:]
        del file[f"X/{name}"]
        file[f"X/{name}"] = values[:-less]

    return change


DAMAGE = {
    "an index too large": (put("indices", 300, 160), "index lies outside"),
    "an index far too large": (put("indices", 300, 2**31 - 1), "index lies outside"),
    "a negative index": (put("indices", 300, -1), "index lies outside"),
    "a last index too large": (put("indices", -1, 160), "index lies outside"),
    "pointers that descend": (put("indptr", 5, 0), "don't fit"),
    "a pointer too large": (put("indptr", 5, 10**9), "don't fit"),
    "a negative pointer": (put("indptr", 5, -1), "don't fit"),
    "a first pointer": (put("indptr", 0, 3), "don't fit"),
    "a last pointer too large": (put("indptr", -1, 10**6), "don't fit"),
    "fewer pointers": (cut_off("indptr", 1), "don't fit"),
    "far fewer pointers": (cut_off("indptr", 9), "don't fit"),
    "fewer indices": (cut_off("indices", 7), "don't fit"),
    "fewer values": (cut_off("data", 7), "don't fit"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("kind", ["csr_matrix", "csc_matrix"])
@pytest.mark.parametrize("block_bytes", [1, 1000, 2**26])
def test_damaged_sparse_files_are_refused(counts, tmp_path, damage, kind, block_bytes):
    """None of it reaches the compiled loops, which would read or write where they must not."""
    change, words = DAMAGE[damage]
    ad.AnnData(IN_MEMORY[kind](counts)).write_h5ad(tmp_path / "adata.h5ad")
    with h5py.File(tmp_path / "adata.h5ad", "r+") as file:
        change(file)
        X = ad.io.sparse_dataset(file["X"])
        with pytest.raises(OSError, match=rf"can't be read: .*{words}.* may be truncated or corrupt"):
            list(blocks(X, block_bytes))


@pytest.mark.parametrize("name", ["data", "indices", "indptr"])
def test_sparse_files_that_lack_a_part_are_refused(counts, tmp_path, name):
    ad.AnnData(sp.csr_matrix(counts)).write_h5ad(tmp_path / "adata.h5ad")
    with h5py.File(tmp_path / "adata.h5ad", "r+") as file:
        X = ad.io.sparse_dataset(file["X"])
        del file["X"][name]
        with pytest.raises(OSError, match=rf"can't be read: .*'{name}' doesn't exist"):
            list(blocks(X))


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix])
@pytest.mark.parametrize("block_bytes", [1, 2**26])
@pytest.mark.parametrize(
    ("name", "at", "value"), [("indices", 300, 160), ("indices", 3, -1), ("indptr", 5, 0), ("indptr", 5, 10**8)]
)
def test_damaged_matrices_in_memory_are_refused(counts, kind, block_bytes, name, at, value):
    X = kind(counts)
    getattr(X, name)[at] = value
    with pytest.raises(ValueError, match=r"can't be read: .*The sparse matrix in memory is damaged") as caught:
        list(blocks(X, block_bytes))
    assert "file" not in str(caught.value)


def test_what_raises_while_it_is_read_ahead(counts):
    def source():
        yield from blocks(counts[:3])
        raise OSError("gone")

    coming = read_ahead(source())
    assert next(coming).values.shape == (3, 12)
    with pytest.raises(OSError, match="gone"):
        next(coming)


def test_reading_ahead_gives_the_same_blocks(counts):
    ahead, plain = list(read_ahead(blocks(counts, 1000))), list(blocks(counts, 1000))
    assert [block.start for block in ahead] == [block.start for block in plain]
    for one, other in zip(ahead, plain, strict=True):
        assert_same(one.values, other.values)
    assert list(read_ahead(blocks(counts[:0]))) == []


def test_a_reader_that_is_left_stops(counts):
    before = threading.active_count()
    coming = read_ahead(blocks(counts, 1000))
    next(coming)
    coming.close()
    assert threading.active_count() == before


def test_a_source_is_closed_though_a_traceback_keeps_it(counts):
    closed = []

    def source():
        try:
            yield from blocks(counts, 1000)
        finally:
            closed.append(True)

    coming = read_ahead(source())
    next(coming)
    with pytest.raises(KeyboardInterrupt) as caught:
        coming.throw(KeyboardInterrupt)
    assert closed
    assert caught.tb is not None


def test_a_second_interrupt_while_the_source_is_still_read(counts, monkeypatch):
    """The source can't be closed then and there: "generator already executing"; the thread that reads it does so later."""
    reading, closed = threading.Event(), threading.Event()

    def source():
        try:
            yield from blocks(counts[:3])
            reading.wait()
            yield from blocks(counts[3:])
        finally:
            closed.set()

    def interrupted(self, *args, **options):
        raise KeyboardInterrupt

    coming = read_ahead(source())
    next(coming)  # and the next is waited for
    with monkeypatch.context() as second:
        second.setattr(ThreadPoolExecutor, "shutdown", interrupted)
        with pytest.raises(KeyboardInterrupt):
            coming.throw(KeyboardInterrupt)
    assert not closed.is_set()
    reading.set()
    assert closed.wait(10)


@pytest.mark.parametrize("kind", [sp.csr_array, sp.csc_array, np.asarray])
@pytest.mark.parametrize("size", [1, 200, 10**6])
def test_blocks_hold_the_chosen_rows(counts, kind, size):
    mask = np.random.default_rng(3).random(len(counts)) < 0.7
    mask[:5] = mask[-5:] = False
    X, rows = kind(counts), np.flatnonzero(mask)
    chosen = ChosenRows(X, rows)
    found = np.full(chosen.shape, np.nan)
    for block in blocks(chosen, size):
        assert block.values.has_canonical_format
        height, width = block.values.shape
        at = np.s_[block.start : block.start + height] if block.by_rows else np.s_[:, block.start : block.start + width]
        found[at] = block.values.toarray()
    np.testing.assert_array_equal(found, counts[mask])
    assert row_major(chosen) == row_major(X)
    assert first_block(chosen).values.shape == first_block(X).values.shape


def test_an_interrupt_while_the_reader_starts(counts, monkeypatch):
    """Its thread ran on, unknown to those who closed the source, which it was still reading."""

    def source():
        time.sleep(0.2)
        yield from blocks(counts)

    def interrupted(thread):
        start(thread)
        signal.raise_signal(signal.SIGINT)

    before, start = threading.active_count(), threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(read_ahead(source()))
    assert threading.active_count() == before
