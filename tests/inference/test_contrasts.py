from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashmm_sc._inference.contrasts
from flashmm_sc._inference.contrasts import contrast_matrix

NASTY = [
    "Intercept",
    "(Intercept)",
    "log(libsize)",
    "cls1",
    "cls12",
    "cls[1]",
    "cls[1]:trt[T.B]",
    "cls[2]:trt[T.B]",
    "cell_type[CD14+ Monocytes]",
    "CD4",
    "CD4+",
    "CD4+/CD25 T Reg",
    "CD4+/CD45RO+ Memory",
    "CD4/CD8",
    "CD8",
    "B",
    "B cells",
    "B cells|trt[T.stim]",
    "a-b",
    "T.stim",
    "x*y",
    "-",
    "2nd",
    "1",
    "10",
    "Zellgröße",
    "I(x ** 2)",
]


def weights(expression: str, names: list[str] = NASTY) -> dict[str, float]:
    column = contrast_matrix(expression, names)[expression]
    return {str(name): weight for name, weight in column.items() if weight}


# ---- expressions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("cls1", {"cls1": 1}),
        ("cls12 - cls1", {"cls12": 1, "cls1": -1}),
        ("(cls[1]:trt[T.B]+cls[2]:trt[T.B])/2", {"cls[1]:trt[T.B]": 0.5, "cls[2]:trt[T.B]": 0.5}),
        (" ( cls[1]  - cls1 )\t* 3 / 4 ", {"cls[1]": 0.75, "cls1": -0.75}),
        ("-cls1 - -cls12", {"cls1": -1, "cls12": 1}),
        ("-(cls1 - 2*cls12) + +CD8", {"cls1": -1, "cls12": 2, "CD8": 1}),
        ("cls1/2/5", {"cls1": 0.1}),
        ("cls1 - CD8 - CD8", {"cls1": 1, "CD8": -2}),
        ("2*(2/8)*cls1 + 1e-3*CD8*.5", {"cls1": 0.5, "CD8": 0.0005}),
        ("(cls1 + 2) - (2. - CD8)", {"cls1": 1, "CD8": 1}),
        ("log(libsize) + (Intercept)", {"log(libsize)": 1, "(Intercept)": 1}),
        ("I(x ** 2)*2", {"I(x ** 2)": 2}),
        ("CD4+/CD25 T Reg - CD4+", {"CD4+/CD25 T Reg": 1, "CD4+": -1}),
        ("CD4++CD8", {"CD4+": 1, "CD8": 1}),
        ("CD4+CD8", {"CD4": 1, "CD8": 1}),
        ("CD4/CD8", {"CD4/CD8": 1}),
        ("B cells-B", {"B cells": 1, "B": -1}),
        ("B cells|trt[T.stim] / 2 - B cells", {"B cells|trt[T.stim]": 0.5, "B cells": -1}),
        ("a-b - T.stim", {"a-b": 1, "T.stim": -1}),
        ("2 * 2nd", {"2nd": 2}),
        ("1 - 2*10", {"1": 1, "10": -2}),
        ("1.5*1", {"1": 1.5}),
        ("- cls1 -`-`", {"cls1": -1, "-": -1}),
        ("`B`-`B cells`", {"B": 1, "B cells": -1}),
        ("`CD4`+`CD8`", {"CD4": 1, "CD8": 1}),
        ("Zellgröße*2", {"Zellgröße": 2}),
    ],
)
def test_expression(expression: str, expected: dict[str, float]) -> None:
    assert weights(expression) == expected


def test_spaces_and_quotes_decide_between_readings() -> None:
    names = ["a", "b", "a-b", "a - b"]
    assert weights("a-b", names) == {"a-b": 1}
    assert weights("a - b", names) == {"a - b": 1}
    assert weights("a  -  b", names) == weights("`a`-b", names) == weights("(a)-b", names) == {"a": 1, "b": -1}


