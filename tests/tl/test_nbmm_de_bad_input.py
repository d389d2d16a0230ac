"""Bad input to nbmm_de is named before anything is written, and doubtful input draws one warning."""

from __future__ import annotations

import re
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from containers import assert_unchanged

import flashmm_sc as fsc
from flashmm_sc import FlashmmWarning
from flashmm_sc._results.result import Result

N, M = 240, 110


@pytest.fixture(scope="module")
def study():
    """Counts of 8 samples, half of them treated, of two cell types."""
    rng, sample = np.random.default_rng(3), np.arange(N) % 8
    mean = np.exp(rng.normal(1, 0.6, M) + rng.normal(0, 0.2, (8, M))[sample])
    obs = {
        "sam": [f"s{k}" for k in sample],
        "trt": np.where(sample % 2, "B", "A"),
        "batch": np.where(sample < 4, "x", "y"),
        "cls": rng.choice(["B", "NK"], N),
        "age": 20.0 + sample,
        "score": rng.normal(size=N),
        "depth": 1.0,
    }
    index = [f"cell{i}" for i in range(N)]
    var = pd.DataFrame({"use": np.arange(M) % 3 > 0}, index=[f"gene{j}" for j in range(M)])
    return ad.AnnData(sp.csr_matrix(rng.poisson(mean).astype(np.float32)), pd.DataFrame(obs, index=index), var)


@pytest.fixture
def adata(study):
    return study.copy()


def run(adata, fixed="~ trt", sample="sam", **options):
    return fsc.tl.nbmm_de(adata, fixed, sample, **({"n_jobs": 1} | options))


@pytest.fixture
def no_pass(monkeypatch):
    """A pass over the data fails the test."""
    from flashmm_sc._results import sizes, study

    for module, name in ((study, "accumulate"), (sizes, "totals")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("the data were read"))


def test_the_guard_against_passes_works(adata, no_pass):
    with pytest.raises(pytest.fail.Exception, match="the data were read"):
        run(adata)


def obs(column, values):
    """Set a column of obs, by a function of obs or to a value."""

    def change(adata):
        adata.obs[column] = values(adata.obs) if callable(values) else values

    return change


def missing(column):
    def change(adata):
        adata.obs[column] = adata.obs[column].astype(object)
        adata.obs.loc[adata.obs_names[10:13], column] = np.nan

    return change


def X(change):
    return lambda adata: setattr(adata, "X", change(adata.X))


def normalised_with_counts(adata):
    adata.layers["counts"], adata.layers["halved"] = adata.X.copy(), adata.X / 2
    adata.X = (adata.X / 3).log1p()


def normalised_with_raw(adata):
    adata.raw = adata.copy()
    adata.X = adata.X.multiply(0.1).tocsr()


def swapped(obs):
    """One cell of s1 is of the other arm."""
    values = obs["trt"].copy()
    values.iloc[9] = "A"
    return values


