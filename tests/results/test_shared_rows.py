"""Cells that share a design row are summed up as strata: the same numbers and messages, where it is faster."""

from __future__ import annotations

from itertools import pairwise

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from containers import READ
from same_results import assert_equal_results, run

import flashmm_sc as fsc
from flashmm_sc._design.rows import Encoder, Rows, StratumRows
from flashmm_sc._results import shared_rows as rule
from flashmm_sc._results import study
from flashmm_sc._stream.sums import Tally

MODELS = {
    "one model": {"fixed": "~ cls + trt", "random": "sam"},
    "no transform": {"fixed": "~ 0 + cls + cls:trt", "random": ["sam", "sam:cls"], "transform": None},
    "groups": {"fixed": "~ trt", "random": "sam", "groupby": "cls", "min_fraction": 0.5, "min_counts": 130},
    "some cells": {"fixed": "~ trt", "random": "sam", "groupby": "batch", "min_cells": 50},
    "covariates": {"fixed": "~ trt + scale(age) + poly(dose, 2)", "random": ["sam", "batch"], "ranef": True},
    "slope": {"fixed": "~ cls", "random": ["sam", "(0 + dose|sam)"]},
    "moderated": {"fixed": "~ trt", "random": "sam", "moderate": True},
    "median": {"fixed": "~ trt", "random": "sam", "groupby": "cls", "size_factors": "total"},
    "totals in the pass": {"fixed": "~ cls + trt", "random": "sam", "size_factors": "total", "target_sum": 30},
    "given": {"fixed": "~ cls * trt", "random": "sam", "size_factors": "depth", "min_counts": 130},
}


@pytest.fixture(scope="module")
def obs(cells):
    sample = cells["sam"].str[1:].astype(int)
    cells = cells.assign(age=40.0 + sample**2, depth=np.linspace(0.5, 2, len(cells)))
    return cells.assign(dose=np.round(np.cos(sample + 5 * (cells["cls"] == "B")), 3))


def way(strata, call):
    """Let a call go through strata or not, and see that it does; also give the sums of its pass."""
    seen, accumulate = [], study.accumulate

    def spy(parts, rows, **options):
        seen.append((isinstance(rows, StratumRows), accumulate(parts, rows, **options)))
        return seen[-1][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "accumulate", spy)
        for name, value in {"_NONZEROS": 0, "_CELLS": 1, "_BYTES": 2**28 if strata else 0}.items():
            patch.setattr(rule, name, value)
        done = call()
    [(through_strata, sums)] = seen
    assert through_strata == strata
    return done, sums


@pytest.mark.filterwarnings("ignore::flashmm_sc.FlashmmWarning")
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_both_ways_give_the_same(counts, obs, genes, model):
    fitted = lambda: run(ad.AnnData(sp.csr_matrix(counts), obs.copy(), genes.copy()), **model)
    assert_equal_results(way(True, fitted)[0], way(False, fitted)[0])


@pytest.fixture(scope="module", params=["groups", "median"])
def expected(request, counts, obs, genes):
    """A model, its fit from dense values, and the sums of strata of these."""
    model = MODELS[request.param]
    plain = lambda: run(ad.AnnData(counts.copy(), obs.copy(), genes.copy()), **model, n_jobs=1)
    (fit, _), (through_strata, sums) = way(False, plain), way(True, plain)
    assert_equal_results(through_strata, fit)
    return model, fit, sums


@pytest.mark.filterwarnings("ignore::flashmm_sc.AdviceWarning", "ignore::anndata.ImplicitModificationWarning")
@pytest.mark.parametrize("container", READ, indirect=True)
def test_from_every_container_and_by_any_number_of_threads(container, counts, obs, genes, expected):
    model, fit, sums = expected
    adata = container(counts.astype(np.int32), obs.copy(), genes.copy())
    ours, own_sums = way(True, lambda: run(adata, **model, n_jobs=3))
    assert_equal_results(ours, fit)
    for name, values in vars(sums).items():
        np.testing.assert_array_equal(getattr(own_sums, name), values, err_msg=name)  # to the last bit


