"""What to write in a formula instead of what R has."""

from __future__ import annotations

import re

import numpy as np

_INSTEAD = {
    "relevel": "write C({x}, contr.treatment({last})), or put the categories of obs in another order",
    "factor": "write C({x})",
    "as.factor": "write C({x})",
    "as.character": "write C({x})",
    "ordered": "write C({x}, contr.poly)",
    "as.ordered": "write C({x}, contr.poly)",
    "as.numeric": "make it numeric before, as in adata.obs[...].astype(float)",
    "as.integer": "make it numeric before, as in adata.obs[...].astype(int)",
    "cut": "compute it before, as a column of obs, with pandas.cut",
    "interaction": "write a:b, or a*b",
    "offset": "there are no offsets; subtract it from the expression before, as a layer",
    "ns": "write cr({x}, df=4, constraints='center') for a natural spline",
    "s": "write bs({x}, df=4), or cr({x}, df=4, constraints='center') for a natural spline",
    "ifelse": "write np.where(condition, a, b)",
    "is.na": "write np.isnan({x})",
}
"""Functions of R and its packages that people write in formulas; x is the first argument and last the last."""

_CALL = re.compile(r"(?<![\w.])([A-Za-z][\w.]*)\s*\((?=([^()]*))")
_CONSTANT = re.compile(r"(?<=[=,(])\s*(TRUE|FALSE|NULL)\s*(?=[,)])")


def of_r(text: str) -> str:
    """Say what to write instead of R's functions and constants in a formula; empty if there are none.

    `text` has nothing in quotes.
    """
    for name, arguments in _CALL.findall(text):
        if name in _INSTEAD:
            each = [part.rpartition("=")[2].strip() for part in arguments.split(",")]
            return f"uses R's {name}(), which is not to be had here: {_INSTEAD[name].format(x=each[0], last=each[-1])}."
    for name in _CONSTANT.findall(text):
        return f"uses R's {name}, but what formulas call is Python: write {'None' if name == 'NULL' else name.title()}."
    return ""


def centred_spline(expr: str) -> str:
    """The same spline without the constant, for one that has it; empty for anything else."""
    spline = re.match(r"(?:cc|cr|cs)\(.*\)\Z", expr)
    return f"{expr[:-1]}, constraints='center')" if spline and "constraints" not in expr else ""


def unknown_function(name: str) -> str:
    """Say what is wrong with a function that there is not."""
    hint = f"Write np.{name}(...)." if callable(getattr(np, name, None)) else "Compute it before, as a column of obs."
    return f"calls {name}(), which is a function neither of formulaic nor of Python. {hint}"
