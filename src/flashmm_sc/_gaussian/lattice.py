"""Ratios that all genes share, at which f costs little: where genes start, and a lattice whose wells tell of several minima.

Variances of components by themselves are multiples of q_k / tr S_kk. Effects of a correlated term are turned first, so that
the mean of S over its levels is the identity and neither units nor origin of a covariate matter. Their Γ is diagonal, of the
same multiples, or of rank one with these on its diagonal and any signs: other minima mostly are where Γ is singular.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import minimum_filter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashmm_sc._gaussian.structure import Structure

# Multiples, of which the first are taken as there is room; where they are uneven, ridges of f look like several wells.
_MULTIPLES = 0.0, 1.0, 100.0, 0.1, 10.0, 1000.0, 0.3, 3.0, 30.0, 300.0
_FAR = 0.0, 1.0, 100.0, 1e6, 0.1, 10.0, 1e4, 1000.0, 0.3, 30.0  # the same where f may be lowest without any residual
_FEW = 0.0, 0.1, 1.0, 10.0, 100.0, 1000.0  # to start from
_ALONE = 0.0, *np.geomspace(1e-3, 1e3, 40)  # the same of one component
_ALONE_FAR = *_ALONE, *np.geomspace(1e3, 1e9, 40)[1:]
_MOST, _EACH = 5000, 1300  # points of the lattice, and of those with the same signs


@dataclass(frozen=True, eq=False)
class Lattice:
    """Shared ratios: points of the lattice, then others to start from.

    Attributes
    ----------
    gamma
        Rows × P.
    shape
        Of the whole lattice: signs of Γ, then multiples on K axes. One component has none.
    inside
        Which points of it the first rows are: where a variance is zero, signs repeat others.
    start
        Rows to start from.
    """

    gamma: np.ndarray
    shape: tuple[int, ...]
    inside: np.ndarray
    start: np.ndarray

    @classmethod
    def of(
        cls, structure: Structure, d: Sequence[int], trace: np.ndarray, room: int, *, cheap: bool, far: bool = False
    ) -> Lattice:
        """From tr S E_j of each parameter, `trace`; no more points than there is `room` for; some of them `far` from zero.

        From three components on, and where every ratio is a solve a gene, which is not `cheap`, genes start from multiples of
        all together. The lattice is coarser the more components there are.
        """
        K = structure.K
        multiples = _FAR if far else _MULTIPLES
        steps, signs = _axes(structure, min(room, _MOST), multiples if cheap else multiples[:4])
        cube = list(product(steps, repeat=K))
        lattice = np.vstack([_points(structure, cube, own) for own in signs])
        inside = np.isin(np.arange(len(lattice)), np.unique(lattice, axis=0, return_index=True)[1])
        alone = _ALONE_FAR if far else _ALONE
        few = product(_FEW, repeat=2) if K == 2 and cheap else [(x,) * K for x in (_FEW if K > 1 else alone)]
        start = _points(structure, list(few), signs[0]).tolist()
        rows = list(dict.fromkeys(map(tuple, lattice[inside].tolist() + start)))
        gamma = _turned_back(structure, d, trace, np.array(rows))
        return cls(gamma, (len(signs), *[len(steps)] * K), inside, np.array([rows.index(tuple(row)) for row in start]))

    def wells(self, f: np.ndarray) -> np.ndarray:
        """Which points of the lattice are lower than all around, from f at them: genes × points.

        Around are the neighbours in all variances, with diagonal Γ and, from there, with any.
        """
        whole = np.full((len(f), self.inside.size), np.inf)
        whole[:, self.inside] = f
        whole = whole.reshape(-1, *self.shape)
        lowest = minimum_filter(whole, size=(1, 1, *[3] * (len(self.shape) - 1)), mode="nearest")
        np.minimum(lowest, lowest[:, :1], out=lowest)
        lowest[:, 0] = lowest.min(axis=1)
        return (whole == lowest).reshape(len(f), -1)[:, self.inside]


def _axes(structure: Structure, points: int, multiples: Sequence[float]) -> tuple[list[float], np.ndarray]:
    """As many of these multiples as there is room for, and the signs of correlations (rows × pairs), none first.

    Those of a correlated term are the products of two effects' signs; they are left out where each variance would have but
    two multiples with them.
    """
    K, pairs = structure.K, structure.pairs
    signs = [np.zeros(len(pairs))]
    if K == 1:
        return [], np.array(signs)
    most = lambda signs: int((min(points / signs, _EACH) + 0.5) ** (1 / K))
    number = 1 + sum(2 ** (len(group) - 1) for group in structure.groups)
    if most(number) > 2:
        for group in structure.groups:
            for others in product((1.0, -1.0), repeat=len(group) - 1):
                own = dict(zip(group, (1.0, *others), strict=True))
                signs.append(np.array([own.get(k, 0.0) * own.get(l, 0.0) for k, l in pairs]))
    return sorted(multiples[: max(1, most(len(signs)))]), np.array(signs)


def _points(structure: Structure, multiples: Sequence[Sequence[float]], signs: np.ndarray) -> np.ndarray:
    """Parameters with these variances, rows × K, and signs of correlations."""
    out = np.zeros((len(multiples), structure.size))
    out[:, : structure.K] = np.reshape(multiples, (-1, structure.K))
    for (k, l), sign in zip(structure.pairs, signs, strict=True):
        out[:, structure.place(k, l)] = sign * np.sqrt(out[:, k] * out[:, l]) + 0.0
    return out


def _turned_back(structure: Structure, d: Sequence[int], trace: np.ndarray, points: np.ndarray) -> np.ndarray:
    """γ of parameters of effects for which the mean of S over the levels is the identity."""
    out = points.copy()
    for term in structure.terms:
        at = structure.places(term)
        mean = trace[at] / np.where(np.eye(len(term)), 1, 2) / d[term[0]]  # E_kl holds S_kl and S_lk
        back = np.linalg.inv(np.linalg.cholesky(mean))
        out[:, at] = back.T @ structure.matrices(points, term) @ back
    return out
