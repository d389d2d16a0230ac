"""Points are `get.ranef_df`; intervals those of b̂ = D Z'P y with the covariance V of all cells."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

import flashmm_sc as fsc
from flashmm_sc.pl import _ranef

GENE = "gene3"


def fit(adata, fixed="~ trt", random="sam", **options):
    fsc.tl.lmm_de(adata, fixed, random, transform="log1p", ranef=True, **options)
    return adata


def drawn(adata, *args, **options):
    """Values and half widths of the intervals, from below, and the axes."""
    ax = fsc.pl.ranef(adata, GENE, *args, show=False, **options)
    points, _, bars = ax.containers[0]
    ends = np.array([segment[:, 0] for segment in bars[0].get_segments()]) if bars else None
    return points.get_xdata(), ends, ax


def errors(X, Z, D, R):
    """√Var(b̂ - b) = √diag(D - D Z'P Z D), P = V⁻¹ - V⁻¹X (X'V⁻¹X)⁻¹ X'V⁻¹, for which D may be singular."""
    Vi = np.linalg.inv(Z @ D @ Z.T + np.diag(R))
    P = Vi - Vi @ X @ np.linalg.solve(X.T @ Vi @ X, X.T @ Vi)
    return np.sqrt((D - D @ Z.T @ P @ Z @ D).diagonal())


def designs(adata):
    X = np.column_stack([np.ones(adata.n_obs), adata.obs["trt"] == "B"]).astype(float)
    return X, pd.get_dummies(adata.obs["sam"]).to_numpy(float)


def test_effects_in_order_with_their_intervals(adata):
    values, ends, ax = drawn(fit(adata, random=["sam", "batch"]), "sam", conf_level=0.9)
    table = fsc.get.ranef_df(adata, "sam").query("variable == @GENE").sort_values("value")
    np.testing.assert_array_equal(values, table["value"])
    assert [text.get_text() for text in ax.get_yticklabels()] == table["level"].to_list()
    X, sam = designs(adata)
    Z = np.hstack([sam, pd.get_dummies(adata.obs["batch"]).to_numpy(float)])
    s = adata.varm["lmm_de_theta"][3]
    expected = errors(X, Z, np.diag(np.repeat(s[:2], [8, 3])), np.full(len(X), s[2]))
    half = 1.6448536269514722 * expected[[int(name[1:]) for name in table["level"]]]
    np.testing.assert_allclose(ends, np.column_stack([values - half, values + half]), rtol=1e-6)
    assert ax.get_xlabel() == "random effect of sam"
    assert ax.get_title() == GENE


def test_residual_variances_by_group(adata):
    values, ends, _ = drawn(fit(adata, residual_by="cls"))
    X, Z = designs(adata)
    s, b, nk = adata.varm["lmm_de_theta"][3]
    half = 1.959963984540054 * errors(X, Z, s * np.eye(8), np.where(adata.obs["cls"] == "B", b, nk))
    order = np.argsort(fsc.get.ranef_df(adata).query("variable == @GENE")["value"].to_numpy())
    np.testing.assert_allclose(ends[:, 1] - values, half[order], rtol=1e-6)


def test_correlated_effects(adata):
    values, ends, _ = drawn(fit(adata, "~ trt + score", "(1 + score|sam)"), "score|sam")
    X, sam = designs(adata)
    score = adata.obs["score"].to_numpy()[:, None]
    a, b, c, s = adata.varm["lmm_de_theta"][3]
    D = np.kron([[a, c], [c, b]], np.eye(8))
    half = 1.959963984540054 * errors(np.hstack([X, score]), np.hstack([sam, sam * score]), D, np.full(len(X), s))[8:]
    order = np.argsort(fsc.get.ranef_df(adata, "score|sam").query("variable == @GENE")["value"].to_numpy())
    np.testing.assert_allclose(ends[:, 1] - values, half[order], rtol=1e-6)


def test_each_group_has_its_own(adata):
    fit(adata, random=["sam", "batch"], groupby="cls")
    values, ends, ax = drawn(adata, "sam", group="NK")
    alone = fit(adata[adata.obs["cls"] == "NK"].copy(), random=["sam", "batch"])
    expected = drawn(alone, "sam")
    np.testing.assert_allclose(values, expected[0])
    np.testing.assert_allclose(ends, expected[1])
    assert ax.get_title() == "NK: gene3"


def test_many_levels_have_no_names_and_many_more_no_intervals(adata, monkeypatch):
    monkeypatch.setattr(_ranef, "NAMED", 7)
    _, ends, ax = drawn(fit(adata))
    assert list(ax.get_yticks()) == []
    assert ax.get_ylabel() == "8 levels"
    assert ends is not None
    monkeypatch.setattr(_ranef, "MOST", 7)
    values, ends, _ = drawn(adata)
    assert ends is None
    assert len(values) == 8


def test_symbols_title_ax_show_and_save(adata, tmp_path, monkeypatch):
    adata.var["symbol"] = [f"S{j}" for j in range(adata.n_vars)]
    fit(adata)
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(True))
    sc.settings.autoshow = True
    ax = plt.figure().subplots()
    assert fsc.pl.ranef(adata, "S3", gene_symbols="symbol", ax=ax, save=tmp_path / "a.png") is ax
    assert ax.get_title() == "S3"
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert not shown
    assert fsc.pl.ranef(adata, GENE, title="mine") is None
    assert shown


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"gene": "gen3"}, KeyError, "There is no gene 'gen3'. Did you mean 'gene3'"),
        ({"gene": "gene4"}, ValueError, "The gene 'gene4' was not fitted in 'NK'"),
        ({"component": None}, ValueError, "more than one component; choose component= among 'sam', 'batch'"),
        ({"component": "btch"}, KeyError, "component: the result 'lmm_de' has no 'btch'. Did you mean 'batch'"),
        ({"group": None}, ValueError, "more than one group"),
        ({"conf_level": 2}, ValueError, "conf_level=2"),
    ],
)
def test_what_can_not_be_drawn(adata, options, error, words):
    adata.X = adata.X.toarray()
    adata.X[:, 4] = 0
    fit(adata, random=["sam", "batch"], groupby="cls")
    with pytest.raises(error, match=words):
        fsc.pl.ranef(adata, **({"gene": GENE, "component": "sam", "group": "NK", "show": False} | options))
    assert not plt.get_fignums()


def test_a_fit_without_random_effects(adata):
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p")
    with pytest.raises(KeyError, match=r"stored without random effects; run fsc\.tl\.lmm_de again with ranef=True"):
        fsc.pl.ranef(adata, GENE, show=False)
    assert not plt.get_fignums()
