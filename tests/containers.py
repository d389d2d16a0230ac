"""Every container that an expression matrix may come in, and what a call must leave as it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import zarr

from flashmm_sc._design.rows import Encoder, Rows

DTYPES = ("bool", "uint8", "int32", "int64", "float32", "float64")


def non_canonical(values: np.ndarray, kind: type) -> Any:
    """Sparse, with every value in two parts that add up to it, and indices in descending order."""
    by_major = values if kind is sp.csr_matrix else values.T
    major, minor = (np.tile(index, 2) for index in np.nonzero(by_major))
    whole = by_major[np.nonzero(by_major)]
    part = np.zeros_like(whole) if whole.dtype == bool else (whole // 2).astype(whole.dtype)
    data = np.concatenate([part, whole ^ part if whole.dtype == bool else whole - part])
    order = np.lexsort((-minor, major))
    indptr = np.append(0, np.cumsum(2 * np.count_nonzero(by_major, axis=1)))
    return kind((data[order], minor[order], indptr), shape=values.shape)


def long_indices(values: np.ndarray) -> sp.csr_matrix:
    """CSR with 64-bit indices, as of matrices with more than 2³¹ values."""
    matrix = sp.csr_matrix(values)
    matrix.indices, matrix.indptr = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
    return matrix


IN_MEMORY: dict[str, Callable[[np.ndarray], Any]] = {
    "C order": np.ascontiguousarray,
    "F order": np.asfortranarray,
    "csr_matrix": sp.csr_matrix,
    "csc_matrix": sp.csc_matrix,
    "csr_array": sp.csr_array,
    "csc_array": sp.csc_array,
    "csr long indices": long_indices,
    "csr non-canonical": lambda values: non_canonical(values, sp.csr_matrix),
    "csc non-canonical": lambda values: non_canonical(values, sp.csc_matrix),
}

CONTAINERS = [
    *IN_MEMORY,
    *(f"view of {name}" for name in ("C order", "csr_matrix", "csc_matrix")),
    *(f"h5ad {name}" for name in ("C order", "csr_matrix", "csc_matrix", "csr non-canonical")),
    *(f"zarr {name}" for name in ("csr_matrix", "csc_matrix")),
]

READ = ["C order", "csr_matrix", "csc non-canonical", "view of csc_matrix", *CONTAINERS[-6:]]
"""One of each way of reading. That sums are the same from all containers is tested in `stream`; this does for what uses them."""


def stored(name: str, values: np.ndarray, folder: Path, obs: Any = None, var: Any = None) -> ad.AnnData:
    """An AnnData whose X is in the container of this name."""
    if name in IN_MEMORY:
        return ad.AnnData(IN_MEMORY[name](values), obs, var)
    where, _, inner = name.replace("view of ", "view ").partition(" ")
    if where == "view":
        return _view(inner, values, obs, var)
    adata = ad.AnnData(IN_MEMORY[inner](values), obs, var)
    if where == "h5ad":
        adata.write_h5ad(folder / "adata.h5ad")
        return ad.read_h5ad(folder / "adata.h5ad", backed="r")
    group = zarr.open_group(str(folder / "X.zarr"), mode="w")
    ad.io.write_elem(group, "X", adata.X)
    return ad.AnnData(ad.io.sparse_dataset(group["X"]), obs, var)


def _view(inner: str, values: np.ndarray, obs: Any, var: Any) -> ad.AnnData:
    """Every other cell and gene of a larger AnnData."""
    n, m = values.shape
    larger = np.ones((2 * n, 2 * m), values.dtype)
    larger[::2, ::2] = values
    whole = ad.AnnData(IN_MEMORY[inner](larger))
    for frame, given in ((whole.obs, obs), (whole.var, var)):
        for column in () if given is None else given.columns:
            frame[column] = np.repeat(given[column].to_numpy(), 2)
    if obs is not None:
        whole.obs_names = [name + end for name in obs.index for end in ("", "'")]
    if var is not None:
        whole.var_names = [name + end for name in var.index for end in ("", "'")]
    return whole[::2, ::2]


def warned_of_a_view(adata: ad.AnnData) -> AbstractContextManager[Any]:
    """Where results are written to a view, anndata warns that it becomes an AnnData of its own, which its parent is not."""
    return pytest.warns(ad.ImplicitModificationWarning, match="view") if adata.is_view else nullcontext()


def assert_same(a: Any, b: Any) -> None:
    """The same keys, types and values, to the last bit; sparse matrices also in the order of their entries."""
    if isinstance(a, pd.DataFrame):
        pd.testing.assert_frame_equal(a, b, check_exact=True)
    elif isinstance(a, Mapping):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif sp.issparse(a):
        assert type(a) is type(b)
        for part in ("data", "indices", "indptr"):
            assert_same(getattr(a, part), getattr(b, part))
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    elif not isinstance(a, h5py.Dataset):
        assert a is b or a == b


def assert_unchanged(adata: ad.AnnData, before: ad.AnnData) -> None:
    """An AnnData is as it was when `before = adata.copy()`."""
    for slot in ("obs", "var", "uns", "obsm", "varm", "layers", "X"):
        assert_same(getattr(adata, slot), getattr(before, slot))
    assert (adata.raw is None) == (before.raw is None)
    if adata.raw is not None:
        assert_same(adata.raw.X, before.raw.X)


def grouped_rows(W: sp.csr_array, group: np.ndarray) -> Rows:
    """Design rows at hand of models that share the columns of W; `group` numbers the models of the cells, -1 is none."""
    cells = [np.flatnonzero(group == i) for i in range(group.max() + 1)]
    encoder = Encoder([sp.csr_array] * len(cells), [0] * len(cells), W.shape[1])
    return Rows(len(group), encoder, [(own, sp.csr_array(W[own])) for own in cells])
