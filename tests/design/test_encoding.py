"""Design rows made a few cells at a time are those of formulaic's whole model matrix, whatever the formula."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from formulaic import model_matrix

import flashmm_sc as fsc
from flashmm_sc._design.fixed import fixed_design

N = 240


@pytest.fixture(scope="module")
def obs():
    """Cells in the order of their values, as of batches one after another, so that no chunk is like the whole."""
    rng = np.random.default_rng(0)
    columns = {
        "x": np.sort(rng.gamma(2, 2, N)),
        "day": np.sort(rng.choice([1, 5, 12], N, p=[0.5, 0.3, 0.2])),
        "either side": rng.choice([-2.0, -1.5, 1.5, 2.0], N),
        "cls": np.sort(rng.choice(np.array(["B", "CD4+/CD8", "NK [x]"], dtype=object), N)),
        "trt": pd.Categorical(rng.choice(["ctrl", "stim"], N), categories=["stim", "ctrl", "nobody"]),
        "flag": rng.random(N) < 0.4,
    }
    return pd.DataFrame(columns, index=[f"cell{i}" for i in range(N)])


BY_CELL = [
    "~ x",
    "~ scale(x)",
    "~ scale(log(x)):trt",
    "~ scale(x, center=False) + center(x)",
    "~ standardize(x)",
    "~ poly(x, 3)",
    "~ poly(x, 2, raw=True)",
    "~ bs(x, df=5)",
    "~ bs(x, knots=[2, 4], degree=2):cls",
    "~ bs(scale(x), df=4, extrapolation='clip')",
    "~ cr(x, df=4)",
    "~ cc(x, df=4)",
    "~ cs(x, df=5):trt",
    "~ C(cls, contr.sum)",
    "~ C(cls, contr.sum):C(trt)",
    "~ C(cls, contr.treatment('NK [x]'))",
    "~ C(day)",
    "~ C(day, contr.helmert) + C(day, contr.poly):flag",
    "~ C(day, levels=[12, 5, 1])",
    "~ log(x) + I(x**2) + {np.sqrt(x)}",
    "~ 0 + cls + cls:trt",
    "~ cls*trt*scale(x)",
    "~ (cls + trt)**2 - cls",
    "~ flag + C(flag):cls",
    "~ I(x > 3)",
    "~ 1",
    "~ np.sqrt(`either side`**2 - 1)",
    "~ log(`either side`**2)",
    "~ bs(`either side`**2, df=3)",
]
ACROSS = [
    "I(x - np.mean(x))",
    "I(x > np.mean(x))",
    "I(x / x.max())",
    "I(day / day.max())",
    "I(day - np.median(day))",
    "I((day - day.min()) / (day.max() - day.min()))",
    "I(day.clip(upper=day.quantile(0.75)))",
    "I(abs(x - np.median(x)))",
    "I(x.groupby(cls).transform('mean'))",
    "x.rank()",
    "np.cumsum(x)",
    "scale(I(x - np.mean(x)))",
]


def check(formula, obs):
    """Rows of a few cells at a time, and of single ones, are those of the whole; levels of no cell have no column."""
    design = fixed_design(formula, obs)
    matrix = model_matrix(formula, obs.assign(trt=obs["trt"].cat.remove_unused_categories()), output="sparse")
    whole = matrix.__wrapped__.toarray()
    assert design.names == list(matrix.model_spec.column_names)
    table = design.table(obs)
    for step in (37, N):
        got = np.vstack([design.rows(table.iloc[a : a + step]).toarray() for a in range(0, N, step)])
        np.testing.assert_allclose(got, whole, rtol=1e-12, atol=1e-12)
    for i in (0, 100, N - 1):
        np.testing.assert_allclose(design.rows(table.iloc[i : i + 1]).toarray(), whole[[i]], rtol=1e-12, atol=1e-12)
    return design


@pytest.mark.parametrize("formula", BY_CELL)
def test_rows_of_a_few_cells_are_those_of_the_whole_matrix(formula, obs):
    assert check(formula, obs).encoding.across == ()


@pytest.mark.parametrize("factor", ACROSS)
def test_factors_over_several_cells_are_found_and_evaluated_over_all(factor, obs):
    design = check(f"~ cls + {factor}:trt", obs)
    assert len(design.encoding.across) == 1


@pytest.mark.parametrize("formula", ["~ cls*bs(x, df=4) + C(day, contr.sum)", "~ I(x - np.mean(x)):trt"])
def test_a_design_can_be_sent_to_other_processes(formula, obs):
    design = fixed_design(formula, obs)
    again = pickle.loads(pickle.dumps(design))
    assert (again.rows(again.table(obs)) != design.rows(design.table(obs))).nnz == 0


def test_a_factor_over_several_cells_with_several_columns_is_refused(obs):
    with pytest.raises(
        ValueError, match=r"'C\(x > np.mean\(x\)\)' .* depends in each cell on the values of other cells"
    ):
        fixed_design("~ 0 + C(x > np.mean(x))", obs)


def test_levels_that_the_design_does_not_know_are_refused(obs):
    for formula, column, level in [("~ cls", "cls", "T"), ("~ C(cls, contr.sum)", "cls", "T"), ("~ C(day)", "day", 3)]:
        design = fixed_design(formula, obs)
        with pytest.raises(ValueError, match="can't be evaluated"):
            design.rows(design.table(obs.assign(**{column: level})))


def test_values_that_are_not_finite_are_refused_in_any_chunk(obs):
    odd = obs.assign(x=np.where(np.arange(N) == 200, 0.0, obs["x"]))
    design = fixed_design("~ log(x)", odd)
    table = design.table(odd)
    design.rows(table.iloc[:200])
    with pytest.raises(ValueError, match=r"'log\(x\)' .* is NaN or infinite in 1 of 40 cells"):
        design.rows(table.iloc[200:])
    with pytest.raises(ValueError, match=r"'log\(x - 1\)' .* is NaN in some cells"):
        fixed_design("~ log(x - 1)", obs)


def test_one_cell_suffices(obs):
    design = fixed_design("~ 0 + x + cls + scale(x, scale=False)", obs.iloc[:1])
    assert design.rows(design.table(obs.iloc[:1])).toarray().tolist() == [[obs["x"].iloc[0], 1, 0]]


@pytest.mark.parametrize("random", ["sam", ["sam", "batch"]])
def test_groups_with_a_factor_over_their_cells_are_as_separate_fits(adata, random):
    """The mean is that of each group's own cells."""
    fixed = "~ trt + I(score - np.mean(score))"
    options = {"transform": "log1p", "n_jobs": 1}
    fsc.tl.lmm_de(adata, fixed, random, groupby="cls", **options)
    coef = dict(zip(adata.uns["lmm_de"]["coef_names"], adata.varm["lmm_de_coef"].T, strict=True))
    for group in ("B", "NK"):
        alone = adata[adata.obs["cls"] == group].copy()
        fsc.tl.lmm_de(alone, fixed, random, **options)
        for name, values in zip(alone.uns["lmm_de"]["coef_names"], alone.varm["lmm_de_coef"].T, strict=True):
            np.testing.assert_allclose(coef[f"{group}|{name}"], values, rtol=1e-10, atol=1e-10)