def test_fractions_are_exact() -> None:
    assert weights("(cls1 + CD8 + B)/3") == dict.fromkeys(["cls1", "CD8", "B"], 1 / 3)
    with pytest.raises(ValueError, match="zero for every coefficient"):
        contrast_matrix("0.1*cls1 + 0.2*cls1 - 0.3*cls1", NASTY)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("cls12 - cls1", r"unknown coefficient 'cls12' at position 1\. Did you mean 'cls1'"),
        ("a + cls1:trt[T.C]", r"unknown coefficient 'cls1:trt\[T.C\]' at position 5\. Did you mean 'cls1:trt\[T.B\]'"),
        ("log(libsze)", r"unknown coefficient 'log\(libsze\)' at position 1\. Did you mean 'log\(libsize\)'"),
        ("type[CD14+ Mono]", r"unknown coefficient 'type\[CD14\+ Mono\]'.*Did you mean 'type\[CD14\+ Monocytes\]'"),
        ("a - clx 1 - b", r"unknown coefficient 'clx 1' at position 5"),
        ("`a b` - a", r"unknown coefficient '`a b`' at position 1"),
        ("2a", "unknown coefficient '2a' at position 1"),
        ("a * b", "multiplied at position 3"),
        ("2*(a + 1)*b", r"multiplied at position 10"),
        ("1/a", "divisors at position 2"),
        ("a/(2 - 2)", "division by zero at position 2"),
        ("a + b + 1.5", r"constant term, but here it is 1\.5"),
        ("1/3", "no coefficient is named"),
        ("a - a", "zero for every coefficient"),
        ("0*a", "zero for every coefficient"),
        ("", "a coefficient or a number is missing at position 1"),
        ("a + ", "a coefficient or a number is missing at position 5"),
        ("a ** 2", "a coefficient or a number is missing at position 4"),
        ("()", "a coefficient or a number is missing at position 2"),
        ("2*(a - b", r"'\(' without '\)' at position 3"),
        ("a - b)", r"'\)' without '\(' at position 6"),
        ("a b", "operator is missing before 'b' at position 3"),
        ("2(a)", r"operator is missing before '\(' at position 2"),
        ("(a b)", "operator is missing before 'b' at position 4"),
        ("a = b", "operator is missing before '= b'"),
        ("__import__('os')", "unknown coefficient"),
    ],
)
def test_refused_expression(expression: str, message: str) -> None:
    names = ["a", "b", "cls1", "cls1:trt[T.B]", "log(libsize)", "type[CD14+ Monocytes]"]
    with pytest.raises(ValueError, match=message):
        contrast_matrix(expression, names)


# ---- hypothesis: what is written is read -----------------------------------------------------------------------------

numbers = st.integers(-8, 8).map(lambda k: k / 4)


@st.composite
def expressions(draw: st.DrawFn, names: list[str], depth: int = 3) -> tuple[str, dict[str, float]]:
    """Text of a linear expression, safe as an operand, and its weights."""
    kind = draw(st.sampled_from(["name", "sum", "scale", "divide", "minus", "bracket"])) if depth else "name"
    if kind == "name":
        name = draw(st.sampled_from(names))
        return draw(st.sampled_from([name, f"`{name}`"] if name != "-" else ["`-`"])), {name: 1.0}
    text, form = draw(expressions(names, depth - 1))
    if kind == "sum":
        other, form2 = draw(expressions(names, depth - 1))
        sign = draw(st.sampled_from([1, -1]))
        form = {name: form.get(name, 0) + sign * form2.get(name, 0) for name in form | form2}
        return f"({text}  {'+' if sign == 1 else '-'}  {other})", form
    if kind == "minus":
        return f"(-  {text})", {name: -weight for name, weight in form.items()}
    if kind == "bracket":
        return f"( {text}\t)", form
    number = draw(numbers)
    if kind == "divide":
        number = number or 0.5
        return f"({text}  /  {number})", {name: weight / number for name, weight in form.items()}
    product = draw(st.sampled_from([f"{number}  *  {text}", f"{text}  *  {number}"]))
    return f"({product})", {name: weight * number for name, weight in form.items()}


def check(text: str, form: dict[str, float], names: list[str]) -> None:
    if any(form.values()):
        got = contrast_matrix({"c": text}, names)["c"]
        np.testing.assert_allclose(got, [form.get(name, 0.0) for name in names], rtol=1e-12)
    else:
        with pytest.raises(ValueError, match="zero for every coefficient"):
            contrast_matrix(text, names)


@given(st.data())
def test_round_trip_of_realistic_names(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(NASTY), min_size=1, unique=True))
    check(*data.draw(expressions(names)), names)


@given(st.data())
def test_round_trip_of_arbitrary_quoted_names(data: st.DataObject) -> None:
    name = st.text("ab1.+-*/:[]()| é", max_size=6)
    names = data.draw(st.lists(name, min_size=1, max_size=6, unique=True))
    chosen = data.draw(st.dictionaries(st.sampled_from(names), numbers.map(abs), min_size=1))
    check("+".join(f"{weight}*`{name}`" for name, weight in chosen.items()), chosen, names)


@given(st.text("ab12+-*/() `.e", max_size=12))
def test_any_text_gives_a_contrast_or_a_value_error(text: str) -> None:
    try:
        matrix = contrast_matrix(text, ["a", "b", "a b", "ab", "1"])
    except ValueError:
        return
    assert np.isfinite(matrix.to_numpy()).all()
    assert matrix.to_numpy().any()


