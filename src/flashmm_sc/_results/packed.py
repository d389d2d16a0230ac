"""Trees of names and small arrays as one text and one array of numbers.

A model of thirty groups is hundreds of small arrays, each of which takes a file some milliseconds: together more than all
results.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Mapping


def packed(tree: Mapping[str, Any]) -> dict[str, Any]:
    """`text`, JSON that says what there is, and `numbers` of its arrays, one after another, as float64.

    The leaves are texts, whole numbers and floats, arrays of numbers (integers below 2^53) or of texts, and sparse matrices.
    """
    numbers: list[np.ndarray] = [np.empty(0)]

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {"tree": {name: plain(part) for name, part in value.items()}}
        if sp.issparse(value):
            rows = sp.csr_array(cast("sp.csr_matrix", value))
            return {"csr": [plain(part) for part in (rows.data, rows.indices, rows.indptr)], "shape": rows.shape}
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            numbers.append(value.astype(np.float64).reshape(-1))
            return {"dtype": value.dtype.str, "shape": value.shape}
        if isinstance(value, np.ndarray):
            return {"texts": [str(text) for text in value]}
        return value.item() if isinstance(value, np.generic) else value

    text = json.dumps(plain(dict(tree)))
    return {"text": text, "numbers": np.concatenate(numbers)}


def unpacked(found: Mapping[str, Any]) -> dict[str, Any]:
    """Undo `packed`."""
    numbers, place = np.asarray(found["numbers"]), 0

    def value_of(plain: Any) -> Any:
        nonlocal place
        if not isinstance(plain, dict):
            return plain
        if "tree" in plain:
            return {name: value_of(part) for name, part in plain["tree"].items()}
        if "texts" in plain:
            return np.array(plain["texts"], dtype=object)
        if "csr" in plain:
            return sp.csr_matrix(tuple(value_of(part) for part in plain["csr"]), shape=tuple(plain["shape"]))
        start, place = place, place + int(np.prod(plain["shape"]))
        return numbers[start:place].reshape(plain["shape"]).astype(plain["dtype"])

    tree: dict[str, Any] = value_of(json.loads(str(found["text"])))
    return tree
