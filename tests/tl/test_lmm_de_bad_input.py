"""Bad input to lmm_de is named before any pass over the data, and doubtful input draws one warning."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from containers import assert_unchanged

import flashmm_sc as fsc
from flashmm_sc import FlashmmWarning

FIXED, RANDOM = "~ 0 + cls + cls:trt", "sam"


def run(adata, fixed=FIXED, random=RANDOM, **options):
    return fsc.tl.lmm_de(adata, fixed, random, **({"transform": "log1p"} | options))


@pytest.fixture
def no_pass(monkeypatch):
    """A pass over the data fails the test."""
    from flashmm_sc._results import study

    monkeypatch.setattr(study, "accumulate", lambda *_, **__: pytest.fail("the data were read"))


def test_the_guard_against_passes_works(adata, no_pass):
    with pytest.raises(pytest.fail.Exception, match="the data were read"):
        run(adata)


def missing(column, n):
    def change(adata):
        adata.obs[column] = adata.obs[column].astype(object)
        adata.obs.loc[adata.obs_names[10 : 10 + n], column] = np.nan

    return change


def empty_cell(adata):
    treated_nk = (adata.obs["cls"] == "NK") & (adata.obs["trt"] == "B")
    adata.obs.loc[treated_nk, "cls"] = "B"


def raw_without_gene7(adata):
    adata.raw = adata[:, adata.var_names != "gene7"].copy()


def raw_with_repeated_genes(adata):
    raw = adata.copy()
    raw.var_names = ["gene0"] * 2 + [f"gene{j}" for j in range(2, 12)]
    adata.raw = raw


BAD = {
    # columns of obs
    "fixed column": (None, {"fixed": "~ trtt"}, KeyError, ["fixed='~ trtt'", "'trtt'", "Did you mean 'trt'?"]),
    "fixed column in a function": (None, {"fixed": "~ log(scor)"}, KeyError, ["'scor'", "Did you mean 'score'?"]),
    "random column": (None, {"random": "(1|samm)"}, KeyError, ["'samm'", "Did you mean 'sam'"]),
    "groupby column": (None, {"groupby": "clss"}, KeyError, ["groupby='clss'", "Did you mean 'cls'?"]),
    "no column like it": (None, {"random": "qqqq"}, KeyError, ["'qqqq'", "There are: 'sam', 'trt', 'cls'"]),
    "NaN in fixed": (missing("trt", 3), {}, ValueError, ["obs['trt']", "NaN in 3 of 160 cells", "notna()"]),
    "NaN in random": (missing("sam", 2), {}, ValueError, ["obs['sam']", "random term 'sam'", "NaN in 2 of 160"]),
    "NaN in groupby": (missing("cls", 1), {"fixed": "~ trt", "groupby": "cls"}, ValueError, ["obs['cls']", "1 of 160"]),
    "two columns of a name": (
        lambda adata: adata.obs.insert(0, "trt", "A", allow_duplicates=True),
        {},
        ValueError,
        ["2 columns named 'trt'"],
    ),
    # designs
    "formula": (None, {"fixed": "~ trt +* cls"}, ValueError, ["fixed='~ trt +* cls' can't be read"]),
    "formula with response": (None, {"fixed": "y ~ trt"}, ValueError, ["left-hand side"]),
    "random term in formula": (None, {"fixed": "~ trt + (1|sam)"}, ValueError, ["random='(1|sam)'"]),
    "formula of another type": (None, {"fixed": 3}, TypeError, ["fixed must be a formula", "int"]),
    "empty cell": (
        empty_cell,
        {},
        ValueError,
        ["rank deficient", "'cls[NK]:trt[T.B]'", "No cell has cls = 'NK' and trt = 'B'"],
    ),
    "confounded": (
        lambda adata: adata.obs.insert(0, "copy", adata.obs["trt"]),
        {"fixed": "~ trt + copy"},
        ValueError,
        ["rank deficient", "'copy[T.B]' equals 'trt[T.B]'"],
    ),
    "a single level": (
        lambda adata: adata.obs.__setitem__("trt", "A"),
        {"fixed": "~ trt"},
        ValueError,
        ["'trt' has a single level"],
    ),
    "infinite covariate": (
        lambda adata: adata.obs.__setitem__("score", 0.0),
        {"fixed": "~ log(score)"},
        ValueError,
        ["'log(score)'", "infinite in 160 of 160 cells"],
    ),
    "no residual df": (
        lambda adata: adata[[0, 1, 2]].copy(),
        {"fixed": "~ trt + score", "random": "cls"},
        ValueError,
        ["3 cells leave no residual degrees of freedom for the 3 columns"],
    ),
    "one level": (
        lambda adata: adata.obs.__setitem__("sam", "s0"),
        {},
        ValueError,
        ["random term 'sam'", "one level only, 's0'"],
    ),
    "one level per cell": (
        lambda adata: adata.obs.__setitem__("sam", adata.obs_names),
        {},
        ValueError,
        ["random term 'sam'", "a level of its own for every cell"],
    ),
    "sample as fixed and random": (None, {"fixed": "~ 0 + sam"}, ValueError, ["'sam' lies within the fixed columns"]),
    "numbers as levels": (None, {"random": "score"}, ValueError, ["obs['score']", "not whole", "(0 + score|sam)"]),
    "a slope between samples": (
        None,
        {"random": "(1 + trt|sam)"},
        ValueError,
        ["obs['trt']", "same in all cells of each level of 'sam'"],
    ),
    "the same term twice": (None, {"random": ["sam", "(1|sam)"]}, ValueError, ["several components named 'sam'"]),
    "random of another type": (None, {"random": 3}, TypeError, ["random=3 is of type int"]),
    "no group": (None, {"fixed": "~ trt", "groupby": "sam"}, ValueError, ["in no group of groupby='sam'"]),
    # options
    "transform": (None, {"transform": "log"}, ValueError, ["transform='log' is unknown", "None, 'log1p', 'log2p1'"]),
    "method": (None, {"method": "reml"}, ValueError, ["method='reml' is unknown", "'REML', 'ML'"]),
    "ddf": (None, {"ddf": "kr"}, ValueError, ["ddf='kr' is unknown", "'satterthwaite'", "'residual'"]),
    "ddf with ML": (None, {"ddf": "kenward-roger", "method": "ML"}, ValueError, ["method='REML'"]),
    "corr_method": (None, {"corr_method": "holm"}, ValueError, ["corr_method='holm' is unknown", "'bonferroni'"]),
    "key_added": (None, {"key_added": "a/b"}, ValueError, ["key_added='a/b'"]),
    "n_jobs": (None, {"n_jobs": 0}, ValueError, ["n_jobs=0"]),
    "coefficient": (
        None,
        {"contrasts": {"d": "cls[NK]:trt[T.b]"}},
        ValueError,
        ["unknown coefficient 'cls[NK]:trt[T.b]'", "Did you mean 'cls[NK]:trt[T.B]'"],
    ),
    "zero contrast": (None, {"contrasts": "cls[NK] - cls[NK]"}, ValueError, ["is zero for every coefficient"]),
    "short vector": (None, {"contrasts": {"d": [1, 0]}}, ValueError, ["'d'", "there are 4 coefficients"]),
    "no contrasts": (None, {"contrasts": {}}, ValueError, ["There are no contrasts"]),
    # matrix and genes
    "layer": (
        lambda adata: adata.layers.__setitem__("counts", adata.X),
        {"layer": "count"},
        KeyError,
        ["layer='count' is not in adata.layers", "Did you mean 'counts'?"],
    ),
    "no layers": (None, {"layer": "counts"}, KeyError, ["There are none."]),
    "layer and raw": (
        lambda adata: adata.layers.__setitem__("counts", adata.X),
        {"layer": "counts", "use_raw": True},
        ValueError,
        ["layer and use_raw=True"],
    ),
    "X is None": (lambda adata: setattr(adata, "X", None), {}, ValueError, ["adata.X is None", "layer="]),
    "raw is None": (None, {"use_raw": True}, ValueError, ["adata.raw is None"]),
    "gene not in raw": (raw_without_gene7, {"use_raw": True}, ValueError, ["adata.raw lacks genes", "'gene7'"]),
    "repeated genes in raw": (
        raw_with_repeated_genes,
        {"use_raw": True},
        ValueError,
        ["adata.raw.var_names", "'gene0'"],
    ),
    "repeated genes": (
        lambda adata: setattr(adata, "var_names", ["g"] * 2 + [f"gene{j}" for j in range(2, 12)]),
        {},
        ValueError,
        ["var_names are not unique: 'g'", "var_names_make_unique()"],
    ),
    "mask column": (None, {"mask_var": "used"}, KeyError, ["mask_var='used'", "Did you mean 'use'?"]),
    "mask of numbers": (None, {"mask_var": [1] * 12}, ValueError, ["True or False a gene (12)", "int64"]),
    "mask of another length": (None, {"mask_var": [True] * 5}, ValueError, ["(12)", "shape (5,)"]),
    "mask of nothing": (None, {"mask_var": [False] * 12}, ValueError, ["leaves no gene"]),
    # weights
    "weights column": (None, {"weights": "scor"}, KeyError, ["weights='scor'", "Did you mean 'score'?"]),
    "negative weights": (
        None,
        {"weights": "score"},
        ValueError,
        ["weights='score' must be positive and finite", "of 160"],
    ),
    "NaN in weights": (missing("score", 2), {"weights": "score"}, ValueError, ["obs['score']", "NaN in 2 of 160"]),
    "NaN in given weights": (None, {"weights": [np.nan] + [1.0] * 159}, ValueError, ["weights must be", "'cell0'"]),
    "all weights zero": (
        None,
        {"weights": np.zeros(160)},
        ValueError,
        ["160 of 160 are not: '0.0', the first", "Leave these cells out"],
    ),
    "a weight of zero": (None, {"weights": [1.0] * 159 + [0]}, ValueError, ["1 of 160 are not", "'cell159'"]),
    "infinite weight": (None, {"weights": [np.inf] + [1.0] * 159}, ValueError, ["positive and finite"]),
    "weights of other length": (None, {"weights": np.ones(5)}, ValueError, ["one number a cell (160), not 5"]),
    "words as weights": (None, {"weights": "trt"}, ValueError, ["weights='trt' should hold numbers"]),
    "table of weights": (None, {"weights": np.ones((160, 2))}, ValueError, ["a column of obs, or one number a cell"]),
    "weights of other cells": (
        None,
        {"weights": pd.Series(1.0, [f"cell{i}" for i in range(160)][::-1])},
        ValueError,
        ["weights are labelled by other cells", "adata.obs_names"],
    ),
    "no steps": (None, {"max_iter": 0}, ValueError, ["max_iter=0 is too small; give 1 or more"]),
    "threads as text": (None, {"n_jobs": "2"}, TypeError, ["n_jobs='2' must be a whole number"]),
    "layer as number": (None, {"layer": 3}, KeyError, ["layer=3 is not in adata.layers"]),
    "no cells": (lambda adata: adata[:0].copy(), {}, ValueError, ["adata has 0 cells and 12 genes"]),
    "not an AnnData": (lambda adata: adata.to_df(), {}, TypeError, ["must be an AnnData, not DataFrame"]),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_bad_input_is_named_before_the_pass(adata, no_pass, case):
    change, options, error, words = BAD[case]
    adata.uns["mine"] = {"a": 1}
    changed = change(adata) if change else None
    adata = adata if changed is None else changed
    before = adata.copy()
    with pytest.raises(error) as caught:
        run(adata, **options)
    message = str(caught.value.args[0])
    assert [word for word in words if word not in message] == []
    if isinstance(adata, ad.AnnData):
        assert_unchanged(adata, before)


@pytest.mark.parametrize("options", [{"copy": True}, {}], ids=["copy", "view"])
def test_backed_data_that_cannot_be_used(adata, tmp_path, no_pass, options):
    adata.write_h5ad(tmp_path / "adata.h5ad")
    backed = ad.read_h5ad(tmp_path / "adata.h5ad", backed="r")
    with pytest.raises(ValueError, match="backed"):
        run(backed if options else backed[:100], **options)
    assert not backed.varm.keys()
    backed.file.close()


@pytest.mark.parametrize(
    ("value", "transform", "words"),
    [
        (np.nan, None, "holds nan at"),
        (np.inf, "log1p", "holds inf at"),
        (-1.0, "log2p1", "negative value -1 at"),
    ],
)
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_matrix])
@pytest.mark.parametrize("where", [{}, {"layer": "a"}, {"use_raw": True}], ids=["X", "layer", "raw"])
def test_unusable_values_are_named(adata, counts, value, transform, words, kind, where):
    values = counts / 2
    adata.X = kind(values)
    bad = values.copy()
    bad[77, 9] = value
    adata.layers["a"] = kind(bad if "layer" in where else values)
    adata.raw = ad.AnnData(kind(bad if "use_raw" in where else values), adata.obs, adata.var)
    adata = adata[:, ::-1].copy()
    if not where:
        adata.X = kind(bad[:, ::-1])
    before = adata.copy()
    with pytest.raises(ValueError, match=words) as caught:
        run(adata, transform=transform, **where)
    assert "cell 'cell77', gene 'gene9'" in str(caught.value)
    assert_unchanged(adata, before)


# Groups


@pytest.fixture
def lacking(adata):
    """No cell of type "B" has the third treatment."""
    adata.obs["trt"] = adata.obs["trt"].where((adata.obs["cls"] == "B") | (adata.obs["sam"] != "s2"), "C")
    return adata


def test_contrast_that_one_group_lacks_is_tested_in_the_others(lacking):
    with pytest.warns(FlashmmWarning, match="Group 'B' is not tested: .*'trt\\[T.C\\]'"):
        run(lacking, "~ trt", groupby="cls", contrasts="trt[T.C]")
    assert lacking.uns["lmm_de_contrasts"]["groups"].tolist() == ["NK"]
    fitted = lacking.uns["lmm_de"]["coef_names"].tolist().index("NK|trt[T.C]")
    np.testing.assert_allclose(
        lacking.varm["lmm_de_contrasts_pval"][:, 0], lacking.varm["lmm_de_pval"][:, fitted], rtol=1e-12
    )


def test_contrast_that_one_group_lacks_draws_one_warning(lacking):
    with pytest.warns(FlashmmWarning, match="Group 'B' is not tested") as caught:
        run(lacking, "~ trt", groupby="cls", contrasts="trt[T.C]")
    assert len([w for w in caught if w.category is FlashmmWarning]) == 1


def test_contrast_that_every_group_lacks(lacking, no_pass):
    with pytest.raises(ValueError, match=r"unknown coefficient 'trt\[T.D\]'"):
        run(lacking, "~ trt", groupby="cls", contrasts="trt[T.D]")
