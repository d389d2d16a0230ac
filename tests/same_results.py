"""Running `lmm_de` and comparing what it wrote, for tests that fit the same cells in two ways."""

from __future__ import annotations

import numpy as np

import flashmm_sc as fsc

FIXED, RANDOM = "~ 0 + cls + cls:trt", "sam"


def run(adata, fixed=FIXED, random=RANDOM, **options):
    done = fsc.tl.lmm_de(adata, fixed, random, **({"transform": "log1p", "n_jobs": 1} | options))
    return adata if done is None else done


def results(adata, key="lmm_de"):
    """Results by name, genes in the order of their names, so that theirs in `adata` doesn't matter."""
    order = np.argsort(adata.var_names)
    return {name: table[order] for name, table in adata.varm.items() if name.startswith(key)}


def assert_equal_results(a, b):
    ours, theirs = results(a), results(b)
    assert sorted(a.var_names) == sorted(b.var_names)
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        if not name.endswith("_n_iter"):
            np.testing.assert_allclose(ours[name], expected, rtol=1e-10, atol=1e-10, err_msg=name)
    for names in ("coef_names", "theta_names"):
        assert list(a.uns["lmm_de"][names]) == list(b.uns["lmm_de"][names])
