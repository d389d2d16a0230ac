"""Sums over cells from every container, their names, and input that doesn't fit together."""

from __future__ import annotations

import dense_reference as dense
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import flashmm_sc as fsc
from flashmm_sc._base.selection import component_slices

SUMS = ["XX", "XY", "ZX", "ZY", "ZZ", "yy"]


def sums_of(stats: fsc.SummaryStats) -> dict[str, np.ndarray]:
    return {name: np.asarray(getattr(stats, name).todense() if name == "ZZ" else getattr(stats, name)) for name in SUMS}


def expected_sums(X, Y, Z) -> dict[str, np.ndarray]:
    X, Y, Z = (np.asarray(part, dtype=float) for part in (X, Y, Z))
    return {"XX": X.T @ X, "XY": X.T @ Y, "ZX": Z.T @ X, "ZY": Z.T @ Y, "ZZ": Z.T @ Z, "yy": (Y**2).sum(axis=0)}


def check_sums(stats, expected, rtol=1e-12):
    for name, value in sums_of(stats).items():
        np.testing.assert_allclose(value, expected[name], rtol=rtol, atol=rtol * np.abs(expected[name]).max(initial=0))


@pytest.fixture
def data():
    X, Z, d, Y = dense.example("crossed")
    return X, np.maximum(np.round(Y), 0), Z, d


# ---- sslmm -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", dense.DESIGNS)
def test_sums_are_those_of_the_definitions(name):
    X, Z, d, Y = dense.example(name)
    stats = fsc.sslmm(X, Y, Z, d)
    check_sums(stats, expected_sums(X, Y, Z))
    assert (stats.n, stats.d, stats.n_genes) == (len(X), d, Y.shape[1])
    assert sp.issparse(stats.ZZ)


@pytest.mark.parametrize("design", [np.asarray, sp.csr_matrix, sp.csc_array, sp.coo_array, pd.DataFrame])
@pytest.mark.parametrize("values", [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array, sp.csc_array, pd.DataFrame])
def test_containers(data, design, values):
    X, Y, Z, d = data
    check_sums(fsc.sslmm(design(X), values(Y), design(Z), d), expected_sums(X, Y, Z))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "bool", "float16", "float32", "float64"])
def test_types_of_numbers(dtype):
    """Squares and sums must not overflow the type that the counts come in."""
    rng = np.random.default_rng(0)
    Y = rng.integers(0, 2 if dtype == "bool" else 120, (500, 3)).astype(dtype)
    X, Z = np.ones((500, 1), dtype), np.eye(4, dtype=dtype)[np.arange(500) % 4]
    for kind in (np.asarray, *([] if dtype == "float16" else [sp.csr_array, sp.csc_array])):
        stats = fsc.sslmm(X, kind(Y), Z)
        check_sums(stats, expected_sums(X, Y, Z), rtol=0)
        assert all(value.dtype == np.float64 for value in sums_of(stats).values())


def test_float32_is_summed_in_double_precision():
    Y = np.full((100_000, 1), 0.1, dtype=np.float32)
    stats = fsc.sslmm(np.ones((100_000, 1)), Y, np.eye(2)[np.arange(100_000) % 2])
    np.testing.assert_allclose(stats.XY, Y.astype(float).sum(), rtol=1e-11)


def test_design_of_mixed_columns(data):
    """As pandas makes them: booleans beside numbers."""
    X, Y, Z, d = data
    table = pd.DataFrame({"one": np.ones(len(X), int), "treated": np.arange(len(X)) % 2 == 0, "depth": X[:, 4]})
    stats = fsc.sslmm(table, Y, Z, d)
    check_sums(stats, expected_sums(table.to_numpy(float), Y, Z))
    assert list(stats.coef_names) == ["one", "treated", "depth"]


def test_one_gene_one_column(data):
    X, Y, Z, _ = data
    check_sums(fsc.sslmm(X[:, 0], Y[:, 0], Z[:, :7]), expected_sums(X[:, :1], Y[:, :1], Z[:, :7]))
    check_sums(fsc.sslmm(X, pd.Series(Y[:, 0]), Z), expected_sums(X, Y[:, :1], Z))


@pytest.mark.parametrize(("d", "expected"), [(None, (11,)), (11, (11,)), ((7, 4), (7, 4)), (np.array([7, 4]), (7, 4))])
def test_columns_of_the_components(data, d, expected):
    X, Y, Z, _ = data
    assert fsc.sslmm(X, Y, Z, d).d == expected


def test_names(data):
    X, Y, Z, d = data
    stats = fsc.sslmm(X, Y, Z, d)
    assert list(stats.coef_names) == ["x1", "x2", "x3", "x4", "x5"]
    assert list(stats.gene_names) == ["gene1", "gene2", "gene3", "gene4", "gene5", "gene6"]
    assert list(stats.component_names) == ["var1", "var2"]
    assert list(stats.ranef_names) == [f"z{k + 1}" for k in range(11)]
    labelled = fsc.sslmm(pd.DataFrame(X).add_prefix("c"), pd.DataFrame(Y), pd.DataFrame(Z).add_prefix("s"), d)
    assert list(labelled.coef_names) == [f"c{j}" for j in range(5)]
    assert list(labelled.gene_names) == ["0", "1", "2", "3", "4", "5"]
    assert list(labelled.ranef_names) == [f"s{j}" for j in range(11)]


