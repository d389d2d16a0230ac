"""Slopes of random terms: factors become indicators as in R, correlated effects groups of components."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from flashmm_sc._design import random as module
from flashmm_sc._design.random import RandomDesign, random_design
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
    assert {term.joint for term in terms} == {"(0 + trt + dose|donor)"}


@pytest.mark.parametrize("random", ["(0 + x|donor)", "(1 + x||donor)", "donor + (0 + x|donor)"])
def test_independent_terms(obs, random):
    assert random_design(random, obs).correlated == []


@pytest.mark.parametrize("dtype", [object, "category", "string", "bool", "boolean"])
def test_dtypes_of_a_factor(obs, dtype):
    obs["trt"] = pd.Series(obs["trt"] == "b").astype("bool" if "bool" in str(dtype) else str).astype(dtype)
    terms = expanded(parse_random("(trt|donor)", obs.columns), obs)
    assert len(terms) == 2
    np.testing.assert_array_equal(slope_values(obs, terms[1]), np.tile([0, 1, 0], 10))


@pytest.mark.parametrize(("random", "before"), [("(0 + trt||donor)", []), ("(1 + trt||donor)", ["donor"])])
def test_independent_effects_of_a_factor_are_those_of_all_its_levels(obs, random, before):
    design = random_design(random, obs)
    assert design.names == [*before, "trt[a]|donor", "trt[b]|donor", "trt[c]|donor"]
    assert design.correlated == []
    assert design.words == [*before, "(0 + trt||donor)"]
    rows = design.rows(obs).toarray()
    for k, level in enumerate("abc", start=len(before)):
        own = rows[:, 5 * k : 5 * k + 5]
        np.testing.assert_array_equal(
            own, np.eye(5)[pd.factorize(obs["donor"])[0]] * (obs["trt"] == level).to_numpy()[:, None]
        )


def test_nested_terms_have_groups_of_their_own(obs):
    design = random_design("(dose|donor/trt)", obs)
    assert design.names == ["donor", "dose|donor", "donor:trt", "dose|donor:trt"]
    assert design.correlated == [[0, 1], [2, 3]]
    assert design.words == ["(1 + dose|donor)", "(1 + dose|donor:trt)"]


@pytest.mark.parametrize(
    ("random", "words"),
    [
        ("(one|donor)", ["obs['one']", "one level only, 'z'; leave it out."]),
        ("(0 + one|donor)", ["obs['one']", "one level only, 'z'; that is a random intercept, '(1|donor)'"]),
        ("(sex|donor)", ["obs['sex']", "same in all cells of each level of 'donor'", "Leave it out: '(1|donor)'."]),
        ("(0 + sex|donor)", ["told from differences between these levels. Leave it out: '(1|donor)'."]),
        ("(x + sex|donor)", ["told from intercepts. Leave it out: '(1 + x|donor)'."]),
        ("(1 + age|donor)", ["obs['age']", "can't be told from intercepts"]),
        ("(x + age|donor)", ["obs['age']", "can't be told from intercepts"]),
        ("(1 + trt + x + dose|donor)", ["5 correlated effects and 5 levels", "for a factor, 'donor + donor:trt'."]),
        ("(1 + x|sex)", ["2 correlated effects and 2 levels", "make them independent, '(1 + x||sex)'."]),
        ("(text|donor)", ["30 correlated effects and 5 levels", "If obs['text'] holds numbers, use .astype(float)"]),
        ("(day|donor)", ["obs['day']", "is of dates (datetime64[", "use a number, such as days since the first"]),
        ("(alike|donor)", ["levels of obs['alike']", "read the same: '1'"]),
        ("(part|donor)", ["No level of 'donor' has cells of both 'b' and 'c' of obs['part']", "'donor + donor:part'"]),
        ("(0 + part|donor)", ["No level of 'donor' has cells of both 'b' and 'c'"]),
        ("(x + same|donor)", ["'x|donor' and 'same|donor' group the cells in the same way"]),
        ("(inf|donor)", ["obs['inf']", "is infinite in 1 cells"]),
        ("(1 + gap|donor)", ["obs['gap']", "is NaN in 2 of 30 cells"]),
    ],
)
def test_what_is_refused(obs, random, words):
    obs = obs.assign(one="z", inf=[np.inf, *range(29)], gap=[None, None, *"ab" * 14], text=obs["x"].astype(str))
    even = obs["donor"].isin(["d0", "d2", "d4"])  # donors have a and b, or a and c
    part = np.where(obs["trt"] == "a", "a", np.where(even, "b", "c"))
    obs = obs.assign(part=part, day=pd.Timestamp("2020-01-01"), alike=pd.Series([1, "1"] * 15, dtype=object))
    obs = obs.assign(same=obs["x"]).assign(**{"donor id": obs["donor"], "a type": obs["trt"]})
    with pytest.raises(ValueError, match=".*".join(map(re.escape, words))):
        random_design(random, obs)


def test_levels_of_another_site(obs):
    """What has fewer levels keeps the components of the design, levels that it doesn't know are refused."""
    terms = expanded(parse_random("(trt|donor)", obs.columns), obs)
    here = obs[obs["trt"] != "c"]
    weights = [component.weights(here).sum() for component in RandomDesign.of(terms, here).components]
    np.testing.assert_array_equal(weights, [20, 10, 0])
    with pytest.raises(ValueError, match="doesn't know: 'd'"):
        RandomDesign.of(terms, obs.replace({"trt": {"b": "d"}}))


