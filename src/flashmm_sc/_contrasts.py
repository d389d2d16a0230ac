"""Contrasts: from arithmetic over coefficient names to a matrix."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from ._errors import did_you_mean, listed

Contrasts = str | Sequence[str] | Mapping[str, Any] | pd.DataFrame | np.ndarray

_END = r"(?=[\s+*/)-]|\Z)"  # what may follow a name or a number: "cls12" is not "cls1", nor "a:c" the "a" of "a:b"
_NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?" + _END)
_WORD = re.compile(r"(?:`[^`]*`|\w\([^()]*\)|\[[^]]*\]|[^\s+*/()-])+")  # an unknown name, as it would be read
_SPACE = re.compile(r"\s*")


def contrast_matrix(contrasts: Contrasts, names: Iterable[str]) -> pd.DataFrame:
    """Write contrasts of coefficients as a matrix.

    An expression is arithmetic over coefficient names: `+`, `-`, `*`, `/`, parentheses and numbers, linear in the names and
    without a constant. Names are recognised before operators, the longest that fits first, so level names such as
    `CD4+/CD25 T Reg` need no quoting. Where two readings are possible (names `a`, `b` and `a-b`), spaces around operators or
    backticks round names decide.

    Parameters
    ----------
    contrasts
        An expression; a list of expressions, which name themselves; a dictionary from names to expressions or vectors; or
        a matrix with one row per coefficient and one column per contrast. Rows of a DataFrame and entries of a Series are
        matched by coefficient name, unless they are merely numbered.
    names
        Names of the coefficients.

    Returns
    -------
    Weights, coefficients × contrasts.

    Examples
    --------
    >>> names = ["cls[B]", "cls[NK]", "cls[B]:trt[T.stim]", "cls[NK]:trt[T.stim]"]
    >>> contrast_matrix({"B vs NK": "cls[B]:trt[T.stim] - cls[NK]:trt[T.stim]"}, names)
                         B vs NK
    cls[B]                   0.0
    cls[NK]                  0.0
    cls[B]:trt[T.stim]       1.0
    cls[NK]:trt[T.stim]     -1.0
    """
    names = [str(name) for name in names]
    _refuse_duplicates("coefficient", names)
    columns = _columns(contrasts)
    if not columns:
        msg = "There are no contrasts."
        raise ValueError(msg)
    _refuse_duplicates("contrast", [label for label, _ in columns])
    index = {name: i for i, name in enumerate(names)}
    pattern = _name_pattern(names)
    matrix = np.zeros((len(names), len(columns)))
    for j, (label, value) in enumerate(columns):
        if isinstance(value, str):
            for i, weight in _Expression(value, index, pattern).parse().items():
                matrix[i, j] = weight
        else:
            matrix[:, j] = _vector(label, value, names)
        if not matrix[:, j].any():
            msg = f"Contrast {label!r} is zero for every coefficient."
            raise ValueError(msg)
    return pd.DataFrame(matrix, index=names, columns=[label for label, _ in columns])


def _columns(contrasts: Any) -> list[tuple[str, Any]]:
    """Name the contrasts; each is an expression or a vector."""
    if isinstance(contrasts, str):
        return [(contrasts, contrasts)]
    if isinstance(contrasts, Mapping | pd.DataFrame):
        return [(str(label), value) for label, value in contrasts.items()]
    if not isinstance(contrasts, np.ndarray) and all(isinstance(item, str) for item in contrasts):
        return [(text, text) for text in contrasts]
    array = np.asarray(contrasts)
    if array.ndim != 2:
        msg = f"A matrix of contrasts has one row per coefficient and one column per contrast, not {array.ndim} dimension(s)."
        raise ValueError(msg)
    return [(f"contrast{j}", column) for j, column in enumerate(array.T, start=1)]


def _vector(label: str, value: Any, names: list[str]) -> np.ndarray:
    """Weights in the order of `names`, checked."""
    if isinstance(value, pd.Series) and not isinstance(value.index, pd.RangeIndex):
        value = value.set_axis(value.index.map(str))
        _refuse_duplicates(f"coefficient in contrast {label!r}", value.index)
        for given, known in ((value.index, names), (names, value.index)):
            if wrong := [name for name in given if name not in known]:
                what = "names unknown" if known is names else "lacks"
                msg = f"Contrast {label!r} {what} coefficients: {listed(wrong)}. {did_you_mean(wrong[0], known)}"
                raise ValueError(msg)
        value = value[names]
    vector = np.asarray(value, dtype=np.float64)
    if vector.shape != (len(names),):
        msg = f"Contrast {label!r} has shape {vector.shape}; there are {len(names)} coefficients."
        raise ValueError(msg)
    if not np.isfinite(vector).all():
        msg = f"Contrast {label!r} has NaN or infinite weights."
        raise ValueError(msg)
    return vector


def _refuse_duplicates(what: str, names: Iterable[str]) -> None:
    names = pd.Index(names)
    if names.has_duplicates:
        msg = f"Duplicate {what} names: {listed(names[names.duplicated()].unique())}."
        raise ValueError(msg)


def _name_pattern(names: list[str]) -> re.Pattern[str]:
    """Match one of the names, the longest first, quoted or not."""
    spellings = [name for name in names if name] + [f"`{name}`" for name in names]
    return re.compile(f"(?:{'|'.join(re.escape(s) for s in sorted(spellings, key=len, reverse=True))}){_END}")


class _Expression:
    """Recursive descent; each rule returns a linear form, weights by coefficient with the constant under `CONSTANT`.

    Fractions keep `0.1*a + 0.2*a - 0.3*a` zero: a contrast of rounding errors would be tested as if it meant something.
    """

    CONSTANT = -1

    def __init__(self, text: str, index: dict[str, int], pattern: re.Pattern[str]) -> None:
        self.text, self.index, self.pattern = text, index, pattern
        self.at = 0

    def parse(self) -> dict[int, Fraction]:
        form = self.sum()
        if self.peek():
            what = "an unmatched ')'" if self.peek() == ")" else f"an operator is missing before {self.word()!r}"
            self.fail(f"{what} (names may be quoted with backticks)", self.at)
        if set(form) <= {self.CONSTANT}:
            self.fail("no coefficient is named")
        if constant := form.pop(self.CONSTANT, Fraction(0)):
            self.fail(f"a contrast can't have a constant term, here {float(constant):g}")
        return form

    def sum(self) -> dict[int, Fraction]:
        form = self.product()
        while operator := self.take("+-"):
            sign = 1 if operator == "+" else -1
            for i, weight in self.product().items():
                form[i] = form.get(i, Fraction(0)) + sign * weight
        return form

    def product(self) -> dict[int, Fraction]:
        form = self.factor()
        while operator := self.take("*/"):
            at = self.at - 1
            other = self.factor()
            if operator == "*" and set(form) == {self.CONSTANT}:
                form, other = other, form
            if set(other) != {self.CONSTANT}:
                self.fail("coefficients can't be " + ("multiplied" if operator == "*" else "divided by"), at)
            scale = other[self.CONSTANT]
            if operator == "/" and not scale:
                self.fail("division by zero", at)
            form = {i: weight * scale if operator == "*" else weight / scale for i, weight in form.items()}
        return form

    def factor(self) -> dict[int, Fraction]:
        self.peek()
        if name := self.pattern.match(self.text, self.at):
            self.at = name.end()
            spelling = name.group()
            return {self.index[spelling if spelling in self.index else spelling[1:-1]]: Fraction(1)}
        if number := _NUMBER.match(self.text, self.at):
            self.at = number.end()
            return {self.CONSTANT: Fraction(number.group())}
        if sign := self.take("+-"):
            return {i: weight if sign == "+" else -weight for i, weight in self.factor().items()}
        at = self.at
        if self.take("("):
            form = self.sum()
            if not self.take(")"):
                self.fail("'(' is never closed", at)
            return form
        if not self.peek() or self.peek() in "*/)":
            self.fail("a coefficient or number is missing", at)
        self.fail(f"unknown coefficient {self.word()!r}", at, did_you_mean(self.word().strip("`"), self.index))

    def peek(self) -> str:
        """The next character after spaces, or nothing."""
        self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
        return self.text[self.at : self.at + 1]

    def take(self, symbols: str) -> str:
        """Move past the next character if it is one of the symbols."""
        symbol = self.peek()
        if not symbol or symbol not in symbols:
            return ""
        self.at += 1
        return symbol

    def word(self) -> str:
        word = _WORD.match(self.text, self.at)
        return word.group() if word else self.text[self.at]

    def fail(self, what: str, at: int | None = None, hint: str = "") -> NoReturn:
        where = "" if at is None else f" at position {at + 1}"
        msg = f"Contrast {self.text!r}: {what}{where}. {hint}".rstrip()
        raise ValueError(msg)
