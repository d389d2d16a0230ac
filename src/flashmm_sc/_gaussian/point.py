"""Points of the profile likelihood, one a gene."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from flashmm_sc._gaussian.vectors import Vectors


@dataclass(eq=False)
class Point:
    """f and its derivatives at the ratios γ of m genes; f is infinite outside the domain.

    f is measured from ν log y'Ry, to keep digits; `quad` is v_k'T_kl v_l, `norm` |T_kl|² and `v_sq` |v_k|²,
    where components are correlated v'E_j T E_l v, tr T E_j T E_l and v'E_j v of the parameters (see `structure`). `v` is
    None where it takes a factorisation that nothing else has needed.
    """

    gamma: np.ndarray
    f: np.ndarray
    Q: np.ndarray
    grad: np.ndarray
    observed: np.ndarray
    expected: np.ndarray
    v_sq: np.ndarray
    quad: np.ndarray
    trace: np.ndarray
    norm: np.ndarray
    v: Vectors | None

    def put(self, index: np.ndarray, other: Point) -> None:
        """Overwrite these genes."""
        for field in fields(self):
            own = getattr(self, field.name)
            if own is not None:
                own[index] = getattr(other, field.name)

    def replaced(self, where: np.ndarray, other: Point) -> Point:
        """The other point where told, else this one."""
        if where.all():
            return other
        new = self[np.arange(len(where))]
        new.put(where, other[where])
        return new

    def __getitem__(self, index: np.ndarray) -> Point:
        values: list[Any] = [getattr(self, field.name) for field in fields(self)]
        values = [None if value is None else value[index] for value in values]
        return Point(*values)
