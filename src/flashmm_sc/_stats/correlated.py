"""Groups of components whose random effects are correlated."""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.selection import correlated_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    Named = tuple[Sequence[str], Sequence[Sequence[int]]]
    """Names of components, and the groups of those that are correlated."""


def correlated_groups(correlated: Sequence[Sequence[int]], d: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Groups of correlated components, checked."""
    try:
        groups = tuple(tuple(index(k) for k in group) for group in correlated)
    except (TypeError, ValueError):
        groups = ((-1,),)
    members = [k for group in groups for k in group]
    known = all(0 <= k < len(d) for k in members) and len(set(members)) == len(members)
    if not known or any(len(group) < 2 or len({d[k] for k in group}) > 1 for group in groups):
        msg = (
            f"correlated={correlated!r} should hold groups of two and more components, numbered from 0 to {len(d) - 1} and "
            f"each in one group, that have as many columns each; they have {d}."
        )
        raise ValueError(msg)
    return groups


def covariance_names(names: Sequence[str], groups: Sequence[Sequence[int]]) -> list[str]:
    """Names of the covariances of correlated components, which have these names, in the order of their parameters."""
    return [f"cov({names[k]}, {names[l]})" for k, l in correlated_pairs(groups)]


def lacking_covariances(larger: Named, smaller: Named) -> list[str]:
    """Names of the covariances of one model that another lacks, in their order; pairs may be named either way round."""
    names, groups = smaller
    known = {frozenset({names[k], names[l]}) for k, l in correlated_pairs(groups)}
    names, groups = larger
    pairs = zip(covariance_names(names, groups), correlated_pairs(groups), strict=True)
    return [name for name, (k, l) in pairs if frozenset({names[k], names[l]}) not in known]


def to_numbers(groups: Sequence[Sequence[int]], n_components: int) -> np.ndarray:
    """Which correlated term each component is in, counted from 1, 0 for none: groups as files hold them."""
    numbers = np.zeros(n_components, dtype=np.int64)
    for i, group in enumerate(groups, start=1):
        numbers[list(group)] = i
    return numbers


def from_numbers(numbers: np.ndarray) -> list[list[int]]:
    """Undo `to_numbers`."""
    return [np.flatnonzero(numbers == i).tolist() for i in range(1, np.max(numbers, initial=0) + 1)]


def kept_groups(groups: Sequence[Sequence[int]], components: np.ndarray) -> list[list[int]]:
    """What is left of groups where only some components are kept, by their new positions."""
    place = {int(k): i for i, k in enumerate(components)}
    left = [sorted(place[k] for k in group if k in place) for group in groups]
    return [group for group in left if len(group) > 1]
