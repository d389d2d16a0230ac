"""Dask arrays are summed where their chunks are: by any scheduler, whatever the chunks, even if workers die."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time

import anndata as ad
import dask
import dask.array as da
import distributed
import numpy as np
import pytest
import scipy.sparse as sp
from containers import assert_unchanged, grouped_rows
from same_results import assert_equal_results, run

import flashmm_sc as fsc
from flashmm_sc._design.rows import Rows
from flashmm_sc._stream import dask as over_dask
from flashmm_sc._stream.accumulate import accumulate, totals
from flashmm_sc._stream.sums import CellMatrix, Tally

KINDS = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": np.asarray, "csr_array": sp.csr_array}
GRIDS = {
    "one chunk": ((160,), (12,)),
    "rows": ((50, 1, 0, 69, 40), (12,)),
    "columns": ((160,), (5, 0, 1, 6)),
    "both": ((50, 1, 69, 40), (5, 1, 6)),
    "single cells": ((1,) * 20 + (140,), (12,)),
}


def lazy(values, kind, grid):
    """A dask array with chunks of this kind."""
    array = da.from_array(values.astype(np.float32), chunks=GRIDS[grid])
    return array.map_blocks(KINDS[kind], dtype=np.float32, meta=KINDS[kind](np.zeros((0, 0), np.float32)))


@pytest.fixture(params=["threads", "synchronous"])
def scheduler(request):
    with dask.config.set(scheduler=request.param):
        yield request.param


@pytest.fixture(scope="module")
def design():
    rng = np.random.default_rng(3)
    W = sp.csr_array(rng.normal(size=(160, 7)) * (rng.random((160, 7)) < 0.4))
    return W, rng.integers(-1, 3, 160)


def check_sums(X, counts, design, *, gene=None, transform="log1p"):
    W, group = design
    gene = np.arange(12) if gene is None else gene
    lazy, plain = (
        accumulate([CellMatrix(values, gene)], grouped_rows(W, group), transform=transform) for values in (X, counts)
    )
    np.testing.assert_allclose(lazy.WY, plain.WY, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(lazy.yy, plain.yy, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("kind", KINDS)
def test_values_over_size_factors_and_their_tally(counts, design, kind, grid):
    W, group = design
    gene = np.array([3, -1, 0, -1, -1, -1, -1, -1, 4, 5, 1, 2])
    size, tally = np.random.default_rng(5).lognormal(size=len(counts)), Tally(True, True, np.array([0, 3, 4]))
    X = lazy(counts, kind, grid)
    with dask.config.set(scheduler="synchronous"):
        one, other = (
            accumulate([CellMatrix(values, gene, size=size)], grouped_rows(W, group), transform="log1p", tally=tally)
            for values in (X, counts)
        )
        np.testing.assert_array_equal(totals(X), counts.sum(axis=1))
    for lazily, plainly in zip(vars(one).values(), vars(other).values(), strict=True):
        np.testing.assert_allclose(lazily, plainly, rtol=1e-12, atol=1e-12)
    assert other.seen.any()
    assert other.counts.any()
    assert other.WC.any()


@pytest.mark.parametrize("kind", KINDS)
def test_tasks_with_nothing_to_tally(counts, design, kind, monkeypatch):
    """The first cells belong to no model, and the first columns are left out."""
    monkeypatch.setattr(over_dask, "_TASK_BYTES", 1)
    W, group = design
    rows, gene = grouped_rows(W, np.where(np.arange(160) < 60, -1, group)), np.r_[np.full(6, -1), np.arange(6)]
    one, other = (
        accumulate([CellMatrix(values, gene)], rows, tally=Tally(True, True), show_progress=False)
        for values in (lazy(counts, kind, "both"), counts)
    )
    np.testing.assert_array_equal(one.seen, other.seen)
    np.testing.assert_array_equal(one.counts, other.counts)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task_bytes", [1, 2**26], ids=["a chunk a task", "all in a task"])
def test_sums_are_those_of_the_values(counts, design, kind, grid, task_bytes, monkeypatch):
    monkeypatch.setattr(over_dask, "_TASK_BYTES", task_bytes)
    X = lazy(counts, kind, grid)
    with dask.config.set(scheduler="synchronous"):
        check_sums(X, counts, design)
        check_sums(X, counts, design, gene=np.array([3, -1, 0, -1, -1, -1, -1, -1, 4, 5, 1, 2]), transform="log2p1")


@pytest.mark.parametrize("kind", KINDS)
def test_results_are_those_of_the_matrix_in_memory(adata, kind, scheduler):
    expected = adata.copy()
    adata.X = lazy(adata.X.toarray(), kind, "both")
    adata.layers["half"] = adata.X / 2 if kind == "dense" else adata.X
    assert_equal_results(run(adata, copy=True), run(expected, copy=True))
    options = {"groupby": "cls", "mask_var": "use", "layer": "half", "contrasts": {"t": "trt[T.B]"}, "ranef": True}
    expected.layers["half"] = expected.X / 2 if kind == "dense" else expected.X
    assert_equal_results(run(adata, "~ trt", copy=True, **options), run(expected, "~ trt", **options))


@pytest.mark.parametrize("kind", ["csr", "csc", "dense"])
@pytest.mark.parametrize("store", ["h5ad", "zarr"])
def test_lazy_anndata(adata, tmp_path, kind, store):
    adata.X = KINDS[kind](adata.X.toarray())
    adata.raw = adata.copy()
    path = tmp_path / f"adata.{store}"
    adata.write_h5ad(path) if store == "h5ad" else adata.write_zarr(path)
    for options in ({}, {"use_raw": True}, {"fixed": "~ trt", "groupby": "cls", "mask_var": "use"}):
        lazily = ad.experimental.read_lazy(path)
        assert (
            fsc.tl.lmm_de(lazily, **({"fixed": "~ 0 + cls + cls:trt"} | options), random="sam", transform="log1p")
            is None
        )
        assert_equal_results(lazily, run(adata, copy=True, **options))
        assert hasattr(lazily.X, "__dask_graph__")


def test_a_part_of_several(adata):
    first, second = adata[:70].copy(), adata[70:].copy()
    second.X = lazy(np.vstack([second.X.toarray(), np.zeros((70, 12))]), "csr", "rows")[:90]
    assert_equal_results(run([first, second]), run(adata))


@pytest.mark.parametrize("kind", ["csr", "csc", "dense"])
def test_a_bad_value_in_a_late_chunk_is_named(adata, kind, scheduler):
    values = adata.X.toarray()
    values[150, 9] = -1
    adata.X = lazy(values, kind, "both")
    before = adata.copy()
    with pytest.raises(ValueError, match=r"holds the negative value -1 at cell 'cell150', gene 'gene9'"):
        run(adata)
    assert adata.X is not None
    adata.X = before.X = None
    assert_unchanged(adata, before)


def test_an_error_of_the_array_is_passed_on(adata):
    def broken(chunk):
        raise OSError("the disk is gone")

    adata.X = lazy(adata.X.toarray(), "csr", "rows").map_blocks(broken, dtype=np.float32, meta=sp.csr_matrix((0, 0)))
    with pytest.raises(OSError, match="the disk is gone"):
        run(adata)


def test_unknown_chunk_sizes_are_refused(counts, design):
    X = lazy(counts, "dense", "rows")
    X = X[X[:, 0] >= 0]
    with pytest.raises(
        ValueError, match=r"chunks of the dask array have unknown sizes; call its compute_chunk_sizes\(\)"
    ):
        accumulate([CellMatrix.of(X)], Rows.of(design[0]))
    check_sums(X.compute_chunk_sizes(), counts, design)


def test_no_more_rows_than_a_task_needs_are_encoded_at_once(counts, design, monkeypatch):
    monkeypatch.setattr(over_dask, "_TASK_BYTES", 1)
    seen = []
    encoded = over_dask._encoded
    monkeypatch.setattr(over_dask, "_encoded", lambda encoder, piece: seen.append(piece.n) or encoded(encoder, piece))
    with dask.config.set(scheduler="synchronous"):
        check_sums(lazy(counts, "csr", "rows"), counts, design)
    assert max(seen) <= 69
    assert sum(seen) == 160


# A cluster of processes


@pytest.fixture(scope="module")
def workers():
    options = {
        "distributed.comm.timeouts.connect": "60s",
        "distributed.deploy.lost-worker-timeout": "120s",  # a busy machine takes long to start another
        "distributed.worker.memory.terminate": False,
    }
    with (
        dask.config.set(options),
        distributed.LocalCluster(2, processes=True, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        yield cluster, client


@pytest.fixture
def cluster(workers, monkeypatch):
    """Two workers; those that died are back before another test, or the end: a cluster isn't closed while one starts."""
    cluster, client = workers
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", cluster.scheduler.allowed_failures)
    yield cluster
    client.wait_for_workers(2, timeout=120)


