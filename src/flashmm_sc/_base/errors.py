"""Words shared by error messages, and the package's one warning class."""

from __future__ import annotations

import difflib
import os
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType

_HOME = f"{Path(__file__).parents[1]}{os.sep}"


class FlashmmWarning(UserWarning):
    """Something in the input or the result deserves a second look."""


class AdviceWarning(FlashmmWarning):
    """A call does what it says, but another would serve better; the message writes it out."""


def listed(names: Iterable[object], most: int = 8) -> str:
    """Quote names for a message, the first `most` of them."""
    quoted = [repr(str(name)) for name in names]
    rest = len(quoted) - most
    return ", ".join(quoted[:most]) + (f" and {rest} more" if rest > 0 else "")


def too_few_levels(term: str, effects: int, levels: int, instead: str) -> str:
    """Say that a correlated random term has too few levels, and what to write for it."""
    return (
        f"The random term {term} has {effects} correlated effects and {levels} levels, which are too few for their "
        f"covariances: there should be more levels than effects. Leave effects out, or {instead}."
    )


def did_you_mean(name: object, options: Iterable[object]) -> str:
    """Say which of the options `name` resembles, or what the options are."""
    known = [str(option) for option in options]
    close = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(repr(c) for c in close)}?"
    return f"There are: {listed(known)}." if known else "There are none."


@contextmanager
def named(part: str) -> Iterator[None]:
    """Put the name of a part of the data, if it has one, before what is wrong with it."""
    try:
        yield
    except (KeyError, OSError, ValueError) as error:
        if not part:
            raise
        kind = next(kind for kind in (KeyError, OSError, ValueError) if isinstance(error, kind))
        msg = f"{part}: {error.args[0] if kind is KeyError else error}"
        raise kind(msg) from error


def warn(message: str, category: type[FlashmmWarning] = FlashmmWarning) -> None:
    """Warn at the line of the user's code that called the package, however deep inside it this is."""
    frame: FrameType | None = sys._getframe(1)
    level = outside = 2
    while frame is not None:
        level += 1
        if frame.f_code.co_filename.startswith(_HOME):
            outside = level
        frame = frame.f_back
    warnings.warn(message, category, stacklevel=outside)
