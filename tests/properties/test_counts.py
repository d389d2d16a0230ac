"""Models of counts: whatever the container and the order, sums of strata, and the model set up by hand."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from containers import CONTAINERS, warned_of_a_view
from counts_reference import DensePosterior, cells_dispersion
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from strategies import MATRICES, Study, examples, numbers, seeds, shapes, stored_in, told

import flashmm_sc as fsc
from flashmm_sc._results.packed import unpacked
from flashmm_sc._stream import accumulate
from flashmm_sc._stream.blocks import blocks


@st.composite
def counts(draw, genes=8):
    """Cells of samples, each in one arm."""
    shape = draw(shapes((5, 8), 12))
    obs, rng = shape.obs, np.random.default_rng(shape.seed + 1)
    sample = pd.factorize(obs["donor"])[0]
    mean = np.exp(rng.normal(1, 1, genes) + rng.normal(0, 0.5, (8, genes))[sample])
    values = rng.poisson(mean * rng.gamma(2, 0.5, mean.shape)).astype(float)
    values[:, 0] = 0
    values[rng.random(len(obs)) < 0.05] = 0
    obs["depth"] = rng.uniform(0.5, 2, len(obs))
    options = {"size_factors": draw(st.sampled_from([None, "depth"])), "min_counts": 3, "min_cells": 3}
    return Study(obs, np.minimum(values, 200), draw(st.sampled_from(["~ arm", "~ 1", "~ arm + age"])), "donor", options)


def run(study, adata, **changes):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fsc.FlashmmWarning)
        done = fsc.tl.nbmm_de(adata, study.fixed, study.random, **{"n_jobs": 1} | study.options | changes)
    return adata if done is None else done


def assert_same(found, expected, rtol=1e-8):
    """z near zero is known to the digits of its p-value only."""
    ours, theirs = numbers(found, "nbmm_de"), numbers(expected, "nbmm_de")
    for name in ("coef", "se", "pval", "theta", "theta_se", "status"):
        pd.testing.assert_index_equal(ours[name].columns, theirs[name].columns)
        np.testing.assert_allclose(ours[name], theirs[name], rtol=rtol, atol=rtol, err_msg=name)


def fitted(study):
    """What becomes of a study, if it can be fitted."""
    try:
        return run(study, study.adata())
    except ValueError as error:
        if not told(error, "sample", "has counts"):
            raise
        return None


@given(counts(), st.sampled_from([*CONTAINERS, *MATRICES]), st.sampled_from(["uint8", "int32", "float32"]), seeds)
@examples(5)
def test_containers_types_blocks_order_and_parts(study, container, dtype, seed):
    expected = fitted(study)
    if expected is None:
        return
    rng, n = np.random.default_rng(seed), len(study.obs)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(accumulate, "blocks", lambda X, block_bytes, threads: blocks(X, 500, threads))
        adata = stored_in(container, study, dtype, Path(folder))
        with warned_of_a_view(adata):
            assert_same(run(study, adata, n_jobs=3), expected)
        if adata.isbacked:
            adata.file.close()
    assert_same(run(study, study.adata()[rng.permutation(n)].copy()), expected)
    part = rng.integers(2, size=n)
    assert_same(run(study, [study.adata()[part == k].copy() for k in np.unique(part)]), expected)


@given(counts(), seeds)
@examples(4)
def test_strata_and_names_of_samples(study, seed):
    expected = fitted(study)
    if expected is None:
        return
    adata = study.adata()
    sizes = study.options["size_factors"] or "total"
    strata = fsc.pp.aggregate(adata, ["donor", "cls"], size_factors=sizes, n_jobs=1)
    changes = {"size_factors": None}
    assert_same(run(study, strata[np.random.default_rng(seed).permutation(len(strata))].copy(), **changes), expected)
    adata.obs["donor"] = adata.obs["donor"].map(lambda name: f"z{9 - int(name[1:])}|é")
    assert_same(run(study, adata), expected)


@given(counts(), st.floats(-2, 2))
@examples(4)
def test_units_of_size_factors(study, log):
    """They are taken over their mean."""
    expected = fitted(study)
    if expected is None or study.options["size_factors"] is None:
        return
    adata = study.adata()
    adata.obs["depth"] *= 10**log
    assert_same(run(study, adata), expected)


@given(counts(genes=3))
@examples(3)
def test_the_model_set_up_by_hand(study):
    """Fewer genes than it takes for ratios to normalise by."""
    fit = fitted(study)
    if fit is None:
        return
    obs, entry = study.obs, fit.uns["nbmm_de"]
    size = study.counts.sum(axis=1) if study.options["size_factors"] is None else obs["depth"].to_numpy()
    s = size / size.mean()
    model, names = unpacked(entry["models"])["0"], sorted(obs["donor"].unique())
    sums = lambda values: np.array([values[obs["donor"] == name].sum(axis=0) for name in names])
    T, S, Q = sums(study.counts), sums(s), sums(s**2)
    first = obs.drop_duplicates("donor").set_index("donor").loc[names]
    X = {"Intercept": np.ones(len(names)), "arm[T.treated]": first["arm"] == "treated"}
    X["age"] = first["age"] - first["age"].mean()
    X = np.column_stack([X[name] for name in entry["coef_names"]]).astype(float)
    prior, c = model["prior"], np.eye(X.shape[1])[-1]
    for gene in np.flatnonzero(fit.varm["nbmm_de_status"][:, 0] == 0):
        phi = cells_dispersion(study.counts[:, gene], s, obs["donor"].to_numpy())
        weights = prior["weights"][np.searchsorted(prior["edges"], np.log(T[:, gene].sum() / S.sum()), side="right")]
        effect = entry["design_effect"][0]
        one = DensePosterior(T[:, gene], S, effect * Q / S**2, phi, X, prior["gamma"][:, 0], weights)
        coef, se = one.coef(c)
        np.testing.assert_allclose(fit.varm["nbmm_de_theta"][gene], [one.weights @ one.tau2, phi], rtol=1e-4)
        np.testing.assert_allclose(fit.varm["nbmm_de_coef"][gene, -1], coef, atol=2e-5 * se)
        np.testing.assert_allclose(fit.varm["nbmm_de_se"][gene, -1], se, rtol=1e-4)
        z = norm.isf(fit.varm["nbmm_de_pval"][gene, -1] / 2)
        np.testing.assert_allclose(z, norm.isf(one.p(c) / 2), rtol=1e-5, atol=1e-5)


TRANSFORMS = {None: lambda x: x, "log1p": np.log1p, "log2p1": lambda x: np.log1p(x) / np.log(2)}


@given(counts(), st.sampled_from(list(TRANSFORMS)), st.sampled_from([*CONTAINERS, *MATRICES]), st.booleans(), seeds)
@examples(5)
def test_sums_of_strata_are_those_of_their_cells(study, transform, container, to_file, seed):
    """Counts exactly, as double precision has them; logarithms to rounding; in memory or in a file, cells in any order."""
    obs, by = study.obs, ["cls", "donor"]
    label = obs["cls"] + "|" + obs["donor"]
    v = TRANSFORMS[transform](study.counts)
    of = lambda values, name: values[(label == name).to_numpy()].sum(axis=0)
    with tempfile.TemporaryDirectory() as folder:
        adata = stored_in(container, study, "float32", Path(folder))
        out = Path(folder) / "strata.h5ad" if to_file else None
        strata = fsc.pp.aggregate(adata, by, transform=transform, out=out, n_jobs=2)
        strata = ad.read_h5ad(out) if to_file else strata
        if adata.isbacked:
            adata.file.close()
    assert list(strata.obs_names) == sorted(set(label))
    exact = {"sum_sq": v**2, "n_expressed": study.counts != 0}
    if transform:
        exact["counts"] = study.counts
    for i, name in enumerate(strata.obs_names):
        assert strata.obs["n_cells"].iloc[i] == (label == name).sum()
        found = {"X": strata.X[i]} | {key: strata.layers[key][i] for key in exact}
        for key, values in ({"X": v} | exact).items():
            rtol = 0 if transform is None or key in {"n_expressed", "counts"} else 1e-13
            np.testing.assert_allclose(found[key], of(values, name), rtol=rtol, err_msg=key)
    order = np.random.default_rng(seed).permutation(len(obs))
    again = fsc.pp.aggregate(study.adata()[order].copy(), by, transform=transform, n_jobs=1)
    np.testing.assert_allclose(again.X, strata.X, rtol=1e-13)
