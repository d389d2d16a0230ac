"""Strata are fitted as their cells are: the same numbers, advice and filters, from any container and any set of rows."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pytest
from containers import assert_unchanged
from same_results import results

import flashmm_sc as fsc

BY = ["sam", "cls", "trt", "batch"]
SIZED = {"transform": "log1p", "size_factors": "total", "target_sum": 30}
MODELS = {
    "one model": {"fixed": "~ cls + trt", "random": "sam"},
    "groups": {"fixed": "~ trt", "random": "sam", "groupby": "cls", "contrasts": {"half": "0.5 * trt[T.B]"}},
    "two terms": {"fixed": "~ 0 + cls + cls:trt", "random": ["sam", "batch"], "ranef": True},
    "covariate": {"fixed": "~ trt + scale(age) + poly(dose, 2)", "random": "sam", "ddf": "kenward-roger"},
    "spline": {"fixed": "~ trt + bs(dose, df=4)", "random": "sam", "method": "ML"},
    "filters": {"fixed": "~ trt", "random": "sam", "min_fraction": 0.5, "min_counts": 130, "groupby": "cls"},
    "question": {"fixed": "~ trt * dose", "random": "sam", "contrasts": fsc.contrasts.means("trt")},
}


@pytest.fixture
def study(adata):
    """With covariates of samples and of strata."""
    sample = adata.obs["sam"].str[1:].astype(int)
    adata.obs["age"] = 40.0 + sample**2
    adata.obs["dose"] = np.round(np.cos(sample + 5 * (adata.obs["cls"] == "B") + 9 * (adata.obs["batch"] == "x")), 3)
    return adata


def fitted(adata, **options):
    done = fsc.tl.lmm_de(adata, **options)
    return adata if done is None else done


def assert_alike(ours, theirs):
    ours, theirs = results(ours), results(theirs)
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        if not name[0].endswith("_n_iter"):
            np.testing.assert_allclose(ours[name], expected, rtol=1e-9, atol=1e-10, err_msg=str(name))


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("how", [SIZED, {}], ids=["logarithms", "as they are"])
def test_same_results_as_from_the_cells(study, model, how):
    strata = fsc.pp.aggregate(study, BY, **how)
    before = strata.copy()
    assert_alike(fitted(strata, **model), fitted(study, **model, **how))
    fsc.tl.forget(strata, "lmm_de")
    assert_unchanged(strata, before)