@settings(max_examples=30)
@given(
    hnp.arrays(float, (12, 3), elements=st.floats(-1e6, 1e6)),
    st.integers(1, 11),
    st.permutations(range(12)),
    st.sampled_from([np.asarray, sp.csr_array, sp.csc_array]),
)
def test_sums_add_over_cells_in_any_order(Y, cut, order, kind):
    rng = np.random.default_rng(0)
    X, Z = rng.normal(size=(12, 2)), np.eye(3)[np.arange(12) % 3]
    whole = sums_of(fsc.sslmm(X, kind(Y), Z))
    parts = [sums_of(fsc.sslmm(X[cells], kind(Y[cells]), Z[cells])) for cells in (order[:cut], order[cut:])]
    for name in SUMS:
        size = np.abs(whole[name]).max() + np.abs(parts[0][name]).max()
        np.testing.assert_allclose(parts[0][name] + parts[1][name], whole[name], rtol=1e-9, atol=1e-9 * size)


@pytest.mark.parametrize("n_jobs", [1, 2, 7, -1])
def test_threads_make_no_difference(data, n_jobs):
    X, Y, Z, d = data
    one = sums_of(fsc.sslmm(X, sp.csr_array(Y), Z, d))
    check_sums(fsc.sslmm(X, sp.csr_array(Y), Z, d, n_jobs=n_jobs), one)


def test_data_are_left_as_they_were(data):
    X, Y, Z, d = data
    Y = sp.csr_array((np.ones(4), ([0, 0, 1, 1], [1, 1, 2, 0])), shape=Y.shape)  # an entry twice, out of order
    before = Y.copy()
    stats = fsc.sslmm(X, Y, Z, d)
    check_sums(stats, expected_sums(X, before.toarray(), Z))
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(Y, name), getattr(before, name))


@pytest.mark.parametrize("short", ["X", "Y", "Z"])
def test_numbers_of_cells_differ(data, short):
    X, Y, Z, d = data
    parts = {"X": X, "Y": Y, "Z": Z}
    parts[short] = parts[short][:-1]
    with pytest.raises(ValueError, match=r"one row a cell.*59.*cells × genes"):
        fsc.sslmm(*parts.values(), d)


def test_genes_by_cells_as_in_flashmm(data):
    X, Y, Z, d = data
    with pytest.raises(ValueError, match="transpose"):
        fsc.sslmm(X, Y.T, Z, d)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["X", "Y", "Z"])
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array, sp.csc_array])
def test_values_that_are_no_numbers(data, where, bad, kind):
    X, Y, Z, d = data
    parts = {"X": X.copy(), "Y": Y.copy(), "Z": Z.copy()}
    parts[where][3, 2] = bad
    words = "row 3, column 2" if where == "Y" else f"design {where} holds NaN or infinite"
    with pytest.raises(ValueError, match=words):
        fsc.sslmm(*(kind(part) for part in parts.values()), d)


# ---- SummaryStats ----------------------------------------------------------------------------------------------------


@pytest.fixture
def parts(data):
    X, Y, Z, d = data
    return expected_sums(X, Y, Z) | {"n": len(X), "d": d}


def test_sums_put_together_by_hand(data, parts):
    X, Y, Z, d = data
    by_hand, computed = fsc.lmm(fsc.SummaryStats(**parts), nonnegative=True), fsc.lmmfit(Y, X, Z, d, nonnegative=True)
    np.testing.assert_allclose(by_hand.coef, computed.coef, rtol=1e-9)
    np.testing.assert_allclose(by_hand.theta, computed.theta, rtol=1e-9)


def test_names_from_data_frames(parts):
    genes, coefs, levels = [f"g{j}" for j in range(6)], list("abcde"), [f"level{k}" for k in range(11)]
    parts["XX"] = pd.DataFrame(parts["XX"], coefs, coefs)
    parts["XY"] = pd.DataFrame(parts["XY"], coefs, genes)
    parts["ZX"] = pd.DataFrame(parts["ZX"], levels, coefs)
    parts["ZY"] = pd.DataFrame(parts["ZY"], levels, genes)
    parts["ZZ"] = pd.DataFrame(parts["ZZ"], levels, levels)
    parts["yy"] = pd.Series(parts["yy"], genes)
    stats = fsc.SummaryStats(**parts)
    assert [list(stats.coef_names), list(stats.gene_names), list(stats.ranef_names)] == [coefs, genes, levels]
    assert list(fsc.SummaryStats(**parts, gene_names=list("uvwxyz")).gene_names) == list("uvwxyz")
    assert list(fsc.lmm(stats).coef.columns) == coefs


