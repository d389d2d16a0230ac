"""The sums: equal to their dense definition and to each other, whatever the container, and never from a dense copy."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import tracemalloc

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from containers import DTYPES, IN_MEMORY, assert_same, assert_unchanged, grouped_rows

import flashmm_sc as fsc
from flashmm_sc._design.rows import Rows
from flashmm_sc._stream import accumulate as one_pass
from flashmm_sc._stream.blocks import Block
from flashmm_sc._stream.sums import CellMatrix, Tally

IN_LOG = {None: lambda x: x, "log1p": np.log1p, "log2p1": lambda x: np.log1p(x) / np.log(2)}


def accumulate(X, W, *, group=None, gene=None, **options):
    """Sums over one matrix with the rows of W at hand."""
    part = CellMatrix.of(X) if gene is None else CellMatrix(X, gene)
    W = sp.csr_array(W)
    return one_pass.accumulate([part], Rows.of(W) if group is None else grouped_rows(W, group), **options)


@pytest.fixture(scope="session")
def design():
    """Some rows with several entries, as of fixed and random effects, some with none."""
    rng = np.random.default_rng(3)
    return sp.csr_array(rng.normal(size=(160, 7)) * (rng.random((160, 7)) < 0.4))


def dense_sums(values, W, group, transform=None):
    """W'Y and the sums of squares of each group, from the definitions."""
    Y = IN_LOG[transform](values.astype(float))
    Y[group < 0] = 0
    return W.T @ Y, np.array([(Y[group == g] ** 2).sum(axis=0) for g in range(group.max() + 1)])


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_are_the_same_for_every_container(container, counts, design, dtype):
    values = counts.astype(dtype)
    X = container(values).X
    for transform, n_jobs, block_bytes in [(None, 2, 1500), ("log1p", 1, 2**26), ("log2p1", 5, 3000)]:
        WY, yy = dense_sums(values, design, np.zeros(len(values), int), transform)
        sums = accumulate(X, design, transform=transform, n_jobs=n_jobs, block_bytes=block_bytes)
        np.testing.assert_allclose(sums.WY, WY, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(sums.yy, yy, rtol=1e-12)
        plain = accumulate(values, design, transform=transform, n_jobs=1)
        np.testing.assert_array_equal(sums.WY, plain.WY)  # to the last bit
        np.testing.assert_array_equal(sums.yy, plain.yy)


@pytest.mark.parametrize("transform", ["log1p", "log2p1", None])
def test_values_over_size_factors_and_their_tally(container, counts, design, transform):
    rng = np.random.default_rng(5)
    size, group = rng.lognormal(size=len(counts)), rng.integers(-1, 3, len(counts))
    counts = counts * rng.choice([1, 1, 50], counts.shape)  # some above what is looked up
    left_out = sp.diags_array((group >= 0).astype(float)) @ design
    linear = np.array([1, 2, 5])
    WY, yy = dense_sums(counts / size[:, None], left_out, group, transform)
    for n_jobs, block_bytes in [(1, 2**26), (3, 1500)]:
        part = CellMatrix(container(counts).X, np.arange(12), size=size)
        options = {"transform": transform, "n_jobs": n_jobs, "block_bytes": block_bytes}
        sums = one_pass.accumulate([part], grouped_rows(left_out, group), tally=Tally(True, True, linear), **options)
        np.testing.assert_allclose(sums.WY, WY, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(sums.yy, yy, rtol=1e-12)
        np.testing.assert_allclose(sums.WC, (left_out[:, linear].T @ (counts / size[:, None])), rtol=1e-12, atol=1e-9)
        for g in range(3):
            np.testing.assert_array_equal(sums.seen[g], (counts[group == g] > 0).sum(axis=0))
            np.testing.assert_allclose(sums.counts[g], counts[group == g].sum(axis=0), rtol=1e-12)


def test_a_tally_changes_no_sum(container, counts, design):
    X = container(counts).X
    plain, tallied = (accumulate(X, design, transform="log1p", tally=tally) for tally in (None, Tally(True, True)))
    np.testing.assert_array_equal(plain.WY, tallied.WY)
    np.testing.assert_array_equal(plain.yy, tallied.yy)


def test_totals_are_sums_over_genes(container, counts):
    np.testing.assert_array_equal(one_pass.totals(container(counts).X, n_jobs=2), counts.sum(axis=1))


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix])
def test_totals_of_the_same_pass(kind, counts, design):
    counts = counts.copy()
    counts[7] = 0  # no counts: nothing to divide
    totals = counts.sum(axis=1)
    known = CellMatrix(counts, np.arange(12), size=np.where(totals > 0, totals, 1) / 1e4)
    read = CellMatrix(kind(counts), np.arange(12), size=1e4)
    one, other = (
        one_pass.accumulate([part], Rows.of(design), transform="log1p", block_bytes=900) for part in (known, read)
    )
    np.testing.assert_allclose(one.WY, other.WY, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(one.yy, other.yy, rtol=1e-12)


def test_a_total_that_is_no_number_is_named(counts, design):
    bad = counts.astype(float)
    bad[33, 4] = np.nan
    gene = np.where(np.arange(12) == 4, -1, np.arange(12))  # not a gene to sum, but part of the total
    part = CellMatrix(bad, gene, size=1e4)
    describe = lambda i, j: f"cell {i}" if j < 0 else f"cell {i}, gene {j}"
    with pytest.raises(ValueError, match="The values at cell 33 add up to nan, by which they can't be divided"):
        one_pass.accumulate([part], Rows.of(design), transform="log1p", describe=describe)
    group = np.where(np.arange(160) == 33, -1, 0)  # nor a cell to use
    one_pass.accumulate([part], grouped_rows(design, group), transform="log1p")


def test_groups_of_cells_and_chosen_genes(container, counts, design):
    rng = np.random.default_rng(4)
    group = rng.integers(-1, 3, len(counts))
    left_out = sp.diags_array((group >= 0).astype(float)) @ design
    gene = np.array([3, -1, 0, -1, 1, 2, -1, -1, 4, 5, -1, -1])
    order = np.argsort(gene)[(gene < 0).sum() :]
    WY, yy = dense_sums(counts[:, order], left_out, group, "log1p")
    for n_jobs, block_bytes in [(1, 2**26), (3, 1500)]:
        sums = accumulate(
            container(counts).X,
            left_out,
            group=group,
            gene=gene,
            transform="log1p",
            n_jobs=n_jobs,
            block_bytes=block_bytes,
        )
        np.testing.assert_allclose(sums.WY, WY, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(sums.yy, yy, rtol=1e-12)


@pytest.mark.parametrize("name", IN_MEMORY)
def test_the_matrix_and_the_design_are_left_alone(name, counts, design):
    X, before, W = IN_MEMORY[name](counts), IN_MEMORY[name](counts), design.copy()
    accumulate(X, design, transform="log1p", block_bytes=500)
    assert_same(X, before)
    assert_same(design, W)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_transforms_are_the_logarithms(dtype):
    """Looked up (small counts) or computed (fractions, large numbers); W = I shows the values themselves."""
    values = [0, 1, 2, 1000, 4095, 4096, 4097, 1e6, 1e30, 0.5, 4095.5, 1e-3, 1e-9]
    x = np.array(values, dtype)[:, None].astype(float)
    transformed = lambda how: accumulate(x.astype(dtype), sp.eye_array(len(x)), transform=how).WY
    np.testing.assert_array_equal(transformed(None), x)
    np.testing.assert_allclose(transformed("log1p"), np.log1p(x), rtol=1e-15)
    np.testing.assert_allclose(transformed("log2p1"), np.log2(1 + x), rtol=1e-14, atol=1e-15)


def test_integers_neither_overflow_nor_lose_digits():
    for value, dtype in [(200, np.uint8), (300, np.int16), (20_000_001, np.int32), (3_000_000_019, np.int64)]:
        sums = accumulate(np.array([[value]], dtype), sp.csr_array([[1.0]]))
        assert (sums.WY, sums.yy) == (value, float(value) ** 2)


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_matrix])
@pytest.mark.parametrize(
    ("value", "transform", "words"),
    [
        (np.nan, None, "holds nan at"),
        (np.nan, "log1p", "holds nan at"),
        (np.inf, None, "holds inf at"),
        (np.inf, "log2p1", "holds inf at"),
        (-np.inf, "log1p", "holds -inf at"),
        (-2.5, "log1p", r"negative value -2.5 at .*transform='log1p' has no logarithm"),
        (-1.0, "log2p1", r"negative value -1 at .*transform='log2p1' has no logarithm"),
    ],
)
def test_unusable_values_are_found(counts, design, kind, value, transform, words):
    bad = counts.copy()
    bad[77, 9] = value
    options = {"transform": transform, "block_bytes": 500, "n_jobs": 3, "describe": "cell {} and gene {}".format}
    with pytest.raises(ValueError, match=words) as caught:
        accumulate(kind(bad), design, **options)
    assert "at cell 77 and gene 9" in str(caught.value)
    group, gene = np.zeros(160, int), np.arange(12)
    group[77], gene[9:] = -1, [-1, 9, 10]
    assert accumulate(kind(bad), design, **options, group=group).WY.shape == (7, 12)  # not of a cell that is left out
    assert accumulate(kind(bad), design, **options, gene=gene).WY.shape == (7, 11)


