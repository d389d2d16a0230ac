"""Traces and norms for any ratios, from the log determinant of what is left at points of one ratio.

With V_1 = I + γ_1 Z_1Z_1' and W = [Z_2 X] the other columns, log det(I + S D) is log det V_1 and

    h(γ) = log det X'V_1⁻¹X + log det(I + G D_2),    G = Z_2'(V_1⁻¹ - V_1⁻¹X (X'V_1⁻¹X)⁻¹X'V_1⁻¹) Z_2

At a point γ_1, G is the covariance of the other components, so a dense one gives h and its derivatives for any γ_2. In between
h is interpolated, and differentiated in γ_1: tr T_kk are the first derivatives of log det(I + S D), |T_kl|² minus the second.

With τ the largest level of component 1, h is analytic in x = log(1 + τ γ_1) for |Im x| < π, zero ratios included. Points lie on
panels of equal length in x, which are filled in where a gene comes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.threads import BLOCK_BYTES, for_gene_blocks
from flashmm_sc._gaussian.chebyshev import Chebyshev
from flashmm_sc._gaussian.dense.covariance import DenseCovariance

if TYPE_CHECKING:
    from collections.abc import Callable

    from flashmm_sc._gaussian.covariance import Covariance

_LENGTH = 9.0
_POINTS = Chebyshev(40)


@dataclass(frozen=True, eq=False)
class DeterminantTable:
    """h and its derivatives.

    Attributes
    ----------
    size
        Diagonal of Z_1'Z_1.
    schur
        W'V_1⁻¹W at a ratio γ_1.
    d, rank
        Columns and rank of the other components.
    panels
        Those filled in so far: by their number, log det X'V_1⁻¹X and the covariance G at each point.
    """

    size: np.ndarray
    schur: Callable[[float], np.ndarray]
    d: tuple[int, ...]
    rank: tuple[int, ...]
    panels: dict[int, list[tuple[float, Covariance]]] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def fill(self, panel: int, n_jobs: int | None) -> None:
        """Diagonalise what is left at the points of a panel, if that hasn't been done."""
        with self.lock:
            if panel in self.panels:
                return
            points: dict[int, tuple[float, Covariance]] = {}

            def work(part: slice) -> None:
                for i in range(part.start, part.stop):
                    points[i] = self._left(np.expm1(_LENGTH * (panel + (1 + _POINTS.nodes[i]) / 2)) / self.size.max())

            for_gene_blocks(work, _POINTS.nodes.size, BLOCK_BYTES, n_jobs)
            self.panels[panel] = [points[i] for i in range(_POINTS.nodes.size)]

    def _left(self, gamma: float) -> tuple[float, Covariance]:
        """log det X'V_1⁻¹X and G at γ_1."""
        whole, R = self.schur(gamma), sum(self.d)
        L = np.linalg.cholesky(whole[R:, R:])
        B = np.linalg.solve(L, whole[R:, :R])
        return 2 * float(np.log(np.diag(L)).sum()), DenseCovariance.of(whole[:R, :R] - B.T @ B, self.d, self.rank)

    def __call__(self, first: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Traces (m × K) and norms (m × K × K) at γ_1 (m) and the other ratios; component 1 comes first."""
        m, K = len(first), 1 + others.shape[1]
        trace, norm = np.empty((m, K)), np.empty((m, K, K))
        d = self.size / (1 + first[:, None] * self.size)
        trace[:, 0], norm[:, 0, 0] = d.sum(axis=1), (d**2).sum(axis=1)
        top = self.size.max()
        x, speed = np.log1p(top * first) / _LENGTH, top / (1 + top * first)
        panel = x.astype(int)
        for number in np.unique(panel):
            self.fill(int(number), 1)
            genes = np.flatnonzero(panel == number)
            share = _POINTS.shares(2 * (x[genes] - number) - 1)
            along, twice = (
                share @ _POINTS.slopes * (2 / _LENGTH),
                share @ _POINTS.slopes @ _POINTS.slopes * (2 / _LENGTH) ** 2,
            )
            h, h_k, h_kl = self._values(number, others[genes])
            at = lambda weights, values: np.einsum("ip,pi...->i...", weights, values)
            slope, v = at(along, h), speed[genes]
            trace[genes, 0] += v * slope
            norm[genes, 0, 0] -= v**2 * (at(twice, h) - slope)
            trace[genes, 1:] = at(share, h_k)
            norm[genes, 1:, 1:] = at(share, h_kl)
            norm[genes, 0, 1:] = norm[genes, 1:, 0] = -v[:, None] * at(along, h_k)
        return trace, norm

    def _values(self, panel: int, others: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """h, its traces and norms at the points of a panel: points × m × ..."""
        values = []
        for logdet, covariance in self.panels[panel]:
            factor = covariance.factor(others)
            values.append((logdet + factor.logdet, *factor.traces()))
        h, trace, norm = (np.array(part) for part in zip(*values, strict=True))
        return h, trace, norm
