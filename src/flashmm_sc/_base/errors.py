"""Words shared by error messages, and the package's one warning class."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FlashmmWarning(UserWarning):
    """Something in the input or the result deserves a second look."""


def listed(names: Iterable[object], most: int = 8) -> str:
    """Quote names for a message, the first `most` of them."""
    quoted = [repr(str(name)) for name in names]
    rest = len(quoted) - most
    return ", ".join(quoted[:most]) + (f" and {rest} more" if rest > 0 else "")


def did_you_mean(name: object, options: Iterable[object]) -> str:
    """Say which of the options `name` resembles, or what the options are."""
    known = [str(option) for option in options]
    close = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(repr(c) for c in close)}?"
    return f"There are: {listed(known)}." if known else "There are none."


def one_of(argument: str, value: object, choices: Iterable[object]) -> None:
    """Refuse a value that is not among the choices of an argument."""
    choices = list(choices)
    if value not in choices:
        msg = f"{argument}={value!r} is unknown; choose one of {', '.join(repr(c) for c in choices)}."
        raise ValueError(msg)
