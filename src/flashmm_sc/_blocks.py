"""Expression matrices as a sequence of sparse blocks: the only file that knows what container a matrix lives in.

A row-major container (CSR, dense) yields blocks of cells, a column-major one (CSC) blocks of genes, since the other
direction reads the whole matrix for every block. To support another container, register it with `blocks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import h5py
import numpy as np
import scipy.sparse as sp
from anndata.abc import CSCDataset, CSRDataset

BLOCK_BYTES = 2**26


@dataclass(frozen=True)
class Block:
    """Some rows (CSR) or some columns (CSC) of a matrix, canonical; the original is never modified."""

    values: sp.csr_array | sp.csc_array
    start: int

    @property
    def by_rows(self) -> bool:
        """Whether the block holds cells (CSR), else genes (CSC)."""
        return self.values.format == "csr"


@singledispatch
def blocks(X: Any, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """Cut a cells × genes matrix into sparse blocks of about `block_bytes` bytes.

    Raises
    ------
    TypeError
        For a container that can't be streamed.
    """
    msg = (
        f"Can't stream a matrix of type {type(X).__module__}.{type(X).__name__}; "
        "give a NumPy array, a CSR or CSC matrix, or a backed AnnData's X."
    )
    raise TypeError(msg)


@blocks.register(np.ndarray)
@blocks.register(h5py.Dataset)
def _(X: Any, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    row_bytes = X.shape[1] * X.dtype.itemsize
    return _cut(X.shape[0], row_bytes, block_bytes, lambda a, b: sp.csr_array(_native(np.asarray(X[a:b]))))


@blocks.register(sp.spmatrix)
@blocks.register(sp.sparray)
def _(X: Any, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    return blocks(sp.csr_array(X), block_bytes)


@blocks.register(sp.csr_matrix)
@blocks.register(sp.csr_array)
def _(X: Any, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    def rows(a: int, b: int) -> sp.csr_array:
        return sp.csr_array(_major(X, a, b), shape=(b - a, X.shape[1]))

    return _cut(X.shape[0], _stored_bytes(X.nnz, X.shape[0]), block_bytes, rows)


@blocks.register(sp.csc_matrix)
@blocks.register(sp.csc_array)
def _(X: Any, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    def columns(a: int, b: int) -> sp.csc_array:
        return sp.csc_array(_major(X, a, b), shape=(X.shape[0], b - a))

    return _cut(X.shape[1], _stored_bytes(X.nnz, X.shape[1]), block_bytes, columns)


@blocks.register(CSRDataset)
def _(X: Any, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    nnz = X.group["indices"].shape[0]
    return _cut(X.shape[0], _stored_bytes(nnz, X.shape[0]), block_bytes, lambda a, b: sp.csr_array(X[a:b]))


@blocks.register(CSCDataset)
def _(X: Any, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    nnz = X.group["indices"].shape[0]
    return _cut(X.shape[1], _stored_bytes(nnz, X.shape[1]), block_bytes, lambda a, b: sp.csc_array(X[:, a:b]))


def _native(values: np.ndarray) -> np.ndarray:
    """Values in a dtype that SciPy knows: half precision and a foreign byte order become float64."""
    return values if values.dtype.isnative and values.dtype != np.float16 else values.astype(np.float64)


def _stored_bytes(nnz: int, n_slices: int) -> int:
    """Average bytes of a row or column: values of up to 8 bytes and 4-byte indices."""
    return 12 * nnz // max(n_slices, 1)


def _major(X: Any, a: int, b: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Views on rows a to b of a CSR matrix, or columns a to b of a CSC matrix."""
    start, stop = X.indptr[a], X.indptr[b]
    return X.data[start:stop], X.indices[start:stop], X.indptr[a : b + 1] - start


def _cut(size: int, slice_bytes: int, block_bytes: int, read: Callable[[int, int], Any]) -> Iterator[Block]:
    step = max(1, block_bytes // max(slice_bytes, 1))
    for a in range(0, size, step):
        yield Block(_canonical(read(a, min(a + step, size))), a)


def _canonical(values: sp.csr_array | sp.csc_array) -> sp.csr_array | sp.csc_array:
    """Sort indices and add up duplicates (v² of a sum is not the sum of v²), on a copy since it may be a view."""
    if not values.has_canonical_format:
        values = values.copy()
        values.sum_duplicates()
    return values
