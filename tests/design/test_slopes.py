"""Slopes of random terms: factors become indicators as in R, correlated effects groups of components."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from flashmm_sc._design.random import Component, random_design
from flashmm_sc._design.random_terms import parse_random
from flashmm_sc._design.slopes import expanded, slope_values


@pytest.fixture
def obs():
    """Five donors, each with all levels of trt and dose, and an age of its own."""
    donor = np.repeat([f"d{i}" for i in range(5)], 6)
    table = {"donor": donor, "trt": list("abcabc") * 5, "dose": [2, 2, 2, 10, 10, 10] * 5}
    table |= {"x": np.arange(30.0) ** 2, "sex": np.repeat(list("mfmfm"), 6), "age": np.repeat(np.arange(5.0), 6)}
    return pd.DataFrame(table)


@pytest.mark.parametrize(
    ("random", "names", "columns"),
    [
        ("(trt|donor)", ["donor", "trt[T.b]|donor", "trt[T.c]|donor"], ["", "b", "c"]),
        ("(0 + trt|donor)", ["trt[a]|donor", "trt[b]|donor", "trt[c]|donor"], ["a", "b", "c"]),
        ("(0 + x + trt|donor)", ["x|donor", "trt[a]|donor", "trt[b]|donor", "trt[c]|donor"], ["x", "a", "b", "c"]),
        ({"subject": "(trt|donor)"}, ["subject", "trt[T.b]|subject", "trt[T.c]|subject"], ["", "b", "c"]),
        ({"subject": "(0 + trt|donor)"}, ["trt[a]|subject", "trt[b]|subject", "trt[c]|subject"], ["a", "b", "c"]),
        ("(1 + x|donor)", ["donor", "x|donor"], ["", "x"]),
    ],
)
def test_columns(obs, random, names, columns):
    design = random_design(random, obs)
    assert design.names == names
    assert design.correlated == [list(range(len(names)))]
    assert design.slopes == [column != "" for column in columns]
    donors = np.array([obs["donor"] == f"d{i}" for i in range(5)], dtype=float).T
    each = {"": 1.0, "x": obs["x"], **{level: obs["trt"] == level for level in "abc"}}
    expected = np.hstack([donors * np.broadcast_to(each[column], 30)[:, None] for column in columns])
    np.testing.assert_array_equal(design.rows(obs).toarray(), expected)
    assert design.ranef_names[-1] == f"{names[-1]}[d4]"


def test_a_second_factor_has_differences_from_its_first_level(obs):
    random = "(0 + trt + dose|donor)"
    terms = expanded(parse_random(random, obs.columns), obs.assign(dose=obs["dose"].astype("category")))
    assert [term.name for term in terms] == [f"trt[{level}]|donor" for level in "abc"] + ["dose[T.10]|donor"]
    assert {term.joint for term in terms} == {"0 + trt + dose|donor"}


@pytest.mark.parametrize("random", ["(0 + x|donor)", "(1 + x||donor)", "donor + (0 + x|donor)"])
def test_independent_terms(obs, random):
    assert random_design(random, obs).correlated == []


@pytest.mark.parametrize("dtype", [object, "category", "string", "bool", "boolean"])
def test_dtypes_of_a_factor(obs, dtype):
    obs["trt"] = pd.Series(obs["trt"] == "b").astype("bool" if "bool" in str(dtype) else str).astype(dtype)
    terms = expanded(parse_random("(trt|donor)", obs.columns), obs)
    assert len(terms) == 2
    np.testing.assert_array_equal(slope_values(obs, terms[1]), np.tile([0, 1, 0], 10))


def test_nested_terms_have_groups_of_their_own(obs):
    design = random_design("(dose|donor/trt)", obs)
    assert design.names == ["donor", "dose|donor", "donor:trt", "dose|donor:trt"]
    assert design.correlated == [[0, 1], [2, 3]]
    assert design.words == ["1 + dose|donor", "1 + dose|donor:trt"]


@pytest.mark.parametrize(
    ("random", "words"),
    [
        ("(trt||donor)", ["is a factor", "Write '(1 + trt|donor)'", "'donor:trt'"]),
        ("(one|donor)", ["obs['one']", "one level only, 'z'", "random intercept, '(1|donor)'"]),
        ("(sex|donor)", ["obs['sex']", "same in all cells of each level of 'donor'", "Write '(1|donor)'"]),
        ("(0 + sex|donor)", ["same in all cells of each level of 'donor'"]),
        ("(1 + age|donor)", ["obs['age']", "can't be told from intercepts"]),
        ("(x + age|donor)", ["obs['age']", "can't be told from intercepts"]),
        ("(1 + trt + x + dose|donor)", ["5 correlated effects and 5 levels", "make them independent, with '||'"]),
        ("(inf|donor)", ["obs['inf']", "is infinite in 1 cells"]),
        ("(1 + gap|donor)", ["obs['gap']", "is NaN in 2 of 30 cells"]),
    ],
)
def test_what_is_refused(obs, random, words):
    obs = obs.assign(one="z", inf=[np.inf, *range(29)], gap=[None, None, *"ab" * 14])
    with pytest.raises(ValueError, match=".*".join(map(re.escape, words))):
        random_design(random, obs)


def test_levels_of_another_site(obs):
    """What has fewer levels keeps the components of the design, levels that it doesn't know are refused."""
    terms = expanded(parse_random("(trt|donor)", obs.columns), obs)
    here = obs[obs["trt"] != "c"]
    np.testing.assert_array_equal([Component.of(term, here).weights(here).sum() for term in terms], [20, 10, 0])
    with pytest.raises(ValueError, match="doesn't know: 'd'"):
        Component.of(terms[1], obs.replace({"trt": {"b": "d"}}))
    with pytest.raises(ValueError, match="of which the design has numbers"):
        Component.of(parse_random("(0 + x|donor)", obs.columns)[0], obs.assign(x=obs["trt"]))
