"""Results, sums and statistics that versions of ours stored are read by this one, with the numbers that those made of them.

`stored/make.py` writes a folder for a version: 0.2.0, and what came after it.
"""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pytest

import flashmm_sc as fsc

HOME = Path(__file__).parent / "stored"


@pytest.fixture(autouse=True)
def _figures():
    yield
    plt.close("all")


def _make():
    spec = importlib.util.spec_from_file_location("make_stored", HOME / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=["0.2.0", "0.2.0-later"])
def stored(request, tmp_path_factory):
    """The files of a version, and its numbers."""
    path = tmp_path_factory.mktemp("stored")
    for file in (HOME / request.param).glob("*.h5ad.gz"):
        (path / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    return path, dict(np.load(HOME / request.param / "numbers.npz"))


def test_numbers_are_those_that_the_version_made(stored):
    path, expected = stored
    found = _make().numbers(ad.read_h5ad(path / "results.h5ad"))
    assert set(found) == set(expected) - {"strata", "stats"}
    for name, numbers in found.items():
        np.testing.assert_allclose(numbers, expected[name], rtol=1e-7, atol=1e-12, err_msg=name)


def test_they_survive_being_written_again(stored, tmp_path):
    adata = ad.read_h5ad(stored[0] / "results.h5ad")
    adata.write_h5ad(tmp_path / "again.h5ad")
    again = ad.read_h5ad(tmp_path / "again.h5ad")
    for key in ("lmm_de", "groups", "groups_contrasts", "correlated", "levels", "counts", "lmm_shrink"):
        one, other = (fsc.get.lmm_de_df(each, key=key) for each in (adata, again))
        assert one.astype(str).equals(other.astype(str))


def test_plots_and_scanpys_format(stored):
    adata = ad.read_h5ad(stored[0] / "results.h5ad")
    for key in ("groups", "counts"):
        fsc.pl.samples(adata, "g1", "trt", key=key, group="NK", show=False)
        fsc.pl.volcano(adata, "trt[T.stim]", key=key, groups="all", show=False)
        fsc.pl.fit_diagnostics(adata, key=key, show=False)
    fsc.pl.ranef(adata, "g1", key="lmm_de", show=False)
    fsc.pl.variance_prior(adata, key="lmm_de", show=False)
    fsc.tl.rank_genes_groups(adata, "trt[T.stim]", key="groups")
    best = fsc.get.lmm_de_df(adata, "trt[T.stim]", key="groups", groups="NK").sort_values("z")["variable"].iloc[-1]
    assert adata.uns["rank_genes_groups"]["names"]["NK"][0] == best


def test_strata_and_statistics(stored):
    path, expected = stored
    strata = ad.read_h5ad(path / "strata.h5ad")
    np.testing.assert_array_equal(strata.X, expected["strata"])
    with pytest.warns(fsc.FlashmmWarning, match="Only 4 genes are fitted"):
        fsc.tl.nbmm_de(strata, "~ trt", "sam", n_jobs=1)
    assert np.isfinite(strata.varm["nbmm_de_pval"]).all()
    stats = fsc.SummaryStats.load(path / "stats.h5ad")
    np.testing.assert_allclose(fsc.lmm(stats).coef, expected["stats"], rtol=1e-9)
    assert (stats + stats).n == 2 * stats.n
