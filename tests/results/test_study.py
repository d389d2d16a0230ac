"""A list of AnnData and files is one study: results are those of the pooled AnnData, and messages name the part."""

from __future__ import annotations

from itertools import pairwise

import anndata as ad
import h5py
import numpy as np
import pytest
import scipy.sparse as sp
from containers import assert_unchanged
from same_results import assert_equal_results, run

import flashmm_sc as fsc

CUTS = (0, 50, 51, 160)


@pytest.fixture
def parts(adata):
    """The cells in three parts, the second of a single cell."""
    return [adata[a:b].copy() for a, b in pairwise(CUTS)]


KINDS = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": lambda X: X.toarray()}
ALIKE = ["AnnData", "h5ad", "zarr", "backed", "lazy"]


@pytest.mark.parametrize(
    ("how", "kind"), [*((how, "csr") for how in ALIKE), *(("each another", kind) for kind in KINDS), ("lazy", "csc")]
)
def test_a_list_is_analysed_as_the_pooled_cells(adata, parts, tmp_path, how, kind):
    ways = {
        "AnnData": lambda part, path: part,
        "h5ad": lambda part, path: part.write_h5ad(f"{path}.h5ad") or f"{path}.h5ad",
        "zarr": lambda part, path: part.write_zarr(f"{path}.zarr") or tmp_path / f"{path}.zarr",
        "backed": lambda part, path: part.write_h5ad(f"{path}.h5ad") or ad.read_h5ad(f"{path}.h5ad", backed="r"),
        "lazy": lambda part, path: part.write_h5ad(f"{path}.h5ad") or ad.experimental.read_lazy(f"{path}.h5ad"),
    }
    order = ["AnnData", "h5ad", "zarr"] if how == "each another" else [how] * 3
    several = []
    for i, (part, way) in enumerate(zip(parts, order, strict=True)):
        part.X = KINDS[kind](part.X)
        several.append(ways[way](part, tmp_path / str(i)))
    joint = run(several)
    assert joint.shape == (0, adata.n_vars)
    assert_equal_results(joint, run(adata))
    for one in several:
        if isinstance(one, ad.AnnData) and one.isbacked:
            one.file.close()


@pytest.mark.parametrize(
    "options",
    [
        {"layer": "twice"},
        {"use_raw": True},
        {"mask_var": "use"},
        {"fixed": "~ trt", "groupby": "cls"},
        {"fixed": "~ trt + scale(score) + I(score > np.mean(score)):cls"},
        {"random": ["sam", "batch"], "contrasts": {"difference": "cls[B]:trt[T.B] - cls[NK]:trt[T.B]"}},
    ],
    ids=lambda options: next(iter(options)) + str(len(options)),
)
def test_with_the_options_of_one_anndata(adata, tmp_path, options):
    adata.layers["twice"] = sp.csc_matrix(2 * adata.X)
    adata.raw = ad.AnnData(adata.X[:, ::-1].copy(), var=adata.var.iloc[::-1])
    parts = [adata[a:b].copy() for a, b in pairwise(CUTS)]
    parts[2].write_h5ad(tmp_path / "last.h5ad")
    joint = run([*parts[:2], tmp_path / "last.h5ad"], **options)
    assert_equal_results(joint, run(adata, **options))


def test_the_genes_that_all_have_in_the_order_of_the_first(adata, parts, tmp_path):
    first, second, third = parts
    parts = [first[:, ::-1].copy(), second, third[:, [3, 0, 7, 9, 4]].copy()]
    parts[2].write_zarr(tmp_path / "last.zarr")
    joint = run([*parts[:2], tmp_path / "last.zarr"])
    assert list(joint.var_names) == ["gene9", "gene7", "gene4", "gene3", "gene0"]
    assert_equal_results(joint, run(adata[:, [0, 3, 4, 7, 9]].copy()))
    masked = run([*parts[:2], tmp_path / "last.zarr"], mask_var=[False, True, True, False, True])
    np.testing.assert_array_equal(np.isnan(masked.varm["lmm_de_coef"][:, 0]), [True, False, False, True, False])


