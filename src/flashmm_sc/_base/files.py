"""Files: their names, files that appear whole or not at all, and words for those that can't be read."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_LONGEST = 255
"""Bytes of the name of a file that file systems take."""


def as_path(argument: str, path: object) -> Path:
    """The path of a file; refuses what can't be one."""
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str):
        msg = f"{argument}={path!r} must be the path of a file, a text or a pathlib.Path."
        raise TypeError(msg)
    try:
        longest = max((len(os.fsencode(part)) for part in Path(text).parts), default=0)
    except UnicodeEncodeError:
        longest = _LONGEST + 1
    if "\0" in text or not text or longest > _LONGEST:
        msg = f"{argument}={text[:_LONGEST]!r} can't be the name of a file."
        raise ValueError(msg)
    return Path(text)


def existing(path: object) -> Path:
    """The path of a file to read; refuses one that is not there, and folders."""
    found = as_path("path", path)
    if not found.exists():
        msg = f"There is no file {str(found)!r}."
        raise FileNotFoundError(msg)
    if found.is_dir():
        msg = f"{str(found)!r} is a folder; give the name of a file."
        raise IsADirectoryError(msg)
    return found


def new(path: object) -> Path:
    """The path of a file to write; refuses one in a folder that is not there, and folders."""
    found = as_path("path", path)
    if not found.absolute().parent.is_dir():
        msg = f"{str(found)!r} can't be written: there is no such folder. Create it first."
        raise FileNotFoundError(msg)
    if found.is_dir():
        msg = f"{str(found)!r} is a folder; give the name of a file."
        raise IsADirectoryError(msg)
    return found


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name the file that can't be read; a damaged one may raise anything."""
    try:
        yield
    except Exception as error:
        msg = f"{str(path)!r} can't be read: {error}. It may be truncated or corrupt; copy it again."
        raise OSError(msg) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file that can't be written; h5py raises RuntimeError where a disk is full."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        msg = f"{str(path)!r} can't be written: {error}."
        raise OSError(msg) from error


@contextmanager
def appearing_whole(path: Path) -> Iterator[Path]:
    """Give a file beside `path` to write to; it takes the name `path` only once it is complete."""
    with TemporaryDirectory(prefix=".flashmm-sc-", dir=path.parent) as folder:
        part = Path(folder) / path.name  # the same name, since its ending may say how to write
        yield part
        part.replace(path)


@contextmanager
def temporary_zeros(folder: Path) -> Iterator[Callable[[tuple[int, ...]], np.ndarray]]:
    """Give a function that makes arrays of zeros in temporary files of a folder, which are gone in the end, whatever ends it.

    The function raises OSError where there is no space for them.
    """
    with ExitStack() as files:

        def zeros(shape: tuple[int, ...]) -> np.ndarray:
            size = 8 * int(np.prod(shape))
            if not size:
                return np.zeros(shape)
            file = files.enter_context(TemporaryFile(prefix=".flashmm-sc-", dir=folder))
            mode: Literal["r+", "w+"] = "w+"
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(
                    file.fileno(), 0, size
                )  # a page without space, when written to, would end the process
                mode = "r+"
            return np.asarray(np.memmap(file, np.float64, mode, shape=shape))

        yield zeros
