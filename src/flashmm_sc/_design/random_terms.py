"""Reading random-effects terms: lme4's notation, plain column names, lists and names of these."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn

from flashmm_sc._base.errors import listed
from flashmm_sc._design.columns import check_columns, repeated

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

ACCEPTED = (
    "Random terms are columns of obs, 'sam' or 'sam + batch'; interactions, 'sam:cls'; nested factors, 'sam/cls'; "
    "the same in lme4's notation, '(1|sam)'; intercepts and slopes, '(1 + x|sam)', x a number or a factor, or independent ones "
    "'(1 + x||sam)'; lists of these, and {'name': term}. Quote names that are not plain words with backticks."
)


@dataclass(frozen=True)
class RandomTerm:
    """One variance component: an effect for every level of crossed factors, times a slope variable if there is one.

    Attributes
    ----------
    name
        Its name.
    groups
        Columns of the crossed factors.
    slope
        Column of the slope variable; None for an intercept.
    joint
        The term as it is written, ``(1 + x|sam)``, with whose other components it is correlated; None for an independent one.
    level, levels
        Of a factor as slope variable, the level of which the component is the effect, and all of them. A number has no levels;
        None stands for a variable that no cells have been seen of.
    """

    name: str
    groups: tuple[str, ...]
    slope: str | None = None
    joint: str | None = None
    level: str | None = None
    levels: tuple[str, ...] | None = None

    @property
    def intercept(self) -> str:
        """A random intercept of the same groups, as it is written."""
        return written([None], self.groups)

    @property
    def interaction(self) -> str:
        """A random intercept of the groups crossed with the levels of the slope variable, as it is written."""
        return ":".join(map(quoted, [*self.groups, str(self.slope)]))

    @property
    def spelled(self) -> str:
        """The term as it is written."""
        if self.slope is None:
            return self.grouping
        return written([self.slope], self.groups, "||" if self.level else "|")

    @property
    def grouping(self) -> str:
        """Its crossed factors, as they are written."""
        return ":".join(map(quoted, self.groups))


def spelled(terms: Iterable[RandomTerm]) -> list[str]:
    """Terms as they are written, correlated ones once; names that they were given are left out."""
    return list(dict.fromkeys(term.joint or term.spelled for term in terms))


def written(slopes: Collection[str | None], groups: Iterable[str], bar: str = "|") -> str:
    """A term in lme4's notation, ``(1 + x|sam)``: of slope variables, and None for an intercept."""
    effects = ["1" if None in slopes else "0", *(quoted(slope) for slope in slopes if slope)]
    return f"({' + '.join(effects)}{bar}{':'.join(map(quoted, groups))})"


def quoted(name: str) -> str:
    """A name as a formula takes it: in backticks if it is no plain word."""
    return name if name.isidentifier() else f"`{name}`"


_MARKS = "[\ue000-\uf8ff]"
"""Characters that stand for quoted names while a text is read; no one else means anything by them."""

Random = str | dict[str, str] | RandomTerm | Sequence[str | dict[str, str] | RandomTerm]
"""What `parse_random` reads."""


def parse_random(random: Random, columns: Iterable[str]) -> list[RandomTerm]:
    """Read random-effects terms in any of the accepted notations, in the order given.

    Parameters
    ----------
    random
        Terms, e.g. ``"sam"``, ``["sam", "batch"]``, ``"sam + sam:cls"``, ``"(1|sam/cls) + (0 + score|sam)"``,
        ``"(1 + score|sam)"``, ``{"donor": "sam"}``.
    columns
        Names of the columns of obs. A text that equals one of them is that column, whatever characters it has.
    """
    columns = list(columns)
    terms = list(_terms(random, columns))
    where = f"random={random!r}"
    if not terms:
        msg = f"{where} has no terms. {ACCEPTED}"
        raise ValueError(msg)
    for term in terms:
        check_columns([*term.groups, *([term.slope] if term.slope else [])], columns, where)
    if any(term.name == "residual" for term in terms):
        msg = "A random component is called 'residual', as the residual variance is; give it another name."
        raise ValueError(msg)
    if twice := repeated(term.name for term in terms):
        msg = f"{where} has several components named {listed(twice)}. Leave out or rename all but one.{_as_one(terms, twice)}"
        raise ValueError(msg)
    return terms


def _as_one(terms: list[RandomTerm], twice: list[str]) -> str:
    """What to write for slopes that have an intercept, beside another intercept of the same groups."""
    first = next((term for term in terms if term.name in twice and term.joint and not term.slope), None)
    if first is None:
        return ""
    slopes = [term.slope for term in terms if term.groups == first.groups and term.slope]
    alone = written([term.slope for term in terms if term.joint == first.joint and term.slope], first.groups)
    return (
        f" {first.joint!r} has an intercept already: one term of all correlated effects is "
        f"{written(dict.fromkeys([None, *slopes]), first.groups)!r}, a slope that is independent of the intercept {alone!r}."
    )


