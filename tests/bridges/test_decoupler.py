"""Enrichment and volcanoes of decoupler, from our tables."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

import flashmm_sc as fsc

dc = pytest.importorskip("decoupler", reason="decoupler is not installed")


@pytest.fixture(scope="module")
def fitted():
    """Ten genes of a set are up in treated cells of the second cell type."""
    adata = fsc.datasets.simu_rnaseq(n_genes=80, n_cells=800, n_samples=8, n_clusters=2, seed=1)
    values = adata.X.toarray()
    values[np.ix_((adata.obs["cls"] == "2") & (adata.obs["trt"] == "B"), np.arange(80) < 10)] *= 3
    values[:, 40] = 0
    adata.X = values
    fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p")
    return adata


@pytest.fixture(scope="module")
def net(fitted):
    """Three sets of ten genes."""
    genes = fitted.var_names[:30]
    return pd.DataFrame({"source": np.repeat(["up", "none", "other"], 10), "target": genes, "weight": 1.0})


@pytest.mark.parametrize("method", ["ulm", "mlm"])
def test_enrichment(fitted, net, method):
    scores, p_values = getattr(dc.mt, method)(data=fsc.get.matrix(fitted), net=net, tmin=5)
    assert scores.index.tolist() == ["1", "2"]
    assert set(scores.columns) == {"up", "none", "other"}
    assert np.isfinite(scores).all(axis=None)
    assert scores.loc["2"].idxmax() == "up"
    assert p_values.loc["2", "up"] < 1e-3


def test_a_score_is_the_t_value_of_a_regression_on_the_set(fitted, net):
    wide = fsc.get.matrix(fitted)
    scores, _ = dc.mt.ulm(data=wide, net=net, tmin=5)
    inside, z = wide.columns.isin(net.loc[net["source"] == "up", "target"]), wide.loc["2"].to_numpy()
    r = np.corrcoef(inside, z)[0, 1]
    assert scores.loc["2", "up"] == pytest.approx(r * np.sqrt((len(z) - 2) / (1 - r**2)), rel=1e-6)


@pytest.fixture
def close_figures():
    yield
    plt.close("all")


@pytest.mark.usefixtures("close_figures")
class TestVolcano:
    """Its labels are names of the index, and its axes have no two subscripts."""

    def test_of_our_table(self, fitted):
        table = fsc.get.lmm_de_df(fitted, "trt[T.B]", groups="2").set_index("variable")
        figure = dc.pl.volcano(table, x="log_fc", y="p_value", top=3, return_fig=True)
        figure.canvas.draw()
        labels = {text.get_text() for text in figure.axes[0].texts}
        assert labels == set(table["p_value"].nsmallest(3).index)

    def test_of_ranked_genes(self, fitted):
        fsc.tl.rank_genes_groups(fitted)
        table = sc.get.rank_genes_groups_df(fitted, "2").set_index("names")
        figure = dc.pl.volcano(
            table, x="logfoldchanges", y="pvals_adj", top=3, thr_stat=0.1, thr_sign=1, return_fig=True
        )
        figure.canvas.draw()
        assert len(figure.axes[0].texts) == 3

    def test_adjusted_p_values_need_another_name(self, fitted):
        """What the documentation says."""
        table = fsc.get.lmm_de_df(fitted, "trt[T.B]", groups="2").set_index("variable")
        with pytest.raises(ValueError, match="Double subscript"):
            dc.pl.volcano(table, x="log_fc", y="adj_p_value", return_fig=True).canvas.draw()
        plt.close("all")
        renamed = table.rename(columns={"adj_p_value": "padj"})
        dc.pl.volcano(renamed, x="log_fc", y="padj", return_fig=True).canvas.draw()
