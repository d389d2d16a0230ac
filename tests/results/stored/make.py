"""Results of all kinds, and numbers made from them, by the version that is imported: python make.py FOLDER.

Run with a checkout of that version on PYTHONPATH; `tests/results/test_versions.py` reads what it writes.
"""

from __future__ import annotations

import gzip
import sys
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

import flashmm_sc as fsc

N, M = 96, 110


def cells() -> ad.AnnData:
    """Counts of 8 samples, half of them treated, and of two types of cells."""
    rng = np.random.default_rng(14)
    sample = np.arange(N) % 8
    obs = pd.DataFrame(
        {
            "sam": pd.Categorical([f"s{k}" for k in sample]),
            "trt": pd.Categorical(np.where(sample % 2 == 0, "ctrl", "stim")),
            "cls": pd.Categorical(np.where(np.arange(N) // 8 % 3 > 0, "CD4/CD8", "NK")),
            "score": rng.normal(size=N).round(3),
        },
        index=[f"c{i}" for i in range(N)],
    )
    mean = np.exp(rng.normal(0.5, 0.7, M) + rng.normal(0, 0.4, (8, M))[sample])
    return ad.AnnData(
        sp.csr_matrix(rng.poisson(mean).astype(np.float32)), obs, pd.DataFrame(index=[f"g{j}" for j in range(M)])
    )


def results() -> ad.AnnData:
    """The cells with their results, in the ways in which these are laid out."""
    adata, own = cells(), {"transform": "log1p", "n_jobs": 1}
    fsc.tl.lmm_de(adata, "~ trt + score", "sam", size_factors="total", moderate=True, ranef=True, **own)
    fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", contrasts={"up": "trt[T.stim]"}, key_added="groups", **own)
    fsc.tl.lmm_de(adata, "~ trt + score", "(1 + score | sam)", key_added="correlated", **own)
    fsc.tl.lmm_de(adata, "~ trt", ["sam", "sam:cls"], residual_by="cls", key_added="levels", **own)
    fsc.tl.nbmm_de(adata, "~ trt", "sam", groupby="cls", key_added="counts", n_jobs=1)
    fsc.tl.shrink(adata, key="lmm_de")
    fsc.tl.lmm_variance_test(adata)
    return adata


def numbers(adata: ad.AnnData) -> dict[str, np.ndarray]:
    """What is made from results: contrasts, F tests, tables, random effects, shares."""
    found: dict[str, np.ndarray] = {}
    adata = adata.copy()
    for key, weights in {"lmm_de": "trt[T.stim] - score", "groups": "-1 * trt[T.stim]", "correlated": "score", "levels": "trt[T.stim]", "counts": "trt[T.stim]"}.items():  # fmt: skip
        fsc.tl.lmm_test(adata, {"asked": weights}, key=key, key_added="asked", n_jobs=1)
        fsc.tl.lmm_anova(adata, key=key, key_added="anova", n_jobs=1)
        found |= {f"{key}: {name}": np.asarray(adata.varm[name])for name in ("asked_coef", "asked_pval", "anova_F", "anova_pval")}  # fmt: skip
    fsc.tl.lmm_test(adata, fsc.contrasts.each("trt"), key="groups", conf_level=0.9, key_added="asked", n_jobs=1)
    fsc.tl.lmm_test(adata, ["trt[T.stim]", "score"], key="lmm_de", joint=True, key_added="joint", n_jobs=1)
    found |= {name: np.asarray(adata.varm[name]) for name in ("asked_ci_low", "joint_pval")}
    names = list(adata.var_names)
    tables = {
        "z": fsc.get.lmm_de_df(adata, key="lmm_de")["z"],
        "fitted": fsc.get.fitted(adata, names, {"trt": ["ctrl"], "score": [0.5]}, key="correlated")["ci_high"],
        "variance": fsc.get.variance_df(adata, key="correlated")["variance"],
        "ranef": fsc.get.ranef_df(adata, key="lmm_de")["value"],
        "shares": fsc.get.variance_explained_df(adata, key="lmm_de")["share"],
        "matrix": fsc.get.matrix(adata, coefs="trt[T.stim]", key="groups").to_numpy(),
    }
    return found | {f"table: {name}": np.asarray(table, float).ravel() for name, table in tables.items()}


def main(path: Path) -> None:
    """Write results of some genes, sums of strata, statistics, and their numbers."""
    path.mkdir()
    adata = results()[:, :6].copy()
    strata = fsc.pp.aggregate(adata[:, :4], ["sam", "cls", "trt"], size_factors="total", n_jobs=1)
    stats = fsc.summarize(adata, fsc.Design.of(adata.obs, "~ trt", "sam"), transform="log1p", n_jobs=1)
    adata.write_h5ad(path / "results.h5ad")
    strata.write_h5ad(path / "strata.h5ad")
    stats.save(path / "stats.h5ad")
    expected = {"stats": fsc.lmm(stats).coef.to_numpy(), "strata": strata.X, **numbers(adata)}
    np.savez_compressed(path / "numbers.npz", **expected)
    for file in path.glob("*.h5ad"):  # HDF5 leaves much room
        file.with_suffix(".h5ad.gz").write_bytes(gzip.compress(file.read_bytes(), mtime=0))
        file.unlink()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]))
