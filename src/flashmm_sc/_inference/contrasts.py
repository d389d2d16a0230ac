"""Contrasts: from arithmetic over coefficient names to a matrix."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NoReturn, TypeAlias

import numpy as np
import pandas as pd

from flashmm_sc._base.errors import did_you_mean, listed
from flashmm_sc._base.options import real_array

Contrasts: TypeAlias = str | Sequence[Any] | Mapping[str, Any] | pd.DataFrame | np.ndarray

_NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,2})?(?=[\s+*/()-]|\Z)")
# for messages: an unknown name may hold spaces, and any character in quotes, brackets or a call
_WORD = re.compile(r"(?:`[^`]*`|\w\([^()]*\)|\[[^]]*\]|[^\s+*/()-]|\s+(?![\s+*/()-]|\Z))+")
_SPACE = re.compile(r"\s*")
_LARGEST = 1e30
_DEEPEST, _LONGEST = 100, 1000
"""Parentheses in each other, and bits of a number: more than a contrast needs, less than would stop Python."""


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
    if isinstance(names, str) or not isinstance(names, Iterable):
        msg = f"names={names!r} must be a list of names of coefficients."
        raise TypeError(msg)
    names = [str(name) for name in names]
    columns = _columns(contrasts)
    labels = [label for label, _ in columns]
    _check_names("coefficient", names)
    _check_names("contrast", labels)
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
        if not 1 / _LARGEST < np.abs(matrix[:, j]).max() < _LARGEST:
            msg = f"Contrast {label!r} has weights that are too large or too small to compute with; rescale it."
            raise ValueError(msg)
    return pd.DataFrame(matrix, index=names, columns=labels)


def _columns(contrasts: Any) -> list[tuple[str, Any]]:
    """Name the contrasts; each is an expression or a vector."""
    if isinstance(contrasts, str):
        return [(contrasts, contrasts)]
    if isinstance(contrasts, Mapping | pd.DataFrame):
        return [(str(label), value) for label, value in contrasts.items()]
    if not isinstance(contrasts, Iterable) or (isinstance(contrasts, np.ndarray) and contrasts.ndim == 0):
        msg = f"Contrasts are expressions, {{name: expression or vector}}, or a matrix, not {type(contrasts).__name__}."
        raise TypeError(msg)
    items = contrasts if isinstance(contrasts, np.ndarray) else list(contrasts)
    if all(isinstance(item, str) for item in items):
        return [(text, text) for text in items]
    array = real_array("Contrasts", items)
    if array.ndim != 2:
        msg = "Contrasts are expressions, {name: expression or vector}, or a matrix with one row per coefficient."
        raise ValueError(msg)
    return [(f"contrast{j}", column) for j, column in enumerate(array.T, start=1)]


def _vector(label: str, value: Any, names: list[str]) -> np.ndarray:
    """Weights in the order of `names`."""
    if isinstance(value, pd.Series) and not isinstance(value.index, pd.RangeIndex):
        value = value.set_axis(value.index.map(str))
        _check_names("coefficient", value.index)
        if wrong := [name for name in value.index.union(names) if name not in value.index or name not in names]:
            msg = f"Contrast {label!r} is not labelled by the coefficients; unknown or missing: {listed(wrong)}."
            raise ValueError(msg)
        value = value[names]
    vector = np.array(value) if isinstance(value, int | float) else real_array(f"Contrast {label!r}", value)
    if vector.shape != (len(names),):
        msg = f"Contrast {label!r} has shape {vector.shape}; there are {len(names)} coefficients."
        raise ValueError(msg)
    if not np.isfinite(vector).all():
        msg = f"Contrast {label!r} has NaN or infinite weights."
        raise ValueError(msg)
    return vector


def _check_names(what: str, names: Iterable[str]) -> None:
    index = pd.Index(names)
    if index.empty or index.has_duplicates:
        repeated = listed(index[index.duplicated()])
        msg = f"There are no {what}s." if index.empty else f"Duplicate {what} names: {repeated}."
        raise ValueError(msg)


def _name_pattern(names: list[str]) -> re.Pattern[str]:
    """Match one of the names, the longest first, quoted or not; neither `cls1` in `cls12` nor `a` in `a:c` or `a(c)`."""
    plain = [name for name in names if re.search(r"\w", name)]  # the others, such as "-", only in quotes
    spellings = sorted(plain + [f"`{name}`" for name in names], key=len, reverse=True)
    return re.compile(rf"(?:{'|'.join(map(re.escape, spellings))})(?=[\s+*/)-]|\Z)")


class _Expression:
    """Recursive descent. A linear form is a dictionary of weights by coefficient, its constant under `CONSTANT`.

    Fractions keep `0.1*a + 0.2*a - 0.3*a` zero: a contrast of rounding errors would be tested as if it meant something.
    """

    CONSTANT = -1

    def __init__(self, text: str, index: dict[str, int], pattern: re.Pattern[str]) -> None:
        self.text, self.index, self.pattern = text, index, pattern
        self.at = self.depth = 0

    def parse(self) -> dict[int, Fraction]:
        form = self._sum()
        if self._next():
            self._fail("')' without '('", self.at)
        if form.keys() <= {self.CONSTANT}:
            self._fail("no coefficient is named")
        if constant := form.pop(self.CONSTANT, Fraction()):
            self._fail(f"a contrast has no constant term, but here it is {float(constant):g}")
        return form

    def _sum(self) -> dict[int, Fraction]:
        form = self._product()
        while operator := self._take("+-"):
            for i, weight in self._product().items():
                form[i] = form.get(i, Fraction()) + (weight if operator == "+" else -weight)
            self._check_size(form.values(), self.at)
        if self._next() not in ("", ")"):
            self._fail(f"an operator is missing before {self._word()!r}", self.at, "Backticks can quote a name.")
        return form

    def _product(self) -> dict[int, Fraction]:
        form = self._factor()
        while operator := self._take("*/"):
            at = self.at - 1
            other = self._factor()
            if operator == "*" and form.keys() == {self.CONSTANT}:
                form, other = other, form
            if other.keys() != {self.CONSTANT}:
                self._fail(f"coefficients can't be {'multiplied' if operator == '*' else 'divisors'}", at)
            scale = other[self.CONSTANT]
            if operator == "/" and not scale:
                self._fail("division by zero", at)
            form = {i: weight * scale if operator == "*" else weight / scale for i, weight in form.items()}
            self._check_size(form.values(), at)
        return form

    def _factor(self) -> dict[int, Fraction]:
        negative = False
        while sign := self._take("+-"):
            negative ^= sign == "-"
        form = self._unsigned()
        return {i: -weight for i, weight in form.items()} if negative else form

    def _unsigned(self) -> dict[int, Fraction]:
        following = self._next()
        at = self.at
        if name := self.pattern.match(self.text, at):
            self.at = name.end()
            spelling = name.group()
            return {self.index[spelling if spelling in self.index else spelling[1:-1]]: Fraction(1)}
        if number := _NUMBER.match(self.text, at):
            self.at = number.end()
            if len(number.group()) > _LONGEST:
                self._fail("a number is too long", at)
            return {self.CONSTANT: Fraction(number.group())}
        if self._take("("):
            self.depth += 1
            if self.depth > _DEEPEST:
                self._fail(f"parentheses are nested more than {_DEEPEST} deep", at)
            form = self._sum()
            self.depth -= 1
            if not self._take(")"):
                self._fail("'(' without ')'", at)
            return form
        if following in ("", "*", "/", ")"):
            self._fail("a coefficient or a number is missing", at)
        self._fail(f"unknown coefficient {self._word()!r}", at, did_you_mean(self._word().strip("`"), self.index))

    def _check_size(self, weights: Iterable[Fraction], at: int) -> None:
        bits = (part.bit_length() for weight in weights for part in weight.as_integer_ratio())
        if max(bits, default=0) > _LONGEST:
            self._fail("a weight is too large or too small", at)

    def _next(self) -> str:
        """The next character that is not a space, if any."""
        self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
        return self.text[self.at : self.at + 1]

    def _take(self, symbols: str) -> str:
        """The next character, and past it, if it is one of the symbols."""
        symbol = self._next()
        if symbol not in symbols:
            return ""
        self.at += len(symbol)
        return symbol

    def _word(self) -> str:
        word = _WORD.match(self.text, self.at)
        return word.group() if word else self._next()

    def _fail(self, what: str, at: int | None = None, hint: str = "") -> NoReturn:
        where = "" if at is None else f" at position {at + 1}"
        msg = f"Contrast {self.text!r}: {what}{where}. {hint}".rstrip()
        raise ValueError(msg)
