"""Progress bars, in terminals and notebooks, of what takes longer than a second."""

from __future__ import annotations

import sys
import warnings
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

DELAY = 1.0
"""Seconds after which a bar is shown: what is done by then needs none."""
_SIZE = 80, 24
"""Columns and rows of a terminal that doesn't tell its own, as in some containers; tqdm would draw nothing there."""


@contextmanager
def progress(what: str, total: float, unit: str, show: bool | None) -> Iterator[Any]:
    """A bar of tqdm, whose `update` tells it what is done; `show` is as in the public functions.

    Asked for by True, it is shown at once; by None in a terminal or notebook, once it has taken a while; else never.
    """
    shown = watched() if show is None else show
    delay = DELAY if show is None else 0.0
    options: dict[str, Any] = {"desc": what, "unit": f" {unit}", "unit_scale": True, "disable": not shown}
    with _tqdm()(total=total, delay=delay, **options) as bar:
        if isinstance(width := getattr(bar, "ncols", None), int) and width <= 0:
            bar.ncols, bar.nrows = _SIZE
        yield bar


@cache
def _tqdm() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a notebook without ipywidgets gets a bar of text
        from tqdm.auto import tqdm

    return tqdm


def watched() -> bool:
    """Whether someone sees standard error: it is a terminal or, though it is none there, in a notebook."""
    if sys.stderr is not None and sys.stderr.isatty():
        return True
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return "IPKernelApp" in getattr(shell, "config", ())
