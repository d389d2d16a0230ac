"""Tests of the groups of a fit, and how they lie side by side in a result."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from flashmm_sc._gaussian.estimate import STATUS
from flashmm_sc._inference.adjustment import adjust
from flashmm_sc._results.result import Result, joined, strings, texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _typeshed import DataclassInstance

    from flashmm_sc._inference.inference import Tester


_SUFFIX = {"p": "pval"}  # otherwise the names of the arrays


@dataclass(frozen=True, eq=False)
class FittedModel:
    """The fitted model of one group.

    Attributes
    ----------
    group
        Name of the group.
    described
        What is stored of the model: names, sums of the design, hypotheses.
    inference
        What tests need.
    status
        Status of each gene.
    means
        Least-squares coefficients of values before the logarithm, genes × p; None if there are none.
    """

    group: str
    described: dict[str, Any]
    inference: Tester
    status: np.ndarray
    means: np.ndarray | None

    @cached_property
    def coef_names(self) -> list[str]:
        """Names of the coefficients."""
        return strings(self.described["coef_names"])

    @cached_property
    def component_names(self) -> list[str]:
        """Names of the random components."""
        return strings(self.described["component_names"])

    @property
    def terms(self) -> dict[str, np.ndarray]:
        """Type III hypotheses by term, p × r."""
        return {name: self.described["type3"][str(j)] for j, name in enumerate(strings(self.described["terms"]))}

    @cached_property
    def constant(self) -> np.ndarray:
        """The coefficients with X β = 1 in every cell."""
        return np.asarray(self.described["constant"])

    @property
    def reference(self) -> str:
        """The reference grid as text."""
        return str(self.described.get("design", ""))

    def findings(self, L: np.ndarray) -> np.ndarray:
        """Which columns of L (p × r) are findings: combinations that adding a constant to all values doesn't change.

        Intercepts and means of levels, which it does change, differ from zero in every gene that is expressed.
        """
        return np.abs(self.constant @ L) < 1e-9 * np.abs(L).sum(axis=0)


@dataclass(frozen=True, eq=False)
class GroupTests:
    """Tests of one group of cells: names of what was tested, which are findings, a dataclass of genes × names arrays.

    With ratios of means (genes × names, see `ratios`), where there are any.
    """

    group: str
    names: list[str]
    findings: np.ndarray
    tests: DataclassInstance
    status: np.ndarray
    ratio: np.ndarray | None = None


def tests_result(key: str, groups: Sequence[GroupTests], params: dict[str, Any]) -> Result:
    """The tests of all groups as a result; p-values are adjusted as the parameters say.

    Findings are adjusted apart from the rest: together with intercepts, of which hardly any null hypothesis is true, every
    p-value below about half of the level would pass.
    """
    arrays = {
        _SUFFIX.get(field.name, field.name): np.concatenate([getattr(one.tests, field.name) for one in groups], axis=1)
        for field in fields(groups[0].tests)
    }
    findings = np.concatenate([one.findings for one in groups])
    arrays["pval_adj"] = np.empty_like(arrays["pval"])
    for those in (findings, ~findings):
        arrays["pval_adj"][:, those] = adjust(arrays["pval"][:, those], params["corr_method"], params["corr_scope"])
    arrays["status"] = np.column_stack([one.status for one in groups])
    if any(one.ratio is not None for one in groups):
        none = np.full((len(arrays["status"]), 1), np.nan)
        ratios = [none.repeat(len(one.names), axis=1) if one.ratio is None else one.ratio for one in groups]
        arrays["log2_ratio"] = np.concatenate(ratios, axis=1)
    entry = {
        "params": params,
        "coef_names": texts(joined(one.group, one.names) for one in groups),
        "column_names": texts(one.names for one in groups),
        "column_groups": texts([one.group] * len(one.names) for one in groups),
        "findings": findings,
        "groups": texts([one.group] for one in groups),
        "status_columns": np.repeat(np.arange(len(groups)), [len(one.names) for one in groups]),
        "status_names": np.array(STATUS, dtype=object),
    }
    return Result(key, arrays, entry)
