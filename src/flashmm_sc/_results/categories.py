"""Which category of a column of obs a coefficient or contrast is about, and what it is against, as their names tell."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def categories_of(names: Sequence[str], column: str, categories: Iterable[str]) -> list[str] | None:
    """The category of each name; None if any is about none of them, or two are about the same."""
    known = list(categories)
    about = [[c for c in known if _is_about(name, column, c)] for name in names]
    found = [those[0] for those in about if len(those) == 1]
    return found if len(set(found)) == len(names) else None


def _is_about(name: str, column: str, category: str) -> bool:
    """Whether it is `cls[NK]:trt[T.B]`, `cls[T.NK]`, `B vs A, cls=NK`, `NK vs CD4` or `NK`, for the category NK of cls."""
    factor, level = re.escape(column), re.escape(category)
    answer = rf"(.*: )?({level}( vs .*|, .*)?|.*, {factor}={level}(, .*)?)"
    return bool(re.fullmatch(rf"{_coefficient(column, category, '(T[.])?')}|{answer}", name))


def _coefficient(column: str, category: str, coding: str) -> str:
    """Pattern of a coefficient of a category, `C(cls)[T.NK]`, alone or in an interaction."""
    factor = re.escape(column)
    return rf"(.*:)?({factor}|C\({factor}\b.*\))\[{coding}{re.escape(category)}\](:.*)?"


def baseline(name: str, factors: Mapping[str, Sequence[str]]) -> str | None:
    """The level it is against: B of `A vs B`, and of `trt[T.A]` the first of the factor's levels; None if it doesn't tell."""
    if answer := re.fullmatch(r".* vs (?P<level>.+?)(, [^,=]+=.*)?", name):
        return answer["level"]
    found = {
        levels[0]
        for factor, levels in factors.items()
        for level in levels[1:]
        if re.fullmatch(_coefficient(factor, level, "T[.]"), name)
    }
    return found.pop() if len(found) == 1 else None
