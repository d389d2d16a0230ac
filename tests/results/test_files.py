"""h5ad files that are whole are opened without their matrices; damaged ones, or ones in use, are refused by name."""

from __future__ import annotations

import contextlib
import errno
import shutil
import signal
import subprocess
import sys
import threading

import anndata as ad
import h5py
import numpy as np
import pytest
import scipy.sparse as sp
from containers import assert_same, assert_unchanged
from same_results import assert_equal_results

import flashmm_sc as fsc
from flashmm_sc._base.files import appearing_whole
from flashmm_sc._results import files
from flashmm_sc._results.files import check_room, copied, streamed, write_as_named, write_results

COMPRESSIONS = [None, "gzip", "lzf"]


def run(adata, **options):
    return fsc.tl.lmm_de(adata, "~ 0 + cls + cls:trt", "sam", **({"transform": "log1p", "n_jobs": 2} | options))


@pytest.fixture
def large(adata):
    """So many genes that the values take up most of the file."""
    rng = np.random.default_rng(0)
    X = sp.csr_matrix(rng.negative_binomial(1, 0.4, (adata.n_obs, 2000)).astype(np.float32))
    return ad.AnnData(X, adata.obs)


def written(adata, path, compression=None):
    adata.write_h5ad(path, compression=compression)
    return path


def test_matrices_stay_in_the_file(adata, tmp_path):
    adata.layers["dense"], adata.layers["csc"] = adata.X.toarray(), sp.csc_matrix(adata.X)
    adata.raw = adata.copy()
    adata.uns["log1p"], adata.uns["other"] = {"base": None}, np.zeros(3)
    path = written(adata, tmp_path / "a.h5ad")
    with streamed(path) as found:
        assert not isinstance(found.X, np.ndarray | sp.spmatrix | sp.sparray)
        assert isinstance(found.layers["dense"], h5py.Dataset)
        assert not sp.issparse(found.layers["csc"])
        assert list(found.uns) == ["log1p"]
        assert found.raw is not None
    del adata.uns["log1p"]
    assert_equal_results(run([path], layer="dense"), run(adata) or adata)


