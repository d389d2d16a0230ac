"""Random effects: what each notation means, and an error that says what to write instead for the others."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashmm_sc._design.random import random_design


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
        ([0.0] * 8, "is 0 in every cell; leave it out."),
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


@pytest.mark.parametrize("random", ["(x|sam)", "(x||sam)", "sam + (0 + x|sam)"])
def test_a_slope_of_ones_beside_an_intercept_is_needless(obs, random):
    assert message(random, obs.assign(x=2)).endswith("is 2 in every cell; leave it out.")


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


def test_what_pandas_makes_no_levels_of(adata, monkeypatch):
    """As of Arrow's dictionaries, for which its errors are of many kinds."""

    def fails(values):
        raise AttributeError("'Series' object has no attribute '_pa_array'")

    monkeypatch.setattr("flashmm_sc._design.columns.pd.Categorical", fails)
    with pytest.raises(ValueError, match=r"obs\['sam'\] holds values that can't be levels .*_pa_array.*make them text"):
        random_design("sam", adata.obs)
