"""The studies on which `test_docs.py` runs the calls that the documentation shows: small, simulated, in a reader's words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import flashmm_sc as fsc

if TYPE_CHECKING:
    from anndata import AnnData

TYPES = {"1": "B cells", "2": "NK cells", "3": "T cells"}


def study(design: str = "nested") -> AnnData:
    """Counts of 12 donors in three cell types, each donor in one arm, or as the design says."""
    paired = design in ("paired", "time")
    adata = fsc.datasets.simu_rnaseq(
        n_genes=150, n_cells=3000, n_samples=12, n_clusters=3, samples_nested=not paired, seed=7
    )
    rng = np.random.default_rng(7)
    donor = adata.obs["sam"].cat.codes.to_numpy()
    adata.obs = pd.DataFrame(
        {
            "donor": adata.obs["sam"].astype(str).to_numpy(),
            "cell_type": adata.obs["cls"].cat.rename_categories(TYPES),
            "treatment": adata.obs["trt"].cat.rename_categories({"A": "ctrl", "B": "stim"}),
            "sex": np.array(["f", "m"])[(donor // 2) % 2],
            "age": 30.0 + 3 * donor,
            "batch": np.array(["b1", "b2", "b3"])[donor % 3],
            "score": rng.normal(size=adata.n_obs),
        },
        index=adata.obs_names,
    )
    if design == "replicates":
        adata.obs["sample"] = rng.choice(["x", "y"], adata.n_obs)
    elif design == "time":
        adata.obs["day"] = rng.choice([0.0, 2.0, 4.0, 7.0], adata.n_obs)
        adata.obs["treatment"] = np.array(["ctrl", "stim"])[donor % 2]
    elif design == "batches":
        adata.obs["guide"] = rng.choice([f"g{i}" for i in range(12)], adata.n_obs)
    return adata
