"""The methods of `moderation.py`. Each gives the p-values of the genes of one cell type."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from _moderation_data import DataSet
from scipy import stats

import flashmm_sc as fsc

MODERATED = "moderated"
HAS_DESEQ = find_spec("pydeseq2") is not None
PEERS_R = Path(__file__).resolve().parent / "peers.R"


def statistics(data: DataSet) -> fsc.SummaryStats:
    """Sums over the cells of the model `~ trt`, or `~ donor + trt`, with `sam` random."""
    X = pd.DataFrame({"one": 1.0, "trt": data.obs["trt"].astype(float)})
    if "donor" in data.obs:
        X = X.join(pd.get_dummies(data.obs["donor"], drop_first=True, dtype=float))
    codes, names = pd.factorize(data.obs["sam"], sort=True)
    return fsc.sslmm(X, data.Y, np.eye(len(names))[codes], n_jobs=1)


def moderated(sums: fsc.SummaryStats) -> pd.Series:
    """What `tl.lmm_de(..., groupby=..., moderate=True)` does in a cell type."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fsc.FlashmmWarning)
        return fsc.lmm(sums, nonnegative=True, moderate=True, n_jobs=1).p["trt"]


def mixed_models(data: DataSet) -> dict[str, np.ndarray]:
    """The mixed model's p-values: moderated, with Satterthwaite's and with n - p df."""
    sums = statistics(data)
    plain = fsc.lmm(sums, nonnegative=True, ddf="satterthwaite", n_jobs=1)
    residual = 2 * stats.t.sf(np.abs(plain.t["trt"]), sums.n - 2)
    return {MODERATED: moderated(sums), "satterthwaite": plain.p["trt"], "residual": residual}


def t_test(data: DataSet) -> np.ndarray:
    """Two-sample t test of the samples' mean normalised values."""
    _, means, obs = data.samples()
    treated = obs["trt"].to_numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return stats.ttest_ind(means[treated], means[~treated]).pvalue


def deseq(counts: np.ndarray, obs: pd.DataFrame) -> np.ndarray:
    """PyDESeq2's Wald test of the sums of counts, samples × genes."""
    from pydeseq2.dds import DeseqDataSet
    from pydeseq2.default_inference import DefaultInference
    from pydeseq2.ds import DeseqStats

    obs = obs.set_axis(obs.index.astype(str)).assign(trt=np.where(obs["trt"], "B", "A"))
    counts = pd.DataFrame(counts.astype(int), index=obs.index)
    counts.columns = counts.columns.astype(str)
    design = "~ donor + trt" if "donor" in obs else "~ trt"
    inference = DefaultInference(n_cpus=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dds = DeseqDataSet(counts=counts, metadata=obs, design=design, quiet=True, inference=inference)
        dds.deseq2()
        tests = DeseqStats(dds, contrast=["trt", "B", "A"], quiet=True, inference=inference)
        tests.run_wald_test()
    return tests.p_values.to_numpy()


def write_for_r(data: DataSet, folder: Path, lmer_genes: int = 0) -> None:
    """What `peers.R` reads: samples.csv, means.csv, counts.csv; lmer_cells.csv for lmerTest."""
    counts, means, obs = data.samples()
    np.savetxt(folder / "means.csv", means.T, delimiter=",", fmt="%.9g")
    write_sums(counts, obs, folder)
    if lmer_genes:
        table = pd.DataFrame(data.Y[:, :lmer_genes], index=data.obs.index).add_prefix("g")
        table.insert(0, "trt", data.obs["trt"].astype(int))
        table.insert(0, "sam", data.obs["sam"])
        table.to_csv(folder / "lmer_cells.csv", index=False, float_format="%.9g")


def write_sums(counts: np.ndarray | None, obs: pd.DataFrame, folder: Path, prefix: str = "") -> None:
    """Samples, and their sums of counts where there are any."""
    obs.assign(trt=obs["trt"].astype(int)).to_csv(folder / f"{prefix}samples.csv", index=False)
    if counts is not None:
        np.savetxt(folder / f"{prefix}counts.csv", counts.T, delimiter=",", fmt="%d")


def run_r(work: Path) -> None:
    """edgeR and limma on every data set that has none of their results; says so where they are not installed."""
    if shutil.which("Rscript") is None:
        print("edgeR and limma are left out: there is no Rscript.")
        return
    done = subprocess.run(["Rscript", "--vanilla", str(PEERS_R), str(work)], check=False)
    if done.returncode:
        print("edgeR and limma are left out: peers.R failed, see above.")