BAD = {
    # values
    "logarithms, no counts left": (X(lambda X: X.log1p()), {}, ["adata.X holds", "no count", "layers['counts']"]),
    "logarithms, counts in a layer": (normalised_with_counts, {}, ["adata.X holds", "which layer='counts' gives"]),
    "fractions in a layer": (normalised_with_counts, {"layer": "halved"}, ["adata.layers['halved'] holds", "'counts'"]),
    "logarithms in a layer, counts in X": (
        lambda adata: adata.layers.update(logs=adata.X.log1p()),
        {"layer": "logs"},
        ["adata.layers['logs'] holds", "which adata.X, without layer= and use_raw=, gives"],
    ),
    "fractions, counts in raw": (normalised_with_raw, {}, ["adata.X holds", "use_raw=True"]),
    "negative whole numbers": (X(lambda X: X - sp.csr_matrix(np.eye(N, M)) * 99), {}, ["adata.X holds -", "no count"]),
    "dense z-scores": (X(lambda X: X.toarray() - 3.5), {}, ["adata.X holds", "5, which is no count"]),
    "X is None": (lambda adata: setattr(adata, "X", None), {}, ["adata.X is None", "layer="]),
    "raw is None": (None, {"use_raw": True}, ["adata.raw is None"]),
    # samples
    "covariate of cells": (
        None,
        {"fixed": "~ trt + score"},
        [
            "obs['score']",
            "varies within samples",
            "cells of 's0' have '",
            "so it must be of samples: fit cells with fsc.tl.lmm_de",
        ],
    ),
    "cells as samples": (
        obs("id", lambda obs: obs.index),
        {"sample": "id"},
        ["Every sample of sample='id' has one cell", "such as donors", "fsc.pp.aggregate"],
    ),
    "cells of each type as samples": (
        obs("id", lambda obs: obs.index),
        {"sample": "id", "groupby": "cls"},
        ["Every sample of sample='id' has one cell"],
    ),
    "cell types without groupby": (None, {"fixed": "~ trt + cls"}, ["obs['cls']", "sample='sam:cls'"]),
    "a sample in two arms": (
        obs("trt", swapped),
        {},
        ["obs['trt']", "cells of 's1' have 'B', 'A'", "sample='sam:trt'"],
    ),
    "one sample an arm": (
        obs("sam", lambda obs: obs["trt"]),
        {},
        ["'sam' tells 2 samples apart, too few for '~ trt', which has 2 columns", "at least 2 more"],
    ),
    "as many samples as columns": (
        None,
        {"fixed": "~ trt * batch + bs(age, df=3)"},
        ["'sam' tells 8 samples apart, too few", "which has 7 columns"],
    ),
    "confounded": (
        obs("copy", lambda obs: obs["trt"]),
        {"fixed": "~ trt + copy"},
        ["rank deficient", "'copy[T.B]' equals 'trt[T.B]'"],
    ),
    "a single level": (obs("trt", "A"), {}, ["'trt' has a single level"]),
    "several terms": (None, {"sample": "sam + batch"}, ["sample='sam + batch' is several terms", "'donor:treatment'"]),
    "nested terms": (None, {"sample": "(1|batch/sam)"}, ["is several terms"]),
    "a slope": (None, {"sample": "(0 + age|sam)"}, ["sample='(0 + age|sam)' is a slope"]),
    "no sample": (None, {"sample": ""}, ["sample='' can't be read", "Give a column of obs"]),
    "no samples": (None, {"sample": []}, ["sample=[] can't be read"]),
    "sample of numbers": (None, {"sample": "score"}, ["obs['score']", "not whole"]),
    "one level": (obs("sam", "s0"), {"fixed": "~ 1"}, ["'sam' tells 1 samples apart"]),
    "NaN in fixed": (missing("trt"), {}, ["obs['trt']", "NaN in 3 of 240 cells"]),
    "NaN in sample": (missing("sam"), {}, ["obs['sam']", "NaN in 3 of 240 cells", "sample"]),
    "NaN in groupby": (missing("cls"), {"groupby": "cls"}, ["obs['cls']", "NaN in 3 of 240 cells"]),
    "groupby with fractions": (None, {"groupby": "score"}, ["groupby='score' holds numbers that are not whole"]),
    "groups without a model": (None, {"groupby": "sam"}, ["in no group of groupby='sam'"]),
    "formula with response": (None, {"fixed": "y ~ trt"}, ["left-hand side"]),
    "random term in the formula": (None, {"fixed": "~ trt + (1|sam)"}, ["(1|sam)"]),
    # size factors
    "size factors of zero": (
        obs("depth", lambda obs: np.where(obs.index == "cell7", 0.0, 1.0)),
        {"size_factors": "depth"},
        ["size_factors='depth' must be positive", "1 of 240", "'cell7'"],
    ),
    "size factors that are NaN": (None, {"size_factors": np.full(N, np.nan)}, ["must be positive and finite"]),
    "size factors that are missing": (missing("depth"), {"size_factors": "depth"}, ["obs['depth']", "NaN in 3"]),
    "negative size factors": (None, {"size_factors": np.full(N, -1.0)}, ["must be positive", "240 of 240"]),
    "too few size factors": (None, {"size_factors": np.ones(5)}, ["one number a cell (240), not 5"]),
    "a number": (None, {"size_factors": 2.0}, ["size_factors"]),
    "texts as size factors": (None, {"size_factors": "sam"}, ["should hold numbers"]),
    "size factors of other cells": (
        None,
        {"size_factors": pd.Series(1.0, [f"other{i}" for i in range(N)])},
        ["labelled by other cells"],
    ),
    # options
    "normalize": (None, {"normalize": "tmm"}, ["normalize='tmm' is unknown", "None, 'ratio'"]),
    "corr_method": (None, {"corr_method": "holm"}, ["corr_method='holm' is unknown"]),
    "corr_scope": (None, {"corr_scope": "gene"}, ["corr_scope='gene' is unknown"]),
    "key_added": (None, {"key_added": "a/b"}, ["key_added='a/b'"]),
    "n_jobs": (None, {"n_jobs": 0}, ["n_jobs=0"]),
    "min_cells": (None, {"min_cells": -1}, ["min_cells=-1"]),
    "min_fraction": (None, {"min_fraction": 1.5}, ["min_fraction=1.5"]),
    "too few cells": (None, {"groupby": "cls", "min_cells": 500}, ["fewer than min_cells=500"]),
    "coefficient": (
        None,
        {"contrasts": {"d": "trt[T.b]"}},
        ["unknown coefficient 'trt[T.b]'", "Did you mean 'trt[T.B]'"],
    ),
    "question": (None, {"contrasts": fsc.contrasts.each("batch")}, ["'batch'"]),
    "zero contrast": (None, {"contrasts": "trt[T.B] - trt[T.B]"}, ["is zero"]),
    "no contrasts": (None, {"contrasts": {}}, ["There are no contrasts"]),
    "layer and raw": (normalised_with_counts, {"layer": "counts", "use_raw": True}, ["layer and use_raw=True"]),
    "mask of nothing": (None, {"mask_var": [False] * M}, ["leaves no gene"]),
    "repeated genes": (
        lambda adata: setattr(adata, "var_names", ["g"] * 2 + [f"gene{j}" for j in range(2, M)]),
        {},
        ["var_names are not unique: 'g'"],
    ),
    "a key of something else": (
        lambda adata: adata.uns.__setitem__("nbmm_de", {"a": 1}),
        {},
        ["adata.uns['nbmm_de'] holds something else"],
    ),
    "a key of contrasts that is taken": (
        lambda adata: adata.uns.__setitem__("nbmm_de_contrasts", 3),
        {},
        ["adata.uns['nbmm_de_contrasts'] holds something else"],
    ),
    "no cells": (lambda adata: adata[:0].copy(), {}, ["adata has 0 cells"]),
}
MISSING = {
    "fixed column": ({"fixed": "~ trtt"}, ["fixed='~ trtt'", "Did you mean 'trt'?"]),
    "sample column": ({"sample": "samm"}, ["sample='samm' uses 'samm'", "Did you mean 'sam'"]),
    "one of several": ({"sample": ["sam", "bach"]}, ["sample=['sam', 'bach'] uses 'bach'", "Did you mean 'batch'"]),
    "groupby column": ({"groupby": "clss"}, ["groupby='clss'", "Did you mean 'cls'?"]),
    "size factors": ({"size_factors": "depht"}, ["size_factors='depht'", "Did you mean 'depth'?"]),
    "layer": ({"layer": "counts"}, ["layer='counts' is not in adata.layers"]),
    "mask column": ({"mask_var": "used"}, ["mask_var='used'", "Did you mean 'use'?"]),
}
WRONG_TYPES = {
    "sample": ({"sample": 3}, ["sample=3 is of type int", "Give a column of obs"]),
    "samples": ({"sample": [1, 2]}, ["sample=[1, 2] is of type list"]),
    "sample by name": ({"sample": {"donor": "sam"}}, ["sample={'donor': 'sam'} is of type dict"]),
    "no sample": ({"sample": None}, ["sample=None is of type NoneType"]),
    "formula": ({"fixed": 3}, ["fixed must be a formula", "int"]),
    "copy": ({"copy": "yes"}, ["copy='yes'"]),
    "threads": ({"n_jobs": "2"}, ["n_jobs='2'"]),
    "min_counts": ({"min_counts": "10"}, ["min_counts='10'"]),
}
CASES = {f"{name}": (change, options, ValueError, words) for name, (change, options, words) in BAD.items()}
CASES |= {f"missing {name}": (None, options, KeyError, words) for name, (options, words) in MISSING.items()}
CASES |= {f"type of {name}": (None, options, TypeError, words) for name, (options, words) in WRONG_TYPES.items()}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_bad_input_is_named_before_the_pass(adata, no_pass, case):
    change, options, error, words = CASES[case]
    changed = change(adata) if change else None
    adata = adata if changed is None else changed
    before = adata.copy()
    with pytest.raises(error) as caught:
        run(adata, **options)
    message = str(caught.value.args[0])
    assert [word for word in words if word not in message] == [], message
    assert "random" not in message or case in ("confounded", "random term in the formula"), message
    assert_unchanged(adata, before)


