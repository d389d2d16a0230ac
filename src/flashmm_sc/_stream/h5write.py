"""HDF5 files that can be written to on a disk that fills."""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import h5py

from flashmm_sc._base.signals import uninterrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class _Enduring(io.FileIO):
    """A file whose writing HDF5 never sees fail.

    It can't close a file that it couldn't write, tries again when Python ends, and crashes. Here, the first error is
    kept, and nothing is written any more.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write as much as there is room for."""
        rest = memoryview(data)
        while len(rest) and self.error is None:
            try:
                rest = rest[super().write(rest) :]
            except OSError as error:
                self.error = error
        return len(data)

    def readinto(self, buffer: Any) -> int:
        """Read, zeros where nothing was written: HDF5 trusts what it finds."""
        view = memoryview(buffer)
        n = super().readinto(view) or 0
        view[n:] = bytes(len(view) - n)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Change the size, if there is room."""
        if self.error is None:
            try:
                return super().truncate(size)
            except OSError as error:
                self.error = error
        return size or 0


@contextmanager
def writable(path: Path, mode: Literal["w", "r+"]) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """An HDF5 file to write to, and a function for those who write long: it raises what has happened meanwhile.

    Raises
    ------
    OSError
        When the disk is full.
    """
    raw_mode = "w+b" if mode == "w" else "r+b"
    with uninterrupted() as came, _Enduring(path, raw_mode) as raw:

        def check() -> None:
            if raw.error is not None:
                raise raw.error
            if came:
                raise InterruptedError  # those who hold it back raise it

        try:
            with h5py.File(raw, mode) as file:
                yield file, check
        except Exception:
            check()  # what HDF5 makes of a file of which parts are missing is no news
            raise
        check()
