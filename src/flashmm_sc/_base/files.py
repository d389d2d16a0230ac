"""Files that appear whole or not at all."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def appearing_whole(path: Path) -> Iterator[Path]:
    """Give a file beside `path` to write to; it takes the name `path` only once it is complete."""
    with TemporaryDirectory(prefix=".flashmm-sc-", dir=path.parent) as folder:
        part = Path(folder) / path.name  # the same name, since its ending may say how to write
        yield part
        part.replace(path)
