"""What the designs of a model with correlated terms give, cut into the largest term's levels and the rest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from flashmm_sc._base.selection import component_slices
from flashmm_sc._gaussian.blocks.layout import Blocks
from flashmm_sc._gaussian.vectors import Vectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashmm_sc._gaussian.structure import Structure


@dataclass(frozen=True, eq=False)
class Terms:
    """Cross-products of the largest term and the rest U = [Z_2, Q].

    Attributes
    ----------
    structure, d
        Components that are correlated, and columns of each component.
    first, others
        Components of the largest term, and all others.
    N
        Z_i'Z_i of each level of the largest term, L × c × c.
    C
        Z_i'U of each level, L × c × n for n columns of the rest.
    UU
        U'U, n × n.
    R
        Random columns in U; those of X follow.
    """

    structure: Structure
    d: tuple[int, ...]
    first: tuple[int, ...]
    others: tuple[int, ...]
    N: np.ndarray
    C: np.ndarray
    UU: np.ndarray
    R: int

    @classmethod
    def of(cls, ZZ: sp.csr_array, B: np.ndarray, d: Sequence[int], structure: Structure) -> Terms:
        """From Z'Z and Z'Q.

        Raises
        ------
        ValueError
            When the columns of correlated components are not those of the same levels.
        """
        parts = component_slices(d)
        first = max(structure.terms, key=lambda term: len(term) * d[term[0]])
        others = tuple(k for k in range(structure.K) if k not in first)
        for group in dict.fromkeys([*structure.groups, first]):
            _check_levels(ZZ, parts, group)
        N = np.array([[ZZ[parts[k], parts[l]].diagonal() for l in first] for k in first]).transpose(2, 0, 1)
        rest = np.concatenate([np.empty(0, int), *(np.arange(parts[k].start, parts[k].stop) for k in others)])
        C = np.stack([np.hstack([ZZ[parts[k]][:, rest].toarray(), B[parts[k]]]) for k in first], axis=1)
        UU = np.block([[ZZ[rest][:, rest].toarray(), B[rest]], [B[rest].T, np.eye(B.shape[1])]])
        return cls(structure, tuple(d), first, others, np.ascontiguousarray(N), C, UU, len(rest))

    @cached_property
    def layout(self) -> Blocks:
        """Vectors have a block for each component."""
        return Blocks(self.structure)

    @cached_property
    def rest(self) -> dict[int, slice]:
        """Columns in U of each of the other components."""
        return dict(zip(self.others, component_slices([self.d[k] for k in self.others]), strict=True))

    def parameters(self, components: tuple[int, ...]) -> list[tuple[int, int, int]]:
        """Parameters of some components: their position, and the places among these that they join."""
        units = enumerate(self.structure.units())
        return [(j, components.index(k), components.index(l)) for j, (k, l) in units if k in components]

    def root(self, gamma: np.ndarray) -> np.ndarray:
        """M of K2, m × n × n."""
        out = np.zeros((len(gamma), *self.UU.shape))
        out[:, range(self.R, len(self.UU)), range(self.R, len(self.UU))] = 1.0
        for group in self.structure.terms:
            if group[0] in self.others:
                L = self.structure.roots(gamma, group)
                for (i, k), (j, l) in product(enumerate(group), repeat=2):
                    rows, columns = (np.arange(self.R)[self.rest[c]] for c in (k, l))
                    out[:, rows, columns] = L[:, i, j, None]
        return out

    def cut(self, v: Vectors) -> tuple[np.ndarray, np.ndarray]:
        """Vectors as those of the largest term's levels (... × L × c) and of Z_2's columns (... × R)."""
        first = np.stack([v.parts[k] for k in self.first], axis=-1)
        rest = [np.empty((*first.shape[:-2], 0)), *(v.parts[k] for k in self.others)]
        return first, np.concatenate(rest, axis=-1)

    def joined(self, first: np.ndarray, rest: np.ndarray) -> Vectors:
        """Undo `cut`."""
        parts = {k: first[..., i] for i, k in enumerate(self.first)}
        parts |= {k: rest[..., part] for k, part in self.rest.items()}
        return Vectors(self.layout, tuple(parts[k] for k in range(len(self.d))))


def _check_levels(ZZ: sp.csr_array, parts: list[slice], group: tuple[int, ...]) -> None:
    """Refuse correlated components whose i-th columns are not of the same level: they overlap with others."""
    for k in group:
        for l in group:
            both = sp.coo_array(ZZ[parts[k], parts[l]])
            if both.shape[0] != both.shape[1] or (both.row != both.col)[both.data != 0].any():
                msg = (
                    "Correlated components need columns of the same levels in the same order, one level for each cell, "
                    f"but those of components {k + 1} and {l + 1} overlap otherwise."
                )
                raise ValueError(msg)
