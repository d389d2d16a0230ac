"""A design made once and applied to parts: their sums add up to those of all cells, whatever the transforms."""

from __future__ import annotations

import contextlib
import copy
import json
import re
from functools import reduce
from itertools import permutations, product
from operator import add

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from formulaic import model_matrix

import flashmm_sc as fsc
from flashmm_sc._design.file import digest
from flashmm_sc._design.fixed import fixed_design

FORMULAS = [
    "~ 0 + cls + cls:trt",
    "~ trt*scale(score)",
    "~ center(score) + standardize(depth)",
    "~ poly(score, 3) + trt",
    "~ bs(score, df=5)*cls",
    "~ bs(score, knots=[0.0], degree=2) + cs(depth, df=4)",
    "~ cr(score, df=4) + cc(depth, df=4)",
    "~ C(cls, contr.sum)*C(trt, contr.treatment('B'))",
    "~ C(day) + C(day, contr.helmert):score",
    "~ C(day, levels=[12, 1, 5])",
    "~ flag + log(depth) + I(score**2)",
    "~ scale(log(depth)):`odd: [a] (b)`",
]


@pytest.fixture
def adata(adata):
    rng = np.random.default_rng(5)
    n = adata.n_obs
    adata.obs["depth"] = rng.gamma(5, 100, n)
    adata.obs["day"] = rng.choice([1, 5, 12], n)
    adata.obs["flag"] = rng.random(n) < 0.5
    odd = ["CD4+/CD8 [T]", 'a "quoted", \\ level', "β-cell: été", "", "`tick`"]
    adata.obs["odd: [a] (b)"] = pd.Categorical(rng.choice(odd, n), categories=odd[::-1])
    return adata


def by_donor(adata):
    return [np.isin(adata.obs["sam"], donors) for donors in (["s0", "s1"], ["s4", "s5", "s6"], ["s2", "s3", "s7"])]


def by_cell(adata):
    return [np.arange(adata.n_obs) % 3 == k for k in range(3)]


def sums(stats):
    """Sums under their names, in whatever order the stats have them."""
    z = [f"{name}" for name in stats.ranef_names]
    frames = {
        "XX": pd.DataFrame(stats.XX, stats.coef_names, stats.coef_names),
        "XY": pd.DataFrame(stats.XY, stats.coef_names, stats.gene_names),
        "ZX": pd.DataFrame(stats.ZX, z, stats.coef_names),
        "ZY": pd.DataFrame(stats.ZY, z, stats.gene_names),
        "ZZ": pd.DataFrame(stats.ZZ.toarray(), z, z),
        "yy": pd.DataFrame(stats.yy[:, None], stats.gene_names, ["yy"]),
    }
    return {name: frame.sort_index().sort_index(axis=1) for name, frame in frames.items()}


def assert_same_sums(a, b, rtol=1e-12):
    assert a.n == b.n
    assert sorted(a.d) == sorted(b.d)
    for (name, ours), theirs in zip(sums(a).items(), sums(b).values(), strict=True):
        assert list(ours.index) == list(theirs.index)
        assert list(ours.columns) == list(theirs.columns)
        size = np.abs(theirs.to_numpy()).max()
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * size, err_msg=name)


def summarize(adata, design, **options):
    return fsc.summarize(adata, design, **({"transform": "log1p", "n_jobs": 1} | options))


@pytest.mark.parametrize("split", [by_donor, by_cell])
@pytest.mark.parametrize("formula", FORMULAS)
def test_sums_of_parts_are_those_of_all_cells(adata, tmp_path, formula, split):
    """With the design sent to each part as a file."""
    design = fsc.Design.of(adata.obs, formula, "sam")
    design.save(tmp_path / "design.json")
    parts = [summarize(adata[cells], fsc.Design.load(tmp_path / "design.json")) for cells in split(adata)]
    assert_same_sums(reduce(add, parts), summarize(adata, design))


