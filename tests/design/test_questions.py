"""Answers as weights of coefficients: what they are by hand, what they are called, and what can't be asked."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from scipy.interpolate import BSpline

from flashmm_sc._design.fixed import fixed_design
from flashmm_sc._design.questions import Each, Means, Pairwise, Slope
from flashmm_sc._design.reference_grid import ReferenceGrid
from flashmm_sc.contrasts import each, slope


def answers(question, formula, obs):
    design = fixed_design(formula, obs)
    return pd.DataFrame(dict(question.answers(ReferenceGrid.of(design, obs, design.table(obs)))), index=design.names)


@pytest.fixture
def obs(cells):
    rng = np.random.default_rng(5)
    return cells.assign(depth=rng.gamma(5, 100, len(cells)), day=rng.choice([1, 5, 12], len(cells)))


def test_comparisons_of_levels(obs):
    found = answers(Each("cls"), "~ cls*trt", obs)
    assert found.to_dict() == {"NK vs B": {"Intercept": 0, "cls[T.NK]": 1, "trt[T.B]": 0, "cls[T.NK]:trt[T.B]": 0.5}}
    found = answers(Each("trt", ("cls",)), "~ 0 + cls + cls:trt", obs)
    assert list(found) == ["B vs A, cls=B", "B vs A, cls=NK"]
    np.testing.assert_array_equal(found.T, np.eye(4)[2:])
    found = answers(Pairwise("batch"), "~ batch + depth", obs)
    assert list(found) == ["y vs x", "z vs x", "z vs y"]
    np.testing.assert_array_equal(found.T, [[0, 1, 0, 0], [0, 0, 1, 0], [0, -1, 1, 0]])
    found = answers(Means("trt"), "~ trt + depth", obs)
    np.testing.assert_allclose(found.T, [[1, 0, obs["depth"].mean()], [1, 1, obs["depth"].mean()]])


def test_the_reference_is_that_of_the_design_or_as_told(obs):
    assert list(answers(Each("batch"), "~ batch", obs)) == ["y vs x", "z vs x"]
    assert list(answers(Each("batch"), "~ C(batch, contr.treatment('y'))", obs)) == ["x vs y", "z vs y"]
    obs["batch"] = obs["batch"].astype("category").cat.reorder_categories(["z", "x", "y"])
    assert list(answers(Each("batch"), "~ batch", obs)) == ["x vs z", "y vs z"]
    found = answers(Each("batch", ref="x"), "~ batch", obs)
    assert list(found) == ["z vs x", "y vs x"]
    np.testing.assert_array_equal(found.T, [[0, -1, 0], [0, -1, 1]])
    obs["day"] = obs["day"].astype(int)
    assert list(answers(Each("day", ref=5), "~ C(day)", obs)) == ["1 vs 5", "12 vs 5"]


def test_numbers_of_numpy_are_numbers(obs):
    assert list(answers(Each("day", ref=obs["day"].max()), "~ C(day)", obs)) == ["1 vs 12", "5 vs 12"]
    found = answers(Slope("depth", per=np.float32(0.5)), "~ depth", obs)
    np.testing.assert_allclose(found["depth per 0.5"], [0, 0.5], atol=1e-9)


def test_by_several_and_by_values_of_a_covariate(obs):
    found = answers(Each("trt", ("cls", "depth"), {"depth": [300, 500]}), "~ trt*depth + cls:trt", obs)
    assert list(found) == [f"B vs A, cls={cls}, depth={depth}" for cls in ("B", "NK") for depth in (300, 500)]
    close = answers(Each("trt", ("depth",), {"depth": [300.00000001, 300.00000002]}), "~ trt*depth", obs)
    assert list(close) == ["B vs A, depth=300.00000001", "B vs A, depth=300.00000002"]
    np.testing.assert_array_equal(found.loc["trt[T.B]:depth"], [300, 500, 300, 500])


def test_slopes_of_covariates_as_they_are_are_exact(obs):
    found = answers(Slope("depth", ("cls",), per=10), "~ depth*cls + trt + score", obs)
    assert list(found) == ["depth per 10, cls=B", "depth per 10, cls=NK"]
    expected = pd.DataFrame(0.0, found.index, found.columns)
    expected.loc["depth"], expected.loc["depth:cls[T.NK]", "depth per 10, cls=NK"] = 10, 10
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("place", ["mean", "low", "high", 0.25])
def test_slopes_are_derivatives(obs, place):
    obs["x"] = obs["score"] + 5
    low, high = obs["x"].min(), obs["x"].max()
    x = {"mean": obs["x"].mean(), "low": low, "high": high}.get(place, place) if place != 0.25 else low + 0.25
    at = {} if place == "mean" else {"x": x}
    formula = "~ x + I(x**2) + I(x**3) + log(x) + scale(x) + bs(x, knots=[4.0, 5.5], degree=3)"
    found = answers(Slope("x", (), at), formula, obs)["x per 1"]
    t = np.array([low] * 4 + [4.0, 5.5] + [high] * 4)
    splines = [BSpline(t, np.eye(6)[k], 3).derivative()(x) for k in range(1, 6)]
    expected = [0, 1, 2 * x, 3 * x**2, 1 / x, 1 / obs["x"].std(), *splines]
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)
    assert found["Intercept"] == 0


@pytest.mark.parametrize(
    ("question", "formula", "message"),
    [
        (Each("trd"), "~ trt", "each('trd') names 'trd', which is not in the model fixed='~ trt'. Did you mean 'trt'?"),
        (Each("cls"), "~ trt", "There are: 'trt'."),
        (Each("trt", ("cls",)), "~ trt", "by= of each('trt', by='cls') names 'cls', which is not in the model"),
        (Each("trt", at={"depht": 3}), "~ trt + depth", "Did you mean 'depth'?"),
        (Each("trt", ref="C"), "~ trt", "each('trt', ref='C'): 'trt' has no level 'C'. There are: 'A', 'B'."),
        (Means("depth"), "~ trt + depth", "'depth' is a covariate, without levels. Ask for its slope"),
        (Each("trt", ("depth",)), "~ trt*depth", "say at which values, from "),
        (Pairwise("trt", (), {"trt": "A"}), "~ trt", "at= can't hold 'trt', whose levels are compared."),
        (Slope("trt"), "~ trt", "slope('trt'): 'trt' is a factor, with levels 'A', 'B'; ask for each or pairwise."),
        (Slope("day"), "~ C(day)", "'day' is a factor"),
        (
            Each("a score"),
            "~ `a score`",
            "slope('a score'), or make it a factor in the formula, C(`a score`), and fit again",
        ),
        (Slope("depth", (), {"depth": [300, 400]}), "~ depth", "give a single one in at="),
        (Slope("depth", (), {"depth": 1e9}), "~ depth", "1000000000.0 is outside of what 'depth' is"),
        (Slope("one"), "~ 0 + one", "the same in all cells"),
    ],
)
def test_what_a_model_can_not_answer(obs, question, formula, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        answers(question, formula, obs.assign(one=3.0, **{"a score": obs["depth"]}))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Each("trt", ("trt",)), ValueError, r"^each\('trt', by='trt'\) names 'trt' more than once"),
        (lambda: Means("trt", ("cls", "cls")), ValueError, "'cls' more than once"),
        (lambda: Each(3), TypeError, "name a column of obs"),
        (lambda: Each("trt", ("cls", 3)), TypeError, "name a column of obs"),
        (lambda: Each("trt", at=["depth"]), TypeError, "must be a dictionary"),
        (lambda: Slope("depth", per=0), ValueError, r"per=0 must be above 0\. "),
        (lambda: Slope("depth", per=-10), ValueError, "per=-10 must be"),
        (lambda: Slope("depth", per=np.nan), ValueError, "per=nan must be"),
        (lambda: Slope("depth", per="10"), TypeError, "must be a number"),
        (lambda: Slope("depth", per=np.inf), ValueError, r"per=inf must be finite, above 0\."),
        (lambda: Each("trt", ref=["A", "B"]), TypeError, r"^each\('trt', ref=\['A', 'B'\]\): ref= is one level"),
        (lambda: Each("trt", ref=[]), TypeError, "ref= is one level"),
        (lambda: each("trt", at=[]), TypeError, r"at=\[\] must be a dictionary"),
        (lambda: slope("depth", at=0), TypeError, "at=0 must be a dictionary"),
    ],
)
def test_what_can_not_be_asked_at_all(make, error, message):
    with pytest.raises(error, match=message):
        make()
