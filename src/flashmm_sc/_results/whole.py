"""Whether what lies under a key is a whole result: arrays, names and parameters that fit together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    Arrays = Mapping[str, np.ndarray]

_OF_COLUMNS = ("coef_names", "column_names", "column_groups", "findings", "status_columns")
_TEXTS = ("groups", "status_names", "theta_names", "ranef_names", "notes")
_OF_THETA = ("theta", "theta_se", "theta_cov", "theta_shrunk")
_TEXT, _FLAG, _NUMBER = (str,), (bool, np.bool_), (int, float, np.integer, np.floating)
_PARAMS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(
        ("fixed", "method", "ddf", "corr_method", "corr_scope", "key", "alternative", "sample", "null"), _TEXT
    ),
    **dict.fromkeys(("use_raw", "nonnegative", "moderate", "joint"), _FLAG),
    **dict.fromkeys(("min_cells", "min_fraction", "min_counts", "n_obs", "log_base", "lfc"), _NUMBER),
    **dict.fromkeys(("layer", "transform", "groupby", "residual_by", "mask_obs"), (*_TEXT, type(None))),
    **dict.fromkeys(("size_factors", "weights", "normalize"), (*_TEXT, type(None))),
    "target_sum": (*_NUMBER, type(None)),
}
"""Types of the parameters that are read again."""


class Params(dict[str, Any]):
    """The arguments of the call that made a result; one that is missing is named."""

    def __init__(self, key: str, given: Mapping[str, Any]) -> None:
        super().__init__(given)
        self.key = key

    def __missing__(self, name: str) -> Any:
        raise ValueError(damaged(self.key, f"params lack {name!r}"))


def damaged(key: str, why: str) -> str:
    """Words for a result that is not what a call wrote."""
    return f"The result {key!r} is damaged: {why}. Run its call again."


def check_whole(key: str, entry: Mapping[str, Any], arrays: Arrays) -> None:
    """Refuse a result that is not what a call wrote."""
    if why := _of_entry(entry) or _of_params(entry["params"]) or _of_arrays(entry, arrays):
        raise ValueError(damaged(key, why))


def _of_entry(entry: Mapping[str, Any]) -> str:
    n = np.size(entry["column_names"])
    for name in (*_OF_COLUMNS, *_TEXTS):
        if name not in entry:
            continue
        values = entry[name]
        if not isinstance(values, np.ndarray | list) or np.ndim(values) != 1:
            return f"uns[...]['{name}'] is no list"
        if name in _OF_COLUMNS and len(values) != n:
            return f"uns[...]['{name}'] has {len(values)} entries for {n} columns"
    if not isinstance(entry["params"], dict):
        return "uns[...]['params'] is no dictionary"
    if not isinstance(entry.get("models", {}), dict):
        return "uns[...]['models'] is no dictionary"
    return ""


def _of_params(params: Mapping[str, Any]) -> str:
    for name, value in params.items():
        if name in _PARAMS and not isinstance(value, _PARAMS[name]):
            return f"params hold {name}={value!r}"
    return ""


def _of_arrays(entry: Mapping[str, Any], arrays: Arrays) -> str:
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            return f"the array {name!r} in varm holds no numbers"
    n = np.size(entry.get("theta_names", ()))
    for name in _OF_THETA:
        if name in arrays and (arrays[name].ndim != 2 + (name == "theta_cov") or arrays[name].shape[1] != n):
            return f"the array {name!r} in varm has shape {arrays[name].shape}, and there are {n} names in theta_names"
    return _of_status(entry, arrays["status"]) if "status" in arrays else ""


def _of_status(entry: Mapping[str, Any], status: np.ndarray) -> str:
    if status.ndim == 2 and status.dtype.kind == "f" and (lacking := np.isnan(status).any(axis=1)).any():
        return (
            f"it has nothing of {lacking.sum()} genes, as after ad.concat(join='outer') with data that has other genes"
        )
    if status.ndim != 2 or status.dtype.kind not in "iu":
        return "the array 'status' in varm holds no codes"
    if status.size and not 0 <= status.min() <= status.max() < len(entry["status_names"]):
        return f"the array 'status' in varm holds codes of more than the {len(entry['status_names'])} names in status_names"
    places = np.asarray(entry.get("status_columns", ()))
    if places.size and (places.dtype.kind not in "iu" or not 0 <= places.min() <= places.max() < status.shape[1]):
        return "uns[...]['status_columns'] doesn't fit the array 'status' in varm"
    return ""