@pytest.mark.parametrize("fixed", ["~ trt*scale(score) + bs(depth, df=4)", "~ poly(score, 2) + cls*trt"])
def test_the_merged_fit_is_the_pooled_fit(adata, fixed):
    random = ["sam", "sam:cls"]
    design = fsc.Design.of(adata.obs, fixed, random)
    merged = fsc.lmm(reduce(add, [summarize(adata[cells], design) for cells in by_cell(adata)]), ddf="satterthwaite")
    pooled = fsc.lmm(summarize(adata, design), ddf="satterthwaite")
    fsc.tl.lmm_de(adata, fixed, random, transform="log1p", nonnegative=False)
    for name in ("coef", "se", "t", "df", "p", "theta", "loglik"):
        np.testing.assert_allclose(getattr(merged, name), getattr(pooled, name), rtol=1e-9, atol=1e-10, err_msg=name)
    np.testing.assert_allclose(adata.varm["lmm_de_coef"], np.asarray(pooled.coef), rtol=1e-9, atol=1e-10)


def test_sums_add_up_in_any_order(adata):
    design = fsc.Design.of(adata.obs, "~ trt + scale(score)", {"donor": "sam", "both": "sam:cls"})
    rng = np.random.default_rng(0)
    parts = [summarize(adata[cells][:, rng.permutation(12)], design) for cells in by_donor(adata)]
    whole = summarize(adata, design)
    for a, b, c in permutations(parts):
        assert_same_sums((a + b) + c, whole)
        assert_same_sums(a + (b + c), whole)


def test_a_part_may_have_a_single_donor_and_lack_levels_of_the_treatment(adata):
    design = fsc.Design.of(adata.obs, "~ cls*trt", "sam")
    each = [summarize(adata[adata.obs["sam"] == f"s{k}"], design) for k in range(8)]
    assert {part.d for part in each} == {(1,)}
    assert_same_sums(reduce(add, each), summarize(adata, design))


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_loaded_design_is_the_saved_one(adata, tmp_path, formula):
    random = ["sam", {"slope: µ": "(0 + score|sam:cls)"}]
    design = fsc.Design.of(adata.obs, formula, random)
    design.save(tmp_path / "design.json")
    again = fsc.Design.load(tmp_path / "design.json")
    few = adata.obs.iloc[[3, 40, 77]]
    for part in (adata.obs, few):
        new, old = (one.fixed.rows(one.fixed.table(part)).toarray() for one in (again, design))
        np.testing.assert_array_equal(new, old)
    whole = model_matrix(formula, adata.obs, output="sparse").__wrapped__.toarray()
    np.testing.assert_allclose(again.fixed.rows(again.fixed.table(few)).toarray(), whole[[3, 40, 77]], atol=1e-12)
    assert repr(again) == repr(design)
    assert (again.names, again.random, again.fixed.levels) == (design.names, design.random, design.fixed.levels)
    assert again.origin("log1p") == design.origin("log1p")
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "design.json").read_bytes()


def test_parts_may_come_in_any_form(adata, tmp_path):
    design = fsc.Design.of(adata.obs, "~ trt + scale(score)", "sam")
    whole = summarize(adata, design)
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert_same_sums(summarize([tmp_path / "a.h5ad"], design), whole)
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    assert_same_sums(summarize(backed, design), whole)
    backed.file.close()
    adata.layers["csc"] = sp.csc_matrix(adata.X)
    adata.X = None
    masked = summarize(adata, design, layer="csc", mask_var="use")
    assert_same_sums(masked, whole.select(genes=adata.var_names[adata.var["use"]].tolist()))


def test_a_design_of_lazy_cells(adata, tmp_path):
    adata.write_h5ad(tmp_path / "a.h5ad")
    lazily = ad.experimental.read_lazy(tmp_path / "a.h5ad")
    design = fsc.Design.of(lazily.obs, "~ trt + scale(score)", "sam")
    expected = fsc.Design.of(adata.obs, "~ trt + scale(score)", "sam")
    assert_same_sums(summarize(lazily, design), summarize(adata, expected))


def test_adata_is_left_as_it_is(adata):
    before = adata.copy()
    summarize(adata, fsc.Design.of(adata.obs, "~ trt", "sam"))
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert not adata.varm
    assert not adata.uns


