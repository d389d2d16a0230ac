"""Traces and norms for many genes at once: they are functions of γ alone, so a table serves all genes.

tr T_kk has neither poles nor zeros for |Im log γ_l| < π, so log tr T_kk and |T_kl|² / (tr T_kk tr T_ll) are analytic there,
and Chebyshev points of log γ_l give them to some nine digits over six decades (Trefethen, Approximation Theory and Approximation
Practice, theorem 8.2). γ_l = 0 is a point of its
own. At the points, |T_kl|² = -∂ tr T_kk / ∂γ_l is the slope of the interpolation. Genes beyond the table are left to
differences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from flashmm_sc._base.threads import for_gene_blocks
from flashmm_sc._gaussian.chebyshev import Chebyshev

Traces: TypeAlias = Callable[[np.ndarray], np.ndarray]
Exact: TypeAlias = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

POINTS = 54
_LOW, _DECADES = 1e-2, 6.0  # range in multiples of q_k / tr S_kk
_POINTS = Chebyshev(POINTS)


class TraceTable:
    """log tr T_kk and |T_kl|² / (tr T_kk tr T_ll) at all combinations of the points of each component."""

    def __init__(self, low: np.ndarray, trace: np.ndarray, norm: np.ndarray):
        self.low, self.K = low, len(low)
        ratio = norm / (trace[:, :, None] * trace[:, None])
        self.values = np.hstack([np.log(trace), ratio.reshape(len(norm), -1)])

    @classmethod
    def of(cls, d: Sequence[int], traces: Traces, exact: Exact, gene_bytes: int, n_jobs: int | None) -> TraceTable:
        """Evaluate at all points.

        Parameters
        ----------
        d
            Columns of each component.
        traces
            tr T_kk at any ratios (· × K).
        exact
            Both tr T_kk and |T_kl|², where they are wanted without the table.
        gene_bytes
            Memory that a row of ratios takes.
        """
        K = len(d)
        low = _LOW * np.array(d) / traces(np.zeros((1, K)))[0]
        steps = np.append(0.0, np.exp(_DECADES * np.log(10) * (1 + _POINTS.nodes) / 2))
        gamma = np.stack(np.meshgrid(*(steps * unit for unit in low), indexing="ij"), axis=-1).reshape(-1, K)
        trace = np.empty(gamma.shape)

        def work(part: slice) -> None:
            trace[part] = traces(gamma[part])

        for_gene_blocks(work, len(gamma), gene_bytes, n_jobs)
        norm = np.zeros((*gamma.shape, K))
        logs = np.log(trace).reshape(*[POINTS + 1] * K, K)
        for k in range(K):
            slope = np.zeros_like(logs)
            along = np.moveaxis(slope, k, 0)
            along[1:] = np.tensordot(_POINTS.slopes, np.moveaxis(logs, k, 0)[1:], 1)
            with np.errstate(divide="ignore", invalid="ignore"):
                norm[:, :, k] = -trace * slope.reshape(-1, K) * 2 / (_DECADES * np.log(10)) / gamma[:, k, None]
        zero = (gamma == 0).any(axis=1)
        norm = (norm + norm.swapaxes(1, 2)) / 2
        norm[zero] = exact(gamma[zero])[1]
        return cls(low, trace, norm)

    def __call__(self, gamma: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Traces, norms, and whether γ is within the table's range."""
        with np.errstate(divide="ignore", invalid="ignore"):
            x = 2 * np.log10(gamma / self.low) / _DECADES - 1
        known = ((gamma == 0) | (np.abs(x) <= 1)).all(axis=1)
        out = self.values.reshape(POINTS + 1, -1)
        for k in range(self.K):
            inside = known & (gamma[:, k] > 0)
            share = np.where(inside[:, None], _POINTS.shares(np.where(inside, x[:, k], 0.0)), 0.0)
            share = np.column_stack([~inside, share])
            out = share @ out if k == 0 else np.einsum("ia,iab->ib", share, out)
            out = out.reshape(len(gamma), POINTS + 1, -1) if k < self.K - 1 else out
        trace = np.exp(out[:, : self.K])
        norm = out[:, self.K :].reshape(-1, self.K, self.K) * trace[:, :, None] * trace[:, None]
        return trace, norm, known
