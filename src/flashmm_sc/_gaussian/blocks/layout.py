"""Vectors over the random columns with a block for each component, and what correlated components make of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from flashmm_sc._gaussian.structure import Structure


@dataclass(frozen=True, eq=False)
class Blocks:
    """One block of columns a component; those of correlated components have the same levels in the same order."""

    structure: Structure

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.structure.size

    def scaled(self, parts: tuple[np.ndarray, ...], weights: np.ndarray) -> tuple[np.ndarray, ...]:
        """D v for the parameters (... × P) of each vector."""
        out: list[np.ndarray] = [np.zeros(()) for _ in parts]
        for j, (k, l) in enumerate(self.structure.units()):
            out[k] = out[k] + parts[l] * weights[..., j, None]
            if k != l:
                out[l] = out[l] + parts[k] * weights[..., j, None]
        return tuple(out)

    def squares(self, parts: tuple[np.ndarray, ...]) -> np.ndarray:
        """v'E_j v of each parameter: ... × P."""
        inner = lambda k, l: np.einsum("...i,...i->...", parts[k], parts[l]) * (1 if k == l else 2)
        return np.stack([inner(k, l) for k, l in self.structure.units()], axis=-1)
