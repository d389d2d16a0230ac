"""Operators of formulas: formulaic's, and none that goes on without end."""

from __future__ import annotations

import pytest
from formulaic import Formula

from flashmm_sc._design.formula import parse_formula


def terms(formula: str) -> list[str]:
    return [str(term) for term in parse_formula(formula, "fixed")]


@pytest.mark.parametrize(
    "formula",
    [
        "~ (a+b+c)**2",
        "~ (a+b+c)^3",
        "~ (a+b)**7",
        "~ a**2",
        "~ (a*b+c)**2 + d",
        "~ (d+b+a+c)**5",
        "~ 0 + (b+a)**2",
        "~ a*b + c/d + (a+b) %in% c - a:b",
        "~ (a+b-1)**2",
    ],
)
def test_terms_and_their_order_are_formulaics(formula):
    assert terms(formula) == [str(term) for term in Formula(formula)]


@pytest.mark.parametrize("power", ["3", "4", "50", "99999999999999999999"])
def test_powers_end(power):
    assert terms(f"~ (a+b+c)**{power}") == terms("~ a*b*c")


@pytest.mark.parametrize(
    "formula", ["~ " + "*".join(f"v{i}" for i in range(60)), f"~ ({'+'.join('abcdefghijklmnop')})**9"]
)
def test_too_many_terms(formula):
    with pytest.raises(
        ValueError, match=r"can't be read as a formula: it crosses so many terms that there would be \d+,"
    ):
        terms(formula)


@pytest.mark.parametrize("power", ["b", "1.5", "1e9", "²", "00"])
def test_powers_are_whole_numbers(power):
    with pytest.raises(ValueError, match="must be a positive integer"):
        terms(f"~ a**{power}")


def test_brackets_of_two_kinds():
    with pytest.raises(ValueError, match=r"can't be read as a formula: Brackets and operators don't fit together\."):
        terms("~ [)*")


def test_a_power_of_thousands_of_digits():
    with pytest.raises(ValueError, match="must be a positive integer"):
        terms("~ a**" + "9" * 5000)
