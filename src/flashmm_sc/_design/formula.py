"""Reading fixed-effects formulas: what formulaic makes of the text, and which columns of obs it uses."""

from __future__ import annotations

import ast
import builtins
import re
from typing import TYPE_CHECKING

from formulaic import Formula, SimpleFormula
from formulaic.errors import FormulaicError
from formulaic.parser.types import Factor
from formulaic.transforms import TRANSFORMS

from flashmm_sc._design.columns import check_columns

if TYPE_CHECKING:
    from collections.abc import Iterable


def parse_formula(formula: str, where: str) -> SimpleFormula:
    """Read a formula that has a right-hand side only; `where` says in messages which one."""
    if not isinstance(formula, str):
        msg = f"fixed must be a formula such as '~ trt', not {type(formula).__name__}."
        raise TypeError(msg)
    bars = " Random terms go to random=, e.g. random='(1|sam)'." if "|" in formula else ""
    try:
        parsed = Formula(formula)
    except (FormulaicError, SyntaxError) as error:
        reason = re.split(r"(?<=\.)\s|\n", str(error))[0]  # the rest marks the place with terminal codes
        msg = f"{where} can't be read as a formula: {reason}{bars}"
        raise ValueError(msg) from error
    if isinstance(parsed, SimpleFormula):
        return parsed
    if hasattr(parsed, "lhs"):
        msg = f"{where} has a left-hand side, but the response is always the expression: begin with '~'.{bars}"
    else:
        msg = f"{where} has several parts, but one is wanted.{bars}"
    raise ValueError(msg)


def used_columns(parsed: SimpleFormula, columns: Iterable[str], where: str) -> list[str]:
    """Columns of obs that a formula uses, in order; a name that is neither a column nor a function is refused."""
    columns = list(columns)
    used: dict[str, None] = {}
    for factor in [factor for term in parsed for factor in term.factors]:
        looked_up = factor.eval_method is Factor.EvalMethod.LOOKUP
        functions = set() if looked_up else {*TRANSFORMS, *dir(builtins)}
        names = factor_names(factor)
        check_columns([name for name in names if name not in functions], columns, where)
        used.update(dict.fromkeys(name for name in names if name in columns))
    return list(used)


def factor_names(factor: Factor) -> list[str]:
    """Names whose values a factor of a formula takes: its own, or those in its Python expression.

    formulaic's ``required_variables`` won't do: it misses the arguments of ``bs()`` or ``center()``, hides columns
    that are called like a function, and takes column ``a.b`` for ``a``.
    """
    if factor.eval_method is not Factor.EvalMethod.PYTHON:
        return [factor.expr] if factor.eval_method is Factor.EvalMethod.LOOKUP else []
    quoted: dict[str, str] = {}

    def alias(match: re.Match[str]) -> str:
        return quoted.setdefault(match[1], f" _quoted_{len(quoted)} ")

    nodes = list(ast.walk(ast.parse(re.sub(r"`([^`]*)`", alias, factor.expr).strip(), mode="eval")))
    original = {name.strip(): column for column, name in quoted.items()}
    names: list[str] = []
    other: set[str] = set()  # functions, and variables of lambdas and comprehensions
    for node in nodes:
        match node:
            case ast.Call(func=ast.Name(id=function), args=arguments):
                other.add(function)
                if function == "Q" and arguments and isinstance(arguments[0], ast.Constant):
                    names.append(str(arguments[0].value))
            case ast.Name(id=name, ctx=ast.Load()):
                names.append(original.get(name, name))
            case ast.Name(id=name) | ast.arg(arg=name):
                other.add(name)
    return [name for name in dict.fromkeys(names) if name not in other]
