from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

import flashmm_sc as fsc
from flashmm_sc._results.fitted import fitted_models
from flashmm_sc._results.result import Result


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
    single, shrunken = (points.get_offsets() for points in ax.collections)
    assert len(single) == len(shrunken) == 250
    assert single[:, 1].std() > shrunken[:, 1].std()
    ratio = adata.varm["lmm_de_theta_shrunk"]
    np.testing.assert_allclose(shrunken[:, 1], ratio[:, 0] / ratio[:, 1], rtol=1e-6)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["single gene", "posterior mean", "prior"]


def test_bars_are_the_prior_and_lie_beside_the_genes_of_their_bin(adata):
    ax = fsc.pl.variance_prior(adata, show=False)
    model = fitted_models(Result.read_fit(adata, "lmm_de"))[0].inference
    prior, x = model.moderated.prior, model.moderated.covariate
    bars = [(bar.get_x(), bar.get_width(), bar.get_y(), bar.get_y() + bar.get_height()) for bar in ax.patches]
    drawn = np.array([bar for bar in bars if np.isfinite(bar).all() and bar[1] > 0])
    weights = prior.weights[prior.weights > 1e-3]
    np.testing.assert_allclose(np.sort(drawn[:, 1]), np.sort(0.3 * weights / prior.weights.max()))
    assert drawn[:, 1].max() == pytest.approx(0.3)
    places = np.asarray(ax.collections[0].get_offsets()[:, 0])
    assert (np.modf(places)[0] > 0.3).all(), "no bar is behind points"
    np.testing.assert_array_equal(np.floor(places), np.digitize(x, prior.edges))
    for left in np.unique(drawn[:, 0]):
        own = np.floor(places) == left
        assert (np.argsort(places[own]) == np.argsort(x[own], kind="stable")).all()
    ends = drawn[drawn[:, 0] == 0]
    assert (ends[1:, 2] > ends[:-1, 3]).all(), "bars of a bin don't overlap"


def test_zero_has_a_place_on_the_axis(adata):
    ax = fsc.pl.variance_prior(adata, show=False)
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels[0] == "0"
    single = np.asarray(ax.collections[0].get_offsets()[:, 1])
    zero = adata.varm["lmm_de_theta"][:, 0] == 0
    assert (single[zero] == ax.get_yticks()[0]).all()
    assert (single[~zero] > 0).all()
    edges = [float(text.get_text()) for text in ax.get_xticklabels()]
    assert edges == sorted(edges)


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
    assert not plt.get_fignums()
