"""Vectors over the random columns, cut into blocks and ordered as a covariance likes them best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator


class Parts(Protocol):
    """How vectors are cut into parts, and what D = Σ_j γ_j E_j makes of them, for all parameters j."""

    @property
    def size(self) -> int:
        """Number of parameters."""

    def scaled(self, parts: tuple[np.ndarray, ...], weights: np.ndarray) -> tuple[np.ndarray, ...]:
        """D v for the parameters (... × P) of each vector."""

    def squares(self, parts: tuple[np.ndarray, ...]) -> np.ndarray:
        """v'E_j v of each parameter: ... × P."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Of each block its component, or where it holds several an indicator of its columns' components (columns × K)."""

    blocks: tuple[int | np.ndarray, ...]
    K: int

    @property
    def size(self) -> int:
        """Number of parameters: a variance a component."""
        return self.K

    def scaled(self, parts: tuple[np.ndarray, ...], weights: np.ndarray) -> tuple[np.ndarray, ...]:
        """Each component times its weight."""
        return tuple(part * weight for part, weight in zip(parts, self._each(weights), strict=True))

    def squares(self, parts: tuple[np.ndarray, ...]) -> np.ndarray:
        """|v_k|² of each component: ... × K."""
        return self.sums(tuple(part**2 for part in parts))

    def sums(self, parts: tuple[np.ndarray, ...]) -> np.ndarray:
        """Sum a quantity of the columns within components: ... × K."""
        out = np.zeros((*parts[0].shape[:-1], self.K))
        for block, part in zip(self.blocks, parts, strict=True):
            if isinstance(block, int):
                out[..., block] += part.sum(axis=-1)
            else:
                out += part @ block
        return out

    def _each(self, weights: np.ndarray) -> Iterator[np.ndarray]:
        """For each block the weights (... × K) of its columns."""
        for block in self.blocks:
            yield weights[..., block, None] if isinstance(block, int) else weights @ block.T


@dataclass(frozen=True, eq=False)
class Vectors:
    """One vector for each of m genes (blocks of m × columns), or r vectors (m × r × columns); m = 1 if all share them."""

    layout: Parts
    parts: tuple[np.ndarray, ...]

    @property
    def several(self) -> bool:
        """Whether a gene has several vectors."""
        return self.parts[0].ndim == 3

    def __getitem__(self, index: np.ndarray | int) -> Vectors:
        """Those of some genes, or the several of one."""
        return Vectors(self.layout, tuple(part[index] for part in self.parts))

    def __setitem__(self, index: np.ndarray, other: Vectors) -> None:
        """Overwrite those of some genes."""
        for part, new in zip(self.parts, other.parts, strict=True):
            part[index] = new

    def scaled(self, weights: np.ndarray) -> Vectors:
        """D v at the gene's parameters (m × P)."""
        each = weights[:, None] if self.several else weights
        return Vectors(self.layout, self.layout.scaled(self.parts, each))

    def only(self, j: int) -> Vectors:
        """E_j v of parameter j: of a variance its component, and zero elsewhere."""
        return self.scaled(np.eye(self.layout.size)[[j]])

    def squares(self) -> np.ndarray:
        """v'E_j v of each parameter j: m × P, or m × r × P."""
        return self.layout.squares(self.parts)

    def dot(self, other: Vectors) -> np.ndarray:
        """Inner products with r vectors a gene, or r that all share: m × r, or m × own r × r."""
        pairs = zip(self.parts, other.parts, strict=True)
        if self.several:
            return sum(own @ its.swapaxes(1, 2) for own, its in pairs)
        if len(other.parts[0]) == 1:
            return sum(own @ its[0].T for own, its in pairs)
        return sum(np.einsum("ij,irj->ir", own, its) for own, its in pairs)

    def grams(self) -> np.ndarray:
        """V E_j V' of each parameter j, for r vectors V: m × r × r × P."""
        return np.stack([self.only(j).dot(self) for j in range(self.layout.size)], axis=-1)
