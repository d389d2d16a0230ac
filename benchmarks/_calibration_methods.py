"""The methods of `calibration.py`: each gives p-values, genes × cell types."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from unittest import mock

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
from _calibration_data import MIN_CELLS, Study
from scipy import stats

import flashmm_sc as fsc

JOINT, BY_TYPE = "~ 0 + cls + cls:trt", "~ trt"
MODELS = {  # name → fixed, random, groupby
    "joint, sam": (JOINT, "sam", None),
    "joint, sam + sam:cls": (JOINT, ["sam", "sam:cls"], None),
    "groupby, sam": (BY_TYPE, "sam", "cls"),
    "groupby, sam + sam:trt": (BY_TYPE, ["sam", "sam:trt"], "cls"),  # where treatment varies within donors
}
DESEQ_GENES = 300  # of a type at most: it takes some 2 s for a thousand
MODERATED = "moderated"
UNBOUND = "satterthwaite, no containment bound"
DDF = ("residual", UNBOUND, "satterthwaite", "kenward-roger")
HAS_DESEQ = find_spec("pydeseq2") is not None

Result = tuple[str, str, pd.DataFrame, pd.DataFrame]  # model, ddf, p-values and whether a component is zero


def mixed_models(study: Study, design: str) -> Iterator[Result]:
    """Each model is fitted once and tested with each choice of degrees of freedom; groupby also moderated."""
    adata, types = study.adata, list(study.tested.columns)
    treatment = f"trt[T.{adata.obs['trt'].cat.categories[-1]}]"
    for model, (fixed, random, groupby) in MODELS.items():
        if (design == "nested" and "sam:trt" in random) or (groupby is None and len(types) == 1):
            continue
        coefs = [f"cls[{t}]:{treatment}" for t in types] if groupby is None else [treatment]
        fit = partial(fsc.tl.lmm_de, adata, fixed, random, groupby=groupby, n_jobs=1, show_progress=False)
        fit()
        for ddf in DDF:
            if ddf == UNBOUND:  # what Satterthwaite's df gave before the bound: cap nothing
                with mock.patch("flashmm_sc._inference.t_tests.capped", lambda df, theta, cap: df):
                    fsc.tl.lmm_test(adata, coefs, ddf="satterthwaite", n_jobs=1)
            else:
                fsc.tl.lmm_test(adata, coefs, ddf=ddf, n_jobs=1)
            yield model, ddf, *_by_type(adata, types)
        if groupby is not None:
            fit(moderate=True)
            fsc.tl.lmm_test(adata, coefs, n_jobs=1)
            yield model, MODERATED, *_by_type(adata, types)


def _by_type(adata: ad.AnnData, types: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """p-values and whether a component is zero, genes × types; NaN and False for a type that was left out."""
    groups = list(adata.uns["lmm_test"]["column_groups"])
    columns = groups if groups[0] else types
    boundary = list(adata.uns["lmm_de"]["status_names"]).index("boundary")
    zero = pd.DataFrame({t: adata.varm["lmm_de_status"][:, i % len(set(groups))] for i, t in enumerate(columns)})
    p = pd.DataFrame(adata.varm["lmm_test_pval"], adata.var_names, columns)
    return p.reindex(columns=types), (zero == boundary).set_axis(adata.var_names).reindex(
        columns=types, fill_value=False
    )


def t_test(study: Study, design: str) -> pd.DataFrame:
    """Samples' log2 CPM: two-sample t test, or paired where a donor has cells of both treatments."""
    columns = {}
    for t in study.tested.columns:
        counts, obs = pseudobulk(study, t, by_treatment=design != "nested")
        values = np.log2(1 + 1e6 * counts / obs["depth"].to_numpy()[:, None])
        A, B = (pd.DataFrame(values, obs["sam"])[(obs["trt"] == s).to_numpy()] for s in ("A", "B"))
        if design == "nested":
            test = stats.ttest_ind(B, A)
        else:
            both = A.index.intersection(B.index)
            test = stats.ttest_rel(B.loc[both], A.loc[both])
        columns[t] = test.pvalue
    return pd.DataFrame(columns, index=study.tested.index)


