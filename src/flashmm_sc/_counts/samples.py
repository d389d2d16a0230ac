"""What the cells of the samples tell of a gene's counts: their sums, and how exactly each of these is known.

Cell j of sample i has x_ij counts, negative binomial with mean s_ij m_i and dispersion φ about it, s_ij its size factor:

    T_i = Σ x,  U_i = Σ s x,  V_i = Σ x²,  S_i = Σ s,  Q_i = Σ s²,  m_i = T_i / S_i
    φ   = max(0, Σ_i [(V_i - 2 m_i U_i + m_i² Q_i) / (1 - Q_i/S_i²) - T_i] / Σ_i m_i² Q_i)     by moments
    b_i = φ Q_i / S_i²                                                        dispersion of T_i about S_i m_i
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from flashmm_sc._stats.strata import Strata

_ALONE = 1e-9  # share of S² that is left of it and Q where all but one of the cells are empty
_MIN_GENES, _MIN_MEAN = 50, 5.0
"""Genes that ratios of samples need, and the mean count of a sample from which a gene counts."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Sums of counts of n samples and m genes.

    Attributes
    ----------
    counts
        T, m × n.
    size
        S times a factor of the sample if there is normalisation, n.
    inverse_cells
        Q / S², n, times a design effect: one over the number of cells where all have the same size factor.
    phi
        Dispersion of cells within samples, m.
    """

    counts: np.ndarray
    size: np.ndarray
    inverse_cells: np.ndarray
    phi: np.ndarray

    @classmethod
    def of(cls, strata: Strata, genes: np.ndarray, *, normalize: bool) -> Samples:
        """From sums over the cells of each sample, of some genes; size factors are taken over their mean.

        Raises
        ------
        ValueError
            For sums that weren't weighted by size factors.
        """
        if strata.size is None or strata.size_sq is None or strata.size_sum is None:
            msg = "The strata were summed without size factors; aggregate the cells with size_factors='total'."
            raise ValueError(msg)
        unit = strata.size.sum() / strata.n.sum()
        S, Q = strata.size / unit, strata.size_sq / unit**2
        T, U, V = strata.sums[:, genes], strata.size_sum[:, genes] / unit, strata.squares[:, genes]
        phi = dispersion(T, U, V, S, Q, strata.n)
        factor = ratio_factors(strata.sums, S) if normalize else np.ones(len(S))
        return cls(np.ascontiguousarray(T.T), S * factor, Q / S**2, phi)

    def inflated(self, design_effect: float) -> Samples:
        """The same, with sums known less well: as if by so many times fewer cells."""
        return replace(self, inverse_cells=self.inverse_cells * design_effect)

    @property
    def rate(self) -> np.ndarray:
        """Mean count of a cell of size 1, m."""
        return self.counts.sum(axis=1) / self.size.sum()

    def of_genes(self, genes: np.ndarray) -> Samples:
        """The same of some genes."""
        return replace(self, counts=np.ascontiguousarray(self.counts[genes]), phi=self.phi[genes])


def dispersion(T: np.ndarray, U: np.ndarray, V: np.ndarray, S: np.ndarray, Q: np.ndarray, n: np.ndarray) -> np.ndarray:
    """φ of each gene from sums (samples × genes) over the n cells of each sample; 0 where no sample has two cells with counts."""
    several = (n >= 2) & (S**2 - Q > _ALONE * S**2)
    T, U, V, S, Q = (sums[several] for sums in (T, U, V, S[:, None], Q[:, None]))
    m = T / S
    extra = ((V - 2 * m * U + m**2 * Q) / (1 - Q / S**2) - T).sum(axis=0)
    weight = (m**2 * Q).sum(axis=0)
    return np.maximum(np.divide(extra, weight, out=np.zeros_like(extra), where=weight > 0), 0.0)


def ratio_factors(T: np.ndarray, S: np.ndarray) -> np.ndarray:
    """Of each sample the median over genes of T/S relative to its geometric mean over samples; their geometric mean is 1.

    Genes with counts in all samples, and `_MIN_MEAN` on average, count; with fewer than `_MIN_GENES` of them, 1.
    """
    counted = (T > 0).all(axis=0) & (T.mean(axis=0) >= _MIN_MEAN)
    if counted.sum() < _MIN_GENES:
        return np.ones(len(S))
    log_rate = np.log(T[:, counted] / S[:, None])
    log_factor = np.median(log_rate - log_rate.mean(axis=0), axis=1)
    return np.exp(log_factor - log_factor.mean())