@pytest.mark.parametrize("how", ["dask", "dask csc", "files", "lazy"])
@pytest.mark.parametrize("model", ["groups", "totals in the pass"])
def test_from_dask_and_several_files(counts, obs, genes, tmp_path, how, model):
    adata = ad.AnnData(sp.csr_matrix(counts), obs.copy(), genes)
    expected, _ = way(False, lambda: run(adata.copy(), **MODELS[model]))
    if how == "dask":
        adata.X = da.from_array(counts, chunks=(33, -1)).map_blocks(sp.csr_array)
    elif how == "dask csc":
        adata.X = da.from_array(counts, chunks=(-1, 7)).map_blocks(sp.csc_array)
    else:
        parts = [tmp_path / f"{a}.h5ad" for a in (0, 50, 51)]
        for path, (a, b) in zip(parts, pairwise((0, 50, 51, 160)), strict=True):
            adata[a:b].copy().write_h5ad(path)
        adata = parts if how == "files" else [ad.experimental.read_lazy(path) for path in parts]
    assert_equal_results(way(True, lambda: run(adata, **MODELS[model]))[0], expected)


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix, np.asarray])
@pytest.mark.parametrize("n_jobs", [1, 3])
def test_messages_name_the_same_cell(counts, obs, genes, kind, n_jobs):
    counts = counts.copy()
    for i, j in ((7, 11), (8, 3), (16, 0), (24, 1)):  # cells 8, 16 and 24 are of the first sample, 7 of the last
        counts[i, j] = -1
    said = []
    for strata in (True, False):
        with pytest.raises(ValueError, match="holds the negative value -1 at cell") as caught:
            way(strata, lambda: run(ad.AnnData(kind(counts), obs.copy(), genes), "~ trt", "sam", n_jobs=n_jobs))
        said.append(str(caught.value))
    assert said[0] == said[1]
    if kind is not sp.csc_matrix:
        assert "cell 'cell7', gene 'gene11'" in said[0]


def rows_of(table, width):
    """Rows of one model, with so many nonzeros."""
    encode = lambda some: sp.csr_array(np.ones((len(some), width)))
    return Rows(len(table), Encoder([encode], [0], width), [(np.arange(len(table)), table)])


@pytest.mark.parametrize(
    ("width", "n_strata", "n_genes", "chosen"),
    [
        (5, 20, 1000, True),
        (3, 40, 1000, True),
        (2, 20, 1000, False),  # as fast without
        (5, 50, 1000, False),  # few cells in each
        (5, 40, 10**6, False),  # too much memory
    ],
)
def test_the_faster_way_is_chosen(width, n_strata, n_genes, chosen):
    table = pd.DataFrame({"donor": np.arange(2000)[::-1] % n_strata, "all": "alike"})
    shared = rule.shared_rows(rows_of(table, width), n_genes, Tally(), sized=False)
    assert (shared is not None) == chosen
    if shared is not None:
        strata, each, _ = shared
        codes, firsts = pd.factorize(table["donor"])
        np.testing.assert_array_equal(strata.codes, codes)
        np.testing.assert_array_equal(each.parts[0][1]["donor"], firsts)


def test_more_is_summed_only_where_there_is_room():
    table = pd.DataFrame({"donor": np.arange(20_000) % 200})
    choose = lambda tally, sized: rule.shared_rows(rows_of(table, 4), 60_000, tally, sized=sized) is not None
    assert choose(Tally(), sized=False)
    assert not choose(Tally(True, True), sized=True)


def test_an_atlas_of_donors_goes_through_strata(monkeypatch):
    adata = fsc.datasets.simu_rnaseq(n_genes=20, n_cells=3000, n_samples=8, n_clusters=3, seed=1)
    kinds, accumulate = [], study.accumulate
    spy = lambda parts, rows, **options: kinds.append(type(rows)) or accumulate(parts, rows, **options)
    monkeypatch.setattr(study, "accumulate", spy)
    for fixed, groupby in (("~ 0 + cls + cls:trt", None), ("~ trt", "cls"), ("~ libsize + trt", "cls")):
        run(adata, fixed, ["sam", "sam:cls"] if groupby is None else "sam", groupby=groupby)
    assert kinds == [StratumRows, Rows, Rows]
