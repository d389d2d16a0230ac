"""Blocks: the whole matrix once, canonical, in the cheap direction, a few at a time, and the original untouched."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from containers import CONTAINERS, DTYPES, IN_MEMORY, assert_same, stored

from flashmm_sc._blocks import blocks


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


@pytest.mark.parametrize("name", ["csr_matrix", "csc_array", "h5ad csr_matrix", "h5ad csc_matrix", "zarr csr_matrix"])
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
