from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest

import flashmm_sc as fsc

mpl.use("agg")


@pytest.fixture(scope="module")
def adata():
    adata = fsc.datasets.simu_rnaseq(n_genes=250, n_cells=1500, n_samples=8, n_clusters=2, seed=1)
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p", moderate=True)
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p", moderate=True, groupby="cls", key_added="by")
    fsc.tl.lmm_de(adata, "~ trt", "sam + sam:cls", transform="log1p", moderate=True, key_added="two")
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p", key_added="plain")
    return adata


def test_shows_every_gene_twice_and_the_prior(adata):
    ax = fsc.pl.variance_prior(adata, show=False)
    single, shrunken = (points.get_offsets() for points in ax.collections[:2])
    assert len(single) == len(shrunken) == 250
    assert single[:, 1].std() > shrunken[:, 1].std()
    ratio = adata.varm["lmm_de_theta_shrunk"]
    np.testing.assert_allclose(shrunken[:, 1], ratio[:, 0] / ratio[:, 1], rtol=1e-6)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["single gene", "posterior mean", "prior"]


def test_groups_and_components_are_asked_for(adata):
    assert fsc.pl.variance_prior(adata, key="by", group="2", show=False).get_title() == "2: sam"
    assert fsc.pl.variance_prior(adata, "sam:cls", key="two", show=False).get_title() == "sam:cls"
    with pytest.raises(ValueError, match="more than one group"):
        fsc.pl.variance_prior(adata, key="by", show=False)
    with pytest.raises(ValueError, match="more than one component"):
        fsc.pl.variance_prior(adata, key="two", show=False)
    with pytest.raises(KeyError, match="component: the result 'two' has no 'sim'"):
        fsc.pl.variance_prior(adata, "sim", key="two", show=False)


def test_a_fit_without_prior(adata):
    with pytest.raises(ValueError, match="not moderated"):
        fsc.pl.variance_prior(adata, key="plain", show=False)