@pytest.mark.parametrize("adata", [None, 3, "file.h5ad"])
def test_no_anndata(adata):
    with pytest.raises(TypeError, match="adata must be an AnnData"):
        run(adata)


@pytest.mark.parametrize("options", [{"copy": True}, {}], ids=["copy", "view"])
def test_backed_data_that_cannot_be_used(adata, tmp_path, no_pass, options):
    adata.write_h5ad(tmp_path / "adata.h5ad")
    backed = ad.read_h5ad(tmp_path / "adata.h5ad", backed="r")
    with pytest.raises(ValueError, match="backed"):
        run(backed if options else backed[:100], **options)
    assert not backed.varm.keys()
    backed.file.close()


def test_several_and_a_copy(adata, no_pass):
    with pytest.raises(ValueError, match="copy=True is for one AnnData"):
        run([adata, adata.copy()], copy=True)


# What only the pass tells


@pytest.fixture
def _looks_at_few(monkeypatch):
    """Only the first cell's values are looked at before the pass."""
    from flashmm_sc._results import count_values

    monkeypatch.setattr(count_values, "first_values", lambda X: np.asarray(X[:1].todense()).ravel())


@pytest.mark.parametrize("value", [0.5, 2.25, -300.0])
@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix])
@pytest.mark.usefixtures("_looks_at_few")
def test_values_that_are_no_counts_further_on(adata, value, kind):
    X = adata.X.toarray()
    X[201, 17] = value
    adata.X, adata.layers["counts"] = kind(X), adata.X
    before = adata.copy()
    sizes = {"size_factors": np.ones(N)} if value < 0 else {}
    with pytest.raises(ValueError, match="no counts") as caught:
        run(adata, **sizes)
    assert "adata.X holds values of gene 'gene17' in sample 's1'" in str(caught.value)
    assert_unchanged(adata, before)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_unusable_values_are_named(adata, value):
    X = adata.X.toarray()
    X[201, 17] = value
    adata.X = X
    before = adata.copy()
    with pytest.raises(ValueError, match=r"cell 'cell201'") as caught:
        run(adata)
    assert "nan" in str(caught.value) or "inf" in str(caught.value)
    assert_unchanged(adata, before)