def deseq(study: Study, design: str) -> pd.DataFrame:
    """PyDESeq2 on the sums over cells, of the genes tested; donors as a factor where they have both treatments."""
    from pydeseq2.dds import DeseqDataSet
    from pydeseq2.default_inference import DefaultInference
    from pydeseq2.ds import DeseqStats

    out = pd.DataFrame(np.nan, index=study.tested.index, columns=study.tested.columns)
    inference = DefaultInference(n_cpus=1)
    for t in study.tested.columns:
        counts, obs = pseudobulk(study, t, by_treatment=design != "nested")
        if design != "nested":  # a donor with one treatment only tells nothing, and a factor level has to be in both
            paired = (obs.groupby("sam")["trt"].transform("nunique") == 2).to_numpy()
            counts, obs = counts[paired], obs[paired]
        if obs["trt"].value_counts().reindex(["A", "B"], fill_value=0).min() < 2:
            continue
        genes = np.sort(np.random.default_rng(0).permutation(np.flatnonzero(study.tested[t]))[:DESEQ_GENES])
        counts = pd.DataFrame(counts[:, genes].astype(int), obs.index, study.tested.index[genes])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            formula = "~ trt" if design == "nested" else "~ sam + trt"
            data = DeseqDataSet(
                counts=counts, metadata=obs[["sam", "trt"]], design=formula, quiet=True, inference=inference
            )
            data.deseq2()
            tests = DeseqStats(data, contrast=["trt", "B", "A"], quiet=True, inference=inference)
            tests.run_wald_test()  # p-values before filtering: all methods are corrected alike
        out.loc[counts.columns, t] = tests.p_values
    return out


def wilcoxon(study: Study, design: str) -> pd.DataFrame:
    """scanpy's rank sum test of the cells of each type."""
    del design
    columns = {}
    for t in study.tested.columns:
        part = ad.AnnData(study.adata.X, study.adata.obs[["cls", "trt"]], study.adata.var[[]])
        part = part[(part.obs["cls"] == t).to_numpy()].copy()
        part.uns["log1p"] = {"base": None}
        sc.tl.rank_genes_groups(part, "trt", groups=["B"], reference="A", method="wilcoxon")
        columns[t] = sc.get.rank_genes_groups_df(part, "B").set_index("names")["pvals"]
    return pd.DataFrame(columns).reindex(study.tested.index)


PEERS: dict[str, Callable[[Study, str], pd.DataFrame]] = {
    "pseudobulk, t test": t_test,
    "pseudobulk, PyDESeq2": deseq,
    "cells, Wilcoxon": wilcoxon,
}


def pseudobulk(study: Study, cls: str, *, by_treatment: bool) -> tuple[np.ndarray, pd.DataFrame]:
    """Sums of counts over the cells of a type in each sample that has enough of them, and the samples' obs."""
    adata = study.adata[(study.adata.obs["cls"] == cls).to_numpy()]
    sam, trt = adata.obs["sam"].astype(str), adata.obs["trt"].astype(str)
    sample = pd.Categorical(sam + "|" + trt if by_treatment else sam)
    indicator = sp.csr_array((np.ones(len(sample)), (sample.codes, np.arange(len(sample)))))
    counts = (indicator @ sp.csr_array(adata.layers["counts"])).toarray()
    obs = pd.DataFrame({"sam": sam, "trt": trt, "depth": adata.obs["depth"]}).groupby(np.asarray(sample))
    obs = obs.agg({"sam": "first", "trt": "first", "depth": "sum"})
    enough = indicator.sum(axis=1) >= MIN_CELLS
    return counts[enough], obs[enough]
