"""Arrays of zarr stores, of which chunks may be lost or cut off: zarr takes the one for zeros, blosc doesn't notice the other.

A writer may leave chunks of zeros out. So nothing can be known of a dense matrix; of a sparse one, what zeros would mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.storage import WrapperStore

if TYPE_CHECKING:
    from collections.abc import Callable


class _Watched(WrapperStore[Any]):
    """A store that refuses chunks that are cut off, and those that are missing or notes them.

    Attributes
    ----------
    blosc
        Whether it is blosc that the chunks are compressed by: it reads on where they end.
    needed
        Whether none may be missing.
    missing
        Names of those that are.
    """

    blosc = needed = False
    missing: list[str]

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        return self._seen(key, await super().get(key, prototype, byte_range), whole=byte_range is None)

    def get_sync(self, key: str, *, prototype: Any = None, byte_range: Any = None) -> Any:
        """As `get`, which newer zarr does without."""
        parent: Any = super()
        stored = parent.get_sync(key, prototype=prototype, byte_range=byte_range)
        return self._seen(key, stored, whole=byte_range is None)

    def _seen(self, key: str, stored: Any, *, whole: bool) -> Any:
        if stored is None:
            if self.needed:
                msg = (
                    f"the chunk {key!r} is missing (if it held zeros only, drop them by eliminate_zeros() and write "
                    "the matrix anew)"
                )
                raise OSError(msg)
            self.missing.append(key)
            return None
        header = stored.as_numpy_array()[:16].tobytes() if self.blosc and whole else b""
        if not len(stored) or (header and int.from_bytes(header[12:], "little") != len(stored)):
            msg = f"the chunk {key!r} is cut off"
            raise OSError(msg)
        return stored


def watched(array: Any, *, needed: bool = False) -> tuple[Any, list[str]]:
    """An array that is read with care, and where the chunks that turn out to be missing are named."""
    store = _Watched(array.store)
    store.missing = []
    again = zarr.open_array(store, path=array.path, mode="r" if store.read_only else "r+")
    last = [type(one).__name__.lower() for one in array.compressors][-1:]
    store.blosc = array.shards is None and any(name.startswith("blosc") for name in last)
    store.needed = needed
    store.missing.clear()  # files of the other format
    return again, store.missing


def watched_parts(
    data: Any, indices: Any, indptr: Any
) -> tuple[Any, Any, Any, Callable[[int, np.ndarray, np.ndarray], None]]:
    """The parts of a sparse matrix, and what checks those of some slices: the first, its pointers, and all their indices.

    A chunk of indices that was left out held zeros only, so each of its entries is the first of its row (of a CSC matrix:
    column); one of pointers, those up to the first row that isn't empty.
    """
    data, _ = watched(data, needed=True)
    indices, lost = watched(indices)
    indptr, lost_pointers = watched(indptr)
    height = (indptr.shards or indptr.chunks)[0]

    def check(start: int, edges: np.ndarray, inner: np.ndarray) -> None:
        if lost_pointers and start + len(edges) == indptr.shape[0] and edges[-1] < data.shape[0]:
            raise OSError(_words(lost_pointers))
        if lost_pointers and edges[0] == 0 < edges[-1]:
            filled = int(np.argmax(edges > 0))
            if (start + filled) % height == 0 and (np.diff(inner[: edges[filled]]) <= 0).any():
                raise OSError(_words(lost_pointers))
        if lost:
            later = np.ones(len(inner) + 1, bool)
            later[edges[:-1] - edges[0]] = False
            if (later[:-1] & (inner == 0)).any():
                raise OSError(_words(lost))

    return data, indices, indptr, check


def _words(missing: list[str]) -> str:
    return (
        f"the chunk {missing[0]!r} is missing (if the matrix was read before, its indices aren't sorted: sort_indices() and write "
        "it anew)"
    )
