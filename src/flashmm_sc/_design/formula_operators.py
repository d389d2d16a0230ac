"""formulaic's operators, kept from crossing terms without end."""

from __future__ import annotations

import copy
import math
from itertools import chain
from typing import Any

from formulaic.errors import FormulaSyntaxError
from formulaic.parser import DefaultOperatorResolver
from formulaic.parser.types import Operator, OrderedSet

_MOST = 10_000
"""Terms that one operator may make."""


class Operators(DefaultOperatorResolver):  # type: ignore[misc]
    """The same operators; powers stop where they bring no new terms, in formulaic's order."""

    @property
    def operators(self) -> list[Operator]:
        return [_bounded(operator) for operator in super().operators]


def _bounded(operator: Operator) -> Operator:
    """The operator, which refuses what would have too many terms."""
    bounded = copy.copy(operator)
    apply = _power if operator.symbol in ("**", "^") else operator.to_terms

    def to_terms(*args: Any, **options: Any) -> Any:
        if operator.symbol in ("*", ":", "/", "%in%"):
            _check(math.prod(len(arg) for arg in args if isinstance(arg, OrderedSet)))
        return apply(*args, **options)

    bounded.to_terms = to_terms
    return bounded


def _power(terms: OrderedSet, exponent: OrderedSet, **_: Any) -> OrderedSet:
    """Products of up to that many terms; more factors than there are terms give nothing new."""
    text = "".join(factor.expr for factor in chain(*(term.factors for term in exponent)))
    if not (text.isascii() and text.isdigit() and len(text) < 1000 and int(text) > 0):
        msg = "The right-hand argument of `**` must be a positive integer."
        raise FormulaSyntaxError(msg)
    found = terms
    for _step in range(min(int(text), len(terms)) - 1):
        _check(len(found) * len(terms))
        found = OrderedSet(one * other for one in found for other in terms)
    return found


def _check(n: int) -> None:
    if n > _MOST:
        msg = f"it crosses so many terms that there would be {n:,} of them"
        raise FormulaSyntaxError(msg)
