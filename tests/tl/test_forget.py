"""Removing results with all that was made from them."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest
from containers import assert_same, assert_unchanged

import flashmm_sc as fsc

FIT = {"fixed": "~ 0 + cls + cls:trt", "random": "sam", "transform": "log1p"}


@pytest.fixture
def results(adata):
    """Two fits, one of them with everything that can be made from it."""
    fsc.tl.lmm_de(adata, **FIT, contrasts={"B vs NK": "cls[B] - cls[NK]"}, ranef=True)
    fsc.tl.lmm_de(adata, **FIT | {"random": ["sam", "batch"]}, key_added="other")
    fsc.tl.lmm_test(adata, "cls[B]:trt[T.B]")
    fsc.tl.lmm_anova(adata)
    fsc.tl.lmm_variance_test(adata, key="other", null="lmm_de")
    fsc.tl.shrink(adata, key="lmm_test", key_added="shrunken")
    fsc.tl.lmm_anova(adata, key="other", key_added="other_anova")
    adata.varm["lmm_de_PCs"], adata.uns["mine"] = np.ones((12, 2)), {"a": 1}
    return adata


def test_a_fit_goes_with_all_that_was_made_from_it(results, caplog):
    left = {name: array.copy() for name, array in results.varm.items() if name.startswith("other")}
    with caplog.at_level(logging.INFO, "flashmm_sc"):
        assert fsc.tl.forget(results, "lmm_de") is None
    assert set(results.uns) == {"other", "other_anova", "mine"}
    assert set(results.varm) == {*left, "lmm_de_PCs"}
    for name, array in left.items():
        assert_same(results.varm[name], array)
    gone = "'lmm_de_contrasts', 'lmm_test', 'lmm_anova', 'lmm_variance_test', 'shrunken'"
    assert caplog.messages[1:-1] == [f"    lmm_de: removed, and with it what was made from it: {gone}"]


def test_tests_go_alone_or_with_their_shrinkage(results, caplog):
    with caplog.at_level(logging.INFO, "flashmm_sc"):
        fsc.tl.forget(results, "lmm_anova")
    assert not [message for message in caplog.messages if "made from it" in message]
    assert "lmm_anova" not in results.uns
    fsc.tl.forget(results, "lmm_test")
    assert {"lmm_de", "lmm_de_contrasts", "lmm_variance_test"} <= set(results.uns)
    assert "shrunken" not in results.uns
    assert not [name for name in results.varm if name.startswith(("lmm_anova", "lmm_test", "shrunken"))]


@pytest.mark.parametrize("key", ["mine", "lmm", "log1p", ["lmm_de"], None])
def test_what_is_no_result_stays(results, key):
    before = results.copy()
    with pytest.raises(KeyError, match=re.escape(f"uns[{key!r}] holds no result")):
        fsc.tl.forget(results, key)
    assert_unchanged(results, before)