# ---- forms of input ----------------------------------------------------------------------------------------------------

NAMES = ["a", "b", "c"]
DIFFERENCES = pd.DataFrame({"a - b": [1.0, -1, 0], "b - c": [0.0, 1, -1]}, index=NAMES)


@pytest.mark.parametrize(
    "contrasts",
    [
        ["a - b", "b - c"],
        ("a - b", "b - c"),
        np.array(["a - b", "b - c"]),
        pd.Index(["a - b", "b - c"]),
        {"a - b": "a - b", "b - c": [0, 1, -1]},
        {"a - b": np.array([1, -1, 0]), "b - c": pd.Series({"c": -1, "b": 1, "a": 0})},
        {"a - b": pd.Series([1, -1, 0]), "b - c": "b - c"},
        DIFFERENCES,
        DIFFERENCES.loc[["c", "a", "b"]],
        DIFFERENCES.astype(int).reset_index(drop=True),
    ],
)
def test_forms_of_input(contrasts: Any) -> None:
    pd.testing.assert_frame_equal(contrast_matrix(contrasts, NAMES), DIFFERENCES, check_column_type=False)


def test_matrix_without_names() -> None:
    result = contrast_matrix(DIFFERENCES.to_numpy(), pd.Index(NAMES))
    assert list(result.columns) == ["contrast1", "contrast2"]
    np.testing.assert_array_equal(result, DIFFERENCES)
    np.testing.assert_array_equal(contrast_matrix([[1], [0], [-1]], NAMES), [[1], [0], [-1]])


@pytest.mark.parametrize(
    ("contrasts", "names", "message"),
    [
        ({"x": [1, -1]}, NAMES, r"'x' has shape \(2,\); there are 3 coefficients"),
        ({"x": 1}, NAMES, r"shape \(\)"),
        ({"x": [1, np.nan, 0]}, NAMES, "'x' has NaN"),
        ({"x": [1, np.inf, 0]}, NAMES, "'x' has NaN or infinite"),
        ({"x": [0, 0, 0]}, NAMES, "'x' is zero"),
        (np.eye(2), NAMES, "'contrast1' has shape"),
        (np.ones(3), NAMES, "one row per coefficient"),
        ({}, NAMES, "no contrasts"),
        ([], NAMES, "no contrasts"),
        ("a", [], "no coefficients"),
        (["a", "a"], NAMES, "Duplicate contrast names: 'a'"),
        (pd.DataFrame([[1, 0]] * 3, columns=["x", "x"]), NAMES, "Duplicate contrast names: 'x'"),
        ("a", ["a", "b", "a"], "Duplicate coefficient names: 'a'"),
        (DIFFERENCES.rename({"c": "d"}), NAMES, "unknown or missing: 'c', 'd'"),
        (DIFFERENCES.iloc[:2], NAMES, "unknown or missing: 'c'"),
        ({"x": pd.Series([1, 0, 1], ["a", "a", "b"])}, NAMES, "Duplicate coefficient names: 'a'"),
    ],
)
def test_refused_input(contrasts: Any, names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        contrast_matrix(contrasts, names)


def test_what_is_no_contrast() -> None:
    for value in (3, np.array(3.0)):
        with pytest.raises(TypeError, match="or a matrix, not"):
            contrast_matrix(value, NAMES)


def test_docstring() -> None:
    assert doctest.testmod(flashmm_sc._inference.contrasts).failed == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("(" * 900 + "a" + ")" * 900, "nested more than 100 deep"),
        ("a*1e99*1e99*1e99*1e99", "too large or too small"),
        ("a" + "/1e90" * 9999, "too large or too small"),
        ("+".join(f"a/{k}" for k in range(1, 9999)), "too large or too small"),
        ("1" * 4301 + "*a", "a number is too long"),
        ("0." + "0" * 9999 + "1*a", "a number is too long"),
    ],
)
def test_what_would_stop_python_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        contrast_matrix({"x": text}, ["a", "b"])


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("-" * 10_001 + "a", [-1, 0]),
        ("- + -a - -b", [1, 1]),
        ("(" * 90 + "a" + ")" * 90, [1, 0]),
        ("(a-" * 50 + "b" + ")" * 50, [0, 1]),
        ("1e99*1e99*1e-99*1e-99*a", [1, 0]),
        ("+".join(["a/3"] * 3000), [1000, 0]),
    ],
)
def test_long_expressions(text, weights):
    assert contrast_matrix({"x": text}, ["a", "b"])["x"].to_list() == weights
