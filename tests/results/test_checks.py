"""What a call works on: genes, matrix and scale, found before any pass over the data."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import flashmm_sc as fsc
from flashmm_sc._results.checks import check_anndata, find_expression

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
    with pytest.raises(ValueError, match=r"view of backed data.*mask_obs=, or call \.to_memory\(\) on the view"):
        check_anndata(backed[:50], copy=False)
    check_anndata(adata[:50], copy=False)
    backed.file.close()


def test_names_that_are_bytes(adata):
    """As older anndata reads those of files by newer ones lazily."""
    adata.var.index = [name.encode() for name in adata.var_names]
    with pytest.raises(ValueError, match=r"var_names are bytes, as b'gene0', not texts.*update anndata"):
        fsc.tl.lmm_de(adata, "~ trt", "sam")