def test_yy_as_a_column_will_do(parts):
    check_sums(fsc.SummaryStats(**{**parts, "yy": parts["yy"][:, None]}), parts)


def test_repr(parts):
    assert repr(fsc.SummaryStats(**parts)) == (
        "SummaryStats of 60 cells × 6 genes: 5 fixed columns, 11 random columns in (7, 4)"
    )


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("XX", lambda a: a[:, :4], r"XX has shape \(5, 4\) where \(5, 5\)"),
        ("XY", lambda a: a[:4], r"XY has shape \(4, 6\) where \(5, 6\)"),
        ("ZX", lambda a: a[:, :4], r"ZX has shape \(11, 4\) where \(11, 5\)"),
        ("ZY", lambda a: a[:, :4], r"ZY has shape \(11, 4\) where \(11, 6\)"),
        ("ZZ", lambda a: a[:4], r"ZZ has shape \(4, 11\) where \(11, 11\)"),
        ("yy", lambda a: a[:4], r"yy has shape \(4,\) where \(6,\)"),
        ("d", lambda d: (7, 5), r"d=\(7, 5\) should hold the columns of each random component, 11 in total"),
        ("d", lambda d: (11, 0), r"d=\(11, 0\)"),
        ("d", lambda d: (12, -1), r"d=\(12, -1\)"),
        ("d", lambda d: 10, r"d=\(10,\)"),
    ],
)
def test_shapes_that_disagree(parts, name, change, words):
    parts[name] = change(parts[name])
    with pytest.raises(ValueError, match=words):
        fsc.SummaryStats(**parts)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", SUMS)
def test_sums_that_are_no_numbers(parts, name, bad):
    parts[name].flat[0] = bad
    with pytest.raises(ValueError, match=f"{name} holds NaN or infinite values"):
        fsc.SummaryStats(**parts)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"coef_names": list("abcda")}, "unique; 'a' occur"),
        ({"gene_names": list("aabbcd")}, "unique; 'a', 'b' occur"),
        ({"component_names": ["sam", "sam"]}, "unique; 'sam' occur"),
        ({"coef_names": list("abcd")}, "4 names for 5"),
        ({"gene_names": ["a"]}, "1 names for 6"),
        ({"component_names": ["sam"]}, "1 names for 2"),
    ],
    ids=str,
)
def test_names_that_are_wrong(parts, names, words):
    with pytest.raises(ValueError, match=words):
        fsc.SummaryStats(**parts, **names)


def test_component_named_as_the_residual(parts):
    with pytest.raises(ValueError, match="residual"):
        fsc.SummaryStats(**parts, component_names=["sam", "residual"])


@pytest.mark.parametrize(
    ("name", "change"), [("XY", lambda a: a[:, 0]), ("XX", sp.csr_array), ("ZX", sp.csr_array)], ids=["XY", "XX", "ZX"]
)
def test_arrays_of_another_kind_are_refused_in_words(parts, name, change):
    parts[name] = change(parts[name])
    with pytest.raises(ValueError, match=name):
        fsc.SummaryStats(**parts)


@pytest.mark.parametrize(("name", "change"), [("n", lambda n: n + 0.5), ("yy", lambda yy: yy * 0.01)], ids=["n", "yy"])
def test_sums_that_contradict_each_other(parts, name, change):
    parts[name] = change(parts[name])
    with pytest.raises(ValueError, match=name):
        fsc.lmm(fsc.SummaryStats(**parts))


def test_component_slices():
    assert component_slices((3, 1, 2)) == [slice(0, 3), slice(3, 4), slice(4, 6)]


@pytest.mark.parametrize("name", ["XX", "ZZ"])
def test_sums_of_products_are_symmetric(parts, name):
    matrix = np.array(parts[name].todense() if sp.issparse(parts[name]) else parts[name], dtype=float)
    rounded = matrix.copy()
    rounded[0, 1] *= 1 + 1e-13
    assert fsc.SummaryStats(**(parts | {name: rounded})).n == parts["n"]
    matrix[0, 1] += 0.01 * matrix.max()
    with pytest.raises(ValueError, match=rf"{name} must be symmetric"):
        fsc.SummaryStats(**(parts | {name: matrix}))


@pytest.mark.parametrize("place", ["X", "Y", "Z", "weights"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda values: np.ma.masked_less(values, 0.5), "masked values"),
        (lambda values: values + 1j, "real numbers, not complex128"),
        (lambda values: values.astype("datetime64[s]"), "real numbers, not datetime64"),
    ],
    ids=["masked", "complex", "dates"],
)
def test_what_would_be_lost_as_real_numbers(data, place, change, words):
    X, Y, Z, d = data
    parts = {"X": X, "Y": Y, "Z": np.asarray(Z), "d": d, "weights": np.arange(len(X)) + 1.0}
    parts[place] = change(np.asarray(parts[place], dtype=float) if place != "weights" else parts[place] - 0.9)
    with pytest.raises(ValueError, match=f"{place} .*{words}"):
        fsc.sslmm(**parts)
