"""Expression matrices as a sequence of sparse blocks: the only file that knows what container a matrix lives in.

A row-major container (CSR, dense) yields blocks of cells, a column-major one (CSC) blocks of genes, since the other
direction reads the whole matrix for every block. To support another container, register it with `blocks`.
"""

from __future__ import annotations

import zlib
from contextlib import closing
from dataclasses import dataclass
from functools import singledispatch
from typing import TYPE_CHECKING, Any, cast

import h5py
import numpy as np
import scipy.sparse as sp
from anndata.abc import CSCDataset, CSRDataset

from flashmm_sc._base.threads import Pool
from flashmm_sc._stream.h5chunks import read, readable
from flashmm_sc._stream.h5plain import Plain
from flashmm_sc._stream.pieces import canonical, major, native, part

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

BLOCK_BYTES = 2**26
_VIEWED = 4
"""How much larger blocks are that are but views: strata have more cells in each, whose sums stay at hand."""
_LARGEST = 2**30
"""Bytes of a chunk in a file, or of a band of chunks, beyond which it can't be streamed."""
_CACHED = 2**20
"""Bytes of a chunk up to which HDF5 keeps it, so that two blocks may share one."""
_DAMAGE = OSError, RuntimeError, ValueError, EOFError, zlib.error
"""What readers and codecs raise for it."""
_FILE = OSError, "The file may be truncated or corrupt."
_MEMORY = ValueError, "The sparse matrix in memory is damaged: its check_format() tells more; make it anew."


@dataclass(frozen=True)
class Block:
    """Some rows (CSR) or some columns (CSC) of a matrix, canonical, of floats; the original is never modified."""

    values: sp.csr_array | sp.csc_array
    start: int

    @property
    def by_rows(self) -> bool:
        """Whether the block holds cells (CSR), else genes (CSC)."""
        return self.values.format == "csr"


@singledispatch
def blocks(X: Any, block_bytes: int = BLOCK_BYTES, threads: int = 1) -> Iterator[Block]:
    """Cut a cells × genes matrix into sparse blocks of about `block_bytes` bytes; `threads` decode those of files.

    Raises
    ------
    TypeError
        For a container that can't be streamed.
    ValueError
        For a file whose chunks are too large to be read one by one, and for a damaged matrix in memory.
    OSError
        When a file can't be read.
    """
    if is_lazy(X):
        return _computed(X, block_bytes)
    if type(X).__module__.partition(".")[0] == "zarr" and hasattr(X, "chunks"):
        return _dense(X, block_bytes)
    msg = (
        f"Can't stream a matrix of type {type(X).__module__}.{type(X).__name__}; "
        "give a NumPy array, a CSR or CSC matrix, a dask array, or a backed AnnData's X."
    )
    raise TypeError(msg)


def is_lazy(X: Any) -> bool:
    """Whether a matrix is a dask array, whose chunks are still to be computed."""
    return hasattr(X, "__dask_graph__")


def row_major(X: Any) -> bool:
    """Whether the blocks of a matrix are of whole cells."""
    if is_lazy(X):
        return lazy_chunks(X)[0]
    first = first_block(X)
    return first is None or first.by_rows


def first_block(X: Any) -> Block | None:
    """A small block of what comes first in a matrix, whichever of its rows are chosen."""
    return next(iter(blocks(whole(X), 2**20)), None)


