"""Sums over the cells of groups, from designs and values of the cells."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from flashmm_sc._arrays.lmm import LMMFit, fit
from flashmm_sc._gaussian.estimate import Options
from flashmm_sc._gaussian.projection import Projection
from flashmm_sc._stats.cross import CrossProducts
from flashmm_sc._stats.residual import ResidualGroup, ResidualStats


def grouped_stats(X: np.ndarray, Z: np.ndarray, d: tuple[int, ...], groups: np.ndarray, Y: np.ndarray) -> ResidualStats:
    """The sums of all genes."""
    W, found, WY, yy = np.hstack([X, Z]), [], [], []
    for g in np.unique(groups):
        its = groups == g
        columns = np.flatnonzero(W[its].any(axis=0))
        own = W[np.ix_(its, columns)]
        found.append(ResidualGroup(f"g{g}", int(its.sum()), columns, sp.csr_array(own.T @ own)))
        WY.append(own.T @ Y[its])
        yy.append((Y[its] ** 2).sum(axis=0))
    cross = CrossProducts.of(sp.csr_array(W.T @ W), X.shape[1])
    return ResidualStats.of_groups(cross, found, WY, np.array(yy), d=d)


def projected(stats: ResidualStats) -> Projection:
    """What its designs give."""
    return Projection.of(stats.cross, stats.n, stats.d, stats.coef_names, stats.component_names, groups=stats.groups)


def grouped_fit(stats: ResidualStats, method: str = "REML", *, n_jobs: int | None = 1) -> LMMFit:
    """Its fit, with Satterthwaite's df."""
    return fit(stats, projected(stats), Options(method, nonnegative=True), "satterthwaite", False, n_jobs)
