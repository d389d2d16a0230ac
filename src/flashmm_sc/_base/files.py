"""Files: their names, files that appear whole or not at all, and words for those that can't be read."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile, mkdtemp
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from flashmm_sc._base.signals import uninterrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

try:
    fcntl: Any = import_module("fcntl")
except ImportError:  # Windows has none
    fcntl = None

_PREFIX = ".flashmm-sc-unfinished-"
_OF_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
"""Errors that reading a file never has."""
_OF_OTHER_KINDS = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
"""Errors of renaming a file over a folder, or a folder over a file or over a folder that isn't empty."""
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
    check_file(found)
    return found


def new(path: object) -> Path:
    """The path of a file to write; refuses one in a folder that is not there, and folders."""
    found = as_path("path", path)
    check_folder(found, f"{str(found)!r} can't be written")
    check_file(found)
    return found


def check_folder(path: Path, words: str, error: type[OSError | ValueError] = FileNotFoundError) -> None:
    """Refuse a file to write in a folder that is not there, in words on the argument and an error of this kind."""
    if not path.absolute().parent.is_dir():
        msg = f"{words}: there is no such folder. Create it first."
        raise error(msg)
    if not os.access(path.absolute().parent, os.X_OK):
        msg = f"{words}: permission denied in its folder. Give another place."
        raise PermissionError(msg)


def check_file(path: Path) -> None:
    """Refuse a folder in the place of a file."""
    if path.is_dir():
        msg = f"{str(path)!r} is a folder; give the name of a file."
        raise IsADirectoryError(msg)


def taken(path: Path) -> FileExistsError:
    """What to raise for a file or store that stays as it is."""
    return FileExistsError(f"{str(path)!r} is there already; remove it first, or give another name.")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name the file that can't be read; a damaged one may raise anything."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        msg = f"{str(path)!r} can't be read: {error}. It may be truncated or corrupt; copy it again."
        raise OSError(msg) from error


@contextmanager
def appearing_whole(path: Path) -> Iterator[Path]:
    """Give a file beside `path` to write to; it takes the name `path` only once it is complete."""
    with appearing_together(path) as (part,):
        yield part


@contextmanager
def appearing_together(*paths: Path | None) -> Iterator[list[Any]]:
    """Give files beside some paths to write to, None for None; they take their names once all of them are complete.

    Raises
    ------
    OSError
        Also for a full disk in between, with the names of the files.
    """
    with _named(paths), ExitStack() as folders:
        with uninterrupted():
            # the same names, since their endings may say how to write
            parts = [path and folders.enter_context(_folder_beside(path)) / path.name for path in paths]
        yield parts
        with uninterrupted():
            for part, path in zip(parts, paths, strict=True):
                if part and path:
                    _replace(part, path)
            folders.close()  # while nothing can strike


def _replace(part: Path, path: Path) -> None:
    """Give a file or store its name, unless that is a store's, or a store's a file's."""
    try:
        part.replace(path)
    except OSError as error:
        if error.errno not in _OF_OTHER_KINDS:
            raise
        raise taken(path) from error


@contextmanager
def _named(paths: tuple[Path | None, ...]) -> Iterator[None]:
    """Say which files can't be written."""
    try:
        yield
    except OSError as error:
        if error.errno not in _OF_WRITING:
            raise
        names = " and ".join(repr(str(path)) for path in paths if path)
        msg = f"{names} can't be written: {error.strerror}. Nothing was changed; make room, or give another place."
        raise OSError(msg) from error


@contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    """A folder in that of `path`, gone in the end; those that killed processes left there go now."""
    for left in path.absolute().parent.glob(f"{_PREFIX}*"):
        if (lock := _locked(left, wait=False)) is not None:
            _remove(left, lock)
    if path.exists() and not path.is_symlink() and not os.access(path, os.W_OK):
        msg = f"{str(path)!r} can't be written: it is read-only. Give another name."
        raise PermissionError(msg)
    try:
        folder, lock = _new_folder(path.parent)
    except PermissionError as error:
        msg = f"{str(path)!r} can't be written: {error.strerror} in its folder. Give another place."
        raise PermissionError(msg) from error
    try:
        yield folder
    finally:
        with uninterrupted():
            _remove(folder, lock)


def _new_folder(parent: Path) -> tuple[Path, int | None]:
    """A folder and its lock, which another process may have taken before us, to remove it as one that was left."""
    while True:
        folder = Path(mkdtemp(prefix=_PREFIX, dir=parent))
        lock = _locked(folder, wait=True)
        if folder.exists():
            return folder, lock


def _locked(folder: Path, *, wait: bool) -> int | None:
    """A lock that a folder has as long as this process lives; None if another has it, or there are no locks."""
    if fcntl is None:
        return None
    lock = None
    try:
        lock = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        if lock is not None:
            os.close(lock)
        return None
    return lock


def _remove(folder: Path, lock: int | None) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if lock is not None:
        os.close(lock)


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
