"""Results of every kind on small data, for tests of plots."""

from __future__ import annotations

from functools import cache

import anndata as ad
import numpy as np
import scipy.sparse as sp

import flashmm_sc as fsc

COEF = "trt[T.B]"
NOWHERE, NOT_IN_3 = "Gene5", "Gene6"
"""Genes without counts: in all cells, in those of group 3."""


@cache
def _results() -> ad.AnnData:
    adata = fsc.datasets.simu_rnaseq(
        n_genes=120, n_cells=1500, n_samples=12, n_clusters=3, n_de_genes=30, var_random_effects=0.02, seed=1
    )
    counts = adata.X.toarray() if sp.issparse(adata.X) else np.asarray(adata.X).copy()
    counts[:, 4] = 0
    counts[(adata.obs["cls"].astype(str) == "3").to_numpy(), 5] = 0
    adata.X = sp.csr_matrix(counts)
    adata.var["symbol"] = [None, *(f"S{i}" for i in range(2, 121))]
    model = {"transform": "log1p", "size_factors": "total"}
    fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", **model)
    fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", moderate=True, key_added="moderated", **model)
    fsc.tl.lmm_de(adata, "~ 0 + cls + cls:trt", "sam", key_added="whole", **model)
    fsc.tl.nbmm_de(adata, "~ trt", "sam", groupby="cls", key_added="counts")
    fsc.tl.lmm_anova(adata, key="lmm_de", key_added="anova")
    two = {"up": COEF, "twice": f"2 * {COEF}"}
    fsc.tl.lmm_test(adata, two, key="lmm_de", key_added="two")
    fsc.tl.lmm_test(adata, {"difference": f"`1|{COEF}` - `2|{COEF}`"}, key="lmm_de", key_added="across")
    return adata


def results() -> ad.AnnData:
    """A copy to do anything with: three groups of cells in `cls`, treatment in `trt`."""
    return _results().copy()
