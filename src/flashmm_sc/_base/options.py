"""Options of the public functions: what they may be, checked before anything is computed."""

from __future__ import annotations

import math
import numbers
from contextlib import suppress
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


def one_of(argument: str, value: object, literal: Any) -> None:
    """Refuse a value that is not among the choices of a Literal."""
    choices = get_args(literal)
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
        msg = f"{argument}={value!r} is unknown; choose one of {', '.join(map(repr, choices))}."
        raise ValueError(msg)


def check_flags(**flags: object) -> None:
    """Refuse what is neither True nor False; "False" would count as true."""
    for argument, value in flags.items():
        if not isinstance(value, bool | np.bool_):
            msg = f"{argument}={value!r} must be True or False."
            raise TypeError(msg)


def check_optional_flags(**flags: object) -> None:
    """Refuse what is neither True, False nor None."""
    check_flags(**{argument: value for argument, value in flags.items() if value is not None})


def check_optional_texts(**texts: object) -> None:
    """Refuse what is neither a text nor None."""
    for argument, value in texts.items():
        if value is not None and not isinstance(value, str):
            msg = f"{argument}={value!r} must be a text or None."
            raise TypeError(msg)


def check_type(argument: str, value: object, kind: type, maker: str) -> None:
    """Refuse what is not of a type; `maker` says what gives it."""
    if not isinstance(value, kind):
        msg = f"{argument} must be {kind.__name__}, as {maker} gives, not {type(value).__name__}."
        raise TypeError(msg)


def check_whole(argument: str, value: object, least: int) -> None:
    """Refuse what is no whole number, or below the least that makes sense."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        msg = f"{argument}={value!r} must be a whole number."
        raise TypeError(msg)
    if value < least:
        msg = f"{argument}={value!r} is too small; give {least} or more."
        raise ValueError(msg)


def check_number(
    argument: str, value: object, low: float, high: float = math.inf, hint: str = "", *, without: tuple[float, ...] = ()
) -> None:
    """Refuse what is no finite number from `low` to `high`, and those of these bounds that are `without` sense."""
    if not isinstance(value, int | float | np.integer | np.floating) or isinstance(value, bool):
        msg = f"{argument}={value!r} must be a number. {hint}".rstrip()
        raise TypeError(msg)
    number = math.inf
    with suppress(OverflowError):  # of an int with hundreds of digits
        number = float(value)
    if not (math.isfinite(number) and low <= number <= high) or number in without:
        above = math.isinf(high) and low in without
        between = f"above {low:g}" if above else f"{low:g} or more" if math.isinf(high) else f"from {low:g} to {high:g}"
        bounds = [f"{bound:g}" for bound in without if not (above and bound == low)]
        between += f", but not {' or '.join(bounds)}" if bounds else ""
        finite = "finite, " if math.isinf(high) and not math.isfinite(number) else ""
        msg = f"{argument}={value!r} must be {finite}{between}. {hint}".rstrip()
        raise ValueError(msg)


def check_level(conf_level: object) -> None:
    """Refuse what is no level of confidence."""
    hint = "It is a probability such as 0.95."
    check_number("conf_level", conf_level, 0.0, 1.0, hint, without=(0.0, 1.0))


def check_real(words: str, values: object) -> None:
    """Refuse what would lose something as real numbers: complex ones, dates, texts, and masks of masked arrays."""
    if np.ma.is_masked(values):
        msg = (
            f"{words} has masked values, which would be taken as they are; leave them out, or fill them (.filled(...))."
        )
        raise ValueError(msg)
    kind = getattr(getattr(values, "dtype", None), "kind", "O")
    if kind not in "biufO":
        msg = f"{words} must hold real numbers, not {getattr(values, 'dtype', None)}."
        raise ValueError(msg)


def real_array(words: str, values: Any) -> np.ndarray:
    """The values as float64; refuses what is no array of real numbers."""
    check_real(words, values)
    try:
        array = np.asarray(values)
        check_real(words, array)
        if array.dtype.kind == "O":
            array = array + 0.0  # to which no text is added, though it could be read as a number
        array = array.astype(np.float64, copy=False)
    except (OverflowError, TypeError, ValueError) as error:
        msg = f"{words} must hold real numbers; {type(values).__name__} doesn't ({error})."
        raise ValueError(msg) from error
    if array.ndim == 0:
        msg = f"{words} must be an array of numbers, not {values!r}."
        raise TypeError(msg)
    return array


def names_given(argument: str, values: str | Sequence[str] | None) -> list[str] | None:
    """One name or several, as a list; None stays None."""
    if values is None:
        return None
    try:
        return [values] if isinstance(values, str) else [str(value) for value in values]
    except TypeError as error:
        msg = f"{argument}={values!r} must be a text, or several in a list."
        raise TypeError(msg) from error