def test_negative_values_are_fine_without_logarithm(counts, design):
    np.testing.assert_array_equal(accumulate(-counts, design).WY, -accumulate(counts, design).WY)


def test_no_gene_chosen(counts, design):
    sums = accumulate(counts, design, gene=np.full(12, -1))
    assert (sums.WY.shape, sums.yy.shape) == ((7, 0), (1, 0))


def test_progress_bar_only_when_asked(counts, design, capsys):
    accumulate(counts, design)
    assert capsys.readouterr().err == ""
    accumulate(counts, design, show_progress=True)
    assert "summing over cells" in capsys.readouterr().err


# Memory

SHAPE = (20_000, 2_000)


@pytest.fixture(scope="module")
def large():
    """1.2 million values that differ from zero; 19 MB as CSR, 320 MB as a dense matrix."""
    rng = np.random.default_rng(5)
    indices = np.sort(rng.integers(0, SHAPE[1], (SHAPE[0], 60)), axis=1)
    matrix = sp.csr_matrix((np.ones(indices.size), indices.ravel(), np.arange(0, indices.size + 1, 60)), SHAPE)
    matrix.sum_duplicates()
    return matrix


@pytest.mark.parametrize("name", ["csr", "csc", "csr non-canonical", "h5ad csr", "h5ad csc"])
def test_only_a_few_blocks_are_in_memory(large, name, tmp_path):
    X = large.tocsc() if "csc" in name else large
    if "non-canonical" in name:
        X = sp.csr_matrix(
            (np.repeat(X.data, 2) / 2, np.repeat(X.indices, 2), X.indptr * 2), X.shape
        )  # pairs of duplicates
    if "h5ad" in name:
        ad.AnnData(X).write_h5ad(tmp_path / "adata.h5ad")
        X = ad.read_h5ad(tmp_path / "adata.h5ad", backed="r").X
    W = sp.csr_array(np.eye(10)[np.arange(SHAPE[0]) % 10])
    accumulate(np.ones((2, 2)), sp.eye_array(2))  # compiled
    tracemalloc.start()
    try:
        sums = accumulate(X, W, block_bytes=2**20, n_jobs=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_allclose(sums.WY.sum(), large.sum())
    assert peak < 10e6


# Several matrices


def test_parts_are_summed_over_one_after_another(counts, design):
    parts = [
        CellMatrix(counts[:50], np.arange(12)),
        CellMatrix(sp.csc_matrix(counts[50:51, ::-1]), np.arange(12)[::-1], 50),
    ]
    parts.append(CellMatrix(sp.csr_matrix(counts[51:, [0, 5, 5]]), np.array([0, 5, -1]), 51))
    values = counts.copy()
    values[51:, np.setdiff1d(np.arange(12), [0, 5])] = 0
    sums = one_pass.accumulate(parts, Rows.of(design), transform="log1p", block_bytes=1000)
    WY, yy = dense_sums(values, design, np.zeros(160, int), "log1p")
    np.testing.assert_allclose(sums.WY, WY, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(sums.yy, yy, rtol=1e-12)


def test_a_bad_value_in_a_late_part_is_named_by_its_cell_in_the_study(counts, design):
    bad = counts.copy()
    bad[130, 7] = np.nan
    parts = [CellMatrix(bad[:100], np.arange(12)), CellMatrix(bad[100:], np.arange(12), 100)]
    with pytest.raises(ValueError, match="nan at row 130, column 7"):
        one_pass.accumulate(parts, Rows.of(design), block_bytes=500)


def test_a_part_that_cannot_be_read_is_named(counts, design):
    damaged = sp.csr_matrix(counts[100:])
    damaged.indices[5] = 99
    parts = [CellMatrix(counts[:100], np.arange(12)), CellMatrix(damaged, np.arange(12), 100, "'second.h5ad'")]
    with pytest.raises(ValueError, match=r"^'second\.h5ad': .*an index lies outside of the 12 there are"):
        one_pass.accumulate(parts, Rows.of(design))


# Interruption


def endless(n, m, read):
    """Blocks that go on much longer than a test should take; `read` says how many were read."""
    while True:
        read.append(1)
        yield Block(sp.csr_array((n, m)), 0)


@pytest.mark.parametrize("where", ["while a block is read", "while one is summed"])
def test_an_interrupt_ends_the_pass_and_its_threads(adata, monkeypatch, where):
    read, before, threads = [], adata.copy(), threading.active_count()

    def interrupted(X, block_bytes, threads):
        for block in endless(*X.shape, read):
            if where == "while a block is read" and len(read) == 5:
                raise KeyboardInterrupt
            yield block

    def add_block(*arguments, **options):
        if where == "while one is summed" and len(read) >= 5:
            raise KeyboardInterrupt
        return add(*arguments, **options)

    add = one_pass.add_block
    monkeypatch.setattr(one_pass, "blocks", interrupted)
    monkeypatch.setattr(one_pass, "add_block", add_block)
    with pytest.raises(KeyboardInterrupt):
        fsc.tl.lmm_de(adata, "~ 0 + cls + cls:trt", "sam", transform="log1p", n_jobs=2)
    assert len(read) <= 7  # one or two were on their way
    assert threading.active_count() == threads
    assert_unchanged(adata, before)


RUN = """
import sys, threading
import anndata as ad
import flashmm_sc as fsc
from flashmm_sc._stream import accumulate
from flashmm_sc._stream.blocks import blocks

def endless(X, block_bytes, threads):
    while True:
        yield from blocks(X, block_bytes, threads)
        print("reading", flush=True)

accumulate.blocks = endless
adata = ad.read_h5ad(sys.argv[1], backed="r")
try:
    fsc.tl.lmm_de(adata, "~ 0 + cls + cls:trt", "sam", transform="log1p", n_jobs=2)
except KeyboardInterrupt:
    left = [thread.name for thread in threading.enumerate() if not thread.daemon]  # tqdm has a daemon
    sys.exit(f"interrupted with {left}, {list(adata.varm)} and {list(adata.uns)}")
"""


def test_ctrl_c_ends_a_real_run(adata, tmp_path):
    adata.write_h5ad(tmp_path / "adata.h5ad")
    command = [sys.executable, "-c", RUN, str(tmp_path / "adata.h5ad")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(10):
            assert process.stdout.readline() == "reading\n"
        process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=30)
        except (
            subprocess.TimeoutExpired
        ):  # Python drops an interrupt that meets the end of an object, of which there are many here
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
    assert errors.splitlines()[-1] == "interrupted with ['MainThread'], [] and []"
    assert process.returncode == 1


@pytest.fixture(scope="module")
def uneven():
    """Cells of few values and of none, which are decoded together, beside cells of more than are decoded at a time."""
    rng = np.random.default_rng(5)
    lengths = np.concatenate(
        [np.zeros(1500, int), [1, 1023, 1, 1024, 1025, 0, 3000], rng.integers(0, 90, 60), [2500, 7]]
    )
    X = np.zeros((len(lengths), 3000))
    for row, n in zip(X, lengths, strict=True):
        row[rng.choice(3000, n, replace=False)] = rng.integers(1, 9, n)
    return X[rng.permutation(len(X))]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("some", [False, True])
def test_cells_of_any_length(uneven, threads, sized, some):
    n, m = uneven.shape
    W = np.column_stack([np.ones(n), np.arange(n) % 7])
    gene = np.where(np.arange(m) % 3 == 0, -1, np.cumsum(np.arange(m) % 3 != 0) - 1) if some else np.arange(m)
    size = np.linspace(0.5, 2, n)
    part = CellMatrix(sp.csr_array(uneven), gene, size=size if sized else None)
    sums = one_pass.accumulate(
        [part], Rows.of(sp.csr_array(W)), transform="log1p", tally=Tally(True, True), n_jobs=threads
    )
    values = uneven[:, gene >= 0]
    logs = np.log1p(values / size[:, None] if sized else values)
    np.testing.assert_allclose(sums.WY, W.T @ logs, rtol=1e-12)
    np.testing.assert_allclose(sums.yy[0], (logs**2).sum(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(sums.seen[0], (values > 0).sum(axis=0))
    np.testing.assert_array_equal(sums.counts[0], values.sum(axis=0))


@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("some", [False, True])
def test_a_bad_value_among_cells_that_are_decoded_together(uneven, sized, some):
    X = sp.csr_array(uneven)
    gene = np.where(np.arange(3000) % 3 == 0, -1, np.arange(3000)) if some else np.arange(3000)
    chosen = [k for k in np.linspace(0, X.nnz - 1, 40).astype(int) if gene[X.indices[k]] >= 0]
    for at in chosen:
        bad = X.copy()
        bad.data[at] = -1
        cell, column = np.searchsorted(X.indptr, at, side="right") - 1, X.indices[at]
        part = CellMatrix(bad, gene, size=np.ones(len(uneven)) if sized else None)
        with pytest.raises(ValueError, match=f"negative value -1 at row {cell}, column {column},"):
            one_pass.accumulate([part], Rows.of(sp.csr_array(np.ones((len(uneven), 1)))), transform="log1p", n_jobs=2)
