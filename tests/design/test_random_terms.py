"""Random terms in every notation, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flashmm_sc._design.random_terms import RandomTerm, parse_random, spelled

SAM, BATCH, SAM_CLS = (
    RandomTerm("sam", ("sam",)),
    RandomTerm("batch", ("batch",)),
    RandomTerm("sam:cls", ("sam", "cls")),
)
X_SAM, Z_SAM = RandomTerm("x|sam", ("sam",), "x"), RandomTerm("z|sam", ("sam",), "z")
X_ALONE = replace(X_SAM, joint="(0 + x|sam)")  # a factor's levels would be correlated
COLUMNS = ["sam", "cls", "batch", "x", "z", "donor id", "a/b", "a:b", "w+1", "sample-id"]


def single(name):
    return RandomTerm(name, (name,))


@pytest.mark.parametrize(
    ("random", "terms"),
    [
        ("sam", [SAM]),
        (["sam", "batch"], [SAM, BATCH]),
        (("batch", "sam"), [BATCH, SAM]),
        ("sam + sam:cls", [SAM, SAM_CLS]),
        ("~ 0 + sam", [SAM]),
        ("~ sam - 1", [SAM]),
        ("-1 + sam + batch", [SAM, BATCH]),
        ("sam/cls", [SAM, SAM_CLS]),
        ("(1|sam)", [SAM]),
        ("( 1 | sam / cls ) + (1|batch)", [SAM, SAM_CLS, BATCH]),
        ("(1|sam) + batch", [SAM, BATCH]),
        ("(1|sam:cls)", [SAM_CLS]),
        ("sam/cls/batch", [SAM, SAM_CLS, RandomTerm("sam:cls:batch", ("sam", "cls", "batch"))]),
        ("(0 + x|sam)", [X_ALONE]),
        ("(x - 1|sam)", [X_ALONE]),
        ("(x + 0|sam)", [X_ALONE]),
        ("(1|sam) + (0 + x|sam)", [SAM, X_ALONE]),
        ("(1 + x||sam)", [SAM, X_SAM]),
        ("(x||sam)", [SAM, X_SAM]),
        ("(0 + x + z || sam)", [X_SAM, Z_SAM]),
        ("(1 + x||sam/cls)", [SAM, X_SAM, SAM_CLS, RandomTerm("x|sam:cls", ("sam", "cls"), "x")]),
        ({"donor": "sam"}, [RandomTerm("donor", ("sam",))]),
        (["batch", {"donor": "(1|sam)", "slope": "(0+x|sam)"}], [BATCH, RandomTerm("donor", ("sam",)), replace(X_ALONE, name="slope")]),
        # odd names: a column's exact name, or in backticks
        ("a/b", [single("a/b")]),
        ("a:b", [single("a:b")]),
        ("w+1", [single("w+1")]),
        (["donor id", "sample-id"], [single("donor id"), single("sample-id")]),
        ("(1|donor id)", [single("donor id")]),
        ("`a/b` + `w+1`", [single("a/b"), single("w+1")]),
        ("(1|`a:b`/sam)", [single("a:b"), RandomTerm("a:b:sam", ("a:b", "sam"))]),
        ("(0 + `w+1`|`donor id`)", [RandomTerm("w+1|donor id", ("donor id",), "w+1", "(0 + `w+1`|`donor id`)")]),
        ("(1|sample-id) + sam", [single("sample-id"), SAM]),
    ],
)  # fmt: skip
def test_notations(random, terms):
    assert parse_random(random, COLUMNS) == terms


@pytest.mark.parametrize(
    ("random", "terms"),
    [
        ("(x|sam)", ["(1 + x|sam)"]),
        ("( 1 + x | sam )", ["(1 + x|sam)"]),
        ("(x + 1|sam)", ["(1 + x|sam)"]),
        ("(0 + z + x|sam)", ["(0 + z + x|sam)"]),
        ("(z + x - 1|sam) + batch", ["(0 + z + x|sam)", "batch"]),
        ("(x|sam/cls)", ["(1 + x|sam)", "(1 + x|sam:cls)"]),
        ("(x||sam) + (z|batch)", ["sam", "(0 + x|sam)", "(1 + z|batch)"]),
        ("(`w+1`|donor id)", ["(1 + `w+1`|`donor id`)"]),
        ({"donor": "(x|sam)"}, ["(1 + x|sam)"]),
    ],
)
def test_correlated_terms_as_they_are_written(random, terms):
    found = parse_random(random, COLUMNS)
    assert spelled(found) == terms
    assert spelled(parse_random(terms, COLUMNS)) == terms
    assert len(found) == len({term.name for term in found})


def test_components_of_a_correlated_term():
    found = parse_random("(x + z|sam) + batch", COLUMNS)
    joint = "(1 + x + z|sam)"
    assert found == [*(replace(term, joint=joint) for term in (SAM, X_SAM, Z_SAM)), BATCH]
    named = parse_random({"donor": "(x|sam)"}, COLUMNS)
    assert [term.name for term in named] == ["donor", "x|donor"]


@pytest.mark.parametrize(
    "random",
    ["", "~", "sam +", "1|sam", "(1|sam", "1|sam)", "(sam)", "(1|)", "(|sam)", "(0|sam)", "(1|sam|cls)", "sam | cls", "sam*cls", "(1|sam + cls)", "(log(x)|sam)", "sam:", "`sam", "sam:sam", "1", "1 + sam", "(1|s`a`m)", "`sam`:`cls`x"],
)  # fmt: skip
def test_unreadable_text_is_shown_with_what_is_accepted(random):
    with pytest.raises(ValueError, match="can't be read") as caught:
        parse_random(random, COLUMNS)
    assert str(caught.value).startswith(f"random={random!r}")
    assert "'sam + batch'" in str(caught.value)


@pytest.mark.parametrize("random", [[], {}, "~ 0", "0"])
def test_no_terms(random):
    with pytest.raises(ValueError, match="has no terms"):
        parse_random(random, COLUMNS)


@pytest.mark.parametrize("random", [None, 3, [None]])
def test_terms_of_another_type(random):
    with pytest.raises(TypeError, match="Random terms are"):
        parse_random(random, COLUMNS)


@pytest.mark.parametrize("random", ["smm", "(1|smm/cls)", "sam + smm", {"n": "smm"}, "(0 + smm|sam)"])
def test_missing_column(random):
    with pytest.raises(KeyError) as caught:
        parse_random(random, COLUMNS)
    assert "'smm', which is not a column of obs. Did you mean 'sam'" in caught.value.args[0]


@pytest.mark.parametrize("random", [["sam", "sam"], ["sam", "(1|sam)"], [{"batch": "sam"}, "batch"], "sam/cls + sam"])
def test_repeated_names(random):
    with pytest.raises(ValueError, match=r"several components named '(sam|batch)'"):
        parse_random(random, COLUMNS)


@pytest.mark.parametrize(
    ("random", "whole", "alone"),
    [
        ("(1|sam) + (x|sam)", "(1 + x|sam)", "(0 + x|sam)"),
        ("(x|sam) + (z|sam)", "(1 + x + z|sam)", "(0 + x|sam)"),
        (["donor id", "(x|donor id)"], "(1 + x|`donor id`)", "(0 + x|`donor id`)"),
        ("(1|sam) + (x|sam) + (0 + z|batch)", "(1 + x|sam)", "(0 + x|sam)"),
    ],
)
def test_an_intercept_beside_that_of_slopes(random, whole, alone):
    """What is said to be written instead can be."""
    with pytest.raises(ValueError, match="has an intercept already") as caught:
        parse_random(random, COLUMNS)
    assert f"is {whole!r}, " in str(caught.value)
    assert str(caught.value).endswith(f"{alone!r}.")
    assert spelled(parse_random(whole, COLUMNS)) == [whole]
    assert len(parse_random(f"(1|batch) + {alone}", COLUMNS)) == 2


def test_slopes_take_parentheses():
    with pytest.raises(ValueError, match=r"'x\|sam' is not of the form '\(1\|sam\)' or '\(1 \+ x\|sam\)'"):
        parse_random("x|sam", COLUMNS)


@pytest.mark.parametrize(
    "random", [{"n": "sam + batch"}, {"n": "sam/cls"}, {"n": ["sam", "batch"]}, {"n": "(x|sam/cls)"}, {"n": "(x||sam)"}]
)
def test_a_name_is_for_one_term(random):
    with pytest.raises(ValueError, match="names 2 terms"):
        parse_random(random, COLUMNS)


def test_a_name_is_a_text():
    with pytest.raises(ValueError, match="no text"):
        parse_random({1: "sam"}, COLUMNS)


@pytest.mark.parametrize("text", ["\ue000", "(1|\ue000)", "sam + \ue001", "`donor id`:\ue000", "(\ue000|sam)"])
def test_characters_that_stand_for_quoted_names(text):
    with pytest.raises(ValueError, match=r"can't be read: '\\ue00[01]' is no part of a plain word"):
        parse_random(text, COLUMNS)
    assert parse_random("`\ue000`", ["\ue000"]) == [RandomTerm("\ue000", ("\ue000",))]
