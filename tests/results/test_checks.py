"""What a call works on: genes, matrix and scale, found before any pass over the data."""

from __future__ import annotations

import math
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from containers import IN_MEMORY

from flashmm_sc import FlashmmWarning
from flashmm_sc._results.checks import check_anndata, find_expression, log_base


def base_of(adata, layer=None, use_raw=False, transform=None):
    """The base, and whether there was a warning of raw counts."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        base = log_base([(adata, find_expression(adata, layer, use_raw, None))], transform)
    return base, [w for w in caught if w.category is FlashmmWarning]


# Genes


@pytest.mark.parametrize(
    "mask",
    [
        lambda adata: "use",
        lambda adata: adata.var["use"].to_numpy(),
        lambda adata: adata.var["use"],
        lambda adata: adata.var["use"].tolist(),
    ],
    ids=["column", "array", "Series", "list"],
)
def test_mask_keeps_chosen_genes(adata, mask):
    found = find_expression(adata, None, False, mask(adata))
    assert found.kept.tolist() == [1, 2, 4, 5, 7, 8, 10, 11]
    assert found.gene.tolist() == [-1, 0, 1, -1, 2, 3, -1, 4, 5, -1, 6, 7]
    assert found.X is adata.X


def test_nullable_boolean_column_is_a_mask(adata):
    adata.var["nullable"] = pd.array([True] * 3 + [False] * 9, dtype="boolean")
    assert find_expression(adata, None, False, "nullable").kept.tolist() == [0, 1, 2]


def test_without_mask_all_genes(adata):
    found = find_expression(adata, None, False, None)
    assert found.kept.tolist() == found.gene.tolist() == list(range(12))


def test_layer(adata):
    adata.layers["twice"] = adata.X * 2
    assert find_expression(adata, "twice", False, None).X is adata.layers["twice"]


def test_raw_genes_are_matched_by_name(adata):
    names = [f"gene{j}" for j in (3, 9, 1, 0)]
    adata.raw = adata[:, ::-1]
    found = find_expression(adata[:, names].copy(), None, True, [True, True, False, True])
    assert found.kept.tolist() == [0, 1, 3]
    assert adata.raw.var_names[[np.flatnonzero(found.gene == k).item() for k in range(3)]].tolist() == [
        "gene3",
        "gene9",
        "gene0",
    ]
    assert (found.gene == -1).sum() == 9


# Scale


def test_base_of_the_transform(adata):
    assert base_of(adata, transform="log1p") == (math.e, [])
    assert base_of(adata, transform="log2p1") == (2.0, [])


@pytest.mark.parametrize(("given", "base"), [(None, math.e), (2, 2.0), (10, 10.0)])
def test_base_that_scanpy_notes(adata, given, base):
    sc.pp.log1p(adata, base=given)
    assert base_of(adata) == (base, [])


@pytest.mark.parametrize("noted", [{}, {"base": None}, {"base": np.float64(math.e)}, {"base": np.array(math.e)}])
def test_base_that_scanpy_notes_read_back(adata, noted):
    """Files hold no None."""
    adata.X = adata.X.log1p()
    adata.uns["log1p"] = noted
    assert base_of(adata) == (math.e, [])


def test_base_is_unknown_of_scaled_values(adata):
    adata.X = adata.X.toarray()
    sc.pp.log1p(adata)
    sc.pp.scale(adata)
    assert math.isnan(base_of(adata)[0])


def test_base_is_unknown_without_note(adata):
    adata.X = adata.X.log1p()
    base, warned = base_of(adata)
    assert math.isnan(base)
    assert not warned


@pytest.mark.parametrize("name", IN_MEMORY)
@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_counts_draw_one_warning_wherever_they_are(adata, counts, name, dtype):
    adata.uns["log1p"] = {"base": None}
    values = counts.astype(dtype)
    adata.layers["counts"] = IN_MEMORY[name](values)
    adata.raw = ad.AnnData(IN_MEMORY[name](values), adata.obs, adata.var)
    adata.X = IN_MEMORY[name](np.log1p(counts))
    for options, source in [({"layer": "counts"}, "adata.layers['counts']"), ({"use_raw": True}, "adata.raw.X")]:
        base, [warned] = base_of(adata, **options)
        assert math.isnan(base)
        assert f"{source} seems to hold raw counts" in str(warned.message)
        assert "transform='log1p'" in str(warned.message)
    assert base_of(adata) == (math.e, [])


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((9, 3)),
        np.ones((9, 3), bool),
        np.where(np.eye(9, 3) > 0, 3, -3.0),
        np.where(np.eye(9, 3) > 0, 3, 0.5),
        np.where(np.eye(9, 3) > 0, np.nan, 0.5),
        np.empty((0, 3)),
    ],
    ids=["zeros", "indicator", "negative", "fractions", "NaN", "no cells"],
)
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix])
def test_other_values_are_not_taken_for_counts(values, kind):
    assert base_of(ad.AnnData(kind(values)))[1] == []


# AnnData


def test_what_is_no_anndata_is_refused():
    with pytest.raises(TypeError, match="must be an AnnData, not DataFrame"):
        check_anndata(pd.DataFrame(), copy=False)


def test_backed_data(adata, tmp_path):
    adata.write_h5ad(tmp_path / "adata.h5ad")
    backed = ad.read_h5ad(tmp_path / "adata.h5ad", backed="r")
    check_anndata(backed, copy=False)
    with pytest.raises(ValueError, match="copy=True would copy a backed AnnData; use copy=False"):
        check_anndata(backed, copy=True)
    with pytest.raises(ValueError, match=r"view of backed data.*call \.to_memory\(\) on it"):
        check_anndata(backed[:50], copy=False)
    check_anndata(adata[:50], copy=False)
    backed.file.close()
