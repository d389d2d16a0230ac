"""What to write in a formula instead of what other languages have."""

from __future__ import annotations

import re

import numpy as np

_LEVELS = "C(x, contr.treatment('level')), or the categories of obs in another order,"
_R = {
    "relevel": f"the reference is chosen by {_LEVELS} instead",
    "factor": "write C(x)",
    "as.factor": "write C(x)",
    "as.character": "write C(x)",
    "ordered": "write C(x, contr.poly)",
    "as.ordered": "write C(x, contr.poly)",
    "as.numeric": "make the column of obs numeric before, with .astype(float)",
    "as.integer": "make the column of obs numeric before, with .astype(int)",
    "cut": "compute it before, as a column of obs, with pandas.cut",
    "interaction": "write a:b",
    "offset": "there are no offsets: subtract it from the expression before, as a layer",
    "ns": "natural splines are cr(x, df=4, constraints='center')",
    "s": "splines of a fixed size are bs(x, df=4) and cr(x, df=4, constraints='center')",
    "ifelse": "write np.where(condition, a, b)",
    "is.na": "write np.isnan(x)",
    "contrasts": "write C(x, contr.sum) or another of contr",
}
"""Functions of R and its packages that formulas there use."""

_CALLED = re.compile(r"(?<![\w.])[A-Za-z][\w.]*(?=\s*\()")
_CONSTANTS = {"TRUE": "True", "FALSE": "False", "NULL": "None"}


def of_another_language(text: str) -> str:
    """Say what to write instead of R's functions and constants in a formula; empty if there are none.

    `text` has nothing in quotes.
    """
    for name in _CALLED.findall(text):
        if name in _R:
            return f"uses R's {name}(), which formulas here don't have: {_R[name]}."
    for name in re.findall(r"(?<=[=,(])\s*(\w+)\b(?=\s*[,)])", text):
        if name in _CONSTANTS:
            return f"uses R's {name}; formulas here are Python: write {_CONSTANTS[name]}."
    return ""


def unknown_function(name: str) -> str:
    """Say what is wrong with a function that there is not."""
    hint = f" Write np.{name}(...)." if callable(getattr(np, name, None)) else " Compute it before, as a column of obs."
    return f"calls {name}(), which is neither a function of formulaic nor of Python.{hint}"