# What is refused


@pytest.mark.parametrize(
    ("fixed", "column", "level"),
    [
        ("~ cls", "cls", "T"),
        ("~ C(cls)", "cls", "T"),
        ("~ 0 + cls:score", "cls", "T"),
        ("~ C(cls, contr.sum)", "cls", "T"),
        ("~ C(day)", "day", 3),
        ("~ bs(score, df=4)", "score", 99.0),
    ],
)
def test_what_the_design_does_not_know_is_refused(adata, fixed, column, level):
    design = fsc.Design.of(adata.obs, fixed, "sam")
    part = adata[:40].copy()
    part.obs[column] = level
    with pytest.raises(ValueError, match=rf"{column}"):
        summarize(part, design)
    part.obs[column] = adata.obs[column].iloc[0]
    part.obs.loc[part.obs_names[3], column] = level
    with pytest.raises(ValueError, match=rf"{column}"):
        summarize(part, design)


def test_numbers_in_place_of_levels_are_refused(adata):
    """As a covariate they would fill the columns of the levels."""
    part = adata[:80].copy()
    adata.obs["day"] = adata.obs["day"].astype("category")
    design = fsc.Design.of(adata.obs, "~ day", "sam")
    with pytest.raises(ValueError, match=r"obs\['day'\] holds numbers, of which the design has levels"):
        summarize(part, design)
    part.obs["day"] = part.obs["day"].astype("category")
    assert_same_sums(summarize(part, design) + summarize(adata[80:], design), summarize(adata, design))
    part.obs["day"] = part.obs["day"].astype(str)
    with pytest.raises(ValueError, match="categories outside of the nominated levels"):
        summarize(part, design)


def test_factors_over_several_cells_are_refused(adata):
    for factor in ("I(score - np.mean(score))", "I(day / day.max())"):
        with pytest.raises(
            ValueError, match="depends in each cell on the values of other cells, which other parts don't"
        ):
            fsc.Design.of(adata.obs, f"~ {factor}", "sam")


def test_parts_with_other_designs_or_transforms_do_not_add_up(adata):
    half, rest = adata[:80].copy(), adata[80:].copy()
    design = fsc.Design.of(adata.obs, "~ trt + scale(score)", "sam")
    one = summarize(half, design)
    for other in (
        summarize(rest, fsc.Design.of(rest.obs, "~ trt + scale(score)", "sam")),
        summarize(rest, design, transform="log2p1"),
    ):
        with pytest.raises(ValueError, match=r"their origin differ, .*Make one design"):
            one + other
    with pytest.raises(ValueError, match="their coef_names differ"):
        one + summarize(rest, fsc.Design.of(adata.obs, "~ trt", "sam"))
    with pytest.raises(ValueError, match="their component_names differ"):
        one + summarize(rest, fsc.Design.of(adata.obs, "~ trt + scale(score)", "batch"))


def test_the_version_that_made_them_is_no_reason_against_adding(adata, monkeypatch):
    design = fsc.Design.of(adata.obs, "~ trt", "sam")
    one = summarize(adata[:80], design)
    monkeypatch.setattr("flashmm_sc._design.file.version", lambda _: "99")
    assert_same_sums(one + summarize(adata[80:], design), summarize(adata, design))


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", "3", '{"format": "flashmm-sc design 3"}', "not JSON", '{"format": "x"}', "[" * 10**5]
)
def test_what_is_no_design(tmp_path, content):
    path = tmp_path / "design.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"design\.json' holds no design of flashmm-sc"):
        fsc.Design.load(path)
    path.write_bytes(b"\x89HDF\xff\xfe")
    with pytest.raises(ValueError, match="holds no design of flashmm-sc"):
        fsc.Design.load(path)


