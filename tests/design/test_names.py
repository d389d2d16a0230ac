"""A column of obs may have any name: the design is that of the same data with harmless names."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import flashmm_sc as fsc
from flashmm_sc._design import type3
from flashmm_sc._design.fixed import fixed_design
from flashmm_sc._design.random import random_design

NAMES = [
    *("t", "r", "C", "c", "s", "n", "o", "sum", "contr", "Q", "I", "np", "bs", "scale", "log", "abs", "df", "x", "_"),
    *("class", "lambda", "None", "True", "in", "if", "print", "data", "_column_0", "_quoted0_", "__FORMULAIC_STATE__"),
    *("cell type", "percent.mt", ".", "a.b.c", "a b c", "x[1]", "x[T.b]", "f(x)", "log(num)", "{x}", "(", "]"),
    *(
        "a:b",
        "a+b",
        "a*b",
        "a/b",
        "1x",
        "-",
        "~",
        "|",
        "%in%",
        "it's",
        'a "b"',
        "a\\b",
        "#",
        "^2",
        "β-cell",
        "été",
        "細胞",
        "x$y",
    ),
]
FORMULAS = [  # a factor, another and a covariate
    "~ 0 + {fac} + {fac}:{other}",
    "~ {fac}*{num} - {num}",
    "~ C({fac}, contr.sum)*C({other}) + scale({num})",
    "~ {fac}*bs({num}, df=3)",
    "~ scale(log({num}**2 + 1)):{fac} + C({other}, contr.treatment('v'))",
    "~ C({fac})*{other} + I({num} - np.mean({num})) + I({num}.clip(0, 1)) + np.exp({num})",
    "~ center({num}):{other} + log({num} + 9) + Q('{bare}')",
]


@pytest.fixture(scope="module")
def obs():
    rng = np.random.default_rng(0)
    columns = {
        "fac": pd.Categorical(rng.choice(["a", "b", "c's"], 120)),
        "other": rng.choice(np.array(["u", "v"], dtype=object), 120),
        "num": rng.normal(size=120),
    }
    return pd.DataFrame(columns)


def written(formula, names):
    """The formula with columns quoted."""
    bare = names["num"].replace("\\", r"\\").replace("'", r"\'")
    return formula.format(**{key: f"`{name}`" for key, name in names.items()}, bare=bare)


HARMLESS = {"fac": "fac", "other": "other", "num": "num"}


@pytest.fixture(scope="module")
def expected(obs):
    """Rows, columns of terms, levels and hypotheses of each formula with harmless names."""
    return {formula: described(written(formula, HARMLESS), obs) for formula in FORMULAS}


def described(formula, obs):
    design = fixed_design(formula, obs)
    hypotheses = type3.hypotheses(design, obs)
    assert len(set(design.names)) == len(design.names)
    assert list(design.terms) == ["Intercept"] * ("Intercept" in design.terms) + list(hypotheses)
    return rows(design, obs), list(design.terms.values()), list(design.levels.values()), list(hypotheses.values())


def check(formula, obs, names, expected):
    made, terms, levels, hypotheses = described(written(formula, HARMLESS | names), obs.rename(columns=names))
    np.testing.assert_array_equal(made, expected[formula][0])
    assert (terms, levels) == expected[formula][1:3]
    for L, theirs in zip(hypotheses, expected[formula][3], strict=True):
        np.testing.assert_allclose(L, theirs, rtol=1e-12, atol=1e-12)


def rows(design, obs):
    return design.rows(design.table(obs)).toarray()


@pytest.mark.parametrize("i", range(len(NAMES)), ids=NAMES)
def test_a_design_does_not_depend_on_names(obs, expected, i):
    """Each name is that of the factor in every other formula, and that of the covariate in those between."""
    for formula in FORMULAS[i % 2 :: 2]:
        check(formula, obs, {"fac": NAMES[i], "num": NAMES[i - 1]}, expected)


def test_names_that_hold_each_other(obs, expected):
    for names in (["a b", "a b c", "a b c d"], ["t", "r", "con"], ["a.b", "a_b", "a b"]):
        for formula in FORMULAS:
            check(formula, obs, dict(zip(HARMLESS, names, strict=True)), expected)


@pytest.mark.parametrize("name", ["t", "r", "c", "s", "n", "o", "sum", "contr", "Q", "I", "C", "scale", "log"])
def test_plain_names_need_no_quotes(obs, expected, name):
    """A name that is called is the function, any other the column."""
    for formula in FORMULAS[:-1]:
        for role in ("fac", "num"):
            renamed = obs.rename(columns={role: name})
            bare = fixed_design(formula.format(**HARMLESS | {role: name}), renamed)
            np.testing.assert_array_equal(rows(bare, renamed), expected[formula][0])


def test_a_quoted_name_is_the_same_name(obs):
    assert fixed_design("~ fac*num - `num`", obs).names == fixed_design("~ fac*num - num", obs).names
    dotted = obs.rename(columns={"num": "a.b"})
    assert fixed_design("~ fac*a.b - `a.b`", dotted).names == fixed_design("~ fac*`a.b` - a.b", dotted).names


def test_signs_in_strings_mean_nothing(obs):
    levels = {"a": "`a`", "b": "b)", "c's": "{c' + `"}
    odd = obs.assign(fac=obs["fac"].cat.rename_categories(levels))
    for level in ("b)", "{c\\' + `"):
        design = fixed_design(f"~ C(fac, contr.treatment('{level}'))", odd)
        assert next(iter(design.levels.values()))[0] == level.replace("\\", "")


@pytest.mark.parametrize("name", NAMES)
def test_random_terms_of_any_name(obs, name):
    expected = random_design("(1|fac) + (1|fac:other) + (0 + num|other)", obs).rows(obs).toarray()
    for role in ("fac", "num"):
        renamed = obs.rename(columns={role: name})
        fac, num = (f"`{name}`" if key == role else key for key in ("fac", "num"))
        design = random_design(f"(1|{fac}) + (1|{fac}:other) + (0 + {num}|other)", renamed)
        np.testing.assert_array_equal(design.rows(renamed).toarray(), expected)


def test_names_that_can_not_be_told_apart_are_refused(obs):
    for name, formula in [("log(num)", "~ log(num) + `log(num)`"), ("1", "~ fac + `1`")]:
        both = obs.assign(**{name: obs["num"] ** 2})
        with pytest.raises(ValueError, match=rf"the column '{re.escape(name)}' reads like another part of it; rename"):
            fixed_design(formula, both)


def test_a_backtick_in_a_name(obs):
    with pytest.raises(ValueError, match=r"has a backtick without another.*rename the column"):
        fixed_design("~ `a`b`", obs.rename(columns={"num": "a`b"}))


def test_a_word_of_python_wants_quotes(obs):
    with pytest.raises(ValueError, match="words of Python such as 'class', with backticks"):
        fixed_design("~ log(class)", obs.rename(columns={"num": "class"}))


@pytest.mark.parametrize("name", ["t", "C", "contr", "class", "cell type", "a:b"])
def test_a_fit_does_not_depend_on_names(adata, name):
    fixed, options = "~ {0} + C({0}):score", {"transform": "log1p", "n_jobs": 1}
    fsc.tl.lmm_de(adata, fixed.format("trt"), "sam", **options)
    other = adata.copy()
    other.obs = other.obs.rename(columns={"trt": name, "sam": "con tr"})
    fsc.tl.lmm_de(other, fixed.format(f"`{name}`"), "(1|con tr)", **options)
    assert adata.varm
    for key, values in adata.varm.items():
        np.testing.assert_array_equal(other.varm[key], values, err_msg=key)