def test_terms_of_a_design_stay_what_they_are_there(obs):
    """Numbers of another site are not read as levels, and its factors keep their levels."""
    numbers, factor = (expanded(parse_random(random, obs.columns), obs) for random in ("(x|donor)", "(trt|donor)"))
    assert expanded(factor, obs.assign(trt=list("dc") * 15)) == factor
    assert random_design(numbers, obs).names == ["donor", "x|donor"]
    with pytest.raises(ValueError, match="of which the design has numbers"):
        random_design(numbers, obs.assign(x=obs["trt"].astype("category")))


def test_a_slope_may_be_constant_at_a_site(obs):
    terms = expanded(parse_random("(x|donor)", obs.columns), obs)
    assert RandomDesign.of(terms, obs.assign(x=1.0)).names == ["donor", "x|donor"]


def test_many_levels_are_refused_at_once():
    """Text that holds numbers: a component for each of 2,000 values would take hours."""
    obs = pd.DataFrame({"text": np.arange(2_000).astype(str), "donor": np.arange(2_000) % 9})
    with pytest.raises(ValueError, match=r"2000 correlated effects and 9 levels.*\.astype\(float\)"):
        random_design("(text|donor)", obs)


def test_columns_are_looked_at_once(monkeypatch):
    """Not once for each level of a factor."""
    looks, levels = [], 30
    monkeypatch.setattr(module, "check_slope", lambda *_: looks.append("slope"))
    factor = module._factor
    monkeypatch.setattr(module, "_factor", lambda *given, **how: looks.append("group") or factor(*given, **how))
    obs = pd.DataFrame({"donor": np.repeat(np.arange(40), levels), "cls": np.tile(np.arange(levels), 40).astype(str)})
    assert len(random_design("(cls|donor)", obs).components) == levels
    assert sorted(looks) == ["group", "slope"]


def test_a_variable_far_from_zero_is_to_be_centred(obs):
    """As a calendar year, where there is an intercept: its slopes are much the same there."""
    obs["year"] = 2020 + np.arange(30) % 4
    with pytest.raises(
        ValueError, match=r"obs\['year'\].* is far from zero in all cells \(mean 2021.*obs\['year'\] -= "
    ):
        random_design("(1 + year | donor)", obs)
    random_design("(0 + year | donor)", obs)
    obs["year"] -= obs["year"].mean()
    random_design("(1 + year | donor)", obs)