def test_a_cluster(adata, tmp_path, cluster):
    """What the workers get and give can be pickled, also stateful transforms; lazy files are read by the workers."""
    fixed = "~ trt*bs(score, df=4) + I(score > np.mean(score))"
    options = {"random": ["sam", "sam:cls"], "mask_var": "use"}
    expected = run(adata, fixed, copy=True, **options)
    adata.write_h5ad(tmp_path / "adata.h5ad")
    lazily = ad.experimental.read_lazy(tmp_path / "adata.h5ad")
    run(lazily, fixed, **options)
    assert_equal_results(lazily, expected)
    for kind in ("csc", "dense"):
        adata.X = lazy(expected.X.toarray(), kind, "both")
        assert_equal_results(run(adata, fixed, copy=True, **options), expected)


def test_a_bad_value_is_named_by_a_cluster(adata, cluster):
    values = adata.X.toarray()
    values[150, 9] = np.inf
    adata.X = lazy(values, "csr", "rows")
    with pytest.raises(ValueError, match="holds inf at cell 'cell150', gene 'gene9'"):
        run(adata)
    assert not adata.varm
    assert not adata.uns


def test_only_sums_travel(counts, design, cluster, monkeypatch):
    """What comes back is as large for ten times the cells."""
    came = []
    add_to = over_dask.PartialSums.add_to
    monkeypatch.setattr(over_dask.PartialSums, "add_to", lambda self, *to: came.append(self) or add_to(self, *to))
    for times in (1, 10):
        rows = Rows.of(sp.csr_array(sp.vstack([design[0]] * times)))
        accumulate([CellMatrix.of(da.from_array(np.tile(counts, (times, 1)), chunks=(50, 12)))], rows)
    small, large = (len(pickle.dumps(one)) for one in came)
    assert small == large


