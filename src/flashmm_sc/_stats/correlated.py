"""Groups of components whose random effects are correlated."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np


def correlated_groups(correlated: Sequence[Sequence[int]], d: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Groups of correlated components, checked."""
    try:
        groups = tuple(tuple(int(k) for k in group) for group in correlated)
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


def kept_groups(groups: Sequence[Sequence[int]], components: np.ndarray) -> list[list[int]]:
    """What is left of groups where only some components are kept, by their new positions."""
    place = {int(k): i for i, k in enumerate(components)}
    left = [sorted(place[k] for k in group if k in place) for group in groups]
    return [group for group in left if len(group) > 1]