def test_results_are_written_beside_what_is_there(adata, tmp_path):
    adata.obsm["X_pca"], adata.uns["other"] = np.zeros((160, 2)), {"a": 1}
    path = written(adata, tmp_path / "a.h5ad")
    done = run([path], contrasts={"t": "cls[B]:trt[T.B]"})
    write_results(path, done, "lmm_de")
    again = ad.read_h5ad(path)
    assert_same(again.varm["lmm_de_contrasts_t"], done.varm["lmm_de_contrasts_t"])
    assert set(again.uns) == {"other", "lmm_de", "lmm_de_contrasts"}
    assert "X_pca" in again.obsm
    write_results(path, run([path], key_added="lmm_de_2"), "lmm_de_2")
    write_results(path, run([path]), "lmm_de")
    again = ad.read_h5ad(path)
    assert set(again.uns) == {"other", "lmm_de", "lmm_de_2"}
    assert not any("contrasts" in name for name in again.varm)
    assert_same(again.varm["lmm_de_2_coef"], again.varm["lmm_de_coef"])


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_a_key_that_is_taken(adata, tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    run(adata, contrasts={"t": "cls[B]:trt[T.B]"})
    adata.uns["mine"], adata.uns["mine_too_contrasts"] = {"a": 1}, np.zeros(3)
    getattr(adata, f"write_{ending}")(path)
    for key in ("lmm_de", "new"):
        check_room(path, key)
    for key, taken in (("mine", "mine"), ("mine_too", "mine_too_contrasts")):
        with pytest.raises(ValueError, match=rf"adata\.uns\['{taken}'\] holds something else"):
            check_room(path, key)


# Damaged files


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("percent", [0, 1, 30, 60, 95])
def test_a_file_cut_off_is_refused_by_name(large, tmp_path, compression, percent):
    content = written(large, tmp_path / "whole.h5ad", compression).read_bytes()
    path = tmp_path / "part.h5ad"
    path.write_bytes(content[: len(content) * percent // 100])
    with pytest.raises((OSError, ValueError), match=r"part\.h5ad'"):
        run([path])


def in_chunk(dataset, share):
    """Where in the file a share of the stored bytes of a dataset lies."""
    if dataset.chunks is None:
        return dataset.id.get_offset() + int(share * dataset.id.get_storage_size())
    info = dataset.id.get_chunk_info(int(share * dataset.id.get_num_chunks()))
    return info.byte_offset + info.size // 2


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("name", ["X/data", "X/indices", "X/indptr"])
@pytest.mark.parametrize("share", [0.1, 0.6])
def test_bytes_changed_in_the_middle(large, tmp_path, compression, name, share):
    """An error that names the file where it can be noticed; in any case none reaches memory that isn't ours."""
    path = written(large, tmp_path / "whole.h5ad", compression)
    with h5py.File(path) as file:
        at = in_chunk(file[name], share)
    content = bytearray(path.read_bytes())
    content[at : at + 64] = b"\xff" * 64
    damaged = tmp_path / "damaged.h5ad"
    damaged.write_bytes(content)
    with pytest.raises((OSError, ValueError), match=r"damaged\.h5ad'"):
        run([damaged])


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_noise_in_the_middle_never_harms_the_process(large, tmp_path, compression):
    """Wherever bytes are changed: results or an error."""
    content = written(large, tmp_path / "whole.h5ad", compression).read_bytes()
    rng = np.random.default_rng(0)
    for k in range(12):
        noisy = bytearray(content)
        at = int(rng.integers(2048, len(content) - 256))
        noisy[at : at + 200] = rng.bytes(200)
        (tmp_path / f"{k}.h5ad").write_bytes(noisy)
        with contextlib.suppress(OSError, ValueError):
            run([tmp_path / f"{k}.h5ad"])


@pytest.mark.parametrize("name", ["obs", "var", "X"])
def test_a_file_that_lacks_a_part(adata, tmp_path, name):
    path = written(adata, tmp_path / "a.h5ad")
    with h5py.File(path, "r+") as file:
        del file[name]
    with pytest.raises(
        ValueError, match=f"a.h5ad' holds no AnnData: it has no {name}" if name != "X" else "adata.X is None"
    ):
        run([path])


def test_no_file_of_anndata(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    (tmp_path / "text.h5ad").write_text("no")
    for name, kind, words in (
        ("other.h5", ValueError, "holds no AnnData: it has no obs and no var"),
        ("text.h5ad", ValueError, "is not an h5ad file"),
        ("nowhere.h5ad", FileNotFoundError, "There is no file"),
    ):
        with pytest.raises(kind, match=words) as caught:
            run([tmp_path / name])
        assert name in str(caught.value)


HOLD = """
import sys, h5py
with h5py.File(sys.argv[1], "r+"):
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_file_that_another_process_writes_is_refused_by_name(adata, tmp_path, monkeypatch):
    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
    path = written(adata, tmp_path / "busy.h5ad")
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(OSError, match=r"busy\.h5ad' can't be opened: .* in use by another process"):
            run([path])
        other.stdin.close()
    assert run([path]).n_vars == 12


# Values that can't be used, in files


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix, np.asarray], ids=["csr", "csc", "dense"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_bad_value_in_a_late_block_is_named(large, tmp_path, kind, compression, monkeypatch):
    from flashmm_sc._stream import accumulate
    from flashmm_sc._stream.blocks import blocks

    monkeypatch.setattr(accumulate, "blocks", lambda X, block_bytes, threads: blocks(X, 20_000, threads))
    values = large.X.toarray()
    values[158, 1998] = np.nan
    backed = ad.read_h5ad(written(ad.AnnData(kind(values), large.obs), tmp_path / "a.h5ad", compression), backed="r")
    before = backed.to_memory()
    threads = threading.active_count()
    with pytest.raises(ValueError, match="holds nan at cell 'cell158', gene '1998'"):
        run(backed)
    assert threading.active_count() == threads
    after = backed.to_memory()
    assert_same(after.X if sp.issparse(after.X) else None, before.X if sp.issparse(before.X) else None)
    assert not backed.varm
    assert not backed.uns
    backed.file.close()


def test_adata_is_unchanged_after_a_bad_value(adata):
    adata.X.data[adata.X.indptr[150]] = np.nan
    gene = adata.var_names[adata.X.indices[adata.X.indptr[150]]]
    before = adata.copy()
    with pytest.raises(ValueError, match=f"holds nan at cell 'cell150', gene '{gene}'"):
        run(adata)
    assert_unchanged(adata, before)


def test_ctrl_c_waits_until_a_store_is_written(adata, tmp_path, monkeypatch):
    """zarr's own threads write on, and what is temporary could not be removed."""

    def interrupted(*args, **options):
        signal.raise_signal(signal.SIGINT)
        write(*args, **options)

    write, path = ad.AnnData.write_zarr, tmp_path / "x.zarr"
    monkeypatch.setattr(ad.AnnData, "write_zarr", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_as_named(adata, path)
    assert_same(ad.read_zarr(path).X, adata.X)
    run(adata)
    monkeypatch.setattr(files, "_put", lambda *args, put=files._put: signal.raise_signal(signal.SIGINT) or put(*args))
    with pytest.raises(KeyboardInterrupt):
        write_results(path, adata, "lmm_de")
    assert_equal_results(ad.read_zarr(path), adata)


def test_a_full_disk_while_a_store_is_copied(adata, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    adata.write_zarr(tmp_path / "x.zarr")
    copied(tmp_path / "x.zarr", tmp_path / "y.zarr")
    assert_same(ad.read_zarr(tmp_path / "y.zarr").X, adata.X)
    monkeypatch.setattr(shutil, "copyfile", full)
    with (
        pytest.raises(OSError, match=r"z\.zarr' can't be written: No space left"),
        appearing_whole(tmp_path / "z.zarr") as new,
    ):
        copied(tmp_path / "x.zarr", new)
