"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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
