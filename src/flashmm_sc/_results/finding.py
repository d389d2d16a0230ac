"""Choosing columns of results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flashmm_sc._base.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence


def selected(argument: str, values: str | Sequence[str] | None, known: Sequence[str], key: str) -> list[str] | None:
    """The names asked for, checked; None means all."""
    if values is None:
        return None
    try:
        names = [values] if isinstance(values, str) else [str(value) for value in values]
    except TypeError as error:
        msg = f"{argument}={values!r} must be a text, or several in a list."
        raise TypeError(msg) from error
    for name in names:
        if name not in known:
            msg = f"{argument}: the result {key!r} has no {name!r}. {did_you_mean(name, dict.fromkeys(known))}"
            raise KeyError(msg)
    return names
