"""Bars count the genes of each status, histograms the iterations of those that were fitted."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scanpy as sc

import flashmm_sc as fsc
from flashmm_sc._results.packed import packed, unpacked


@pytest.fixture
def fitted(adata):
    adata.X = adata.X.toarray()
    adata.X[:, 4] = 0
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p", groupby="cls", mask_var="use")
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p", key_added="one")
    return adata


def bars(ax):
    """Length of the bars of each status, one a group, and that each begins where the one before ends."""
    found, end = {}, 0.0
    for container in ax.containers:
        np.testing.assert_allclose([bar.get_x() for bar in container], end)
        found[container.get_label().split(" (")[0]] = [bar.get_width() for bar in container]
        end = np.add(end, found[container.get_label().split(" (")[0]])
    return found


def test_statuses_of_each_group(fitted):
    status, *_ = fsc.pl.fit_diagnostics(fitted, key="lmm_de", show=False)
    names = np.array(fitted.uns["lmm_de"]["status_names"])
    codes = fitted.varm["lmm_de_status"].astype(int)
    expected = {name: (names[codes] == name).sum(axis=0).tolist() for name in np.unique(names[codes])}
    assert bars(status) == expected
    assert {"constant", "masked"} < set(expected)
    assert [text.get_text() for text in status.get_yticklabels()] == ["B", "NK"]
    assert status.yaxis.get_inverted()
    words = [text.get_text() for text in status.get_legend().get_texts()]
    assert sorted(words) == sorted(f"{name} ({sum(each)})" for name, each in expected.items())
    colors = {container[0].get_facecolor() for container in status.containers}
    assert len(colors) == len(expected)


def test_a_histogram_of_iterations(fitted):
    _, iterations, _ = fsc.pl.fit_diagnostics(fitted, key="one", show=False)
    n_iter = fitted.varm["one_n_iter"][:, 0][np.arange(fitted.n_vars) != 4]
    heights = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in iterations.patches}
    expected = dict(zip(*np.unique(n_iter, return_counts=True), strict=True))
    assert {at: n for at, n in heights.items() if n} == expected


def test_a_row_of_shares_for_each_group(fitted):
    _, iterations, _ = fsc.pl.fit_diagnostics(fitted, key="lmm_de", show=False)
    n_iter, ran = fitted.varm["lmm_de_n_iter"], np.isfinite(fitted.varm["lmm_de_loglik"])
    mesh = iterations.collections[0]
    left = mesh.get_coordinates()[0, :-1, 0] + 0.5
    for j, row in enumerate(mesh.get_array()):
        np.testing.assert_allclose(row, [np.mean(n_iter[ran[:, j], j] == at) for at in left])
        np.testing.assert_allclose(row.sum(), 1)


def test_many_iterations_share_bins(fitted):
    fitted.varm["one_n_iter"][:, 0] = np.arange(fitted.n_vars) * 10
    _, iterations, _ = fsc.pl.fit_diagnostics(fitted, key="one", show=False)
    assert len(iterations.patches) <= 30
    assert sum(bar.get_height() for bar in iterations.patches) == fitted.n_vars - 1


def decades(ax):
    """How many genes have a gradient from each power of ten on."""
    heights = {round(bar.get_x()): bar.get_height() for bar in ax.patches}
    return {power: n for power, n in heights.items() if n}


def test_a_histogram_of_gradients(fitted):
    """Far from optima it is the gradient itself; at them it is zero, but where a variance is."""
    stats = fsc.summarize(fitted, fsc.Design.of(fitted.obs, "~ trt", "sam"), transform="log1p")
    *_, ax = fsc.pl.fit_diagnostics(fitted, key="one", show=False)
    fit = fsc.lmm(stats, nonnegative=True)
    assert (fit.grad["sam"][fit.status == "boundary"] < -1).any()
    assert sum(decades(ax).values()) == fitted.n_vars - 1
    assert max(decades(ax)) <= -5
    random = ["sam", "batch"]
    fsc.tl.lmm_de(fitted, "~ trt", random, transform="log1p", key_added="early", max_iter=1)
    *_, ax = fsc.pl.fit_diagnostics(fitted, key="early", show=False)
    stats = fsc.summarize(fitted, fsc.Design.of(fitted.obs, "~ trt", random), transform="log1p")
    fit = fsc.lmm(stats, nonnegative=True, max_iter=1)
    largest = fit.grad.abs().max(axis=1)[fit.status == "not converged"]
    assert len(largest) == fitted.n_vars - 1
    powers, n = np.unique(np.floor(np.log10(largest)), return_counts=True)
    assert decades(ax) == dict(zip(powers, n, strict=True))
    assert len(powers) > 3


def test_gradients_of_each_group_and_of_correlated_effects(fitted):
    *_, ax = fsc.pl.fit_diagnostics(fitted, key="lmm_de", show=False)
    np.testing.assert_allclose(ax.collections[0].get_array().sum(axis=1), 1)
    fsc.tl.lmm_de(fitted, "~ trt + score", "(score|sam)", transform="log1p", key_added="correlated")
    assert (fitted.varm["correlated_status"] == 1).any()
    *_, ax = fsc.pl.fit_diagnostics(fitted, key="correlated", show=False)
    assert sum(decades(ax).values()) == fitted.n_vars - 1
    assert max(decades(ax)) <= -3


def test_results_of_older_versions_hold_no_gradients(fitted):
    models = unpacked(fitted.uns["one"]["models"])
    del models["0"]["gradients"]
    fitted.uns["one"]["models"] = packed(models)
    assert len(fsc.pl.fit_diagnostics(fitted, key="one", show=False)) == 2


def test_counts_have_no_iterations():
    adata = fsc.datasets.simu_rnaseq(n_genes=200, n_cells=600, n_samples=8, n_clusters=1, seed=1)
    fsc.tl.nbmm_de(adata, "~ trt", "sam")
    (status,) = fsc.pl.fit_diagnostics(adata, show=False)
    assert bars(status)["ok"] == [(adata.varm["nbmm_de_status"] == 0).sum()]
    assert list(status.get_yticks()) == []


def test_title_show_and_save(fitted, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(True))
    axes = fsc.pl.fit_diagnostics(fitted, key="one", show=False, save=tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert axes[0].figure.get_suptitle() == "~ trt, random: 'sam'"
    assert not shown
    sc.settings.autoshow = True
    assert fsc.pl.fit_diagnostics(fitted, key="one", title="mine") is None
    assert shown


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"key": "ones"}, KeyError, "Did you mean 'one'"),
        ({"save": "a.xyz"}, ValueError, "must end in one of"),
        ({"show": "no"}, TypeError, "show='no'"),
        ({"title": 3}, TypeError, "title=3"),
    ],
)
def test_what_can_not_be_drawn(fitted, options, error, words):
    with pytest.raises(error, match=words):
        fsc.pl.fit_diagnostics(fitted, **options)
    assert not plt.get_fignums()