def test_a_file_cut_off_is_no_design(adata, tmp_path):
    path = tmp_path / "design.json"
    fsc.Design.of(adata.obs, "~ trt", "sam").save(path)
    text = path.read_text()
    for size in range(0, len(text) - 1, 37):
        path.write_text(text[:size])
        with pytest.raises(ValueError, match="holds no design of flashmm-sc"):
            fsc.Design.load(path)
    found = json.loads(text)
    for key in set(found) - {"version"}:
        path.write_text(json.dumps({name: value for name, value in found.items() if name != key}))
        with pytest.raises(ValueError, match="holds no design of flashmm-sc"):
            fsc.Design.load(path)


@pytest.mark.parametrize("number", ["1", "2", "3.1", "x"])
def test_a_design_of_another_version(adata, tmp_path, number):
    path = tmp_path / "design.json"
    fsc.Design.of(adata.obs, "~ trt", "sam").save(path)
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | {"format": f"flashmm-sc design {number}"}))
    with pytest.raises(
        ValueError, match=rf"design\.json' holds a design in version {number} .*but version 3 is read here"
    ):
        fsc.Design.load(path)


def places(node, at=()):
    """The way to every node of a JSON document."""
    yield at
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from places(value, (*at, key))


def changed(found, at, value):
    """The document with another value in a place; None for none at all."""
    again = copy.deepcopy(found)
    node = reduce(lambda inner, key: inner[key], at[:-1], again)
    if value is None:
        del node[at[-1]]
    else:
        node[at[-1]] = value
    return again


def loaded(path):
    """The design, or in what words it is refused."""
    try:
        return fsc.Design.load(path)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("made_to_look_whole", [False, True])
@pytest.mark.parametrize(
    "fixed", ["~ trt*bs(score, df=4) + C(day, contr.sum)", "~ poly(score, 2) + scale(log(depth)):cls"]
)
def test_a_damaged_file_is_refused_in_our_words(adata, tmp_path, fixed, made_to_look_whole):
    """Whatever is missing or replaced; what is loaded all the same encodes cells, or refuses to in words that say so."""
    path = tmp_path / "design.json"
    fsc.Design.of(adata.obs, fixed, ["sam", "(0 + score|batch)"]).save(path)
    whole = json.loads(path.read_text())
    values = [None, "x +", [[1]]] if made_to_look_whole else [None, "x", 7]
    designs = []
    for at, value in product(list(places(whole))[1:], values):
        found = changed(whole, at, value)
        if made_to_look_whole and "digest" in found:
            found["digest"] = digest(found)
        path.write_text(json.dumps(found))
        design = loaded(path)
        if isinstance(design, str):
            assert design.startswith(f"{str(path)!r} holds ")
            assert re.search(r"holds (no design of flashmm-sc|a design in version)", design)
        else:
            designs.append(design)
            with contextlib.suppress(KeyError, ValueError):
                design.fixed.rows(design.fixed.table(adata.obs))
    assert made_to_look_whole or len(designs) == 3  # without, or with another, name of the version that wrote it


def test_the_file_holds_nothing_of_single_cells(adata, tmp_path):
    path = tmp_path / "design.json"
    fsc.Design.of(adata.obs, "~ trt*cls + scale(depth)", "sam").save(path)
    text = path.read_text()
    assert not any(name in text for name in [*adata.obs_names, *adata.obs["sam"].unique()])
    assert sum(str(depth) in text for depth in adata.obs["depth"]) <= 1  # their median


def test_design_of_is_checked_as_in_lmm_de(adata):
    with pytest.raises(KeyError, match="Did you mean 'trt'"):
        fsc.Design.of(adata.obs, "~ trtt", "sam")
    with pytest.raises(KeyError, match="Did you mean 'sam'"):
        fsc.Design.of(adata.obs, "~ trt", "samm")
    design = fsc.Design.of(adata.obs, "~ trt", "sam")
    with pytest.raises(KeyError, match="'trt', which is not a column"):
        summarize(ad.AnnData(adata.X, adata.obs[["sam"]]), design)
    with pytest.raises(TypeError, match=r"design must be a Design, of Design\.of or Design\.load, not str"):
        summarize(adata, "~ trt")
    with pytest.raises(ValueError, match="transform='log' is unknown"):
        summarize(adata, design, transform="log")
    assert fixed_design("~ trt", adata.obs).names == design.names
