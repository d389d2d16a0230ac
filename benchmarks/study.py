"""Summary statistics of simulated studies of any size, without their cells.

Given the designs, the sums W'e of the residuals over the columns of W = [X Z] are normal with covariance W'W, and what
they leave of e'e is chi-square: so the statistics of any number of genes can be drawn directly, exactly distributed.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

import flashmm_sc as fsc

Design = tuple[sp.csr_array, list[sp.csr_array]]


def indicator(codes: np.ndarray, values: np.ndarray | None = None) -> sp.csr_array:
    """One column a level: 1, or the value of the cell, where a cell has the level."""
    values = np.ones(codes.size) if values is None else values
    return sp.csr_array((values, (np.arange(codes.size), codes)))


def unequal(levels: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Levels of n cells, of unequal size."""
    return rng.choice(levels, n, p=rng.dirichlet(np.full(levels, 4.0)))


def donors_and_batches(n: int, donors: int, types: int, batches: int = 0, seed: int = 0) -> Design:
    """Cell types, treatment in each of them and covariates; donors, and batches in which they are nested."""
    rng = np.random.default_rng(seed)
    donor = unequal(donors, n, rng)
    cls = rng.integers(types, size=n)
    of_donors = [rng.normal(size=donors)[donor] for _ in range(4)]
    covariates = sp.csr_array(np.column_stack([*of_donors, rng.normal(size=n)]))
    X = sp.hstack([indicator(cls), indicator(cls, (donor % 2).astype(float)), covariates])
    Z = [indicator(donor)] + ([indicator(donor % batches)] if batches else [])
    return sp.csr_array(X), Z


def samples_and_types(n: int, samples: int, types: int, seed: int = 0) -> Design:
    """Cell types, treatment in each of them and a covariate; samples, and cell types within samples."""
    rng = np.random.default_rng(seed)
    sample, cls = unequal(samples, n, rng), unequal(types, n, rng)
    X = sp.hstack([indicator(cls), indicator(cls, (sample % 2).astype(float)), sp.csr_array(rng.normal(size=(n, 1)))])
    return sp.csr_array(X), [indicator(sample), indicator(sample * types + cls)]


def one_type(n: int, donors: int, seed: int = 0) -> Design:
    """Cells of one type: library size, and age, sex, season and treatment of the donors."""
    rng = np.random.default_rng(seed)
    donor = unequal(donors, n, rng)
    of_donors = [rng.normal(size=donors)[donor]] + [rng.integers(2, size=donors)[donor] for _ in range(3)]
    return sp.csr_array(np.column_stack([np.ones(n), rng.normal(size=n), *of_donors])), [indicator(donor)]


def statistics(design: Design, genes: int, seed: int = 0) -> fsc.SummaryStats:
    """Draw the statistics of genes with normal effects, the variance ratios gamma distributed."""
    X, Z = design
    rng = np.random.default_rng(seed)
    W = sp.csr_array(sp.hstack([X, *Z]))
    n, p, WW = X.shape[0], X.shape[1], (W.T @ W).toarray()
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


def many_levels(n: int, donors: int, types: int, genes: int, batches: int = 0, seed: int = 0) -> fsc.SummaryStats:
    """Statistics of `donors_and_batches` with cell types within donors as the last component, without dense matrices.

    All columns but the last of X, a covariate of the cells, are functions of donor and cell type: the sums of the residuals
    follow from those of the donors' cell types, and from what the covariate varies within them.
    """
    X, Z = donors_and_batches(n, donors, types, batches, seed=seed)
    rng = np.random.default_rng(seed)
    p, cls = X.shape[1], np.asarray(X[:, :types].argmax(axis=1)).ravel()
    cell = indicator(np.unique(Z[0].indices * types + cls, return_inverse=True)[1])
    Z = [*Z, cell]
    W = sp.csr_array(sp.hstack([X, *Z]))
    WW, size = sp.csr_array(W.T @ W), np.asarray(cell.sum(axis=0)).ravel()
    means = sp.csr_array(sp.diags_array(1 / size) @ (cell.T @ W))
    covariate = X[:, [p - 1]].toarray().ravel()
    within = np.linalg.norm(covariate - cell @ means[:, [p - 1]].toarray().ravel())
    noise = rng.normal(size=(size.size + 1, genes))
    We = means.T @ (np.sqrt(size)[:, None] * noise[:-1])
    We[p - 1] += within * noise[-1]
    d = tuple(z.shape[1] for z in Z)
    ratio = rng.gamma(2.0, 0.02, size=(1 + len(d), genes))[np.repeat(np.arange(1 + len(d)), [p, *d])]
    effects = rng.normal(size=ratio.shape) * np.sqrt(ratio)
    WY = WW @ effects + We
    yy = (effects * (WY + We)).sum(axis=0) + (noise**2).sum(axis=0) + rng.chisquare(n - len(noise), genes)
    XX, ZX = WW[:p, :p].toarray(), WW[p:, :p].toarray()
    return fsc.SummaryStats(XX=XX, XY=WY[:p], ZX=ZX, ZY=WY[p:], ZZ=WW[p:, p:], yy=yy, n=n, d=d)
