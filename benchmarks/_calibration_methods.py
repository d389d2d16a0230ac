"""The methods of `calibration.py`: each gives p-values, genes × cell types."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator
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
BY_CLS = "joint, variances by type"
MODELS = {  # name → fixed, random, groupby, residual_by
    "joint, sam": (JOINT, "sam", None, None),
    "joint, sam + sam:cls": (JOINT, ["sam", "sam:cls"], None, None),
    BY_CLS: (JOINT, ["sam", "(0 + cls || sam)"], None, "cls"),
    f"{BY_CLS}, also samples": (JOINT, ["sam", "(0 + cls || sam)", "(0 + cls || sam:trt)"], None, "cls"),
    "joint, residual by type": (JOINT, ["sam", "sam:cls"], None, "cls"),  # halves of it, which are not enough
    "joint, donors by type": (JOINT, ["sam", "(0 + cls || sam)"], None, None),
    "groupby, sam": (BY_TYPE, "sam", "cls", None),
    "groupby, sam + sam:trt": (BY_TYPE, ["sam", "sam:trt"], "cls", None),  # where treatment varies within donors
}
DESEQ_GENES = 300  # of a type at most: it takes some 2 s for a thousand
MODERATED = "moderated"
UNBOUND = "satterthwaite, no containment bound"
DDF = ("residual", UNBOUND, "satterthwaite", "kenward-roger")
HAS_DESEQ = find_spec("pydeseq2") is not None

Result = tuple[str, str, pd.DataFrame, pd.DataFrame]  # model, ddf, p-values and whether a component is zero


def mixed_models(study: Study, design: str, names: Collection[str] = tuple(MODELS)) -> Iterator[Result]:
    """Each model is fitted once and tested with each choice of degrees of freedom; groupby also moderated.

    The joint model with variances by type has Satterthwaite's df only. Where there are no effects, differences between each
    type and the next are tested too, of genes that are tested in both.
    """
    adata, types = study.adata, list(study.tested.columns)
    treatment = f"trt[T.{adata.obs['trt'].cat.categories[-1]}]"
    for model, (fixed, random, groupby, residual_by) in MODELS.items():
        if (
            model not in names
            or (design == "nested" and "sam:trt" in str(random))
            or (groupby is None and len(types) == 1)
        ):
            continue
        coefs = [f"cls[{t}]:{treatment}" for t in types] if groupby is None else [treatment]
        how = {"groupby": groupby, "residual_by": residual_by}
        fit = partial(fsc.tl.lmm_de, adata, fixed, random, **how, n_jobs=1, show_progress=False)
        fit()
        for ddf in DDF if residual_by is None else ["satterthwaite"]:
            if ddf == UNBOUND:  # what Satterthwaite's df gave before the bound: cap nothing
                with mock.patch("flashmm_sc._inference.t_tests.capped", lambda df, theta, cap: df):
                    fsc.tl.lmm_test(adata, coefs, ddf="satterthwaite", n_jobs=1)
            else:
                fsc.tl.lmm_test(adata, coefs, ddf=ddf, n_jobs=1)
            yield model, ddf, *_by_type(adata, types)
        if (residual_by or model == "groupby, sam") and len(types) > 1 and not study.true.to_numpy().any():
            yield (
                f"{model}: differences",
                "satterthwaite",
                *_differences(study, coefs if groupby is None else treatment),
            )
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


def _differences(study: Study, coefs: list[str] | str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """As `_by_type`, of the effect in each type less that in the next."""
    adata, types = study.adata, list(study.tested.columns)
    names = [f"{t}|{coefs}" for t in types] if isinstance(coefs, str) else coefs
    known = set(adata.uns["lmm_de"]["coef_names"])
    pairs = {t: (names[i], names[(i + 1) % len(types)]) for i, t in enumerate(types)}
    contrasts = {t: f"`{a}` - `{b}`" for t, (a, b) in pairs.items() if known >= {a, b}}
    fsc.tl.lmm_test(adata, contrasts, n_jobs=1)
    p = pd.DataFrame(adata.varm["lmm_test_pval"], adata.var_names, list(contrasts)).reindex(columns=types)
    p[~(study.tested & np.roll(study.tested, -1, axis=1))] = np.nan
    return p, pd.DataFrame(False, p.index, p.columns)


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
