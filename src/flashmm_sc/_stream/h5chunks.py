"""Rows of chunked HDF5 datasets, decoded by several threads.

HDF5 does all its work under one lock. Here only the stored bytes of a chunk are read under it; the filters that h5py
comes with, gzip, lzf and shuffle, are undone outside, by as many threads as there are.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from importlib import import_module
from math import prod
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from flashmm_sc._base.threads import together
from flashmm_sc._stream import lzf

if TYPE_CHECKING:
    from concurrent.futures import Executor

try:
    inflate: Any = import_module("isal.isal_zlib")  # twice as fast
except ImportError:
    inflate = import_module("zlib")

_GZIP, _SHUFFLE, _LZF = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_LZF


def readable(dataset: h5py.Dataset) -> bool:
    """Whether `read` knows the layout: vectors or matrices of native numbers, in chunks, filtered in ways it can undo."""
    return (
        dataset.ndim in (1, 2)
        and dataset.chunks is not None
        and dataset.dtype.kind in "iuf"
        and dataset.dtype.isnative
        and dataset.id.get_type().equal(h5py.h5t.py_create(dataset.dtype))
        and set(_filters(dataset)) <= {_GZIP, _SHUFFLE, _LZF}
        and len(_filters(dataset)) > 0  # else see `h5plain`
    )


def read(dataset: h5py.Dataset, start: int, stop: int, pool: Executor, threads: int = 1) -> np.ndarray:
    """``dataset[start:stop]`` of a `readable` dataset, by this thread and up to `threads` - 1 of the pool.

    A chunk that the slice cuts is decoded whole, and so again for the next slice: make slices much longer than chunks.

    Raises
    ------
    OSError
        For data that can't be read or decoded.
    """
    start, stop, _ = slice(start, stop).indices(len(dataset))
    chunks = _Chunks(dataset, dataset.chunks, dataset.dtype, _filters(dataset))
    height, *width = chunks.shape
    out = np.empty((max(stop - start, 0), *dataset.shape[1:]), chunks.dtype)
    rows = range(start - start % height, stop, height)
    columns = [range(0, size, step) for size, step in zip(out.shape[1:], width, strict=True)]
    corners = iter(list(itertools.product(rows, *columns)))  # each goes to the thread that asks first

    def work() -> None:
        for row, *column in corners:
            above = max(start - row, 0)
            beside = [slice(c, c + size) for c, size in zip(column, width, strict=True)]
            part = out[max(row - start, 0) : row - start + height, *beside]
            part[...] = chunks[row, *column][above : above + len(part), *map(slice, part.shape[1:])]

    together(work, pool, threads)
    return out


def _filters(dataset: h5py.Dataset) -> list[int]:
    """Codes of the filters, in the order in which they were applied."""
    plist = dataset.id.get_create_plist()
    return [plist.get_filter(k)[0] for k in range(plist.get_nfilters())]


@dataclass(frozen=True)
class _Chunks:
    """The chunks of a dataset by their first element, whole even where they jut out of it."""

    dataset: h5py.Dataset
    shape: tuple[int, ...]
    dtype: np.dtype
    filters: list[int]

    def __getitem__(self, corner: tuple[int, ...]) -> np.ndarray:
        try:
            skipped, stored = self.dataset.id.read_direct_chunk(corner)
            for k in reversed(range(len(self.filters))):
                if not skipped >> k & 1:
                    stored = self._undo(self.filters[k], stored)
            return np.frombuffer(stored, self.dtype).reshape(self.shape)
        except (OSError, RuntimeError, ValueError, inflate.error) as error:
            if self.dataset.id.get_chunk_info_by_coord(corner).byte_offset is None:  # never written
                return np.full(self.shape, self.dataset.fillvalue, self.dtype)
            name, file = self.dataset.name, self.dataset.file.filename
            msg = f"Can't read the chunk of {name} at {corner} in {file}; the file is damaged: {error}"
            raise OSError(msg) from error

    def _undo(self, code: int, stored: bytes | np.ndarray) -> bytes | np.ndarray:
        size = prod(self.shape) * self.dtype.itemsize
        if code == _GZIP:
            return inflate.decompress(stored, 15, size)
        if code == _SHUFFLE:
            return np.frombuffer(stored, np.uint8).reshape(self.dtype.itemsize, -1).T.ravel()
        out = np.empty(size, np.uint8)
        if lzf.decompress(np.frombuffer(stored, np.uint8), out) != size:
            msg = "not LZF, or cut off"
            raise ValueError(msg)
        return out
