"""Reading fixed-effects formulas: what formulaic makes of the text, and which columns of obs it uses."""

from __future__ import annotations

import ast
import builtins
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from formulaic import Formula, SimpleFormula
from formulaic.errors import FormulaicError, FormulaSyntaxError
from formulaic.parser import DefaultFormulaParser
from formulaic.parser.types import Factor, Token
from formulaic.transforms import TRANSFORMS

from flashmm_sc._design.columns import check_columns
from flashmm_sc._design.formula_hints import of_r, unknown_function
from flashmm_sc._design.formula_operators import Operators

if TYPE_CHECKING:
    from collections.abc import Iterable

_LITERAL = re.compile(r"""(?:\b[rRbBfFuU]{1,2})?(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|`[^`]+`""")
_FUNCTIONS = {*TRANSFORMS, *dir(builtins)}


def words(text: str) -> str:
    """Words for a formula in messages."""
    return f"fixed={text!r}"


def parse_formula(formula: str, where: str) -> SimpleFormula:
    """Read a formula that has a right-hand side only; `where` says in messages which one."""
    if not isinstance(formula, str):
        msg = f"fixed must be a formula such as '~ trt', not {type(formula).__name__}."
        raise TypeError(msg)
    if not formula.strip():
        msg = f"{where} is empty; write '~ 1' for an intercept alone."
        raise ValueError(msg)
    hidden = _Hidden.of(formula)
    bars = " Random terms go to random=, e.g. random='(1|sam)' (nbmm_de: sample='sam')." if "|" in hidden.text else ""
    if "`" in hidden.text:
        msg = f"{where} has a backtick without another. Names with a backtick have no place in a formula: rename the column."
        raise ValueError(msg)
    if hint := of_r(hidden.text):
        msg = f"{where} {hidden.shown(hint)}"
        raise ValueError(msg)
    try:
        parsed = Formula(formula, _parser=_Parser(operator_resolver=Operators()))
    except (AttributeError, FormulaicError, SyntaxError) as error:
        if isinstance(error, AttributeError):  # formulaic's, of an operator between brackets of two kinds
            error = FormulaSyntaxError("Brackets and operators don't fit together.")
        reason = re.split(r"(?<=\.)\s|\n", hidden.shown(str(error)))[0]  # the rest marks the place with terminal codes
        if isinstance(error, SyntaxError):
            reason += ". Quote names that are not plain words, and words of Python such as 'class', with backticks."
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
    for factor in factors_of(parsed):
        if factor.eval_method is Factor.EvalMethod.PYTHON:
            code = Code.of(factor.expr, columns)
            unknown = [name for name in code.called if name not in _FUNCTIONS]
            if unknown:
                msg = f"{where} {unknown_function(unknown[0])}"
                raise ValueError(msg)
        names = factor_names(factor, columns)
        check_columns(names, columns, where)
        used.update(dict.fromkeys(names))
    return list(used)


def factors_of(parsed: SimpleFormula) -> list[Factor]:
    """Factors of a formula, each once, but for literal numbers."""
    factors = dict.fromkeys(factor for term in parsed for factor in term.factors)
    return [factor for factor in factors if factor.eval_method is not Factor.EvalMethod.LITERAL]


def factor_names(factor: Factor, columns: Iterable[str]) -> list[str]:
    """Names whose values a factor takes: its own, or those in its Python expression."""
    if factor.eval_method is Factor.EvalMethod.PYTHON:
        return list(Code.of(factor.expr, columns).columns.values())
    return [factor.expr] if factor.eval_method is Factor.EvalMethod.LOOKUP else []


@dataclass(frozen=True)
class Code:
    """A Python factor, its columns under names that clash with nothing.

    formulaic's own ways won't do: a column called ``C`` hides the function, names in backticks are put back by replacing
    text, column ``a.b`` is taken for ``a``, and the arguments of ``bs()`` or ``center()`` are missed.

    Parameters
    ----------
    expression
        Python.
    columns
        Column behind each name in the expression that stands for one.
    called
        Names called as functions.
    plain
        The column that the factor is, by itself or in ``C()``; empty if it is anything else.
    """

    expression: str
    columns: dict[str, str]
    called: list[str]
    plain: str

    @classmethod
    def of(cls, expr: str, columns: Iterable[str]) -> Code:
        """Resolve names: quoted ones are columns; others functions where they are called, else columns if there are such."""
        hidden = _Hidden.of(expr)
        tree = hidden.python(hidden.text)
        resolver = _Resolver(tree, set(columns))
        resolved = resolver.visit(tree)
        match resolved.body:
            case ast.Name(id=name) | ast.Call(func=ast.Name(id="C"), args=[ast.Name(id=name)], keywords=[]):
                plain = resolver.columns.get(name, "")
            case _:
                plain = ""
        return cls(ast.unparse(resolved), resolver.columns, resolver.called, plain)


