"""The methods of `counts.py`, on the folders of `_counts_data.py`: each writes its p-values there, once."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.io
import scipy.sparse as sp
from _moderation_methods import MODERATED, deseq

import flashmm_sc as fsc

NBMM, DESEQ, NEBULA, DREAM = "nbmm_de", "PyDESeq2", "NEBULA", "dream"
ALL_SAMPLES = "edgeR QL, all samples"
PSEUDOBULK = ("edgeR QL", ALL_SAMPLES, "limma-voom", "limma-trend, log CPM")
PEERS = (*PSEUDOBULK, DESEQ, MODERATED, NEBULA, DREAM)
FILES = {  # file of p-values → its columns that are looked at
    "nbmm.csv": (NBMM,),
    "p.csv": (MODERATED,),
    "peers.csv": PSEUDOBULK,
    "deseq.csv": (DESEQ,),
    "nebula.csv": (NEBULA,),
    "dream.csv": (DREAM,),
}
MIXED_PEERS_R = Path(__file__).resolve().parent / "mixed_peers.R"
HAS_NBMM = hasattr(fsc.tl, "nbmm_de")


def cells_of(folder: Path) -> ad.AnnData:
    """Counts of the cells of a data set, and their sam, trt, depth, and perhaps donor."""
    obs = pd.read_csv(folder / "cells.csv", dtype={"sam": str, "donor": str}).rename(index=str)
    return ad.AnnData(sp.csr_matrix(sp.load_npz(folder / "counts.npz")), obs=obs)


def nbmm(folder: Path) -> np.ndarray:
    """What this benchmark is about."""
    adata = cells_of(folder)
    design = "~ donor + trt" if "donor" in adata.obs else "~ trt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fsc.FlashmmWarning)
        fsc.tl.nbmm_de(adata, design, "sam", size_factors="depth", n_jobs=1, show_progress=False)
    return adata.varm["nbmm_de_pval"][:, list(adata.uns["nbmm_de"]["coef_names"]).index("trt")]


def deseq_sums(folder: Path) -> np.ndarray:
    """PyDESeq2 on what edgeR and limma get."""
    samples = pd.read_csv(folder / "samples.csv", dtype={"donor": str})
    return deseq(np.loadtxt(folder / "counts.csv", delimiter=",", ndmin=2).T, samples)


def written(method: Callable[[Path], np.ndarray], folder: Path, file: str, again: bool = False) -> None:
    """The p-values of a method into its file, unless they are there."""
    if again or not (folder / file).exists():
        pd.DataFrame({FILES[file][0]: method(folder)}).to_csv(folder / file, index=False)


def run_mixed_r(work: Path, folders: list[Path], dream: bool) -> None:
    """NEBULA on these data sets of the folder, and perhaps dream on the paired ones of them."""
    if shutil.which("Rscript") is None:
        return
    for folder in folders:
        if not (folder / "counts.mtx").exists():
            scipy.io.mmwrite(folder / "counts.mtx", sp.load_npz(folder / "counts.npz").T)
    subprocess.run(["Rscript", "--vanilla", str(MIXED_PEERS_R), str(work), *(["dream"] if dream else [])], check=False)


def p_values(folder: Path) -> pd.DataFrame:
    """All methods' p-values of a data set, NaN where a method does not test a gene."""
    found = pd.concat([pd.read_csv(folder / file) for file in FILES if (folder / file).exists()], axis=1)
    if "edgeR QL" in found and ALL_SAMPLES not in found:  # all have enough cells
        found[ALL_SAMPLES] = found["edgeR QL"]
    return found[[name for columns in FILES.values() for name in columns if name in found]]
