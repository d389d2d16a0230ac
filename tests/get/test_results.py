"""The list of results."""

from __future__ import annotations

from datetime import UTC, datetime

import anndata as ad
import numpy as np
import pytest

import flashmm_sc as fsc

COLUMNS = ["key", "what", "of", "formula", "groups", "columns", "when", "version"]


@pytest.fixture
def results(adata):
    fsc.tl.lmm_de(adata, "~ trt", ["sam", "batch"], groupby="cls", transform="log1p", contrasts={"up": "trt[T.B]"})
    fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", key_added="null")
    fsc.tl.lmm_test(adata, ["trt[T.B]", "Intercept"], joint=True, key="null")
    fsc.tl.lmm_variance_test(adata, null="null")
    fsc.tl.shrink(adata, "NK|up")
    adata.uns["mine"] = {"a": 1}
    return adata


EXPECTED = [
    ["lmm_de", "fit", "", "~ trt, random: 'sam', 'batch'", 2, 4],
    ["lmm_de_contrasts", "t tests", "lmm_de", "'up'", 2, 2],
    ["null", "fit", "", "~ trt, random: 'sam'", 2, 4],
    ["lmm_test", "F tests", "null", "'trt[T.B], Intercept'", 2, 2],
    ["lmm_variance_test", "variance tests", "lmm_de, null", "'batch'", 2, 2],
    ["lmm_shrink", "shrinkage", "lmm_de_contrasts", "'up'", 1, 1],
]


def test_every_result_has_a_row(results):
    table = fsc.get.results(results)
    assert table.columns.tolist() == COLUMNS
    assert table[COLUMNS[:6]].to_numpy().tolist() == EXPECTED
    for when in table["when"]:
        assert abs((datetime.now(UTC) - datetime.fromisoformat(when)).total_seconds()) < 600
    assert set(table["version"]) == {fsc.__version__}


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_it_is_the_same_after_a_file(results, tmp_path, kind):
    path = tmp_path / f"adata.{kind}"
    getattr(results, f"write_{kind}")(path)
    assert fsc.get.results(getattr(ad, f"read_{kind}")(path)).equals(fsc.get.results(results))


def test_what_is_made_again_comes_last(results):
    fsc.tl.lmm_test(results, "trt[T.B]", key="null")
    assert fsc.get.results(results)["key"].tolist()[-1] == "lmm_test"


def test_nothing_gives_an_empty_table_and_old_results_have_no_time(adata):
    assert fsc.get.results(adata).columns.tolist() == COLUMNS
    assert fsc.get.results(adata).empty
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p")
    del adata.uns["lmm_de"]["params"]["time"]
    assert fsc.get.results(adata)["when"].tolist() == [""]


def test_contrasts_across_groups_are_no_groups(results):
    names = ["`B|trt[T.B]` - `NK|trt[T.B]`", "`B|Intercept` - `NK|Intercept`"]
    for several in (names[:1], names):
        fsc.tl.lmm_test(results, several, key_added="across")
        assert fsc.get.results(results).iloc[-1][["key", "groups", "columns"]].tolist() == ["across", 1, len(several)]
        assert "group" not in fsc.get.lmm_de_df(results, key="across")
        assert "group" not in fsc.get.summary(results, key="across")
    fsc.tl.lmm_test(results, [*names, "trt[T.B]"], key_added="across")
    assert fsc.get.results(results).iloc[-1][["key", "groups", "columns"]].tolist() == ["across", 2, 4]
    assert fsc.get.lmm_de_df(results, key="across")["group"].unique().tolist() == ["B", "NK", ""]


def test_results_that_are_read_lazily(adata, tmp_path):
    fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", contrasts="trt[T.B]", n_jobs=1)
    adata.write_h5ad(tmp_path / "a.h5ad")
    lazy = ad.experimental.read_lazy(tmp_path / "a.h5ad")
    for key in ("lmm_de", "lmm_de_contrasts"):
        assert fsc.get.lmm_de_df(lazy, key=key).equals(fsc.get.lmm_de_df(adata, key=key))
    fsc.tl.lmm_test(lazy, "trt[T.B]", key="lmm_de", n_jobs=1)
    np.testing.assert_allclose(lazy.varm["lmm_test_pval"], adata.varm["lmm_de_contrasts_pval"], rtol=1e-9)