def aggregated(adata, **options):
    return fsc.pp.aggregate(adata, ["sam", "cls"], **options)


STRATA = {
    "no depth": (lambda adata: aggregated(adata), "without the size factors of their cells: .* size_factors='total'"),
    "logarithms": (
        lambda adata: aggregated(adata, transform="log1p", size_factors="total", target_sum=1e4),
        "sums of logarithms, not counts: aggregate raw counts",
    ),
    "fractions": (
        lambda adata: aggregated(ad.AnnData(adata.X * 0.3, adata.obs, adata.var), size_factors="total"),
        "adata.X holds .*, which is no count: the model is of raw counts; aggregate these",
    ),
}


@pytest.mark.parametrize("case", STRATA)
def test_strata_that_are_not_of_counts(adata, case):
    make, words = STRATA[case]
    sums = make(adata)
    before = sums.copy()
    with pytest.raises(ValueError, match=words):
        run(sums)
    assert_unchanged(sums, before)


def test_no_counts_at_all(adata):
    adata.X = sp.csr_matrix((N, M), dtype=np.float32)
    before = adata.copy()
    with pytest.raises(ValueError, match=r"no counts|has counts"):
        run(adata)
    assert_unchanged(adata, before)


def without_counts(adata, cells):
    X = adata.X.toarray()
    X[np.asarray(cells)] = 0
    adata.X = X


