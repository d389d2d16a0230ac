"""Contrasts across the groups of a fit: expressions over full names, such as ``B cells|trt[T.stim]``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from flashmm_sc._base.errors import listed
from flashmm_sc._gaussian.estimate import BOUNDARY, INDEFINITE, NO_DF, OK
from flashmm_sc._inference.across import across_tests
from flashmm_sc._inference.contrasts import contrast_matrix
from flashmm_sc._inference.df import with_df
from flashmm_sc._results.group_tests import FittedModel, GroupTests
from flashmm_sc._results.result import joined

if TYPE_CHECKING:
    from collections.abc import Sequence

_BEST_FIRST = (OK, BOUNDARY, INDEFINITE, NO_DF)


def split(contrasts: Any, groups: Sequence[tuple[str, list[str], str]]) -> tuple[Any, dict[str, str]]:
    """Contrasts within groups (name, coefficients, reference grid), and expressions across groups by name.

    An expression is across groups if it has a `|` and isn't one over the coefficients of any group.
    """
    listed_ = [contrasts] if isinstance(contrasts, str) else contrasts
    if isinstance(listed_, Mapping):
        named = {str(label): value for label, value in listed_.items()}
    elif isinstance(listed_, list | tuple):
        named = {text: text for text in listed_ if isinstance(text, str)}
    else:
        named = {}
    across = {label: text for label, text in named.items() if _is_across(text, groups)}
    if not across:
        return contrasts, {}
    contrast_matrix(across, [name for group, own, _ in groups for name in joined(group, own)])
    if isinstance(listed_, Mapping):
        return {label: value for label, value in named.items() if label not in across}, across
    return [item for item in listed_ if not (isinstance(item, str) and item in across)], across


def across_groups(
    contrasts: dict[str, str], models: Sequence[FittedModel], options: dict[str, Any], joint: bool
) -> list[GroupTests]:
    """Tests of expressions across groups; `options` as of `Inference.t_tests`."""
    if not contrasts:
        return []
    if joint:
        msg = f"joint=True tests contrasts within groups; test {listed(contrasts)}, across groups, without it."
        raise ValueError(msg)
    names = [name for model in models for name in joined(model.group, model.coef_names)]
    ends = np.cumsum([len(model.coef_names) for model in models])[:-1]
    tested = []
    for label, weights in contrast_matrix(contrasts, names).items():
        parts = [(model, c) for model, c in zip(models, np.split(weights.to_numpy(), ends), strict=True) if c.any()]
        tests = across_tests([(model.inference, c) for model, c in parts], **options)
        shifted = sum(model.constant @ c for model, c in parts)  # by adding a constant to all values
        finding = np.array([abs(shifted) < 1e-9 * np.abs(weights).sum()])
        status = with_df(_worst([model.status for model, _ in parts]), tests.df)
        tested.append(GroupTests("", [str(label)], finding, tests, status))
    return tested


def _worst(statuses: Sequence[np.ndarray]) -> np.ndarray:
    """Of each gene the status that says most of what is wrong: the first that tells why it was not fitted, if any."""
    found = np.stack(statuses)
    rank = np.select([found == code for code in _BEST_FIRST], range(len(_BEST_FIRST)), len(_BEST_FIRST))
    return np.take_along_axis(found, rank.argmax(axis=0)[None], axis=0)[0]


def _is_across(text: Any, groups: Sequence[tuple[str, list[str], str]]) -> bool:
    if not isinstance(text, str) or "|" not in text or [group for group, _, _ in groups] == [""]:
        return False
    return not any(_fits(text, names) for _, names, _ in groups)


def _fits(text: str, names: list[str]) -> bool:
    try:
        contrast_matrix(text, names)
    except ValueError:
        return False
    return True
