"""Values divided by size factors are those that scanpy normalises, wherever they lie."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from containers import IN_MEMORY, READ, assert_unchanged

import flashmm_sc as fsc
from flashmm_sc._results import sizes


def normalised(adata, **options):
    """As scanpy does it, in double precision."""
    adata = ad.AnnData(adata.X.toarray().astype(float), adata.obs, adata.var)
    sc.pp.normalize_total(adata, **options)
    sc.pp.log1p(adata)
    return adata


def fitted(adata, **options):
    fsc.tl.lmm_de(adata, "~ trt", "sam", **options)
    return adata


def assert_alike(one, other):
    for name in ("coef", "se", "df", "pval", "theta", "loglik"):
        np.testing.assert_allclose(one.varm[f"lmm_de_{name}"], other.varm[f"lmm_de_{name}"], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("container", READ, indirect=True)
@pytest.mark.parametrize("target_sum", [None, 1e4])
def test_totals_are_scanpys(adata, container, target_sum):
    expected = fitted(normalised(adata, target_sum=target_sum))
    counts = container(adata.X.toarray().astype(int), adata.obs, adata.var)
    if counts.is_view:
        counts = counts.copy()
    fitted(counts, transform="log1p", size_factors="total", target_sum=target_sum)
    assert_alike(counts, expected)
    assert counts.uns["lmm_de"]["params"]["size_factors"] == "total"


@pytest.mark.parametrize("where", ["layer", "raw", "dask by rows", "dask by columns"])
def test_totals_of_other_places(adata, where):
    expected = fitted(normalised(adata))
    options = {}
    if where == "layer":
        adata.layers["counts"], adata.X = adata.X, sp.csr_matrix(adata.shape)
        options = {"layer": "counts"}
    elif where == "raw":
        adata.raw = adata
        adata.X, options = sp.csr_matrix(adata.shape), {"use_raw": True}
    else:
        da = pytest.importorskip("dask.array")
        chunks = (50, 12) if where == "dask by rows" else (160, 5)
        kind = sp.csr_matrix if where == "dask by rows" else sp.csc_matrix
        array = da.from_array(adata.X.toarray(), chunks=chunks)
        adata.X = array.map_blocks(kind, dtype=np.float32, meta=kind(np.zeros((0, 0), np.float32)))
    assert_alike(fitted(adata, transform="log1p", size_factors="total", **options), expected)


def test_masked_genes_count_in_the_total(adata):
    expected = fitted(normalised(adata), mask_var="use")
    assert_alike(fitted(adata, transform="log1p", size_factors="total", mask_var="use"), expected)


def test_several_parts_have_one_target(adata):
    expected = fitted(normalised(adata))
    parts = [adata[:70].copy(), adata[70:].copy()]
    together = fsc.tl.lmm_de(parts, "~ trt", "sam", transform="log1p", size_factors="total")
    assert_alike(together, expected)


def test_cells_without_counts_are_left_as_they_are(adata):
    adata.X = sp.csr_matrix(adata.X.toarray() * ~np.isin(np.arange(160), [3, 40])[:, None])
    with pytest.warns(UserWarning, match="zero counts"):
        expected = fitted(normalised(adata, target_sum=1e4))
    assert_alike(fitted(adata, transform="log1p", size_factors="total", target_sum=1e4), expected)


@pytest.mark.parametrize("kind", ["column", "array", "list", "Series"])
def test_factors_that_are_given_have_mean_one(adata, kind):
    factors = np.random.default_rng(0).lognormal(size=160)
    adata.obs["depth"] = factors
    given = {"column": "depth", "array": factors, "list": list(factors), "Series": adata.obs["depth"]}[kind]
    divided = adata.copy()
    divided.X = sp.csr_matrix(adata.X.toarray() / (factors / factors.mean())[:, None])
    expected = fitted(divided, transform="log2p1")
    assert_alike(fitted(adata, transform="log2p1", size_factors=given), expected)
    times = fitted(adata, transform="log2p1", size_factors=factors * 7, target_sum=7 * factors.mean())
    assert_alike(times, expected)


def test_a_pass_for_totals_only_where_it_must_be(adata, monkeypatch):
    passes = []
    monkeypatch.setattr(sizes, "totals", lambda X, *_, **__: passes.append(X) or np.asarray(X.sum(axis=1)).ravel())
    fitted(adata, transform="log1p", size_factors="total", target_sum=1e4)
    assert not passes  # whole cells, as they are read
    fitted(adata, transform="log1p", size_factors="total")
    adata.X = adata.X.tocsc()
    fitted(adata, transform="log1p", size_factors="total", target_sum=1e4)
    assert len(passes) == 2


@pytest.mark.parametrize("name", IN_MEMORY)
def test_means_of_counts_are_least_squares(adata, name):
    totals = np.asarray(adata.X.sum(axis=1)).ravel().astype(float)
    C = adata.X.toarray() / (totals / np.median(totals))[:, None]
    X = np.column_stack([np.ones(160), adata.obs["trt"] == "B"]).astype(float)
    adata.X = IN_MEMORY[name](adata.X.toarray())
    fitted(adata, transform="log1p", size_factors="total", groupby="cls")
    for i, group in enumerate(["B", "NK"]):
        cells = (adata.obs["cls"] == group).to_numpy()
        expected = np.linalg.lstsq(X[cells], C[cells], rcond=None)[0].T
        np.testing.assert_allclose(adata.varm["lmm_de_mean_coef"][:, 2 * i : 2 * i + 2], expected, rtol=1e-9)


BAD = {
    "zero": (
        lambda f: np.where(np.arange(160) == 5, 0, f),
        ValueError,
        r"1 of 160 are not: '0\.0', the first at cell 'cell5'",
    ),
    "NaN": (lambda f: np.where(np.arange(160) > 157, np.nan, f), ValueError, "2 of 160 are not: 'nan'"),
    "negative": (lambda f: -f, ValueError, "160 of 160 are not"),
    "too few": (lambda f: f[:9], ValueError, r"one number a cell \(160\), not 9"),
    "words": (lambda f: ["a"] * 160, ValueError, "should hold numbers, not"),
    "complex numbers": (lambda f: f + 1j, ValueError, "should hold numbers, not complex128"),
    "booleans": (lambda f: f > 0, ValueError, "should hold numbers, not bool"),
    "a matrix": (lambda f: np.ones((160, 2)), ValueError, "'total', a column of obs, or one number a cell"),
    "a column that isn't there": (lambda f: "depht", KeyError, "Did you mean 'depth'"),
    "a column of words": (lambda f: "cls", ValueError, "size_factors='cls' should hold numbers"),
    "a column with NaN": (lambda f: "holes", ValueError, "is NaN in 3 of 160 cells"),
    "other cells": (lambda f: pd.Series(f, [f"c{i}" for i in range(160)]), ValueError, "labelled by other cells"),
    "another order": (lambda f: pd.Series(f, [f"cell{i}" for i in range(160)])[::-1], ValueError, "in another order"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_size_factor(adata, name):
    make, kind, words = BAD[name]
    factors = np.linspace(1, 2, 160)
    adata.obs["depth"] = factors
    adata.obs["holes"] = np.where(np.arange(160) < 3, np.nan, factors)
    before = adata.copy()
    with pytest.raises(kind, match=words):
        fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p", size_factors=make(factors))
    assert_unchanged(adata, before)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size_factors": "total"}, "before their logarithm; give transform='log1p'"),
        ({"transform": "log1p", "target_sum": 1e4}, "target_sum=10000.0 is for size_factors"),
        ({"transform": "log1p", "size_factors": "total", "target_sum": 0}, "target_sum=0 must be"),
        ({"transform": "log1p", "size_factors": "total", "target_sum": np.nan}, "target_sum=nan must be"),
    ],
)
def test_options_that_do_not_go_together(adata, options, words):
    with pytest.raises(ValueError, match=words):
        fsc.tl.lmm_de(adata, "~ trt", "sam", **options)


@pytest.mark.parametrize(("value", "words"), [(np.nan, "add up to nan"), (-1e6, "add up to -999952")])
@pytest.mark.parametrize("target_sum", [None, 1e4])
def test_totals_that_cannot_be_divided_by(adata, value, words, target_sum):
    adata.X = adata.X.toarray()
    adata.X[7, 3] = value
    before = adata.copy()
    with pytest.raises(ValueError, match=f"The values at cell 'cell7' {words}"):
        fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p", size_factors="total", target_sum=target_sum)
    assert_unchanged(adata, before)


def test_no_counts_at_all(adata):
    adata.X = sp.csr_matrix(adata.shape)
    with pytest.raises(ValueError, match="holds no counts: all totals are zero"):
        fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p", size_factors="total")


def test_sites_agree_on_a_target(adata):
    design = fsc.Design.of(adata.obs, "~ trt", "sam")
    options = {"transform": "log1p", "size_factors": "total"}
    with pytest.raises(ValueError, match="need target_sum=, the same for all parts"):
        fsc.summarize(adata, design, **options)
    parts = [fsc.summarize(part, design, **options, target_sum=100) for part in (adata[:70], adata[70:])]
    whole = fsc.summarize(adata, design, **options, target_sum=100)
    np.testing.assert_allclose((parts[0] + parts[1]).XY, whole.XY, rtol=1e-12)
    with pytest.raises(ValueError, match="origin"):
        parts[0] + fsc.summarize(adata[70:], design, **options, target_sum=200)
    for other in ({"size_factors": np.full(90, 3.0), "target_sum": 100}, {"target_sum": 100.00001}):
        with pytest.raises(ValueError, match="origin"):
            parts[0] + fsc.summarize(adata[70:], design, **options | other)
    one = fsc.lmm(whole, nonnegative=True, ddf="satterthwaite")
    other = fitted(adata, **options, target_sum=100)
    np.testing.assert_allclose(one.coef, other.varm["lmm_de_coef"], rtol=1e-9, atol=1e-12)


def test_equal_factors_change_nothing(adata):
    plain = fitted(adata.copy(), transform="log1p")
    assert_alike(fitted(adata, transform="log1p", size_factors=np.full(160, 3.0)), plain)
