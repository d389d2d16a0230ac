"""The same cells give the same results, however they are stored, cut up, ordered, named or summed up before."""

from __future__ import annotations

import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from containers import CONTAINERS, warned_of_a_view
from hypothesis import given
from hypothesis import strategies as st
from strategies import MATRICES, OF_STRATA, assert_same_numbers, examples, numbers, seeds, stored_in, studies

import flashmm_sc as fsc
from flashmm_sc._base import threads
from flashmm_sc._stream import accumulate
from flashmm_sc._stream.blocks import blocks

DTYPES = ["uint8", "int32", "int64", "float32", "float64"]


@given(studies(), st.sampled_from([*CONTAINERS, *MATRICES]), st.sampled_from(DTYPES), st.sampled_from([1, 2, 5]))
@examples(10)
def test_containers_types_blocks_and_threads(made, container, dtype, n_jobs):
    study, expected = made
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        adata = stored_in(container, study, dtype, Path(folder))
        if n_jobs > 1:
            patch.setattr(accumulate, "blocks", lambda X, block_bytes, threads: blocks(X, 500, threads))
            patch.setattr(threads, "BLOCK_BYTES", 1)
        with warned_of_a_view(adata):
            found = study.run(adata, n_jobs=n_jobs)
        assert_same_numbers(numbers(found), numbers(expected))
        if adata.isbacked:
            adata.file.close()


@given(studies(), seeds)
@examples(5)
def test_order_of_cells(made, seed):
    study, expected = made
    order = np.random.default_rng(seed).permutation(len(study.obs))
    found = study.run(study.adata()[order].copy())
    assert_same_numbers(numbers(found), numbers(expected))


@given(studies(), seeds)
@examples(5)
def test_order_and_names_of_levels(made, seed):
    """Of random terms any, of fixed ones those with a coefficient each; types keep their names, by which results go."""
    study, expected = made
    rng, adata = np.random.default_rng(seed), study.adata()
    for name in ("donor", "batch"):
        levels = sorted(set(adata.obs[name]))
        new = rng.permutation([f"{name} {k}/:é|{k * 7 % 5}" for k in range(len(levels))])
        adata.obs[name] = adata.obs[name].map(dict(zip(levels, new, strict=True)))
    adata.obs["batch"] = pd.Categorical(adata.obs["batch"], rng.permutation(adata.obs["batch"].unique()))
    if study.options.get("residual_by") is None:
        adata.obs["cls"] = pd.Categorical(adata.obs["cls"], rng.permutation([*adata.obs["cls"].unique(), "unseen"]))
    assert_same_numbers(numbers(study.run(adata)), numbers(expected))


@given(studies(), seeds)
@examples(5)
def test_each_gene_by_itself(made, seed):
    """Whichever others are fitted beside it, and in whatever order."""
    study, expected = made
    some = np.random.default_rng(seed).permutation(study.counts.shape[1])[:4]
    found = study.run(study.adata()[:, some].copy())
    theirs = {name: table.loc[sorted(study.var.index[some])] for name, table in numbers(expected).items()}
    assert_same_numbers(numbers(found), theirs)


@given(studies(), seeds)
@examples(5)
def test_parts_of_the_cells(made, seed):
    """In a list, and summed up apart and added."""
    study, expected = made
    part = np.random.default_rng(seed).integers(3, size=len(study.obs))
    parts = [study.adata()[part == k].copy() for k in np.unique(part)]
    assert_same_numbers(numbers(study.run(parts)), numbers(expected))
    options = study.options
    if {"groupby", "residual_by"} & options.keys():
        return
    design = fsc.Design.of(study.obs, study.fixed, study.random)
    how = {name: options.get(name) for name in ("transform", "size_factors", "weights")}
    if how["size_factors"]:
        how |= {"size_factors": "size"}
        for own in parts:
            own.obs["size"] = own.obs["depth"] / study.obs["depth"].mean()
        how["target_sum"] = 1.0
    sums = [fsc.summarize(own, design, n_jobs=1, **how) for own in parts]
    fit = fsc.lmm(
        sum(sums[1:], sums[0]), method=options["method"], nonnegative=options["nonnegative"], ddf=options["ddf"]
    )
    for name, theirs in numbers(expected).items():
        ours = getattr(fit, {"pval": "p"}.get(name, name))
        if name in {"coef", "se", "theta"}:
            use = theirs.notna().all(axis=1)
            unit = theirs.abs().max(axis=1)[use].to_numpy()[:, None]
            ours = ours.loc[theirs.index, theirs.columns][use]
            np.testing.assert_allclose(ours / unit, theirs[use] / unit, atol=1e-9)


@given(studies(OF_STRATA), st.permutations(["donor", "cls", "batch"]))
@examples(5)
def test_strata(made, by):
    """Summed up first; of size factors `aggregate` takes the mean over all cells, as the fit does."""
    study, expected = made
    how = {name: study.options.get(name) for name in ("transform", "size_factors", "weights")}
    strata = fsc.pp.aggregate(study.adata(), by, n_jobs=1, **how)
    options = {name: value for name, value in study.options.items() if name not in how}
    found = ad.AnnData(strata.X, strata.obs, strata.var, layers=strata.layers, uns=strata.uns)
    again = study.__class__(study.obs, study.counts, study.fixed, study.random, options)
    assert_same_numbers(numbers(again.run(found)), numbers(expected))
