"""Type III hypotheses got from some cells are those of all, in whatever order the cells come."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from flashmm_sc._design import type3
from flashmm_sc._design.fixed import fixed_design

FORMULAS = [
    "~ cls*trt",
    "~ 0 + cls + cls:trt",
    "~ cls*trt*scale(score)",
    "~ C(cls)*trt + bs(score, df=4)",
    "~ poly(score, 2):cls + C(trt)",
    "~ trt*I(score - np.mean(score))",
    "~ cls + I(score > np.median(score))",
]


@pytest.fixture(params=["cells mixed", "cells in order"])
def obs(request):
    rng = np.random.default_rng(0)
    columns = {
        "cls": rng.choice(["B", "CD4+/8", "NK"], 400, p=[0.1, 0.3, 0.6]),
        "trt": rng.choice(["A", "B"], 400),
        "score": rng.gamma(2, 1, 400),
    }
    obs = pd.DataFrame(columns)
    return obs if request.param == "cells mixed" else obs.sort_values(["cls", "trt", "score"], ignore_index=True)


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("enough", [3, 40])
def test_some_cells_suffice(obs, formula, enough, monkeypatch):
    """More are taken if a column is zero in the first."""
    design = fixed_design(formula, obs)
    expected = type3.hypotheses(design, obs)
    monkeypatch.setattr(type3, "_ENOUGH", enough)
    found = type3.hypotheses(design, obs)
    assert list(found) == list(expected) == [term for term in design.terms if term != "Intercept"]
    for term, L in expected.items():
        np.testing.assert_allclose(found[term], L, rtol=1e-7, atol=1e-7, err_msg=term)


@pytest.mark.parametrize("formula", ["~ cls*trt", "~ 0 + cls + cls:trt"])
def test_a_main_effect_is_averaged_over_the_levels_of_the_other(obs, formula):
    design = fixed_design(formula, obs)
    found = type3.hypotheses(design, obs)
    if "trt" in found:
        weights = found["trt"][:, 0] / found["trt"][design.names.index("trt[T.B]"), 0]
        expected = [1 if name == "trt[T.B]" else 1 / 3 if name.endswith(":trt[T.B]") else 0 for name in design.names]
        np.testing.assert_allclose(weights, expected, atol=1e-12)
    assert all(np.linalg.matrix_rank(L) == L.shape[1] for L in found.values())
