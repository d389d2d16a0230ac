"""Questions to a fit, against emmeans on lmerTest fits; and where in contrasts they may stand."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import reference_data as rd
from containers import assert_unchanged

import flashmm_sc as fsc
from flashmm_sc.contrasts import each, means, pairwise, slope

ASKED = {"each": each, "means": means, "pairwise": pairwise, "slope": slope}
FIXED = {
    "crossed": "~ log(libsize) + cls * trt + batch",
    "cells": "~ 0 + log(libsize) + cls + cls:trt",
    "slopes": "~ score * cls + I(score**2) + log(libsize) * trt",
    "curves": "~ cr(score, knots=[-0.7, 0, 0.6], constraints='center') * trt + cls",
    "logical": "~ high * trt + cls",
}
TABLE = rd.emmeans()


def reference_cells(genes):
    obs = rd.obs()
    obs["high"] = obs["score"] > 0.2
    return ad.AnnData(rd.counts(), obs, pd.DataFrame(index=rd.genes()))[:, genes].copy()


def check(table, theirs, rtol=1e-6):
    """Estimates to a millionth of their standard error, and these, and degrees of freedom, to a millionth."""
    se = theirs["se"].to_numpy()
    np.testing.assert_allclose(table["coef"] / se, theirs["estimate"] / se, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(table["se"], se, rtol=rtol)
    np.testing.assert_allclose(table["df"], theirs["df"], rtol=1e-4)


@pytest.mark.parametrize("model", FIXED)
def test_answers_are_those_of_emmeans(model):
    expected = TABLE[TABLE["model"] == model]
    adata = reference_cells(expected["gene"].unique())
    fsc.tl.lmm_de(adata, FIXED[model], "sam", transform="log2p1")
    for question, theirs in expected.groupby("question"):
        fsc.tl.lmm_test(adata, eval(question, ASKED))
        ours = fsc.get.lmm_de_df(adata, key="lmm_test").set_index(["variable", "contrast"])
        keys = pd.MultiIndex.from_frame(theirs[["gene", "name"]])
        assert set(ours.index) == set(keys)
        check(ours.loc[keys], theirs)