def kill_once_there(path):
    """Kill the process whose number a file will hold; return what tells whether that has happened."""

    def wait():
        while not (stop.is_set() or killed.is_set()):
            if path.exists():
                os.kill(int(path.read_text()), signal.SIGKILL)
                killed.set()
            stop.wait(0.01)

    stop, killed = threading.Event(), threading.Event()
    waiting = threading.Thread(target=wait)
    waiting.start()
    return lambda: stop.set() or waiting.join() or killed.is_set()


def test_a_worker_that_dies_is_replaced(adata, tmp_path, cluster):
    """The first process that computes a chunk waits to be killed; the chunk is then computed elsewhere."""
    pid = tmp_path / "pid"

    def read(chunk, unnamed=tmp_path / "unnamed"):
        try:
            with unnamed.open("x") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            return sp.csr_matrix(chunk)
        unnamed.with_name("pid").hardlink_to(unnamed)
        time.sleep(600)
        return None

    expected = run(adata, copy=True)
    chunks = da.from_array(adata.X.toarray(), chunks=(40, 12))
    adata.X = chunks.map_blocks(read, dtype=np.float32, meta=sp.csr_matrix((0, 0), dtype=np.float32))
    has_been_killed = kill_once_there(pid)
    try:
        assert_equal_results(run(adata, copy=True), expected)
    finally:
        assert has_been_killed()


def test_workers_that_die_again_and_again(adata, cluster):
    cluster.scheduler.allowed_failures = 1
    chunks = da.from_array(adata.X.toarray(), chunks=(40, 12))
    deadly = lambda chunk, block_id: os._exit(1) if block_id == (0, 0) else sp.csr_matrix(chunk)
    adata.X = chunks.map_blocks(deadly, dtype=np.float32, meta=sp.csr_matrix((0, 0), dtype=np.float32))
    with pytest.raises(
        RuntimeError, match=r"Workers of the dask cluster died while they summed over cells; give them more"
    ):
        run(adata)
    assert not adata.varm
    assert not adata.uns
