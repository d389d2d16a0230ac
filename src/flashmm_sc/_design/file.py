"""A design as JSON: text that other sites can read before they use it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flashmm_sc._design.encoding import Alone, Encoding, Learned
from flashmm_sc._design.fixed import FixedDesign
from flashmm_sc._design.formula import factors_of, parse_formula, words
from flashmm_sc._design.random_terms import RandomTerm

if TYPE_CHECKING:
    from collections.abc import Sequence

_FORMAT, _VERSION = "flashmm-sc design", "3"


def to_json(fixed: FixedDesign, random: Sequence[RandomTerm]) -> dict[str, Any]:
    """Everything that encoding cells takes, of types that JSON knows."""
    encoding = fixed.encoding
    content = {
        "format": f"{_FORMAT} {_VERSION}",
        "fixed": encoding.text,
        "random": [asdict(term) for term in random],
        "columns": fixed.columns,
        "factors": {factor.expr: _plain(vars(factor.learned)) for factor in encoding.factors},
        "example": {name: _plain_column(encoding.example[name]) for name in encoding.example},
    }
    return content | {"version": version("flashmm-sc"), "digest": digest(content)}


def digest(content: dict[str, Any]) -> str:
    """Words that differ for designs that differ, whatever version wrote them."""
    own = {key: value for key, value in content.items() if key not in ("version", "digest")}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


def from_json(text: str) -> tuple[FixedDesign, tuple[RandomTerm, ...]]:
    """Undo `to_json`.

    Raises
    ------
    ValueError
        A reason to follow the name of a file, if the text is no design, one of another version, or damaged.
    """
    try:
        found = json.loads(text)
        kind, _, number = found["format"].rpartition(" ")
    except (AttributeError, KeyError, TypeError, RecursionError, json.JSONDecodeError):
        kind = ""
    if kind != _FORMAT:
        msg = "holds no design of flashmm-sc."
        raise ValueError(msg)
    if number != _VERSION:
        msg = (
            f"holds a design in version {number} of the format, but version {_VERSION} is read here. Save the design anew, "
            "with the version of flashmm-sc that is used here."
        )
        raise ValueError(msg)
    damaged = "holds no design of flashmm-sc that can be used: it is damaged, or was changed. Save the design anew."
    if found.get("digest") != digest(found):
        raise ValueError(damaged)
    try:
        return _restored_design(found)
    except Exception as error:  # a file made up to look whole can go wrong in any way
        raise ValueError(damaged) from error


def _restored_design(found: dict[str, Any]) -> tuple[FixedDesign, tuple[RandomTerm, ...]]:
    text, columns, parts = found["fixed"], list(found["columns"]), found["factors"]
    formula = parse_formula(text, words(text))
    example = pd.DataFrame({name: _column(values) for name, values in found["example"].items()}, index=[0])
    factors = []
    for factor in factors_of(formula):
        kind, levels, state = (parts[factor.expr][name] for name in ("kind", "levels", "state"))
        learned = Learned(kind, levels, _restored(state))
        factors.append(Alone.of(factor, columns, example, words(text), learned)[0])
    encoding = Encoding.complete(text, formula, columns, factors, example)
    tuples = ("groups", "levels")
    random = tuple(RandomTerm(**term | {name: tuple(term[name]) for name in tuples}) for term in found["random"])
    return FixedDesign.of(encoding), random


def _plain(value: Any) -> Any:
    """Values of types that JSON knows; dictionaries with other keys than text as pairs."""
    if isinstance(value, dict):
        pairs = [[_plain(key), _plain(item)] for key, item in value.items()]
        return dict(pairs) if all(isinstance(key, str) for key, _ in pairs) else {"pairs": pairs}
    if isinstance(value, np.ndarray):
        return {"array": value.tolist()}
    if isinstance(value, list | tuple | pd.Index):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _restored(value: Any) -> Any:
    if isinstance(value, list):
        return [_restored(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"pairs"}:
        return {key: _restored(item) for key, item in value["pairs"]}
    if value.keys() == {"array"}:
        return np.array(value["array"])
    return {key: _restored(item) for key, item in value.items()}


def _plain_column(values: pd.Series) -> dict[str, Any]:
    """One value, and how its column is stored."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        ordered = {"ordered": True} if values.cat.ordered else {}
        return {"categories": _plain(values.cat.categories), **ordered}
    return {"value": _plain(values.iloc[0]), "dtype": str(values.dtype)}


def _column(found: dict[str, Any]) -> Any:
    if "categories" in found:
        return pd.Categorical(found["categories"][:1], found["categories"], ordered=found.get("ordered", False))
    return pd.Series([found["value"]], dtype=found["dtype"]).array