def test_the_reference_level_is_not_that_of_the_first_file(adata, tmp_path):
    """Each file knows only its own categories; sorted, as they are in most files, they are united sorted."""
    for trt in "AB":
        adata[adata.obs["trt"] == trt].copy().write_h5ad(tmp_path / f"{trt}.h5ad")
    joint = run([tmp_path / "B.h5ad", tmp_path / "A.h5ad"], "~ trt + cls")
    assert list(joint.uns["lmm_de"]["coef_names"]) == ["Intercept", "trt[T.B]", "cls[T.NK]"]
    assert_equal_results(joint, run(adata, "~ trt + cls"))


def test_an_order_of_categories_that_is_not_sorted_is_kept(adata, parts):
    for part in (adata, *parts):
        part.obs["trt"] = part.obs["trt"].astype("category").cat.set_categories(["B", "A"])
    joint = run(parts, "~ trt + cls")
    assert list(joint.uns["lmm_de"]["coef_names"]) == ["Intercept", "trt[T.A]", "cls[T.NK]"]
    assert_equal_results(joint, run(adata, "~ trt + cls"))


def test_other_columns_need_not_agree(adata, parts):
    parts[0].obs["only here"] = 1
    del parts[1].obs["batch"]
    parts[2].obs["batch"] = 3.5
    assert_equal_results(run(parts), run(adata))


def test_results_go_to_a_new_anndata(adata, parts):
    before = [part.copy() for part in parts]
    joint = run(parts, ranef=True, contrasts={"t": "cls[B]:trt[T.B]"})
    assert list(joint.var.columns) == ["use"]
    assert "lmm_de_contrasts" in joint.uns
    assert joint.uns["lmm_de"]["params"]["n_obs"] == 160
    assert not fsc.get.lmm_de_df(joint).empty
    fsc.tl.lmm_test(joint, {"u": "cls[B]:trt[T.B] - cls[NK]:trt[T.B]"})
    for part, was in zip(parts, before, strict=True):
        assert_unchanged(part, was)


# What is refused


def repeated_genes(parts):
    parts[1].var_names = ["gene0"] * 12


def other_genes(parts):
    parts[1].var_names = [f"ENSG{j}" for j in range(12)]


def no_trt(parts):
    del parts[1].obs["trt"]


def set_obs(column, values):
    return lambda parts: parts[1].obs.__setitem__(column, values)


def logged(parts):
    for part, base in zip(parts, (None, 2, None), strict=True):
        part.X = part.X / 7
        part.uns["log1p"] = {"base": base}


