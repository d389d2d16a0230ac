"""Tests of the groups of a fit, and how they lie side by side in a result."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from flashmm_sc._gaussian.estimate import STATUS
from flashmm_sc._inference.adjustment import adjust
from flashmm_sc._results.result import Result, joined, texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _typeshed import DataclassInstance

    from flashmm_sc._inference.inference import Inference


_SUFFIX = {"p": "pval"}  # otherwise the names of the arrays


@dataclass(frozen=True, eq=False)
class FittedModel:
    """The fitted model of one group: names, type III hypotheses by term, what tests need, and the status of each gene."""

    group: str
    coef_names: list[str]
    component_names: list[str]
    terms: dict[str, np.ndarray]
    inference: Inference
    status: np.ndarray


@dataclass(frozen=True, eq=False)
class GroupTests:
    """Tests of one group of cells: names of what was tested, and a dataclass of genes × names arrays."""

    group: str
    names: list[str]
    tests: DataclassInstance
    status: np.ndarray


def tests_result(key: str, groups: Sequence[GroupTests], params: dict[str, Any]) -> Result:
    """The tests of all groups as a result; p-values are adjusted as the parameters say."""
    arrays = {
        _SUFFIX.get(field.name, field.name): np.concatenate([getattr(one.tests, field.name) for one in groups], axis=1)
        for field in fields(groups[0].tests)
    }
    arrays["pval_adj"] = adjust(arrays["pval"], params["corr_method"], params["corr_scope"])
    arrays["status"] = np.column_stack([one.status for one in groups])
    entry = {
        "params": params,
        "coef_names": texts(joined(one.group, one.names) for one in groups),
        "column_names": texts(one.names for one in groups),
        "column_groups": texts([one.group] * len(one.names) for one in groups),
        "groups": texts([one.group] for one in groups),
        "status_names": np.array(STATUS, dtype=object),
    }
    return Result(key, arrays, entry)
