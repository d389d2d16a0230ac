from __future__ import annotations

import numpy as np
import pytest
from plot_examples import COEF, results

import flashmm_sc as fsc
from flashmm_sc._results.result import Result
from flashmm_sc.pl._evidence import evidence


@pytest.mark.parametrize("key", ["lmm_de", "moderated", "counts", "anova"])
def test_ordinary_p_values(key):
    adata = results()
    table = fsc.get.lmm_de_df(adata, key=key)
    np.testing.assert_allclose(evidence(table, Result.read(adata, key)), -np.log10(table["p_value"]), rtol=1e-14)


@pytest.mark.parametrize("key", ["lmm_de", "moderated", "counts"])
@pytest.mark.parametrize("options", [{}, {"alternative": "greater"}, {"alternative": "less"}, {"lfc": 0.1}])
def test_deviates_have_the_p_values(key, options, monkeypatch):
    """As if all of them were too small; near 1 the df of averaged tests are bounded, so that their tails aren't those of p."""
    adata = results()
    fsc.tl.lmm_test(adata, COEF, key=key, **options)
    table = fsc.get.lmm_de_df(adata, key="lmm_test")
    monkeypatch.setattr("flashmm_sc.pl._evidence.SMALL", 2.0)
    found = evidence(table, Result.read(adata, "lmm_test"))
    small = table["p_value"].to_numpy() < 0.9
    assert small.sum() > 100
    np.testing.assert_allclose(10 ** -found[small], table["p_value"][small], rtol=1e-6)


def test_without_a_deviate_it_is_infinite():
    adata = results()
    adata.varm["anova_pval"][0] = 0.0
    table = fsc.get.lmm_de_df(adata, key="anova", groups="1")
    assert np.isinf(evidence(table, Result.read(adata, "anova"))).sum() == 1
