"""Design rows made for some cells at a time are those of all cells, and never made whole."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from containers import CONTAINERS, grouped_rows, stored, warned_of_a_view
from same_results import assert_equal_results, run

import flashmm_sc as fsc
from flashmm_sc._design import rows
from flashmm_sc._design.cell_design import CellDesign
from flashmm_sc._design.rows import Encoder, Rows
from flashmm_sc._results.models import build_models
from flashmm_sc._stream import accumulate
from flashmm_sc._stream.blocks import blocks

CHUNK = 32


@pytest.fixture
def encoded(monkeypatch):
    """Cells per call of the encoder, in chunks that are small."""
    monkeypatch.setattr(rows, "CHUNK", CHUNK)
    sizes = []
    call = Encoder.__call__
    monkeypatch.setattr(Encoder, "__call__", lambda self, piece: sizes.append(piece.n) or call(self, piece))
    return sizes


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of a few cells, or of a few genes, that don't end where chunks do."""
    monkeypatch.setattr(accumulate, "blocks", lambda X, block_bytes, threads: blocks(X, 1000, threads))


@pytest.fixture(scope="module")
def W():
    rng = np.random.default_rng(0)
    return sp.csr_array(rng.normal(size=(100, 6)) * (rng.random((100, 6)) < 0.5))


MODELS = {
    "one": np.zeros(100, int),
    "several": np.random.default_rng(1).integers(0, 3, 100),
    "several, and cells of none": np.random.default_rng(1).integers(-1, 3, 100),
    "one after another": np.repeat([2, -1, 0, 1], 25),
    "one of some cells": np.repeat([-1, 0], 50),
}


@pytest.mark.parametrize("models", MODELS)
@pytest.mark.parametrize("step", [1, 7, 32, 50, 100])
def test_any_cut_is_that_of_the_whole(W, models, step, encoded):
    group = MODELS[models]
    rows = grouped_rows(W, group)
    expected = W.toarray() * (group >= 0)[:, None]
    for start in [*range(0, 100, step), 3, 0, 97]:
        stop = min(start + step, 100)
        cut, number = rows.cut(start, stop)
        np.testing.assert_array_equal(cut.toarray(), expected[start:stop])
        np.testing.assert_array_equal(number, group[start:stop])
    assert max(encoded) <= CHUNK
    np.testing.assert_allclose(rows.gram().toarray(), expected.T @ expected, rtol=1e-12, atol=1e-12)


def test_no_cells(W):
    cut, number = Rows.of(W).cut(50, 50)
    assert (cut.shape, number.shape) == ((0, 6), (0,))


OPTIONS = [
    {},
    {
        "fixed": "~ trt*scale(score) + C(cls, contr.sum):np.exp(score)",
        "random": ["sam", "sam:cls", "(0 + score|batch)"],
    },
    {"fixed": "~ trt + I(score > np.mean(score))", "groupby": "cls", "ranef": True},
    {"fixed": "~ trt", "groupby": "batch", "mask_var": "use", "contrasts": {"t": "trt[T.B]"}},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix, np.asarray])
def test_results_do_not_depend_on_chunks(adata, options, kind, monkeypatch, small_blocks):
    adata.X = kind(adata.X.toarray())
    expected = run(adata, copy=True, **options)
    monkeypatch.setattr(rows, "CHUNK", 32)
    assert_equal_results(run(adata, copy=True, **options), expected)


@pytest.mark.parametrize("name", [name for name in CONTAINERS if "csc" not in name])
@pytest.mark.parametrize("groupby", [None, "cls"])
def test_the_design_is_never_made_whole_for_cells_in_rows(
    counts, cells, genes, name, groupby, tmp_path, encoded, small_blocks
):
    adata = stored(name, counts, tmp_path, cells, genes)
    fixed = "~ trt" if groupby else "~ 0 + cls + cls:trt"
    with warned_of_a_view(adata):
        fsc.tl.lmm_de(adata, fixed, "sam", groupby=groupby, transform="log1p", n_jobs=1)
    assert max(encoded) <= CHUNK
    assert sum(encoded) == 2 * len(cells)  # for the gram matrix, and for the sums
    if adata.isbacked:
        adata.file.close()