def _terms(random: Random, columns: list[str]) -> Iterator[RandomTerm]:
    """Go through lists and dicts down to the texts."""
    if isinstance(random, str):
        yield from _Reader(random, columns).terms()
    elif isinstance(random, dict):
        for name, text in random.items():
            terms = list(_terms(text, columns))
            if not isinstance(name, str) or not name:
                msg = f"random={random!r} has a name that is no text: {name!r}."
                raise ValueError(msg)
            if (size := len(spelled(terms))) != 1:
                msg = f"random={{{name!r}: {text!r}}} names {size} terms; each needs a name of its own."
                raise ValueError(msg)
            for term in terms:
                yield replace(term, name=f"{term.slope}|{name}" if term.slope and len(terms) > 1 else name)
    elif isinstance(random, RandomTerm):
        yield random
    elif isinstance(random, (list, tuple)):
        for part in random:
            yield from _terms(part, columns)
    else:
        msg = f"random={random!r} is of type {type(random).__name__}. {ACCEPTED}"
        raise TypeError(msg)


class _Reader:
    """Reads the terms of one text by splitting it at its operators.

    Names in backticks are first replaced by single characters, so that no sign in them is taken for an operator.
    """

    def __init__(self, text: str, columns: list[str]) -> None:
        self.text, self.columns = text, columns
        self.quoted = re.findall(r"`([^`]+)`", text)

    def terms(self) -> Iterator[RandomTerm]:
        """All terms of the text."""
        if self.text in self.columns:
            yield RandomTerm(self.text, (self.text,))
            return
        if mark := re.search(_MARKS, re.sub(r"`[^`]+`", "", self.text)):
            self._refuse(f"{mark[0]!r} is no part of a plain word")
        hidden = self.text
        for i, name in enumerate(self.quoted):
            hidden = hidden.replace(f"`{name}`", chr(0xE000 + i), 1)
        for part in re.split(r"\+(?![^(]*\))", hidden.strip().removeprefix("~")):  # each + outside parentheses
            piece = part.strip()
            if piece not in self.columns:
                piece = re.sub(r"\s*-\s*1$", "", piece)
            if bar := re.fullmatch(r"\(([^()|]*)(\|\|?)([^()|]*)\)", piece):
                yield from self._bar(*bar.groups())
            elif piece == "1":
                self._refuse("the fixed intercept belongs to fixed=; a random one is '(1|sam)'")
            elif re.search(r"[()|]", piece):
                self._refuse(f"{self._plain(piece)!r} is not of the form '(1|sam)' or '(1 + x|sam)'")
            elif piece not in ("", "0") or not part.strip():
                yield from (RandomTerm(":".join(groups), groups) for groups in self._groups(piece))

    def _bar(self, effects: str, bar: str, grouping: str) -> Iterator[RandomTerm]:
        """Components of ``(effects | grouping)``, which are correlated, or independent with ``||``; x has an intercept."""
        parts = [part.strip() for part in re.sub(r"-\s*1\b", "+ 0", effects).split("+")]
        slopes = [part for part in parts if part not in ("", "0", "1")]
        wanted: list[str | None] = [*([] if "0" in parts else [None]), *slopes]
        if not effects.strip() or not wanted:
            self._refuse("nothing stands before the bar")
        columns = [slope and self._name(slope) for slope in wanted]
        for groups in self._groups(grouping):
            joint = written(columns, groups) if bar == "|" and any(columns) else None
            for x in columns:
                name = ":".join(groups)
                yield RandomTerm(f"{x}|{name}" if x else name, groups, x, joint)

    def _groups(self, text: str) -> Iterator[tuple[str, ...]]:
        """Crossed factors of a grouping, outer ones of a nesting first: ``a/b`` is ``a`` and ``a:b``."""
        crossed: tuple[str, ...] = ()
        for part in [text] if text.strip() in self.columns else text.split("/"):
            names = [part] if part.strip() in self.columns else part.split(":")
            crossed += tuple(self._name(name) for name in names)
            if len(set(crossed)) < len(crossed):
                self._refuse(f"{':'.join(crossed)!r} has a factor twice")
            yield crossed

    def _name(self, text: str) -> str:
        name = self._plain(text.strip())
        if len(text.strip()) > 1 and re.search(_MARKS, text):  # a`b`c
            self._refuse(f"{self._plain(text, '`')!r} is quoted in part")
        if name not in self.columns and (not name or re.search(r"[()|+*^%~`]", text)):
            self._refuse(f"{self._plain(text)!r} is not a name")
        return name

    def _plain(self, hidden: str, quote: str = "") -> str:
        return re.sub(_MARKS, lambda mark: quote + self.quoted[ord(mark[0]) - 0xE000] + quote, hidden)

    def _refuse(self, reason: str) -> NoReturn:
        msg = f"random={self.text!r} can't be read: {reason}. {ACCEPTED}"
        raise ValueError(msg)
