"""Trees survive packing, and files."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from flashmm_sc._results.packed import packed, unpacked

TREE = {
    "0": {
        "n": 12,
        "words": 'µ, "quoted"\nand [more]',
        "names": np.array(["a/b", "ü", ""], dtype=object),
        "none": np.array([], dtype=object),
        "d": np.array([3, 2**40]),
        "XX": np.array([[1.5, np.nan], [np.inf, 1e-300]]),
        "empty": np.empty((0, 3)),
        "flags": np.array([True, False]),
        "ZZ": sp.csr_matrix(([1.0, 2.0, 0.1], ([0, 1, 1], [0, 0, 2])), shape=(2, 4)),
        "levels": {"0": np.array(["x"], dtype=object), "1": {}},
        "weight": np.float64(0.1),
    },
    "1": {},
}


def same(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for name, value in one.items():
            same(value, other[name])
    elif sp.issparse(one):
        assert one.shape == other.shape
        np.testing.assert_array_equal(one.toarray(), other.toarray())
    else:
        np.testing.assert_array_equal(one, other)
        assert getattr(one, "dtype", None) == getattr(other, "dtype", None)


@pytest.mark.parametrize("kind", ["memory", "h5ad", "zarr"])
def test_trees(tmp_path, kind):
    adata = ad.AnnData(uns={"models": packed(TREE)})
    if kind != "memory":
        getattr(adata, f"write_{kind}")(tmp_path / f"adata.{kind}")
        adata = getattr(ad, f"read_{kind}")(tmp_path / f"adata.{kind}")
    expected = {**TREE, "0": TREE["0"] | {"weight": 0.1}}
    same(unpacked(adata.uns["models"]), expected)


def test_two_entries_whatever_the_tree():
    assert packed({}).keys() == packed(TREE).keys() == {"text", "numbers"}
    assert packed({})["numbers"].size == 0
    assert unpacked(packed({})) == {}