def test_rows_of_groups_are_those_of_each_alone(cells, encoded):
    fixed = "~ trt + scale(score)"
    models, rows = build_models(cells, fixed, "sam", "cls")
    W, number = rows.cut(0, 160)
    for i, model in enumerate(models):
        own = np.flatnonzero(cells["cls"] == model.group)
        _, alone = build_models(cells.iloc[own], fixed, "sam", None)
        columns = np.arange(model.cross.width) + rows.encoder.start[i]
        expected = np.zeros((len(own), rows.shape[1]))
        expected[:, columns] = alone.cut(0, len(own))[0].toarray()
        np.testing.assert_allclose(W[own].toarray(), expected, rtol=1e-14, atol=1e-14)
        np.testing.assert_array_equal(np.flatnonzero(number == i), own)


# Rows that many cells share


@pytest.fixture
def alike(monkeypatch):
    """Ten cells share a row, on average, and two are enough to look rows up."""
    monkeypatch.setattr(rows, "CHUNK", CHUNK)
    monkeypatch.setattr(rows, "_ALIKE", 2)
    rng = np.random.default_rng(0)
    few = pd.DataFrame({"trt": list("AB") * 8, "age": np.arange(16.0) // 2, "sam": [f"s{i}" for i in range(16)]})
    return (
        few.iloc[rng.integers(16, size=160)]
        .assign(cls=pd.Categorical(rng.choice(["x", "y"], 160)))
        .reset_index(drop=True)
    )


def cell_by_cell(monkeypatch, build):
    with monkeypatch.context() as patch:
        patch.setattr(rows, "_ALIKE", 10**6)
        return build()


@pytest.mark.parametrize(
    ("fixed", "groupby"),
    [
        ("~ trt", None),
        ("~ cls * trt + scale(age)", None),
        ("~ 0 + cls + bs(age, df=4)", None),
        ("~ trt", "cls"),
        ("~ I(age - np.mean(age))", "cls"),
    ],
)
def test_rows_that_cells_share_are_made_once(alike, monkeypatch, fixed, groupby):
    seen, encode = [], CellDesign.rows
    monkeypatch.setattr(CellDesign, "rows", lambda self, table: seen.append(len(table)) or encode(self, table))
    build = lambda: build_models(alike, fixed, "sam", groupby)[1]
    found = build()
    assert max(seen) < 40
    expected = cell_by_cell(monkeypatch, build)
    for a, b in ((0, 160), (3, 97), (159, 160)):
        (W, number), (other, its) = found.cut(a, b), expected.cut(a, b)
        np.testing.assert_array_equal(W.toarray(), other.toarray())
        np.testing.assert_array_equal(number, its)
    some = [5, 3, 150]
    np.testing.assert_array_equal(
        found.at(np.array(some)).cut(0, 3)[0].toarray(), expected.cut(0, 160)[0].toarray()[some]
    )
    for weights in (None, np.linspace(1, 2, 160)):
        gram = expected.gram(weights).toarray()
        np.testing.assert_allclose(found.gram(weights).toarray(), gram, rtol=1e-12, atol=1e-12)
    sent = pickle.loads(pickle.dumps(found.encoder))  # as to a worker of dask
    np.testing.assert_array_equal(sent(found.piece(0, 10))[0].toarray(), expected.cut(0, 10)[0].toarray())


def test_a_bad_value_is_told_of_cells(alike, monkeypatch):
    """As often as cells have it, in the words that there are without sharing."""
    said = []
    for build in (
        lambda: build_models(alike, "~ np.log(age)", "sam", None),
        lambda: cell_by_cell(monkeypatch, lambda: build_models(alike, "~ np.log(age)", "sam", None)),
    ):
        with pytest.raises(ValueError, match="NaN or infinite in") as caught:
            build()
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_cells_that_differ_are_found_out_early(monkeypatch):
    monkeypatch.setattr(rows, "CHUNK", 2000)
    lengths, factorize = [], pd.factorize
    monkeypatch.setattr(
        rows.pd, "factorize", lambda some, **options: lengths.append(len(some)) or factorize(some, **options)
    )
    table = pd.DataFrame({"score": np.random.default_rng(0).normal(size=50_000)})
    assert rows.numbered(table, 1000) is None
    assert set(lengths) == {2000}
    assert rows.numbered(np.array([0, 1, 1, 2]), 2) is None
    np.testing.assert_array_equal(rows.numbered(pd.DataFrame({"a": list("xyx"), "b": [1, 1, 2]}), 3), [0, 1, 2])
