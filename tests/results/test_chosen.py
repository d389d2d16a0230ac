"""`mask_obs`: the same numbers as of an AnnData of the chosen cells alone, whatever they lie in."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from containers import assert_unchanged, warned_of_a_view

import flashmm_sc as fsc
from flashmm_sc._results.chosen import from_text, mask_of

OPTIONS = {"transform": "log1p", "size_factors": "total", "groupby": "cls", "min_cells": 1}


@pytest.fixture
def mask(cells):
    """A part of each sample; neither the first nor the last cells."""
    mask = np.random.default_rng(3).random(len(cells)) < 0.7
    mask[:5] = mask[-5:] = False
    return mask


def fitted(adata, **options):
    done = fsc.tl.lmm_de(adata, "~ trt + score", "sam", **(OPTIONS | options))
    return adata if done is None else done


def alone(adata, mask):
    return adata[mask].copy()


def assert_same_fits(ours, theirs, rtol=1e-10):
    assert set(ours.varm) == set(theirs.varm)
    for name in theirs.varm:
        np.testing.assert_allclose(ours.varm[name], theirs.varm[name], rtol=rtol, atol=1e-12, err_msg=name)
    assert ours.uns["lmm_de"]["params"]["n_obs"] == theirs.uns["lmm_de"]["params"]["n_obs"]


def test_every_container(container, counts, cells, genes, adata, mask):
    held = container(counts, cells.assign(keep=mask), genes)
    with warned_of_a_view(held):
        fitted(held, mask_obs="keep")
    assert_same_fits(held, fitted(alone(adata, mask)))
    assert held.uns["lmm_de"]["params"]["mask_obs"] == "keep"


GIVEN = {
    "array": lambda mask, adata: mask,
    "list": lambda mask, adata: mask.tolist(),
    "labelled": lambda mask, adata: pd.Series(mask, adata.obs_names),
    "numbered": lambda mask, adata: pd.Series(mask),
}


@pytest.mark.parametrize("kind", GIVEN)
def test_one_boolean_a_cell(adata, mask, kind):
    given = GIVEN[kind](mask, adata)
    assert_same_fits(fitted(adata.copy(), mask_obs=given), fitted(alone(adata, mask)))


VALUES = [
    ({"cls": ["NK"]}, lambda obs: obs["cls"] == "NK"),
    ({"cls": "NK", "batch": ("x", "y")}, lambda obs: (obs["cls"] == "NK") & obs["batch"].isin(["x", "y"])),
    ({"dose": [1.0, 2.5]}, lambda obs: obs["dose"].isin([1, 2.5])),
    ({"flag": True, "dose": [0, 1]}, lambda obs: obs["flag"] & obs["dose"].isin([0, 1])),
]


@pytest.mark.parametrize(("chosen", "expected"), VALUES)
def test_values_of_columns(adata, tmp_path, chosen, expected):
    adata.obs["dose"] = np.resize([0.0, 1.0, 2.5, np.nan], adata.n_obs)
    adata.obs["flag"] = np.arange(adata.n_obs) % 3 > 0
    path = tmp_path / "b.h5ad"
    adata[90:].copy().write_h5ad(path)
    theirs = fitted(alone(adata, expected(adata.obs).to_numpy()))
    assert_same_fits(fitted([adata[:90].copy(), path], mask_obs=chosen), theirs, rtol=1e-8)
    assert_same_fits(fitted(adata, mask_obs=chosen), theirs)
    adata.write_h5ad(path)
    stored = from_text(ad.read_h5ad(path).uns["lmm_de"]["params"]["mask_obs"])
    np.testing.assert_array_equal(mask_of([adata.obs], stored), expected(adata.obs))


def test_numbers_of_cells_are_of_all_that_are_given(adata, mask):
    n = adata.n_obs
    sizes, weights = np.linspace(0.5, 2, n), pd.Series(np.linspace(1, 3, n), adata.obs_names)
    sizes[~mask] = np.nan
    ours = fitted(adata.copy(), mask_obs=mask, size_factors=sizes, weights=weights)
    assert_same_fits(ours, fitted(alone(adata, mask), size_factors=sizes[mask], weights=weights[mask]))
    words = rf"size_factors should hold one number a cell \(160\), not \({mask.sum()},\)"
    with pytest.raises(ValueError, match=words):
        fitted(adata, mask_obs=mask, size_factors=sizes[mask])


@pytest.mark.parametrize("missing", [False, True], ids=["cells of both", "cells of one"])
def test_several_parts(adata, mask, tmp_path, missing):
    if missing:
        mask[:90] = False
    weights = np.linspace(1, 3, adata.n_obs)
    path = tmp_path / "b.h5ad"
    adata[90:].copy().write_h5ad(path)
    ours = fitted([adata[:90].copy(), path], mask_obs=mask, weights=weights)
    theirs = fitted(alone(adata, mask), weights=weights[mask])
    assert_same_fits(ours, theirs, rtol=1e-8)


def test_layers_raw_and_genes(adata, mask):
    adata.raw, adata.layers["double"] = adata.copy(), adata.X * 2
    for options in ({"layer": "double"}, {"use_raw": True}, {"mask_var": "use"}):
        assert_same_fits(fitted(adata.copy(), mask_obs=mask, **options), fitted(alone(adata, mask), **options))


def test_counts_strata_and_statistics(adata, mask):
    own = alone(adata, mask)
    by = {"by": ["sam", "cls"], "transform": "log1p"}
    ours, theirs = fsc.pp.aggregate(adata, mask_obs=mask, **by), fsc.pp.aggregate(own, **by)
    assert_unchanged(ours, theirs)
    for one in (ours, theirs):
        one.obs["keep"] = one.obs["cls"].to_numpy() == "B"
    chosen = {"random": "sam", "fixed": "~ trt"}
    fsc.tl.lmm_de(ours, mask_obs="keep", **chosen)
    again = theirs[theirs.obs["keep"]].copy()
    fsc.tl.lmm_de(again, **chosen)
    assert_same_fits(ours, again)
    design = fsc.Design.of(own.obs, "~ trt", "sam")
    one, other = (
        fsc.summarize(*what, design, transform="log1p", **how)
        for what, how in (((adata,), {"mask_obs": mask}), ((own,), {}))
    )
    np.testing.assert_array_equal(one.ZY, other.ZY)
    with pytest.warns(fsc.FlashmmWarning, match="Only 12 genes"):
        fsc.tl.nbmm_de(adata, "~ trt", "sam", mask_obs=mask)
    with pytest.warns(fsc.FlashmmWarning, match="Only 12 genes"):
        fsc.tl.nbmm_de(own, "~ trt", "sam")
    np.testing.assert_array_equal(adata.varm["nbmm_de_coef"], own.varm["nbmm_de_coef"])


def test_a_bad_value_is_named_by_its_own_cell(adata, mask):
    X = adata.X.toarray()
    X[100, 3] = np.nan
    mask[100] = True
    adata.X = X
    with pytest.raises(ValueError, match="nan at cell 'cell100', gene 'gene3'"):
        fitted(adata, mask_obs=mask, size_factors=None)
    mask[100] = False
    fitted(adata, mask_obs=mask)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (lambda mask: "kep", KeyError, "mask_obs='kep' uses 'kep', which is not a column of obs. Did you mean 'keep'"),
        (lambda mask: "cls", ValueError, "which mask_obs names, must hold one True or False a cell"),
        (
            lambda mask: mask[:-1],
            ValueError,
            r"mask_obs must hold one True or False a cell \(160\), not bool of shape \(159,\)",
        ),
        (lambda mask: mask.astype(int), ValueError, "not int64 of shape"),
        (lambda mask: mask & False, ValueError, "mask_obs leaves no cell to use"),
        (lambda mask: "none", ValueError, "mask_obs='none' leaves no cell to use"),
        (lambda mask: {"class": "NK"}, KeyError, "uses 'class', which is not a column of obs. Did you mean 'cls'"),
        (lambda mask: {"cls": ["NK", "Bb"]}, ValueError, r"mask_obs: obs\['cls'\] has no 'Bb'. Did you mean 'B'"),
        (lambda mask: {"cls": []}, ValueError, "leaves no cell to use"),
        (lambda mask: {}, ValueError, "names no column; give values to choose"),
        (lambda mask: pd.Series(mask, [f"x{i}" for i in range(160)]), ValueError, "labelled by other cells"),
    ],
)
def test_what_is_no_mask(adata, mask, change, kind, words):
    adata.obs["keep"], adata.obs["none"] = mask, False
    before = adata.copy()
    with pytest.raises(kind, match=words):
        fitted(adata, mask_obs=change(mask))
    assert_unchanged(adata, before)


def test_nothing_of_a_backed_file_is_copied(adata, mask, tmp_path, monkeypatch):
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    monkeypatch.setattr(ad.AnnData, "to_memory", lambda *_: pytest.fail("it is read into memory"))
    monkeypatch.setattr(ad.AnnData, "copy", lambda *_: pytest.fail("it is copied"))
    fitted(backed, mask_obs=mask)
    assert "lmm_de_coef" in backed.varm
    backed.file.close()


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_dask(adata, mask, kind):
    """Chunks without a chosen cell among them."""
    array = pytest.importorskip("dask.array", reason="dask is optional")
    mask[40:80] = False
    held = adata.copy()
    chunks = (12, 5) if kind is np.asarray else (12, -1)
    held.X = array.from_array(kind(adata.X.toarray()), chunks=chunks, asarray=False)
    assert_same_fits(fitted(held, mask_obs=mask), fitted(alone(adata, mask)))


@pytest.mark.parametrize("dtype", ["string", "category", object])
def test_labels_of_other_kinds_are_compared_too(adata, mask, dtype):
    labelled = pd.Series(np.asarray(mask), index=pd.Index(adata.obs_names.astype(str), dtype=dtype))
    assert fitted(adata, mask_obs=labelled) is not None
    with pytest.raises(ValueError, match="labelled by other cells than adata, or in another order"):
        fitted(adata, mask_obs=labelled[::-1])


@pytest.mark.parametrize("change", [lambda X: X + 1j, lambda X: np.ma.masked_less(X, 1)], ids=["complex", "masked"])
def test_matrices_are_checked_whichever_cells_are_chosen(adata, mask, change):
    adata.layers["odd"] = change(adata.X.toarray())
    with pytest.raises(ValueError, match=r"layers\['odd'\] (must hold real numbers|has masked values)"):
        fitted(adata, mask_obs=np.asarray(mask), layer="odd")
