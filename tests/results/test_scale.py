"""What values seem to be, and the base of their logarithm."""

from __future__ import annotations

import math

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp
from containers import IN_MEMORY

import flashmm_sc as fsc
from flashmm_sc._results import scale
from flashmm_sc._results.checks import find_expression
from flashmm_sc._results.scale import Scale


def scale_of(adata, layer=None, use_raw=False):
    return Scale.of(adata, find_expression(adata, layer, use_raw, None))


def base_of(adata, transform=None, log_base=None):
    return scale.base_of([scale_of(adata)], transform, log_base)


def test_base_of_the_transform(adata):
    assert base_of(adata, "log1p") == math.e
    assert base_of(adata, "log2p1") == 2.0


@pytest.mark.parametrize(("given", "base"), [(None, math.e), (2, 2.0), (10, 10.0)])
def test_base_that_scanpy_notes(adata, given, base):
    sc.pp.log1p(adata, base=given)
    assert base_of(adata) == base


@pytest.mark.parametrize("noted", [{}, {"base": None}, {"base": np.float64(math.e)}, {"base": np.array(math.e)}])
def test_base_that_scanpy_notes_read_back(adata, noted):
    """Files hold no None."""
    adata.X = adata.X.log1p()
    adata.uns["log1p"] = noted
    assert base_of(adata) == math.e


def test_base_is_unknown_of_scaled_values(adata):
    adata.X = adata.X.toarray()
    sc.pp.log1p(adata)
    sc.pp.scale(adata)
    assert math.isnan(base_of(adata))


def test_base_is_unknown_without_note(adata):
    adata.X = adata.X.log1p()
    assert math.isnan(base_of(adata))
    assert base_of(adata, log_base=10) == 10.0
    assert scale_of(adata).logged


@pytest.mark.parametrize("name", IN_MEMORY)
@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_counts_are_known_wherever_they_are(adata, counts, name, dtype):
    adata.uns["log1p"] = {"base": None}
    values = counts.astype(dtype)
    adata.layers["counts"] = IN_MEMORY[name](values)
    adata.raw = ad.AnnData(IN_MEMORY[name](values), adata.obs, adata.var)
    adata.X = IN_MEMORY[name](np.log1p(counts))
    for options, source in [({"layer": "counts"}, "adata.layers['counts']"), ({"use_raw": True}, "adata.raw.X")]:
        found = scale_of(adata, **options)
        assert (found.source, found.counts, found.logged) == (source, True, False)
        assert math.isnan(scale.base_of([found], None, None))
    found = scale_of(adata)
    assert (found.counts, found.logged, found.negative) == (False, True, False)
    assert base_of(adata) == math.e


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
    assert not scale_of(ad.AnnData(kind(values))).counts


def test_values_that_were_only_divided_are_no_logarithms(adata):
    sc.pp.normalize_total(adata, target_sum=1e4)
    assert not scale_of(adata).logged
    adata.uns["log1p"] = {}
    assert scale_of(adata).logged  # as noted


def test_scaled_values(adata):
    adata.X = adata.X.toarray()
    sc.pp.scale(adata)
    assert scale_of(adata).negative


@pytest.mark.parametrize(
    ("base", "kind", "words"),
    [
        (1, ValueError, "log_base=1 must be above 0, but not 1"),
        (0, ValueError, "log_base=0 must be"),
        (-2, ValueError, "log_base=-2 must be"),
        (math.nan, ValueError, "log_base=nan must be"),
        ("e", TypeError, "math.e for natural logarithms"),
    ],
)
def test_what_is_no_base(adata, base, kind, words):
    with pytest.raises(kind, match=words):
        fsc.tl.lmm_de(adata, "~ trt", "sam", log_base=base)
    assert not adata.uns


def test_a_base_makes_fold_changes(adata):
    adata.X = (adata.X.log1p() / np.log(10)).tocsr()
    fsc.tl.lmm_de(adata, "~ trt", "sam", log_base=10)
    table = fsc.get.lmm_de_df(adata)
    np.testing.assert_allclose(table["log_fc"], table["coef"] * np.log2(10))
    with pytest.raises(ValueError, match="log_base is for values that are logarithms already"):
        fsc.tl.lmm_de(adata, "~ trt", "sam", log_base=10, transform="log1p")


@pytest.mark.parametrize("base", [1, 0, -2, "e", np.nan, np.inf, True])
def test_no_base_of_a_logarithm(adata, base):
    adata.X = np.log1p(adata.X)
    adata.uns["log1p"] = {"base": base}
    with pytest.raises(ValueError, match=r"\['base'\] is .*, which is no base of a logarithm"):
        fsc.tl.lmm_de(adata, "~ trt", "sam")
    assert not adata.varm