@dataclass(frozen=True, eq=False)
class ChosenRows:
    """Some rows of a matrix (ascending), which are taken out of its blocks as these are read."""

    X: Any
    rows: np.ndarray

    @classmethod
    def of(cls, X: Any, rows: np.ndarray) -> Any:
        """These rows of a matrix in any container; None of none."""
        return None if X is None else X[rows] if is_lazy(X) else cls(X, rows)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows × columns."""
        return len(self.rows), self.X.shape[1]


def whole(X: Any) -> Any:
    """The matrix of which rows are chosen; any other as it is."""
    return X.X if isinstance(X, ChosenRows) else X


def read_ahead(source: Iterator[Block]) -> Iterator[Block]:
    """Read the next block, in another thread, while this one is used; the source is closed in the end.

    A traceback may keep it for long, in a notebook for ever, and with it threads and files. The thread that reads closes it,
    since a generator that is still running, when Ctrl-C is pressed again, can't be closed from elsewhere.
    """
    reader = Pool(1)
    try:
        coming = reader.submit(next, source, None)
        while (block := coming.result()) is not None:
            coming = reader.submit(next, source, None)
            yield block
    finally:
        closed = reader.submit(cast("Generator[Block]", source).close)
        reader.shutdown()
        closed.result()


@blocks.register(ChosenRows)
def _(X: Any, block_bytes: int = BLOCK_BYTES, threads: int = 1) -> Iterator[Block]:
    with closing(cast("Generator[Block]", blocks(X.X, block_bytes, threads))) as source:
        for block in source:
            height = block.values.shape[0]
            if not block.by_rows:
                yield Block(block.values[X.rows], block.start)
                continue
            a, b = np.searchsorted(X.rows, (block.start, block.start + height)).tolist()
            step = max(1, block_bytes // _stored_bytes(block.values.nnz + height, height))
            for first in range(a, b, step):  # copies are no larger than asked for
                own = X.rows[first : min(first + step, b)] - block.start
                yield Block(block.values[own], first)


@blocks.register(np.ndarray)
def _(X: Any, block_bytes: int = BLOCK_BYTES, threads: int = 1) -> Iterator[Block]:
    size = X.shape[1] * X.dtype.itemsize
    return _cut("cells", X.shape[0], size, block_bytes, lambda a, b: sp.csr_array(native(X[a:b])), _MEMORY)


@blocks.register(sp.spmatrix)
@blocks.register(sp.sparray)
def _(X: Any, block_bytes: int = BLOCK_BYTES, threads: int = 1) -> Iterator[Block]:
    return blocks(sp.csr_array(X), block_bytes)


@blocks.register(sp.csr_matrix)
@blocks.register(sp.csr_array)
def _(X: Any, block_bytes: int = BLOCK_BYTES, threads: int = 1) -> Iterator[Block]:
    rows = lambda a, b: part(sp.csr_array, *major(X, a, b), (b - a, X.shape[1]))
    step = block_bytes * (_VIEWED if X.dtype in (np.float32, np.float64) else 1)
    return _cut("cells", X.shape[0], _stored_bytes(X.nnz, X.shape[0]), step, rows, _MEMORY)


@blocks.register(sp.csc_matrix)
@blocks.register(sp.csc_array)
def _(X: Any, block_bytes: int = BLOCK_BYTES, threads: int = 1) -> Iterator[Block]:
    columns = lambda a, b: part(sp.csc_array, *major(X, a, b), (X.shape[0], b - a))
    return _cut("genes", X.shape[1], _stored_bytes(X.nnz, X.shape[1]), block_bytes, columns, _MEMORY)


@blocks.register(CSRDataset)
@blocks.register(CSCDataset)
def _(X: Any, block_bytes: int = BLOCK_BYTES, threads: int = 1) -> Iterator[Block]:
    try:
        data, indices, indptr = (X.group[name] for name in ("data", "indices", "indptr"))
    except KeyError as error:
        msg = f"The matrix can't be read: {error.args[0]}. The file may be truncated or corrupt."
        raise OSError(msg) from error
    check: Callable[[int, np.ndarray, np.ndarray], None] = lambda *_: None
    if hasattr(data, "shards"):
        from flashmm_sc._stream.zchunks import watched_parts  # zarr is optional

        data, indices, indptr, check = watched_parts(data, indices, indptr)
    by_rows = isinstance(X, CSRDataset)
    kind, length, across = (sp.csr_array, *X.shape) if by_rows else (sp.csc_array, *X.shape[::-1])
    chunk = 12 * max((array.chunks or (0,))[0] for array in (data, indices))
    _check_chunk(chunk, f"chunks of {chunk // 12} values")
    with Pool(threads) as pool:
        readers = [_reader(array, pool, threads) for array in (data, indices)]

        def slices(a: int, b: int) -> sp.csr_array | sp.csc_array:
            edges = np.asarray(indptr[a : b + 1], dtype=np.int64)
            start, stop = int(edges[0]), int(edges[-1])
            if not 0 <= start <= stop <= data.shape[0] or (a == 0 < start):
                msg = f"the index pointers {start} and {stop} don't fit the {data.shape[0]} values"
                raise ValueError(msg)
            values, inner = (rows(start, stop) for rows in readers)
            check(a, edges, inner)
            return part(kind, native(values), inner, edges - start, (b - a, across) if by_rows else (across, b - a))

        step = max(block_bytes, chunk if chunk > _CACHED else 0)
        yield from _cut("cells" if by_rows else "genes", length, _stored_bytes(data.shape[0], length), step, slices)


def _reader(array: Any, pool: Pool, threads: int) -> Callable[[int, int], np.ndarray]:
    """What gives rows of an array in a file: without HDF5, and by several threads, where that can be."""
    if isinstance(array, h5py.Dataset):
        if (plain := Plain.of(array)) is not None:
            return lambda start, stop: plain.read(start, stop, pool, threads)
        if readable(array):
            return lambda start, stop: read(array, start, stop, pool, threads)
    return lambda start, stop: np.asarray(array[start:stop])


@blocks.register(h5py.Dataset)
def _dense(X: Any, block_bytes: int = BLOCK_BYTES, threads: int = 1) -> Iterator[Block]:
    """Dense matrix of a file, along the axis of which its chunks take in less: blocks are whole chunks."""
    if hasattr(X, "shards"):
        from flashmm_sc._stream.zchunks import watched  # zarr is optional

        X, _ = watched(X)
    (n, m), size = X.shape, X.dtype.itemsize
    height, width = X.chunks or (1, m)
    by_rows = height * m <= width * n
    length, across, chunk = (n, m, height) if by_rows else (m, n, width)
    _check_chunk(chunk * across * size, f"chunks of {height} × {width} values")
    step = max(chunk, block_bytes // max(across * size, 1) // chunk * chunk)
    with Pool(threads) as pool:
        rows = _reader(X, pool, threads)

        def slices(a: int, b: int) -> sp.csr_array | sp.csc_array:
            return sp.csr_array(native(rows(a, b))) if by_rows else sp.csc_array(native(X[:, a:b]))

        yield from _cut("cells" if by_rows else "genes", length, 1, step, slices)


def _check_chunk(size: int, words: str) -> None:
    if size > _LARGEST:
        msg = (
            f"The file stores the matrix in {words}, which can't be read in blocks of reasonable size; "
            "read it into memory, or write it anew with smaller chunks."
        )
        raise ValueError(msg)


def _computed(X: Any, block_bytes: int) -> Iterator[Block]:
    """Chunks of a dask array, one computed after another; `dask` has the way to compute them together."""
    by_rows, X, starts = lazy_chunks(X)
    for start, chunk in zip(starts, X.to_delayed().ravel(), strict=True):
        yield from chunk_blocks(computed(chunk), by_rows, start, block_bytes)


def lazy_chunks(X: Any) -> tuple[bool, Any, list[int]]:
    """Whether a dask array is to be taken by rows, its chunks whole along the other axis, and where each starts.

    Raises
    ------
    ValueError
        When the sizes of chunks are unknown.
    """
    if not all(isinstance(size, int | np.integer) for axis in X.chunks for size in axis):
        msg = "The chunks of the dask array have unknown sizes; call its compute_chunk_sizes() first."
        raise ValueError(msg)
    by_rows = X.numblocks[1] == 1 or getattr(X._meta, "format", "csr") != "csc"
    along, other = (0, 1) if by_rows else (1, 0)
    X = X.rechunk({other: -1}) if X.numblocks[other] > 1 else X
    return by_rows, X, np.cumsum([0, *X.chunks[along][:-1]]).tolist()


def computed(task: Any) -> Any:
    """What a delayed task gives.

    Raises
    ------
    RuntimeError
        When the workers that should compute it die again and again.
    """
    try:
        return task.compute()
    except Exception as error:
        if type(error).__name__ != "KilledWorker":
            raise
        msg = f"Workers of the dask cluster died while they summed over cells; give them more memory. ({error})"
        raise RuntimeError(msg) from error


def chunk_blocks(chunk: Any, by_rows: bool, start: int, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """Blocks of a computed chunk whose first row, or column, is number `start` of the whole matrix."""
    kind = sp.csr_array if by_rows else sp.csc_array
    chunk = kind(chunk) if sp.issparse(chunk) or not by_rows else np.asarray(chunk)
    for block in blocks(chunk, block_bytes):
        yield Block(block.values, block.start + start)


def _stored_bytes(nnz: int, n_slices: int) -> int:
    """Average bytes of a row or column: values of up to 8 bytes and 4-byte indices."""
    return 12 * nnz // max(n_slices, 1)


def _cut(
    what: str,
    size: int,
    slice_bytes: int,
    block_bytes: int,
    read: Callable[[int, int], Any],
    failure: tuple[type[OSError | ValueError], str] = _FILE,
) -> Iterator[Block]:
    """Blocks of consecutive slices, cells or genes as `what` says; `failure` says what it means that one can't be read."""
    step = max(1, block_bytes // max(slice_bytes, 1))
    for a in range(0, size, step):
        b = min(a + step, size)
        try:
            values = canonical(read(a, b))
        except _DAMAGE as error:
            msg = f"The {what} {a} to {b} of {size} can't be read: {error}. {failure[1]}"
            raise failure[0](msg) from error
        yield Block(values, a)
