"""Design rows made a few cells at a time are those of formulaic's whole model matrix, whatever the formula."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from formulaic import ModelSpec, SimpleFormula, model_matrix
from formulaic.errors import DataMismatchWarning
from formulaic.parser.types import Factor, Term
from formulaic.transforms import TRANSFORMS
from formulaic.utils.stateful_transforms import stateful_eval

import flashmm_sc as fsc
from flashmm_sc._design import encoding
from flashmm_sc._design import rows as rows_module
from flashmm_sc._design.columns import as_factor
from flashmm_sc._design.fixed import fixed_design
from flashmm_sc._design.formula import parse_formula
from flashmm_sc._design.rows import Rows
from flashmm_sc._results.models import build_models

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
    assert check(formula, obs).over_cells(obs) == []


@pytest.mark.parametrize("factor", ACROSS)
def test_factors_over_several_cells_are_found_and_evaluated_over_all(factor, obs):
    design = check(f"~ cls + {factor}:trt", obs)
    assert design.over_cells(obs) == [factor]


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


LATE = {
    "first of its chunk": "bs(x - x.iloc[0], df=4, lower_bound=-99, upper_bound=99)",
    "one cell only": "bs(np.where(x > np.median(x), x, x + rare), df=4, lower_bound=-99, upper_bound=99)",
    "levels": "C(x.rank() > 120)",
    "an estimate without a state": "poly(scale(x) + scale(x), 2)",
    "a shift": "poly(x.shift(1, fill_value=0.5), 2)",
}


@pytest.mark.parametrize("case", LATE)
def test_no_cell_may_have_another_value_in_a_chunk(obs, case, monkeypatch):
    """Even where nothing is noticed in the trial when the design is learned."""
    monkeypatch.setattr(encoding, "depends", lambda *_: False)
    odd = obs.assign(rare=1.0 * (np.arange(N) == 122))
    _, rows = build_models(odd.assign(sam=np.arange(N) % 7), f"~ cls + {LATE[case]}", "sam", None)  # in a single chunk
    monkeypatch.setattr(rows_module, "CHUNK", 50)
    rows = Rows(rows.n, rows.encoder, rows.parts)
    with pytest.raises(ValueError, match="depends in each cell on the values of other cells; compute it before"):
        rows.gram()


@pytest.mark.parametrize("kind", ["I({})", "bs({}, df=4)"])
def test_a_single_cell_that_no_trial_notices(kind, monkeypatch):
    """Its value is other in a chunk, but in no random half and at no extreme: it is right, or refused."""
    n = 20_000
    many = pd.DataFrame({"x": np.linspace(1, 2, n), "z": np.tile([0.0, 1.0], n // 2), "sam": np.arange(n) % 7})
    many.loc[n // 2 + 10, "z"] = 0.5
    formula = f"~ {kind.format('np.where((z == 0.5) & (x > np.median(x)), x + 0.25, x)')}"
    _, whole = build_models(many, formula, "sam", None)
    expected = whole.gram().toarray()
    monkeypatch.setattr(rows_module, "CHUNK", 5000)
    if kind[0] == "I":
        _, rows = build_models(many, formula, "sam", None)
        np.testing.assert_allclose(rows.gram().toarray(), expected, rtol=1e-12)
    else:
        with pytest.raises(ValueError, match="depends in each cell on the values of other cells"):
            build_models(many, formula, "sam", None)


@pytest.mark.parametrize("case", LATE)
def test_factors_over_several_cells_are_refused_for_other_cells(obs, case):
    odd = obs.assign(rare=1.0 * (np.arange(N) == 122), sam=np.arange(N) % 7)
    with pytest.raises(ValueError, match="depends in each cell on the values of other cells"):
        fsc.Design.of(odd, f"~ cls + {LATE[case]}", "sam")


@pytest.mark.parametrize("factor", ["I(scale(x) * scale(x))", "I(x - x.iloc[0])", "I(x.shift(1, fill_value=0.5))"])
def test_numbers_are_those_of_all_cells_whatever_they_are(factor, obs):
    check(f"~ cls + {factor}", obs)
    assert fixed_design(f"~ {factor}", obs).over_cells(obs) == [factor]


FORMULAIC = "formulaic has changed what flashmm_sc/encoding.py relies on: "


@pytest.mark.filterwarnings("ignore:Constructing a Categorical")  # formulaic meets unknown levels so
def test_what_is_used_of_formulaics_inside():
    """Each thing by itself, so that a formulaic that has changed says where."""
    data = pd.DataFrame({"x": [1.0, 2.0, 6.0], "g": ["a", "b", "a"]})
    state = {}
    centred = stateful_eval("center(_x)", {**TRANSFORMS, "_x": data["x"]}, {}, state, ModelSpec(formula=[]))
    assert np.allclose(centred, data["x"] - 3), FORMULAIC + "stateful_eval(expression, names, metadata, state, spec)"
    assert state["center(_x)"]["center"] == 3, FORMULAIC + "states of transforms, by the call that has them"
    again = stateful_eval("center(_x)", {**TRANSFORMS, "_x": data["x"][:1]}, {}, state, ModelSpec(formula=[]))
    assert np.allclose(again, -2), FORMULAIC + "states of transforms are used again"

    terms = [Term([Factor(name, eval_method="lookup")]) for name in ("I(x)", "g")]
    spec = ModelSpec(formula=SimpleFormula(terms), output="sparse", na_action="raise", ensure_full_rank=False)
    matrix = spec.get_model_matrix(pd.DataFrame(index=range(3)), context={"I(x)": data["x"], "g": data["g"]})
    assert sp.issparse(matrix.__wrapped__), FORMULAIC + "the matrix in ModelMatrix.__wrapped__"
    assert matrix.toarray().tolist() == [[1, 1, 0], [2, 0, 1], [6, 1, 0]], (
        FORMULAIC + "factors are looked up in context"
    )
    complete = matrix.model_spec
    assert complete.column_names == ("I(x)", "g[a]", "g[b]"), FORMULAIC + "ModelSpec.column_names"
    assert list(complete.term_indices.values()) == [[0], [1, 2]], FORMULAIC + "ModelSpec.term_indices, in order"
    kind, numbers = complete.encoder_state["I(x)"]
    assert (kind, numbers) == (Factor.Kind("numerical"), {}), FORMULAIC + "encoder_state of numbers"
    kind, levels = complete.encoder_state["g"]
    assert (kind.value, levels["categories"]) == ("categorical", ["a", "b"]), FORMULAIC + "encoder_state of levels"
    coded = levels["contrasts"].contrasts.get_coding_column_names(list(levels["contrasts"].levels), reduced_rank=True)
    assert list(coded) == ["b"], FORMULAIC + "the contrasts in encoder_state"
    assert complete.update(na_action="ignore").structure, FORMULAIC + "ModelSpec.update keeps the structure"

    known = {"g": (Factor.Kind("categorical"), {"categories": ["b", "a", "c"]})}
    spec = ModelSpec(formula=SimpleFormula(terms[1:]), output="sparse", ensure_full_rank=False, encoder_state=known)
    again = spec.get_model_matrix(pd.DataFrame(index=range(3)), context={"g": data["g"]})
    assert again.model_spec.column_names == ("g[b]", "g[a]", "g[c]"), FORMULAIC + "encoder_state given in advance"
    with pytest.warns(DataMismatchWarning):
        spec.get_model_matrix(pd.DataFrame(index=[0]), context={"g": pd.Series(["d"])})
    summed = TRANSFORMS["C"](TRANSFORMS["C"](data["g"]), TRANSFORMS["contr"].sum)
    options = {"formula": SimpleFormula([Term([Factor("1", eval_method="literal")]), terms[1]]), "output": "numpy"}
    matrix = ModelSpec(**options).get_model_matrix(pd.DataFrame(index=range(3)), context={"g": summed})
    assert np.asarray(matrix)[:, 1].tolist() == [1, -1, 1], FORMULAIC + "C() of what is C() already"


def test_formulaics_parser_asks_ours_for_tokens():
    term = parse_formula("~ C(`t`, contr.sum)", "formula")[1]
    assert str(term) == "C(`t`, contr.sum)", "formulaic no longer calls DefaultFormulaParser.get_tokens_from_formula"


def test_formulaic_is_taken_apart_in_one_file():
    """Elsewhere formulas are read, and terms and factors asked for their names."""
    inside = re.compile(
        r"encoder_state|transform_state|__wrapped__|factor_contrasts|term_indices|stateful_eval|ModelSpec"
    )
    for path in Path(fsc.__file__).parent.rglob("*.py"):
        assert path.name == "encoding.py" or not inside.search(path.read_text(encoding="utf-8")), path.name


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


def test_large_numbers_stay_apart_as_levels():
    """Beyond 2^63 whole numbers would all become one."""
    donors = as_factor(pd.Series(2.0**63 + 4096.0 * np.arange(6)))
    assert len(donors.categories) == 6
    assert len({str(level) for level in donors.categories}) == 6
    assert as_factor(pd.Series([1.0, 2.0])).categories.to_list() == [1, 2]
    assert as_factor(pd.Series([1.0, np.inf])).categories.to_list() == [1.0, np.inf]
