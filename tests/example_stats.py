"""Statistics of some donors and batches."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

import flashmm_sc as fsc

DONORS = ["d/1", "d:2", "d 3", "d[4]", "é"]


def stats(seed, donors=DONORS, batches=("x", "y", "z"), genes=("g/1", "g2", "g3"), **changes):
    """Sums over cells of some donors and batches; what a donor or a gene is follows from its name only."""
    rng = np.random.default_rng(seed)
    n = 60
    donor, batch = rng.integers(len(donors), size=n), rng.integers(len(batches), size=n)
    donor[: len(donors)], batch[: len(batches)] = np.arange(len(donors)), np.arange(len(batches))
    X = np.column_stack([np.ones(n), rng.normal(size=n)])
    values = {gene: rng.poisson(2, n) for gene in sorted(genes)}
    Y = np.column_stack([values[gene] for gene in genes])
    Z = np.hstack([np.eye(len(donors))[donor], np.eye(len(batches))[batch]])
    arguments = {
        "coef_names": ["Intercept", "age"],
        "gene_names": list(genes),
        "component_names": ["donor", "batch"],
        "ranef_names": [f"donor[{name}]" for name in donors] + [f"batch[{name}]" for name in batches],
        "origin": "the same",
        "d": (len(donors), len(batches)),
    }
    sums = {"XX": X.T @ X, "XY": X.T @ Y, "ZX": Z.T @ X, "ZY": Z.T @ Y, "ZZ": sp.csr_array(Z.T @ Z)}
    return fsc.SummaryStats(**(sums | {"yy": (Y**2).sum(axis=0), "n": n} | arguments | changes))
