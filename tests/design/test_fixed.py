"""The fixed design: columns as in R, and an error that says what, where and what to do for each bad input."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from flashmm_sc._design.fixed import check_full_rank, fixed_design


@pytest.fixture
def obs():
    """Two cells of each cell type and treatment; sample names as people write them."""
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"cls": np.repeat(["1", "2", "3"], 4), "trt": list("AABB") * 3})
    obs["sam"] = obs["trt"] + list("1212" * 3)
    obs["libsize"] = rng.integers(100, 200, 12)
    obs["score"] = rng.normal(size=12)
    obs["cell type"] = pd.Categorical(obs["cls"]).rename_categories(["CD4+/CD25 T:reg", "B [naive]", "NK"])
    obs["percent.mt"] = rng.uniform(size=12)
    return obs.set_index(pd.Index(["cell"] * 12))  # names of cells need not be unique


def rows_of(design, obs):
    return design.rows(design.table(obs))


def check(formula, obs):
    design = fixed_design(formula, obs)
    rows = rows_of(design, obs)
    check_full_rank(design, (rows.T @ rows).toarray(), obs)


def message(formula, obs, error=ValueError):
    with pytest.raises(error) as caught:
        check(formula, obs)
    return str(caught.value.args[0])


@pytest.mark.parametrize(
    ("formula", "names"),
    [  # columns of R's model.matrix; R writes clsX for cls[X] and cls[T.X]
        (
            "~ 0 + log(libsize) + cls + cls:trt",
            ["log(libsize)", "cls[1]", "cls[2]", "cls[3]", "cls[1]:trt[T.B]", "cls[2]:trt[T.B]", "cls[3]:trt[T.B]"],
        ),
        ("~ trt", ["Intercept", "trt[T.B]"]),
        (
            "~ cls * trt",
            ["Intercept", "cls[T.2]", "cls[T.3]", "trt[T.B]", "cls[T.2]:trt[T.B]", "cls[T.3]:trt[T.B]"],
        ),
        ("~ cls/trt", ["Intercept", "cls[T.2]", "cls[T.3]", "cls[1]:trt[T.B]", "cls[2]:trt[T.B]", "cls[3]:trt[T.B]"]),
        ("~ 0 + cls:score", ["cls[1]:score", "cls[2]:score", "cls[3]:score"]),
        ("trt", ["Intercept", "trt[T.B]"]),
    ],
)
def test_columns_are_those_of_r(obs, formula, names):
    assert fixed_design(formula, obs).names == names


def test_matrix_terms_and_levels(obs):
    design = fixed_design("~ log(libsize) + cls + cls:trt", obs)
    b, a = (obs["trt"] == "B").to_numpy(), obs["cls"].to_numpy()
    expected = [np.ones(12), np.log(obs["libsize"]), a == "2", a == "3", (a == "1") & b, (a == "2") & b, (a == "3") & b]
    rows = rows_of(design, obs)
    assert type(rows).__name__ == "csr_array"
    assert rows.dtype == np.float64
    assert rows.has_canonical_format
    np.testing.assert_allclose(rows.toarray(), np.column_stack(expected))
    assert design.terms == {"Intercept": [0], "log(libsize)": [1], "cls": [2, 3], "cls:trt": [4, 5, 6]}
    assert design.levels == {"cls": ["1", "2", "3"], "trt": ["A", "B"]}
    check("~ log(libsize) + cls + cls:trt", obs)


def test_spec_encodes_other_rows_alike(obs):
    design = fixed_design("~ 0 + center(score) + cls", obs)
    table = design.table(obs)
    np.testing.assert_allclose(design.rows(table.iloc[8:]).toarray(), design.rows(table).toarray()[8:])


def test_unused_categories_leave_no_column(obs):
    obs["cls"] = pd.Categorical(obs["cls"], categories=["3", "9", "2", "1"])
    design = fixed_design("~ 0 + cls", obs)
    assert design.names == ["cls[3]", "cls[2]", "cls[1]"]
    assert list(obs["cls"].cat.categories) == ["3", "9", "2", "1"]


def test_reference_level_stands_first(obs):
    design = fixed_design("~ C(trt, Treatment('B')) + C(cls, levels=['2', '1', '3'])", obs)
    assert design.names[1:] == [
        "C(trt, Treatment('B'))[T.A]",
        "C(cls, levels=['2', '1', '3'])[T.1]",
        "C(cls, levels=['2', '1', '3'])[T.3]",
    ]
    assert list(design.levels.values()) == [["B", "A"], ["2", "1", "3"]]


def test_odd_names_of_columns_and_levels(obs):
    assert fixed_design("~ 0 + `cell type` + percent.mt + log(`percent.mt`)", obs).names == [
        "cell type[CD4+/CD25 T:reg]",
        "cell type[B [naive]]",
        "cell type[NK]",
        "percent.mt",
        "log(`percent.mt`)",
    ]


@pytest.mark.parametrize("dtype", ["bool", "boolean", "int8", "uint16", "Int64", "float32", "Float64"])
def test_numbers_and_booleans_are_one_covariate(obs, dtype):
    obs["x"] = np.tile([0, 1, 1], 4).astype(bool)
    obs["x"] = obs["x"].astype(dtype)
    design = fixed_design("~ x", obs)
    assert design.names == ["Intercept", "x"]
    np.testing.assert_array_equal(rows_of(design, obs).toarray()[:, 1], np.tile([0, 1, 1], 4))


@pytest.mark.parametrize("dtype", ["object", "string", "category"])
def test_text_is_a_factor(obs, dtype):
    obs["trt"] = obs["trt"].astype(dtype)
    assert fixed_design("~ trt", obs).names == ["Intercept", "trt[T.B]"]


def test_small_integers_do_not_overflow(obs):
    obs["x"] = np.full(12, 200, dtype=np.uint8)
    np.testing.assert_array_equal(rows_of(fixed_design("~ 0 + I(x**2)", obs), obs).toarray()[:, 0], 40_000)


def test_columns_named_like_functions(obs):
    obs["scale"] = obs["score"]
    design = fixed_design("~ 0 + scale", obs)
    np.testing.assert_allclose(rows_of(design, obs).toarray()[:, 0], obs["score"])
    obs.iloc[0, obs.columns.get_loc("scale")] = np.nan
    assert "obs['scale']" in message("~ scale", obs)


@pytest.mark.parametrize(
    "formula", ["~ libsiz", "~ log(libsiz)", "~ bs(libsiz, df=3)", "~ center(log(libsiz))", "~ Q('libsiz')"]
)
def test_missing_column(obs, formula):
    text = message(formula, obs, KeyError)
    assert f"fixed={formula!r} uses 'libsiz', which is not a column of obs. Did you mean 'libsize'?" in text


def test_missing_column_that_wants_backticks(obs):
    assert "Did you mean 'percent.mt'? Quote a name that is not a plain word" in message(
        "~ log(percent.mt)", obs, KeyError
    )


@pytest.mark.parametrize(
    "formula", ["~ np.log1p(libsize)", "~ C(trt, contr.sum)", "~ {np.array([abs(x) for x in score])}", "~ Q('score')"]
)
def test_functions_are_not_columns(obs, formula):
    assert len(fixed_design(formula, obs).names) == 2


def test_local_variables_are_not_columns(obs):
    localvar = np.arange(12)
    assert "'localvar'" in message("~ localvar", obs, KeyError)
    assert localvar.size == 12


@pytest.mark.parametrize("column", ["score", "cls"])
def test_missing_values(obs, column):
    obs[column] = obs[column].where(np.arange(12) > 2)
    assert f"obs['{column}'], which fixed='~ {column}' uses, is NaN in 3 of 12 cells" in message(f"~ {column}", obs)


def test_missing_values_elsewhere_do_not_matter(obs):
    obs["other"] = np.nan
    check("~ trt", obs)


def test_transform_that_is_not_finite(obs):
    obs["x"] = np.arange(12) // 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "term 'log(x)' of fixed='~ trt + log(x)' is NaN or infinite in 2 of 12" in message("~ trt + log(x)", obs)
        assert "is NaN or infinite in 1 of 11" in message("~ trt + log(x)", obs.iloc[1:])
        assert "'log(x - 3)' in fixed='~ log(x - 3)' is NaN in some cells" in message("~ log(x - 3)", obs)


@pytest.mark.parametrize(
    ("formula", "part"),
    [
        ("~ trt +", "can't be read as a formula: Operator `+`"),
        ("~ (trt", "can't be read as a formula"),
        ("~ {trt +}", "can't be read as a formula"),
        ("~ .", "can't be read as a formula"),
        ("~ 'trt'", "String literals are not valid"),
        ("score ~ trt", "has a left-hand side"),
        ("~ trt | sam", "several parts, but one is wanted. Random terms go to random="),
        ("~ trt + (1|sam)", "Random terms go to random="),
        ("~ 0", "without columns"),
        ("~ foo(score)", "calls foo(), which is a function neither of formulaic nor of Python. Compute it before"),
        ("~ log(score, 2)", "'log(score, 2)' in fixed='~ log(score, 2)' can't be evaluated"),
        ("~ np.unique(libsize > 150)", "has 2 values for 12 cells"),
        ("~ C(trt, levels=['A'])", "outside of the nominated levels"),
    ],
)
def test_unusable_formula(obs, formula, part):
    text = message(formula, obs)
    assert f"fixed={formula!r}" in text
    assert part in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("formula", "instead"),
    [
        ("~ relevel(trt, ref='B') + cls", "C(trt, contr.treatment('B'))"),
        ("~ relevel(trt, 'B')", "C(trt, contr.treatment('B'))"),
        ('~ relevel(`cell type`, ref = "NK")', 'C(`cell type`, contr.treatment("NK"))'),
        ("~ factor(trt)", "C(trt)"),
        ("~ I(score + as.numeric(trt))", ".astype(float)"),
        ("~ score * as.factor(cls)", "C(cls)"),
        ("~ as.factor(`cell type`)", "C(`cell type`)"),
        ("~ ordered(cls)", "C(cls, contr.poly)"),
        ("~ ns(score, df = 3)", "cr(score, df=4, constraints='center')"),
        ("~ splines::ns(score, 3)", "cr(score, df=4, constraints='center')"),
        ("~ s(score)", "bs(score, df=4)"),
        ("~ I(score^2)", "x**2"),
        ("~ I(libsize^2)", "x**2"),
        ("~ {libsize^2}", "x**2"),
        ("~ poly(score, 2, raw = TRUE)", "write True"),
        ("~ scale(score, scale=FALSE)", "write False"),
        ("~ sqrt(libsize)", "np.sqrt(...)"),
        ("~ ifelse(score > 0, 1, 0)", "np.where(condition, a, b)"),
        ("~ trt + offset(log(libsize))", "subtract it from the expression before, as a layer"),
        ("~ cut(score, 3)", "pandas.cut"),
        ("~ as.numeric(trt)", ".astype(float)"),
    ],
)
def test_what_r_has_is_refused_with_what_to_write_instead(obs, formula, instead):
    text = message(formula, obs)
    assert f"fixed={formula!r}" in text
    assert instead in text


@pytest.mark.parametrize(
    ("formula", "names"),
    [
        ("~ C(trt, contr.treatment('B'))", ["C(trt, contr.treatment('B'))[T.A]"]),
        ("~ C(cls, contr.poly)", ["C(cls, contr.poly)[.L]", "C(cls, contr.poly)[.Q]"]),
        (
            "~ cr(score, df=4, constraints='center')",
            [f"cr(score, df=4, constraints='center')[{k}]" for k in (1, 2, 3, 4)],
        ),
        ("~ poly(score, degree = 2)", ["poly(score, degree=2)[1]", "poly(score, degree=2)[2]"]),
        ("~ I(score**2)", ["I(score ** 2)"]),
        ("~ np.where(score > 0, 1, 0)", ["np.where(score > 0, 1, 0)"]),
        ("~ (score + trt)^2", ["score", "trt[T.B]", "score:trt[T.B]"]),
    ],
)
def test_what_is_to_be_written_instead_works(obs, formula, names):
    check(formula, obs)
    assert fixed_design(formula, obs).names == ["Intercept", *names]


def test_formula_of_another_type(obs):
    assert "fixed must be a formula" in message(None, obs, TypeError)


def test_single_level(obs):
    text = message("~ cls + cls:trt", obs[obs["trt"] == "A"])
    assert "term 'cls:trt'" in text
    assert "'trt' has a single level" in text


def test_names_that_read_the_same(obs):
    obs["mixed"] = pd.Series(["1", 1, 2] * 4, dtype=object, index=obs.index)
    assert "Several levels of 'mixed'" in message("~ mixed", obs)
    obs["trt[T.B]"] = obs["score"]
    assert "Several columns of the design" in message("~ trt + `trt[T.B]`", obs)


def test_two_columns_of_one_name(obs):
    twice = pd.concat([obs, obs[["trt"]]], axis=1)
    assert "obs has 2 columns named 'trt'" in message("~ trt", twice)


def test_empty_cell_with_its_zero_column(obs):
    text = message("~ 0 + cls + cls:trt", obs[(obs["cls"] != "3") | (obs["trt"] != "B")])
    assert "of its 6 columns, 1 is a combination" in text
    assert "'cls[3]:trt[T.B]' is zero in every cell." in text
    assert "No cell has cls = '3' and trt = 'B'." in text
    assert "more" not in text


def test_empty_cell_behind_equal_columns(obs):
    text = message("~ 0 + cls + cls:trt", obs[(obs["cls"] != "3") | (obs["trt"] != "A")])
    assert "'cls[3]:trt[T.B]' equals 'cls[3]'." in text
    assert "No cell has cls = '3' and trt = 'A'." in text


def test_many_empty_cells():
    obs = pd.DataFrame({"a": [f"a{i:02}" for i in range(12)] * 2, "b": [f"b{i:02}" for i in range(12)] * 2})
    text = message("~ 0 + a:b", obs)
    assert text.count("No cell has") == 8
    assert "124 more combinations of 'a', 'b' are empty." in text
    assert "124 more: " in text


def test_sample_as_fixed_effect_beside_treatment(obs):
    text = message("~ trt + sam", obs)
    assert "'sam[T.B2]' equals 'trt[T.B]' - 'sam[T.B1]'." in text
    assert "'trt' does not vary within the levels of 'sam'" in text
    assert "random='(1|sam)'" in text
    obs["age"] = obs["sam"].map({"A1": 30, "A2": 40, "B1": 55, "B2": 41})
    assert "'age' does not vary within the levels of 'sam'" in message("~ sam + age", obs)


@pytest.mark.parametrize(
    ("formula", "full", "instead"),
    [
        ("~ cr(score, df=3)", "cr(score, df=3)", "~ cr(score, df=3, constraints='center')"),
        ("~ cr(score, df=3)", "cr(score, df=3)", "~ 0 + cr(score, df=3)"),
        ("~ trt + cc(score, df=3)", "cc(score, df=3)", "~ trt + cc(score, df=3, constraints='center')"),
        ("~ trt + cs(score, df=3)", "cs(score, df=3)", "~ trt + cs(score, df=3, constraints='center')"),
        (
            "~ 0 + trt + trt:cr(score, knots=[0.1])",
            "cr(score, knots=[0.1])",
            "~ 0 + trt + trt:cr(score, knots=[0.1], constraints='center')",
        ),
    ],
)
def test_splines_that_hold_the_constant(obs, formula, full, instead):
    """Of a spline whose columns add up to one no column can be left out; what to write instead has full rank."""
    text = message(formula, obs)
    assert f"The columns of {full} add up to one in every cell" in text
    assert f"Write {full[:-1]}, constraints='center')" in text
    assert f"'~ 0 + {full}'" in text
    assert "Leave" not in text
    check(instead, obs)


def test_splines_beside_other_causes(obs):
    text = message("~ trt + sam + cr(score, df=3)", obs)
    assert "constraints='center'" in text
    assert "'trt' does not vary within the levels of 'sam'" in text
    check("~ trt + bs(score, df=4, include_intercept=True)", obs)


def test_numeric_dependence(obs):
    obs["year"] = 2020 + np.arange(12) % 4
    text = message("~ year + {year - 2020}", obs)
    assert "'year - 2020' equals - 2020 × 'Intercept' + 'year'." in text
    assert "hardly vary" in text


@pytest.mark.parametrize(
    ("formula", "names"),
    [
        ("~ score + cls * trt", ["Intercept"]),
        ("~ 1", ["Intercept"]),
        ("~ 0 + cls + cls:trt", ["cls[1]", "cls[2]", "cls[3]"]),
        ("~ 0 + log(libsize) + cls + trt", ["cls[1]", "cls[2]", "cls[3]"]),
        ("~ 0 + trt * cls", ["trt[A]", "trt[B]"]),
        ("~ 0 + cls:trt", [f"cls[{i}]:trt[{j}]" for j in "AB" for i in "123"]),
        ("~ 0 + C(cls, contr.sum) + score", [f"C(cls, contr.sum)[{i}]" for i in "123"]),
        ("~ 0 + score + cls:score", []),
        ("~ 0 + cls:score", []),
        ("~ 0 + scale(score)", []),
    ],
)
def test_coefficients_of_a_constant(obs, formula, names):
    design = fixed_design(formula, obs)
    assert {name for name, value in zip(design.names, design.constant, strict=True) if value} == set(names)
    np.testing.assert_array_equal(rows_of(design, obs) @ design.constant, float(bool(names)))
