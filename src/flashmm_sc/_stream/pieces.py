"""Pieces of matrices as sparse matrices that the compiled loops can trust: their dtypes, their indices and index pointers."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp


def native(values: Any) -> np.ndarray:
    """Values in a dtype that SciPy knows: half precision and a foreign byte order become float64."""
    values = np.asarray(values)
    return values if values.dtype.isnative and values.dtype != np.float16 else values.astype(np.float64)


def major(X: Any, a: int, b: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Views on rows a to b of a CSR matrix, or columns a to b of a CSC matrix."""
    start, stop = X.indptr[a], X.indptr[b]
    return X.data[start:stop], X.indices[start:stop], X.indptr[a : b + 1] - start


def part(
    kind: type, data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, shape: tuple[int, int]
) -> sp.csr_array | sp.csc_array:
    """A sparse matrix of these arrays as they are; its constructor would copy what is a small part of a larger one.

    It would check them too: SciPy's and our compiled loops trust the index pointers.
    """
    fit = len(indptr) == shape[0 if kind is sp.csr_array else 1] + 1 and len(indices) == len(data) == indptr[-1]
    if not fit or (np.diff(indptr) < 0).any():
        msg = "its values, indices and index pointers don't fit together"
        raise ValueError(msg)
    indices = indices if indices.dtype in (np.int32, np.int64) else indices.astype(np.int64)
    piece = kind(shape, dtype=data.dtype)
    piece.data, piece.indices, piece.indptr = data, indices, indptr.astype(indices.dtype)
    return piece


def canonical(values: sp.csr_array | sp.csc_array) -> sp.csr_array | sp.csc_array:
    """Sort indices and add up duplicates (v² of a sum is not the sum of v²), on a copy since it may be a view."""
    if not values.has_canonical_format:
        values = values.copy()
        values.sum_duplicates()
    inner = values.shape[1 if values.format == "csr" else 0]
    filled = np.flatnonzero(np.diff(values.indptr) > 0)
    if filled.size and (
        values.indices[values.indptr[filled]].min() < 0 or values.indices[values.indptr[filled + 1] - 1].max() >= inner
    ):
        msg = f"an index lies outside of the {inner} there are"
        raise ValueError(msg)
    if values.data.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    return values