def test_a_sample_without_counts(adata):
    without_counts(adata, adata.obs["sam"] == "s3")
    before = adata.copy()
    with pytest.raises(ValueError, match="no cell of 's3' has counts; leave these cells out"):
        run(adata)
    assert_unchanged(adata, before)


def test_a_group_without_counts(adata):
    without_counts(adata, adata.obs["cls"] == "NK")
    with pytest.warns(FlashmmWarning, match="Left out: 'NK': no cell of 's0', 's1', .* has counts"):
        run(adata, groupby="cls")
    assert adata.uns["nbmm_de"]["groups"].tolist() == ["B"]


def test_strata_take_no_size_factors(adata):
    sums = aggregated(adata, size_factors="total")
    with pytest.raises(
        ValueError, match="where values of cells are read, as in size_factors='total', and leave it out"
    ):
        run(sums, size_factors="total")


@pytest.mark.parametrize(("groupby", "groups"), [(None, ""), ("cls", "'B', 'NK': ")])
def test_no_gene_passes(adata, groupby, groups):
    words = f"Nothing can be fitted: {groups}no gene has min_counts=1e+09 and min_fraction=0; lower them."
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        run(adata, min_counts=1e9, groupby=groupby)


# What isn't bad


@pytest.fixture
def lacking(adata):
    """Only three samples have cells of type NK, two of them treated."""
    few = ~adata.obs["sam"].isin(["s0", "s1", "s3"])
    adata.obs["cls"] = adata.obs["cls"].where(~few, "B")
    return adata


def test_groups_with_too_few_samples_are_left_out(lacking):
    with pytest.warns(
        FlashmmWarning, match="1 of 2 groups of groupby='cls' are left out:\n'NK': 'sam' tells 3 samples"
    ):
        run(lacking, groupby="cls")
    alone = lacking[lacking.obs["cls"] == "B"].copy()
    run(alone)
    assert lacking.uns["nbmm_de"]["groups"].tolist() == ["B"]
    np.testing.assert_allclose(lacking.varm["nbmm_de_pval"], alone.varm["nbmm_de_pval"], rtol=1e-9)


def test_samples_without_cells_of_a_group(adata):
    adata.obs["cls"] = adata.obs["cls"].where(adata.obs["sam"] != "s0", "B")
    run(adata, groupby="cls")
    assert [len(model["samples"]) for model in Result.read(adata, "nbmm_de").models] == [8, 7]
    assert adata.varm["nbmm_de_sums"].shape == (M, 15)


def test_categories_without_cells(adata):
    plain = run(adata, groupby="cls", copy=True)
    for name in ("sam", "trt", "cls"):
        adata.obs[name] = pd.Categorical(adata.obs[name], [*sorted(adata.obs[name].unique()), "none"])
    run(adata, groupby="cls")
    np.testing.assert_allclose(adata.varm["nbmm_de_pval"], plain.varm["nbmm_de_pval"], rtol=1e-9)


def test_two_samples_more_than_columns(adata):
    run(adata, "~ trt + batch + bs(age, df=3)")
    assert Result.read(adata, "nbmm_de").models[0]["X"].shape == (8, 6)
    assert np.isfinite(adata.varm["nbmm_de_pval"]).all()


def test_values_of_cells_left_out_are_not_looked_at(adata):
    adata.obs["cls"] = adata.obs["cls"].astype(object)
    alone = adata[adata.obs["cls"] == "B"].copy()
    X = adata.X.toarray()
    other = np.flatnonzero(adata.obs["cls"] == "NK")
    adata.obs.iloc[other[:5], adata.obs.columns.get_loc("cls")] = "few"
    X[other[:5]] = 0
    adata.X = X
    with pytest.warns(FlashmmWarning, match="'few': 5 cells, fewer than min_cells=10"):
        run(adata, groupby="cls")
    run(alone)
    np.testing.assert_allclose(adata.varm["nbmm_de_pval"][:, :2], alone.varm["nbmm_de_pval"], rtol=1e-9)


def test_good_input_draws_no_warning(adata):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(adata, groupby="cls", contrasts="trt[T.B]")
