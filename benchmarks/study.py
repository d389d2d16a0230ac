"""Summary statistics of simulated studies of any size, without their cells.

Given the designs, the sums W'e of the residuals over the columns of W = [X Z] are normal with covariance W'W, and what
they leave of e'e is chi-square: so the statistics of any number of genes can be drawn directly, exactly distributed.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

import flashmm_sc as fsc


def indicator(codes: np.ndarray, values: np.ndarray | None = None) -> sp.csr_array:
    """One column a level: 1, or the value of the cell, where a cell has the level."""
    values = np.ones(codes.size) if values is None else values
    return sp.csr_array((values, (np.arange(codes.size), codes)))


def designs(n: int, donors: int, types: int, batches: int, seed: int) -> tuple[sp.csr_array, list[sp.csr_array]]:
    """Cell types, treatment in each of them and covariates; donors, and batches in which they are nested."""
    rng = np.random.default_rng(seed)
    donor = rng.choice(donors, n, p=rng.dirichlet(np.full(donors, 4.0)))
    cls = rng.integers(types, size=n)
    treated = (donor % 2).astype(float)
    of_donors = [rng.normal(size=donors)[donor] for _ in range(4)]
    X = sp.hstack(
        [indicator(cls), indicator(cls, treated), sp.csr_array(np.column_stack([*of_donors, rng.normal(size=n)]))]
    )
    Z = [indicator(donor)] + ([indicator(donor % batches)] if batches else [])
    return sp.csr_array(X), Z


def study(
    n: int = 500_000, genes: int = 11_596, donors: int = 259, types: int = 29, batches: int = 0, seed: int = 0
) -> fsc.SummaryStats:
    """Statistics of a study, by default of the size of the one in the FLASH-MM paper (p = 63)."""
    rng = np.random.default_rng(seed)
    X, Z = designs(n, donors, types, batches, seed)
    W = sp.csr_array(sp.hstack([X, *Z]))
    p, WW = X.shape[1], (W.T @ W).toarray()
    value, vector = np.linalg.eigh(WW)
    rank = int((value > 1e-9 * value[-1]).sum())
    free = vector[:, -rank:] * np.sqrt(value[-rank:])
    noise = rng.normal(size=(rank, genes))
    effects = rng.normal(size=(len(WW), genes)) * np.sqrt(rng.gamma(2.0, 0.02, size=genes))
    We = free @ noise
    WY = WW @ effects + We
    yy = (effects * (WY + We)).sum(axis=0) + (noise**2).sum(axis=0) + rng.chisquare(n - rank, genes)
    ZZ = sp.csr_array(WW[p:, p:])
    return fsc.SummaryStats(
        XX=WW[:p, :p], XY=WY[:p], ZX=WW[p:, :p], ZY=WY[p:], ZZ=ZZ, yy=yy, n=n, d=tuple(z.shape[1] for z in Z)
    )
