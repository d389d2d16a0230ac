"""Running `lmm_de` and comparing what it wrote, for tests that fit the same cells in two ways."""

from __future__ import annotations

import numpy as np

import flashmm_sc as fsc

FIXED, RANDOM = "~ 0 + cls + cls:trt", "sam"


def run(adata, fixed=FIXED, random=RANDOM, **options):
    done = fsc.tl.lmm_de(adata, fixed, random, **({"transform": "log1p", "n_jobs": 1} | options))
    return adata if done is None else done


def results(adata, key="lmm_de"):
    """Results by gene name, so that the order of genes doesn't matter."""
    values = {name: table for name, table in adata.varm.items() if name.startswith(key)}
    return {(name, gene): table[j] for name, table in values.items() for j, gene in enumerate(adata.var_names)}


def assert_equal_results(a, b, *, genes=None):
    ours, theirs = results(a), results(b)
    genes = list(a.var_names) if genes is None else genes
    assert set(a.var_names) == set(genes)
    assert {name for name, _ in ours} == {name for name, _ in theirs}
    for name, gene in ours:
        if not name.endswith(("_n_iter", "pval_adj")):
            expected = theirs[name, gene]
            np.testing.assert_allclose(ours[name, gene], expected, rtol=1e-10, atol=1e-10, err_msg=f"{name} of {gene}")
    for names in ("coef_names", "theta_names"):
        assert list(a.uns["lmm_de"][names]) == list(b.uns["lmm_de"][names])
