"""Rows of a reference grid: at what a cell is, those of the cell; elsewhere averages by the definition."""

from __future__ import annotations

import json
import re
from itertools import product

import numpy as np
import pandas as pd
import pytest

from flashmm_sc._design import reference_grid
from flashmm_sc._design.fixed import fixed_design
from flashmm_sc._design.reference_grid import ReferenceGrid

FORMULAS = [
    "~ 0 + cls + cls:trt",
    "~ trt*scale(score) + center(depth)",
    "~ poly(score, 3) + log(depth):cls",
    "~ bs(score, df=5)*cls",
    "~ cr(score, df=4, constraints='center') + cc(depth, df=4, constraints='center')",
    "~ C(cls, contr.sum)*C(trt, contr.treatment('B'))",
    "~ C(day) + C(day, contr.helmert):score",
    "~ C(day, levels=[12, 1, 5]) + day:score",
    "~ flag*trt + I(score**2) + np.where(flag, 2, depth)",
    "~ C(day > 3) + I(trt == 'B')",
    "~ scale(log(depth)):`odd: [a] (b)` + dose",
    "~ I(dose >= 'mid')",
    "~ 1",
]


@pytest.fixture
def obs(cells):
    rng = np.random.default_rng(5)
    n = len(cells)
    odd = ["CD4+/CD8 [T]", 'a "quoted", \\ level', "β-cell: été", "", "`tick`"]
    return cells.assign(
        depth=rng.gamma(5, 100, n),
        day=rng.choice([1, 5, 12], n),
        flag=rng.random(n) < 0.3,
        dose=pd.Categorical(rng.choice(["low", "mid", "high"], n), ["none", "low", "mid", "high"], ordered=True),
        **{"odd: [a] (b)": pd.Categorical(rng.choice(odd, n), categories=odd[::-1])},
    )


def grid_of(formula, obs):
    design = fixed_design(formula, obs)
    return design, ReferenceGrid.of(design, obs, design.table(obs))


@pytest.mark.parametrize("formula", FORMULAS)
def test_at_what_a_cell_is_rows_are_those_of_the_cell(obs, formula):
    design, grid = grid_of(formula, obs)
    some = obs.iloc[::11]
    for asked in (grid, ReferenceGrid.read(grid.text())):
        points = {name: asked.values(name, some[name].tolist(), "") for name in design.columns} or {
            "": [None] * len(some)
        }
        np.testing.assert_allclose(
            asked.rows(points), design.rows(design.table(obs)).toarray()[::11], rtol=1e-9, atol=1e-12
        )
    assert asked.factors == grid.factors
    assert [*asked.factors, *asked.covariates] == [*grid.factors, *grid.covariates]


def test_what_is_not_asked_for_is_averaged_over_levels_and_at_the_mean_of_cells(obs):
    design, grid = grid_of("~ trt*cls*log(depth) + flag:cls", obs)
    found = grid.rows({"cls": ["NK", "B"]})
    all_of_them = product(["NK", "B"], ["A", "B"], [False, True])
    table = pd.DataFrame(all_of_them, columns=["cls", "trt", "flag"]).assign(depth=obs["depth"].mean())
    rows = design.rows(design.table(table)).toarray()
    np.testing.assert_allclose(found, rows.reshape(2, 4, -1).mean(axis=1), rtol=1e-12)
    held = grid.rows({"cls": ["NK"]}, {"trt": ["B"], "depth": [300.0, 500.0], "flag": ["True"]})
    table = pd.DataFrame({"cls": "NK", "trt": "B", "flag": True, "depth": [300.0, 500.0]})
    np.testing.assert_allclose(held[0], design.rows(design.table(table)).toarray().mean(axis=0), rtol=1e-12)


def test_levels_are_in_the_order_of_the_design_the_reference_first(obs):
    _, grid = grid_of("~ C(trt, contr.treatment('B')) + C(day, levels=[12, 1, 5]) + flag + dose + day:depth", obs)
    assert {name: list(levels) for name, levels in grid.factors.items()} == {
        "trt": ["B", "A"],
        "day": ["12", "1", "5"],
        "flag": ["False", "True"],
        "dose": ["low", "mid", "high"],
    }
    mean, low, high = grid.covariates["depth"]
    assert (mean, low, high) == pytest.approx((obs["depth"].mean(), obs["depth"].min(), obs["depth"].max()))


def test_values_are_found_by_name_or_as_they_are(obs):
    _, grid = grid_of("~ C(day) + flag + depth", obs)
    assert grid.values("day", [12, "5", 1.0, np.int64(5)], "") == ["12", "5", "1", "5"]
    assert grid.values("flag", True, "") == grid.values("flag", np.bool_(True), "") == ["True"]
    assert grid.values("depth", np.array([300, 400]), "") == [300.0, 400.0]


@pytest.mark.parametrize(
    ("name", "chosen", "message"),
    [
        ("dep", 300, "at= names 'dep', which is not in the model fixed='~ C(day) + depth'. Did you mean 'depth'"),
        ("day", 2, "at=: 'day' has no level '2'. Did you mean '12'?"),
        ("depth", 1e6, "at=: 1000000.0 is outside of what 'depth' is in the cells of the model, "),
        ("depth", np.nan, "nan is outside"),
        ("depth", "many", "'many' is outside"),
        ("depth", [], "at= gives no value of 'depth'"),
    ],
)
def test_values_that_there_are_not(obs, name, chosen, message):
    _, grid = grid_of("~ C(day) + depth", obs)
    with pytest.raises(ValueError, match=re.escape(message)):
        grid.values(name, chosen, "at=")


def test_terms_that_depend_on_other_cells_have_no_value_at_a_point(obs):
    _, grid = grid_of("~ I(score - np.mean(score)) + trt", obs)
    with pytest.raises(ValueError, match=r"'I\(score - np.mean\(score\)\)' in .* depends .* use scale"):
        ReferenceGrid.read(grid.text()).rows({"trt": ["A"]})


def test_grids_too_large_to_average_over(obs, monkeypatch):
    monkeypatch.setattr(reference_grid, "MOST", 5)
    _, grid = grid_of("~ C(day)*trt + cls", obs)
    with pytest.raises(
        ValueError,
        match=r"takes 6 rows, more than 5. Ask at fewer points, .* in at= or in the grid, as in \{'day': '1'\}",
    ):
        grid.rows({"cls": ["B"]}, {"trt": ["A", "B"]})
    assert grid.rows({"cls": ["B"]}, {"day": ["5"]}).shape == (1, 7)


def test_text_that_holds_no_grid(obs):
    obs["age"] = pd.cut(obs["score"], 3)
    assert grid_of("~ age", obs)[1].text() == ""
    with pytest.raises(ValueError, match="neither texts nor numbers"):
        ReferenceGrid.read("")
    content = json.loads(grid_of("~ trt", obs)[1].text())
    content["design"]["fixed"] = "~ cls"
    with pytest.raises(ValueError, match=r"^The fit holds no design .* damaged.* Fit again\.$"):
        ReferenceGrid.read(json.dumps(content))