REFUSED = {
    "repeated genes": (repeated_genes, {}, ValueError, ["adata[1]: var_names are not unique: 'gene0'"]),
    "no gene in common": (other_genes, {}, ValueError, ["'adata[0]', 'adata[1]', 'adata[2]' have no gene in common"]),
    "a missing column": (no_trt, {}, KeyError, ["for adata[1] uses 'trt', which is not a column of obs"]),
    "a missing column of groups": (no_trt, {"groupby": "trt", "fixed": "~ 1"}, KeyError, ["adata[1]", "'trt'"]),
    "numbers among words": (
        set_obs("cls", 3),
        {},
        ValueError,
        ["obs['cls'] holds words in adata[0] but numbers in adata[1]"],
    ),
    "words among numbers": (
        set_obs("score", "high"),
        {"fixed": "~ score"},
        ValueError,
        ["numbers in adata[0] but words in"],
    ),
    "missing values": (set_obs("trt", None), {}, ValueError, ["obs['trt']", "NaN in 1 of 160 cells"]),
    "different logarithms": (logged, {"transform": None}, ValueError, ["logarithms to different bases", "'2.0', '2.7"]),
    "a layer that one lacks": (
        lambda parts: parts[0].layers.__setitem__("log", parts[0].X),
        {"layer": "log"},
        KeyError,
        ["adata[1]", "layer='log'"],
    ),
    "no raw": (
        lambda parts: setattr(parts[0], "raw", parts[0]),
        {"use_raw": True},
        ValueError,
        ["adata[1]", "raw is None"],
    ),
    "a mask of another length": (None, {"mask_var": [True, False]}, ValueError, ["mask_var must hold", "(12)"]),
    "copy": (None, {"copy": True}, ValueError, ["copy=True is for one AnnData"]),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.filterwarnings("ignore:Variable names are not unique")  # where that is what is refused
def test_what_is_refused_is_named(parts, case):
    change, options, kind, words = REFUSED[case]
    if change:
        change(parts)
    before = [part.copy() for part in parts]
    with pytest.raises(kind) as caught:
        run(parts, **options)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    for part, was in zip(parts, before, strict=True):
        assert_unchanged(part, was)


@pytest.mark.parametrize(
    ("sources", "kind", "words"),
    [
        ([], ValueError, "adata is an empty list"),
        ("a.h5ad", TypeError, "must be an AnnData, not str; a list"),
        (iter([]), TypeError, "must be an AnnData, not list_iterator"),
        ([3], TypeError, r"adata\[0\] must be an AnnData or the path of a file, not int"),
        (["nowhere.h5ad"], FileNotFoundError, "There is no file 'nowhere.h5ad'"),
        (["all.h5mu"], ValueError, r"'all\.h5mu' holds MuData; give a modality, mudata\.read_h5mu"),
    ],
    ids=["empty", "a str", "an iterator", "a number", "no file", "MuData"],
)
def test_what_is_no_list_of_anndata_and_files(sources, kind, words):
    with pytest.raises(kind, match=words):
        run(sources)


def test_categories_that_are_numbers_are_not_mixed_with_numbers(adata, parts):
    """Concatenated, they would be a covariate."""
    for i, part in enumerate(parts):
        part.obs["day"] = np.arange(part.n_obs) % 3
        part.obs["day"] = part.obs["day"].astype("category" if i != 1 else int)
    with pytest.raises(
        ValueError, match=r"obs\['day'\] holds categories of type int64 in adata\[0\] but numbers in adata"
    ):
        run(parts, "~ day")
    parts[1].obs["day"] = parts[1].obs["day"].astype(float).astype("category")
    with pytest.raises(
        ValueError, match=r"categories of type int64 in adata\[0\] but categories of type float64 in adata"
    ):
        run(parts, "~ day")


def test_words_may_be_stored_in_several_ways(adata, parts):
    for part, dtype in zip(parts, ("object", "string", "object"), strict=True):
        levels = part.obs["cls"].astype(dtype).astype("category")
        part.obs["cls"] = levels.cat.rename_categories(levels.cat.categories.astype(dtype))
    assert_equal_results(run(parts), run(adata))


def test_a_bad_value_is_named_with_its_file(parts, tmp_path):
    parts[2].X[70, 4] = np.nan
    parts[2].write_h5ad(tmp_path / "third.h5ad")
    with pytest.raises(ValueError, match=r"holds nan at cell 'cell121', gene 'gene4' of '.*third.h5ad'"):
        run([*parts[:2], tmp_path / "third.h5ad"])


def test_a_damaged_matrix_is_named_with_its_file(parts, tmp_path):
    for i, part in enumerate(parts):
        part.write_h5ad(tmp_path / f"{i}.h5ad")
    with h5py.File(tmp_path / "2.h5ad", "r+") as file:
        file["X/indices"][10] = 99
    with pytest.raises(OSError, match=r"2\.h5ad'.*an index lies outside of the 12 there are"):
        run([tmp_path / f"{i}.h5ad" for i in range(3)])


def test_what_is_given_twice_is_refused(parts, tmp_path):
    with pytest.raises(
        ValueError, match=r"adata\[2\] is in the list before, as adata\[0\]: its cells would count twice"
    ):
        run([parts[0], parts[1], parts[0]])
    parts[0].write_h5ad(tmp_path / "a.h5ad")
    (tmp_path / "link.h5ad").symlink_to(tmp_path / "a.h5ad")
    for again in (tmp_path / "a.h5ad", f"{tmp_path}/./a.h5ad", tmp_path / "link.h5ad"):
        with pytest.raises(ValueError, match=r"adata\[1\] is in the list before, as adata\[0\]"):
            run([tmp_path / "a.h5ad", again])
