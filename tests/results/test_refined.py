"""`lmm_de` of genes and covariates far from zero: the numbers of those near it, from every kind of container and model."""

from __future__ import annotations

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from containers import stored

import flashmm_sc as fsc

N, M = 240, 6
FAR = np.array([0.0, 1e3, 1e5, 0.0, 1e6, -1e4])
KINDS = ["C order", "csc_matrix", "h5ad csr_matrix", "h5ad csc_matrix", "zarr csc_matrix"]


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    donor = rng.integers(0, 8, N)
    obs = pd.DataFrame({"donor": donor.astype(str), "cls": rng.choice(["a", "b"], N), "x": rng.normal(size=N)})
    obs["trt"], obs["w"], obs.index = np.where(donor % 2, "A", "B"), rng.uniform(0.5, 2, N), [f"c{i}" for i in range(N)]
    return obs, rng.normal(size=(N, M)) + np.eye(8)[donor] @ rng.normal(size=(8, M))


def run(adata, fixed="~ trt + x", random="donor", **options):
    done = fsc.tl.lmm_de(adata, fixed, random, **options)
    return adata if done is None else done


def assert_same_tests(far, near):
    """All but the coefficients that hold the shifts, which are intercepts and means."""
    names = list(near.uns["lmm_de"]["column_names"])
    kept = [i for i, name in enumerate(names) if "x" in name or ":trt" in name or "trt[T" in name]
    assert kept
    for name in ("coef", "se", "df", "pval", "theta"):
        ours, theirs = (np.asarray(adata.varm[f"lmm_de_{name}"], float) for adata in (far, near))
        if name != "theta":
            ours, theirs = ours[:, kept], theirs[:, kept]
        np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_from_every_container(cells, kind, tmp_path):
    obs, Y = cells
    far = stored(kind, Y + FAR, tmp_path, obs.copy())
    assert_same_tests(run(far), run(ad.AnnData(Y, obs)))


def test_from_dask_and_several_files(cells, tmp_path):
    obs, Y = cells
    near = run(ad.AnnData(Y, obs.copy()))
    assert_same_tests(run(ad.AnnData(da.from_array(Y + FAR, (50, M)), obs.copy())), near)
    parts = [ad.AnnData(Y[part] + FAR, obs.iloc[part].copy()) for part in (slice(0, 100), slice(100, N))]
    parts[0].write_h5ad(tmp_path / "part.h5ad")
    assert_same_tests(run([tmp_path / "part.h5ad", parts[1]]), near)


@pytest.mark.parametrize(
    "model",
    [
        {"groupby": "cls", "weights": "w"},
        {"fixed": "~ 0 + cls + cls:trt + x", "residual_by": "cls"},
        {"random": "(1 + x | donor)"},
        {"random": ["donor", "donor:cls"], "ddf": "kenward-roger"},
    ],
    ids=lambda model: next(iter(model)),
)
def test_in_every_model(cells, model):
    """Of values, and of the covariate as well; then tests of what is stored."""
    obs, Y = cells
    near, far = run(ad.AnnData(Y, obs.copy()), **model), run(ad.AnnData(Y + FAR, obs.copy()), **model)
    assert_same_tests(far, near)
    if "|" in str(model.get("random")):  # slopes are of x where it is
        return
    obs["x"] += 1e6
    far = run(ad.AnnData(Y + FAR, obs), **model)
    assert_same_tests(far, near)
    names = [str(name).split("|")[-1] for name in near.uns["lmm_de"]["column_names"]]
    means = [i for i, name in enumerate(names) if name in ("Intercept", "cls[a]", "cls[b]")]
    slopes = [i for i, name in enumerate(names) if name == "x"]
    ours, theirs = (np.asarray(adata.varm["lmm_de_coef"]) for adata in (far, near))
    np.testing.assert_allclose(ours[:, means] + 1e6 * ours[:, slopes] - FAR[:, None], theirs[:, means], atol=1e-5)
    for adata in (near, far):
        fsc.tl.lmm_test(adata, {"slope": "x"})
    np.testing.assert_allclose(far.varm["lmm_test_pval"], near.varm["lmm_test_pval"], rtol=1e-7)
    shares = [fsc.get.variance_explained_df(adata) for adata in (far, near)]
    kept = shares[0]["term"] == "x"
    np.testing.assert_allclose(shares[0]["share"][kept], shares[1]["share"][kept], rtol=1e-5, atol=1e-8)


def test_sites_sum_residuals_too(cells):
    obs, Y = cells
    design = fsc.Design.of(obs, "~ trt + x", "donor")
    halves = [
        fsc.summarize(ad.AnnData(Y[part] + FAR, obs.iloc[part].copy()), design)
        for part in (slice(0, 100), slice(100, N))
    ]
    far = fsc.lmm(sum(halves), nonnegative=True, ddf="satterthwaite")
    near = run(ad.AnnData(Y, obs))
    kept = [name for name in far.coef if name != "Intercept"]
    np.testing.assert_allclose(far.t[kept], np.asarray(near.varm["lmm_de_t"])[:, 1:], rtol=1e-7)
