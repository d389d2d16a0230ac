"""Uncompressed datasets of HDF5 files, read at their place in the file, by several threads and without HDF5.

HDF5 does all its work under one lock, and copies what it reads once more.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import h5py
import numpy as np

from flashmm_sc._base.threads import together

if TYPE_CHECKING:
    from concurrent.futures import Executor

_PART = 2**20
"""Bytes that a thread reads at a time."""


@dataclass(frozen=True, eq=False)
class Plain:
    """The pieces of a dataset in its file: its only one, or its chunks.

    Attributes
    ----------
    dataset
        The dataset; its file stays open.
    descriptor
        Of the file.
    places
        Byte in the file at which each piece begins.
    height
        Rows of a piece; the last one may have fewer.
    """

    dataset: h5py.Dataset
    descriptor: int
    places: np.ndarray
    height: int

    @classmethod
    def of(cls, dataset: h5py.Dataset) -> Plain | None:
        """Where a dataset lies; None if that isn't known, or if what lies there isn't what HDF5 would read.

        That is so of filters, types that NumPy lacks, external and virtual data, chunks that were never written,
        and files that may be written to.
        """
        if not _as_it_is(dataset):
            return None
        layout, descriptor = dataset.id.get_create_plist().get_layout(), dataset.file.id.get_vfd_handle()
        if layout == h5py.h5d.CONTIGUOUS:
            place = dataset.id.get_offset()
            return None if place is None else cls(dataset, descriptor, np.array([place]), len(dataset))
        if layout != h5py.h5d.CHUNKED or dataset.ndim != 1:
            return None
        (height,) = dataset.chunks
        places = np.full(-(-len(dataset) // height), -1)

        def note(chunk: h5py.h5d.StoreInfo) -> None:
            places[chunk.chunk_offset[0] // height] = chunk.byte_offset

        dataset.id.chunk_iter(note)
        return None if (places < 0).any() else cls(dataset, descriptor, places, height)

    def read(self, start: int, stop: int, pool: Executor, threads: int = 1) -> np.ndarray:
        """``dataset[start:stop]``, by this thread and up to `threads` - 1 of the pool.

        Raises
        ------
        OSError
            For a file that ends before.
        """
        start, stop, _ = slice(start, stop).indices(len(self.dataset))
        out = np.empty((max(stop - start, 0), *self.dataset.shape[1:]), self.dataset.dtype)
        bytes_of = memoryview(out.reshape(-1).view(np.uint8).data)
        parts = iter(self._parts(start, stop))  # each goes to the thread that asks first

        def work() -> None:
            for place, first, size in parts:
                self._fill(bytes_of[first : first + size], place)

        together(work, pool, threads)
        return out

    def _parts(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        """Bytes to read: where in the file, where to, and how many."""
        row = self.dataset.dtype.itemsize * prod(self.dataset.shape[1:])
        parts: list[tuple[int, int, int]] = []
        for a in range(start - start % self.height, stop, self.height):
            first, last = max(a, start), min(a + self.height, stop)
            place = int(self.places[a // self.height]) + (first - a) * row
            to, end = (first - start) * row, (last - start) * row
            parts.extend((place + k - to, k, min(_PART, end - k)) for k in range(to, end, _PART))
        return parts

    def _fill(self, out: memoryview, place: int) -> None:
        while len(out):
            read = os.preadv(self.descriptor, [out], place)
            if not read:
                msg = f"{self.dataset.file.filename} ends within {self.dataset.name}; the file is damaged"
                raise OSError(msg)
            out, place = out[read:], place + read


def _as_it_is(dataset: h5py.Dataset) -> bool:
    """Whether the bytes in the file, which nobody writes to, are those of the array."""
    file, plist = dataset.file, dataset.id.get_create_plist()
    only_read = file.mode == "r" and file.driver == "sec2" and not file.userblock_size
    inside = not plist.get_nfilters() and not plist.get_external_count()
    numbers = (
        dataset.ndim > 0
        and dataset.dtype.kind in "iuf"
        and dataset.id.get_type().equal(h5py.h5t.py_create(dataset.dtype))
    )
    can = hasattr(os, "preadv") and hasattr(dataset.id, "chunk_iter")  # not on all systems
    return can and only_read and inside and numbers