class _Resolver(ast.NodeTransformer):
    """Puts names of its own for those of columns."""

    def __init__(self, tree: ast.AST, known: set[str]) -> None:
        self.known = known
        self.columns: dict[str, str] = {}
        self.called: list[str] = []
        nodes = list(ast.walk(tree))
        local = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
        self.local = local | {node.arg for node in nodes if isinstance(node, ast.arg)}

    def visit_Call(self, node: ast.Call) -> ast.AST:
        match node:
            case ast.Call(func=ast.Name(id="Q"), args=[ast.Constant(value=str(name))], keywords=[]):
                return self._column(name)
            case ast.Call(func=ast.Name(id=name) as function) if name[0] != "`":
                self.called += [] if name in self.local else [name]
                self.generic_visit(node)
                node.func = function
                return node
        return self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        match node.value:
            case ast.Name(id=name) if hasattr(TRANSFORMS.get(name), node.attr):  # np.log, contr.sum
                return node
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id[0] == "`":
            return self._column(node.id[1:-1])
        if node.id in self.local or (node.id in _FUNCTIONS and node.id not in self.known):
            return node
        return self._column(node.id)

    def _column(self, name: str) -> ast.Name:
        alias = next(
            (alias for alias, column in self.columns.items() if column == name), f"_column_{len(self.columns)}"
        )
        self.columns[alias] = name
        return ast.Name(id=alias, ctx=ast.Load())


@dataclass(frozen=True)
class _Hidden:
    """A text whose quoted names and strings are hidden behind plain words, so that no sign in them means anything.

    Parameters
    ----------
    text
        The text that remains.
    quoted
        What each word stands for, as it was written.
    """

    text: str
    quoted: dict[str, str]

    @classmethod
    def of(cls, text: str) -> _Hidden:
        stem = "_quoted"
        while stem in text:
            stem += "_"
        words: dict[str, str] = {}
        hidden = _LITERAL.sub(lambda found: words.setdefault(found[0], f"{stem}{len(words)}_"), text)
        return cls(hidden, {word: found for found, word in words.items()})

    def shown(self, text: str) -> str:
        """Put back what is hidden, for a message."""
        return re.sub(r"_quoted_*\d+_", lambda word: self.quoted.get(word[0], word[0]), text)

    def python(self, code: str) -> ast.Expression:
        """Some of the text as Python, with what is hidden back in its place; quoted names are names in backticks."""
        tree = ast.parse(code.strip(), mode="eval")
        quoted = self.quoted

        class Restore(ast.NodeTransformer):
            def visit_Name(self, node: ast.Name) -> Any:
                found = quoted.get(node.id, node.id)
                if found is node.id or found[0] == "`":
                    return ast.Name(id=found, ctx=node.ctx)
                return ast.parse(found, mode="eval").body

        return ast.fix_missing_locations(Restore().visit(tree))


class _Parser(DefaultFormulaParser):  # type: ignore[misc]
    """formulaic's parser, kept from reading what stands in quotes."""

    def get_tokens_from_formula(self, formula: str, *, context: Any) -> list[Token]:
        hidden = _Hidden.of(formula)
        tokens = list(super().get_tokens_from_formula(hidden.text, context=context))
        for token in tokens:
            if token.kind is Token.Kind.PYTHON:
                tree = hidden.python(token.token)
                token.token = ast.unparse(tree)
                if any(isinstance(node, ast.BitXor) for node in ast.walk(tree)):
                    msg = f"in {token.token!r} a power is written x**2, not x^2"
                    raise FormulaSyntaxError(msg)
            elif found := hidden.quoted.get(token.token):
                name = found[0] == "`"
                token.token, token.kind = (found[1:-1], token.kind) if name else (found, Token.Kind.VALUE)
        kinds = Token.Kind.PYTHON, Token.Kind.VALUE
        others = {token.token for token in tokens if token.kind in kinds and not token.token.isidentifier()}
        for token in tokens:
            if token.kind is Token.Kind.NAME and token.token in others:
                msg = f"the column {token.token!r} reads like another part of it; rename the column"
                raise FormulaSyntaxError(msg)
        return tokens
