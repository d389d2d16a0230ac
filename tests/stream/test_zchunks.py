"""Chunks of zarr stores that are lost or cut off, and those that a writer left out since they hold zeros."""

from __future__ import annotations

import anndata as ad
import h5py
import numpy as np
import pytest
import scipy.sparse as sp

from flashmm_sc._stream.blocks import blocks

numcodecs = pytest.importorskip("numcodecs", reason="zarr is optional")
zarr = pytest.importorskip("zarr", reason="zarr is optional")

FORMATS = {
    "2 blosc": (2, {"compressors": numcodecs.Blosc()}),
    "2 zlib": (2, {"compressors": numcodecs.Zlib()}),
    "3 zstd": (3, {}),
    "3 blosc": (3, {"compressors": zarr.codecs.BloscCodec()}),
    "3 gzip": (3, {"compressors": zarr.codecs.GzipCodec()}),
    "3 sharded": (3, {"shards": (128,)}),
}


def stored(folder, X, kind="3 zstd", chunk=64):
    """A sparse matrix in a store, all parts of which are in chunks of as many numbers."""
    version, options = FORMATS[kind]
    group = zarr.open_group(str(folder / "x.zarr"), mode="w", zarr_format=version)
    ad.io.write_elem(group, "X", X)
    for name in ("data", "indices", "indptr"):
        values = group["X"][name][:]
        del group["X"][name]
        group["X"].create_array(name, data=values, chunks=(chunk,), **options)
    return ad.io.sparse_dataset(zarr.open_group(str(folder / "x.zarr"), mode="r")["X"])


def read(X, block_bytes):
    parts = list(blocks(X, block_bytes))
    return np.concatenate([part.values.toarray() for part in parts], 0 if parts[0].by_rows else 1)


def lose(path):
    path.unlink()


def empty(path):
    path.write_bytes(b"")


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("damage", "part", "chunk"),
    [
        (lose, "data", 0),
        (empty, "data", -1),
        (cut, "data", 3),
        (lose, "indices", -1),
        (lose, "indptr", 0),
        (lose, "indptr", 1),
    ],
)
def test_damaged_chunks_are_refused(counts, tmp_path, kind, damage, part, chunk):
    X = stored(tmp_path, sp.csr_array(counts), kind)
    files = [path for path in (tmp_path / "x.zarr/X" / part).rglob("*") if path.name.isdigit()]
    damage(sorted(files, key=lambda path: int(path.name))[chunk])
    for block_bytes in (1000, 2**26):
        with pytest.raises(
            OSError, match=r"^The cells \d+ to \d+ of 160 can't be read: .* may be truncated or corrupt"
        ):
            read(X, block_bytes)


def test_what_is_missing_is_named(counts, tmp_path):
    X = stored(tmp_path, sp.csc_array(counts))
    (tmp_path / "x.zarr/X/indices/c/2").unlink()
    with pytest.raises(OSError, match=r"the chunk 'X/indices/c/2' is missing \(if .* sort_indices\(\) .*\)\. The file"):
        read(X, 2**26)
    (tmp_path / "x.zarr/X/data/c/1").unlink()
    with pytest.raises(OSError, match=r"'X/data/c/1' is missing \(if it held zeros only, .* eliminate_zeros\(\)"):
        read(X, 2**26)


def test_all_pointers_are_missing(counts, tmp_path):
    """It isn't an empty matrix: there are values."""
    X = stored(tmp_path, sp.csr_array(counts), chunk=2000)
    (tmp_path / "x.zarr/X/indptr/c/0").unlink()
    with pytest.raises(OSError, match=r"the chunk 'X/indptr/c/0' is missing"):
        read(X, 2**26)


def test_what_follows_blosc_has_a_length_of_its_own(counts, tmp_path, monkeypatch):
    codecs = [zarr.codecs.BloscCodec(), zarr.codecs.Crc32cCodec()]
    monkeypatch.setitem(FORMATS, "3 checked", (3, {"compressors": codecs}))
    np.testing.assert_array_equal(read(stored(tmp_path, sp.csr_array(counts), "3 checked"), 2**26), counts)


@pytest.mark.parametrize("file", ["x.h5", "x.zarr"])
def test_room_beyond_the_last_pointer(counts, tmp_path, file):
    """Which scipy permits, and `prune` removes."""
    X = sp.csr_array(counts)
    X.data, X.indices = (np.append(values, [1, 1]).astype(values.dtype) for values in (X.data, X.indices))
    opened = zarr.open_group(str(tmp_path / file), mode="w") if file == "x.zarr" else h5py.File(tmp_path / file, "w")
    ad.io.write_elem(opened, "X", X)
    np.testing.assert_array_equal(read(ad.io.sparse_dataset(opened["X"]), 2**26), counts)


@pytest.mark.parametrize("kind", [sp.csr_array, sp.csc_array])
@pytest.mark.parametrize("chunk", [2, 7])
@pytest.mark.parametrize("block_bytes", [100, 2**26])
def test_chunks_that_are_left_out_are_zeros(tmp_path, kind, chunk, block_bytes):
    """Firsts of rows are indices of zero, and pointers are, as long as there are no values."""
    rng = np.random.default_rng(1)
    some = rng.poisson(0.4, (40, 9)).astype(np.float32)
    late = np.where((np.arange(40)[:, None] < 15) | (np.arange(9) < 8), 0, some)
    left_out = 0
    for values in (some[:, :1], some[:1], np.eye(40, 9), late, np.zeros((40, 9)), np.where(np.arange(9) > 0, 0, some)):
        X = stored(tmp_path, kind(values), chunk=chunk)
        np.testing.assert_array_equal(read(X, block_bytes), values)
        left_out += sum(part.nchunks - part.nchunks_initialized for part in (X.group["indices"], X.group["indptr"]))
    assert left_out


@pytest.mark.parametrize("kind", ["2 blosc", "3 zstd"])
def test_dense_matrices_may_lack_chunks(counts, tmp_path, kind):
    version, options = FORMATS[kind]
    values = np.where(np.arange(160)[:, None] < 40, 0, counts)
    X = zarr.create_array(str(tmp_path / "X.zarr"), data=values, chunks=(20, 12), zarr_format=version, **options)
    assert X.nchunks_initialized == 6
    np.testing.assert_array_equal(read(X, 2**26), values)
    cut(
        next(path for path in sorted((tmp_path / "X.zarr").rglob("*")) if path.parent.name == "7" or path.name == "7.0")
    )
    with pytest.raises(OSError, match=r"can't be read: .* may be truncated or corrupt"):
        read(X, 2**26)
