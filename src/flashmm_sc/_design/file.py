"""A design as JSON: text that other sites can read before they use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from formulaic.parser.types import Factor

from flashmm_sc._design.encoding import Encoding
from flashmm_sc._design.fixed import FixedDesign
from flashmm_sc._design.formula import parse_formula
from flashmm_sc._design.random_terms import RandomTerm

_FORMAT = "flashmm-sc design 1"


def to_json(fixed: FixedDesign, random: Sequence[RandomTerm]) -> dict[str, Any]:
    """Everything that encoding cells takes, of types that JSON knows."""
    encoding = fixed.encoding
    kinds = {str(expr): (kind.value, state) for expr, (kind, state) in encoding.spec.encoder_state.items()}
    levels = {expr: _plain(state["categories"]) for expr, (_, state) in kinds.items() if "categories" in state}
    return {
        "format": _FORMAT,
        "version": version("flashmm-sc"),
        "fixed": encoding.text,
        "random": [asdict(term) for term in random],
        "columns": fixed.columns,
        "kinds": {expr: kind for expr, (kind, _) in kinds.items()},
        "levels": levels,
        "transforms": _plain(encoding.spec.transform_state),
        "example": {name: _plain_column(encoding.example[name]) for name in encoding.example},
    }


def from_json(found: dict[str, Any]) -> tuple[FixedDesign, tuple[RandomTerm, ...]]:
    """Undo `to_json`."""
    if found["format"] != _FORMAT:
        raise KeyError(found["format"])
    states = {expr: {"categories": found["levels"][expr]} if expr in found["levels"] else {} for expr in found["kinds"]}
    encoders = {expr: (Factor.Kind(kind), states[expr]) for expr, kind in found["kinds"].items()}
    text = found["fixed"]
    formula = parse_formula(text, text)
    example = pd.DataFrame({name: _column(values) for name, values in found["example"].items()}, index=[0])
    encoding = Encoding.from_states(text, formula, _restored(found["transforms"]), encoders, [], example)
    random = tuple(RandomTerm(term["name"], tuple(term["groups"]), term["slope"]) for term in found["random"])
    return FixedDesign.of(encoding, list(found["columns"])), random


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
        return {"categories": _plain(values.cat.categories)}
    return {"value": _plain(values.iloc[0]), "dtype": str(values.dtype)}


def _column(found: dict[str, Any]) -> Any:
    if "categories" in found:
        return pd.Categorical(found["categories"][:1], categories=found["categories"])
    return pd.Series([found["value"]], dtype=found["dtype"]).array
