"""Random effects: what each notation means, and an error that says what to write instead for the others."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashmm_sc._design.random import random_design
from flashmm_sc._design.random_terms import RandomTerm, parse_random

COLUMNS = ["sam", "cls", "batch", "x", "z", "donor id", "a/b", "a:b", "w+1", "sample-id"]
SAM, BATCH, SAM_CLS = (
    RandomTerm("sam", ("sam",)),
    RandomTerm("batch", ("batch",)),
    RandomTerm("sam:cls", ("sam", "cls")),
)
X_SAM, Z_SAM = RandomTerm("x|sam", ("sam",), "x"), RandomTerm("z|sam", ("sam",), "z")


def single(name):
    return RandomTerm(name, (name,))


@pytest.mark.parametrize(
    ("random", "terms"),
    [
        ("sam", [SAM]),
        (["sam", "batch"], [SAM, BATCH]),
        (("batch", "sam"), [BATCH, SAM]),
        ("sam + sam:cls", [SAM, SAM_CLS]),
        ("~ 0 + sam", [SAM]),
        ("~ sam - 1", [SAM]),
        ("-1 + sam + batch", [SAM, BATCH]),
        ("sam/cls", [SAM, SAM_CLS]),
        ("(1|sam)", [SAM]),
        ("( 1 | sam / cls ) + (1|batch)", [SAM, SAM_CLS, BATCH]),
        ("(1|sam) + batch", [SAM, BATCH]),
        ("(1|sam:cls)", [SAM_CLS]),
        ("sam/cls/batch", [SAM, SAM_CLS, RandomTerm("sam:cls:batch", ("sam", "cls", "batch"))]),
        ("(0 + x|sam)", [X_SAM]),
        ("(x - 1|sam)", [X_SAM]),
        ("(x + 0|sam)", [X_SAM]),
        ("(1|sam) + (0 + x|sam)", [SAM, X_SAM]),
        ("(1 + x||sam)", [SAM, X_SAM]),
        ("(x||sam)", [SAM, X_SAM]),
        ("(0 + x + z || sam)", [X_SAM, Z_SAM]),
        ("(1 + x||sam/cls)", [SAM, X_SAM, SAM_CLS, RandomTerm("x|sam:cls", ("sam", "cls"), "x")]),
        ({"donor": "sam"}, [RandomTerm("donor", ("sam",))]),
        (["batch", {"donor": "(1|sam)", "slope": "(0+x|sam)"}], [BATCH, RandomTerm("donor", ("sam",)), RandomTerm("slope", ("sam",), "x")]),
        # odd names: a column's exact name, or in backticks
        ("a/b", [single("a/b")]),
        ("a:b", [single("a:b")]),
        ("w+1", [single("w+1")]),
        (["donor id", "sample-id"], [single("donor id"), single("sample-id")]),
        ("(1|donor id)", [single("donor id")]),
        ("`a/b` + `w+1`", [single("a/b"), single("w+1")]),
        ("(1|`a:b`/sam)", [single("a:b"), RandomTerm("a:b:sam", ("a:b", "sam"))]),
        ("(0 + `w+1`|`donor id`)", [RandomTerm("w+1|donor id", ("donor id",), "w+1")]),
        ("(1|sample-id) + sam", [single("sample-id"), SAM]),
    ],
)  # fmt: skip
def test_notations(random, terms):
    assert parse_random(random, COLUMNS) == terms


@pytest.mark.parametrize(
    ("random", "instead"),
    [
        ("(x|sam)", "(1|sam) + (0 + x|sam)"),
        ("(1 + x|sam)", "(1|sam) + (0 + x|sam)"),
        ("(0 + x + z|sam)", "(0 + x|sam) + (0 + z|sam)"),
        ("(`w+1`|donor id)", "(1|donor id) + (0 + `w+1`|donor id)"),
    ],
)
def test_correlated_slopes_are_refused(random, instead):
    with pytest.raises(ValueError, match="correlated") as caught:
        parse_random(random, COLUMNS)
    assert f"Write {instead!r} for independent ones." in str(caught.value)
    assert len(parse_random(instead, COLUMNS)) == 2


@pytest.mark.parametrize(
    "random",
    ["", "~", "sam +", "1|sam", "(1|sam", "1|sam)", "(sam)", "(1|)", "(|sam)", "(0|sam)", "(1|sam|cls)", "sam | cls", "sam*cls", "(1|sam + cls)", "(log(x)|sam)", "sam:", "`sam", "sam:sam", "1", "1 + sam", "(1|s`a`m)", "`sam`:`cls`x"],
)  # fmt: skip
def test_unreadable_text_is_shown_with_what_is_accepted(random):
    with pytest.raises(ValueError, match="can't be read") as caught:
        parse_random(random, COLUMNS)
    assert str(caught.value).startswith(f"random={random!r}")
    assert "'sam + batch'" in str(caught.value)


@pytest.mark.parametrize("random", [[], {}, "~ 0", "0"])
def test_no_terms(random):
    with pytest.raises(ValueError, match="has no terms"):
        parse_random(random, COLUMNS)


@pytest.mark.parametrize("random", [None, 3, [None]])
def test_terms_of_another_type(random):
    with pytest.raises(TypeError, match="Random terms are"):
        parse_random(random, COLUMNS)


@pytest.mark.parametrize("random", ["smm", "(1|smm/cls)", "sam + smm", {"n": "smm"}, "(0 + smm|sam)"])
def test_missing_column(random):
    with pytest.raises(KeyError) as caught:
        parse_random(random, COLUMNS)
    assert "'smm', which is not a column of obs. Did you mean 'sam'" in caught.value.args[0]


@pytest.mark.parametrize("random", [["sam", "sam"], ["sam", "(1|sam)"], [{"batch": "sam"}, "batch"], "sam/cls + sam"])
def test_repeated_names(random):
    with pytest.raises(ValueError, match=r"several components named '(sam|batch)'"):
        parse_random(random, COLUMNS)


@pytest.mark.parametrize("random", [{"n": "sam + batch"}, {"n": "sam/cls"}, {"n": ["sam", "batch"]}])
def test_a_name_is_for_one_term(random):
    with pytest.raises(ValueError, match="names 2 terms"):
        parse_random(random, COLUMNS)


def test_a_name_is_a_text():
    with pytest.raises(ValueError, match="no text"):
        parse_random({1: "sam"}, COLUMNS)


@pytest.fixture
def obs():
    obs = pd.DataFrame({"sam": ["s2", "s10", "s1", "s2", "s1", "s10", "s1", "s2"], "cls": list("abababab")})
    obs["batch"] = [3, 1, 10, 3, 1, 10, 1, 3]
    obs["score"] = [0.5, -1.0, 0.0, 2.0, 1.0, -3.0, 0.25, 1.5]
    return obs


def test_blocks_side_by_side(obs):
    design = random_design(["sam", "batch", "(0 + score|sam)"], obs)
    assert design.names == ["sam", "batch", "score|sam"]
    assert design.levels == [["s1", "s10", "s2"], ["1", "3", "10"], ["s1", "s10", "s2"]]
    assert design.d == (3, 3, 3)
    sam = np.column_stack([obs["sam"] == level for level in ["s1", "s10", "s2"]]).astype(float)
    batch = np.column_stack([obs["batch"] == level for level in [1, 3, 10]])
    expected = np.hstack([sam, batch, sam * obs[["score"]].to_numpy()])
    rows = design.rows(obs)
    assert type(rows).__name__ == "csr_array"
    assert rows.dtype == np.float64
    assert rows.has_canonical_format
    assert (rows.data != 0).all()
    np.testing.assert_array_equal(rows.toarray(), expected)


def test_interaction_keeps_the_combinations_there_are(obs):
    design = random_design("sam:cls", obs)
    assert design.levels == [["s1:a", "s10:b", "s2:a", "s2:b"]]
    label = obs["sam"] + ":" + obs["cls"]
    np.testing.assert_array_equal(np.array(design.levels[0])[design.rows(obs).indices], label)


def test_order_and_unused_levels_of_categories(obs):
    obs["sam"] = pd.Categorical(obs["sam"], categories=["s2", "gone", "s10", "s1"])
    assert random_design("sam", obs).levels == [["s2", "s10", "s1"]]


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([True, False, True, False], ["False", "True"]),
        ([10, 9, 10, 9], ["9", "10"]),
        ([10.0, 9.0, 10.0, 9.0], ["9", "10"]),
        (pd.array([10, 9, 10, 9], dtype="Int64"), ["9", "10"]),
        (pd.Categorical([0.5, 0.25, 0.5, 0.25]), ["0.25", "0.5"]),
        (pd.array(["b", "a", "b", "a"], dtype="string"), ["a", "b"]),
        (["CD4+/CD25 T:reg", "B [naive]"] * 2, ["B [naive]", "CD4+/CD25 T:reg"]),
    ],
)
def test_grouping_columns_of_any_type(values, levels):
    obs = pd.DataFrame({"group": values})
    design = random_design("group", obs)
    assert design.levels == [levels]
    np.testing.assert_array_equal(design.rows(obs).toarray(), [[0, 1], [1, 0]] * 2)


def test_labels_tell_levels_apart():
    obs = pd.DataFrame({"a": ["x:y", "x"] * 2, "b": ["z", "y:z"] * 2})
    assert random_design("a:b", obs).levels == [["x:`y:z`", "`x:y`:z"]]
    obs["a"] = pd.Series([1, "1"] * 2, dtype=object)
    with pytest.raises(ValueError, match=r"levels of obs\['a'\] in random term 'a' read the same: '1'"):
        random_design("a", obs)


def message(random, obs, error=ValueError):
    with pytest.raises(error) as caught:
        random_design(random, obs)
    return caught.value.args[0]


def test_missing_values(obs):
    obs.loc[:2, "sam"] = None
    obs.loc[1, "score"] = np.nan
    assert "obs['sam'], which random term 'sam' uses, is NaN in 3 of 8 cells" in message("sam", obs)
    assert "obs['score'], which random term 'score|batch' uses, is NaN in 1 of 8" in message("(0+score|batch)", obs)


def test_numbers_do_not_group(obs):
    text = message("(1|score)", obs)
    assert "numbers that are not whole" in text
    assert "(0 + score|sam)" in text


def test_too_few_or_too_many_levels(obs):
    obs["one"], obs["cell"] = "A1", range(8)
    assert "random term 'one' has one level only, 'A1'" in message("sam + one", obs)
    assert "random term 'cell' has a level of its own for every cell" in message("cell", obs)
    assert "for every cell" in message("(1|sam/cell)", obs)


def test_the_same_grouping_twice(obs):
    obs["donor"] = obs["sam"].map({"s1": "z", "s2": "y", "s10": "x"})
    text = message(["sam", "batch", "donor"], obs)
    assert "'sam' and 'donor' group the cells in the same way" in text
    assert "group the cells in the same way" in message("sam + sam:donor", obs)
    assert "group the cells in the same way" in message("(0+score|sam) + (0+score|donor)", obs)
    assert random_design("sam + (0+score|donor)", obs).d == (3, 3)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (list("abababab"), "is not numeric"),
        (pd.Categorical([1, 2] * 4), "is not numeric"),
        ([0.0] * 8, "is 0 in every cell."),
        ([2] * 8, "is 2 in every cell; that is a random intercept, '(1|sam)'."),
        ([np.inf, *range(7)], "is infinite in 1 cells"),
    ],
)
def test_slope_variables(obs, values, reason):
    obs["x"] = values
    assert f"obs['x'], the slope variable of random term 'x|sam', {reason}" in message("(0+x|sam)", obs)


@pytest.mark.parametrize(("group", "instead"), [("sam:cls", "(1|sam:cls)"), ("`donor id`", "(1|`donor id`)")])
def test_a_slope_of_ones_is_an_intercept(obs, group, instead):
    """And what is said to be written instead can be."""
    obs["x"], obs["donor id"] = 1, obs["batch"]
    assert f"is 1 in every cell; that is a random intercept, {instead!r}." in message(f"(0 + x|{group})", obs)
    assert len(random_design(instead, obs).components) == 1


def test_boolean_slope(obs):
    obs["x"] = obs["cls"] == "b"
    np.testing.assert_array_equal(random_design("(0+x|sam)", obs).rows(obs).sum(axis=1), obs["x"])


@given(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from("abc")), min_size=20, max_size=60),
    st.permutations(range(5)),
)
def test_crossproduct_is_the_crosstab(cells, order):
    obs = pd.DataFrame(cells, columns=["one", "two"])
    obs["one"] = pd.Categorical(obs["one"], categories=order)
    if obs["one"].nunique() < 2 or obs["two"].nunique() < 2:
        return
    counts = pd.crosstab(obs["one"], obs["two"])
    if (counts > 0).to_numpy().sum() in counts.shape:  # one factor within the other: sam:cls is sam
        return
    design = random_design("one/two + two", obs)
    first, nested, last = (slice(end - d, end) for end, d in zip(np.cumsum(design.d), design.d, strict=True))
    Z = design.rows(obs)
    ztz = (Z.T @ Z).toarray()
    np.testing.assert_array_equal(ztz[first, last], counts)
    np.testing.assert_array_equal(np.diag(ztz)[first], counts.sum(axis=1))
    present = {f"{a}:{b}": n for a, row in counts.iterrows() for b, n in row.items() if n}
    assert design.levels[1] == list(present)
    np.testing.assert_array_equal(np.diag(ztz)[nested], list(present.values()))
    assert (Z.data == 1).all()
    for component in (first, nested, last):
        np.testing.assert_array_equal(Z[:, component].sum(axis=1), 1)
