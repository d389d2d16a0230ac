"""What names of coefficients and contrasts are about."""

from __future__ import annotations

import pytest

from flashmm_sc._results.categories import baseline, categories_of

CATEGORIES = ["B", "NK", "CD4+/CD25 T", "CD4", "a:b", "x vs y"]


@pytest.mark.parametrize(
    ("name", "category"),
    [
        ("cls[NK]", "NK"),
        ("cls[T.NK]", "NK"),
        ("C(cls)[T.NK]", "NK"),
        ('C(cls, contr.treatment("B"))[T.NK]:trt[T.stim]', "NK"),
        ("cls[NK]:trt[T.stim]", "NK"),
        ("trt[T.stim]:cls[T.CD4+/CD25 T]", "CD4+/CD25 T"),
        ("trt[T.stim]:cls[CD4]", "CD4"),
        ("cls[a:b]:trt[T.stim]", "a:b"),
        ("stim vs ctrl, cls=NK", "NK"),
        ("stim vs ctrl, cls=NK, sex=f", "NK"),
        ("stim vs ctrl, sex=f, cls=CD4+/CD25 T", "CD4+/CD25 T"),
        ("treatment: stim vs ctrl, cls=B", "B"),
        ("NK vs B", "NK"),
        ("NK vs B, sex=f", "NK"),
        ("types: CD4 vs B", "CD4"),
        ("NK", "NK"),
        ("NK, trt=ctrl", "NK"),
        ("x vs y", "x vs y"),
        ("subcls[NK]", None),
        ("C(clsx)[NK]", None),
        ("stim vs ctrl, subcls=NK", None),
        ("cls[N]", None),
        ("cls[T.NKT]:trt[T.stim]", None),
        ("trt[T.stim]", None),
        ("B.cells", None),
        ("cls[T.B] - cls[T.NK]", None),
    ],
)
def test_the_category_of_a_name(name, category):
    assert categories_of([name], "cls", CATEGORIES) == (None if category is None else [category])


def test_each_name_has_its_own():
    assert categories_of(["cls[NK]:age", "cls[B]:age"], "cls", CATEGORIES) == ["NK", "B"]
    assert categories_of(["cls[NK]:age", "cls[NK]"], "cls", CATEGORIES) is None
    assert categories_of(["cls[NK]:age", "age"], "cls", CATEGORIES) is None


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("trt[T.stim]", "ctrl"),
        ("C(trt)[T.stim]", "ctrl"),
        ("cls[NK]:trt[T.stim]", "ctrl"),
        ("cls[T.NK]", "B"),
        ("cls[T.NK]:trt[T.stim]", None),  # a difference of differences
        ("stim vs ctrl", "ctrl"),
        ("stim vs ctrl, cls=NK", "ctrl"),
        ("treatment: stim vs no, nothing, cls=NK", "no, nothing"),
        ("trt[ctrl]", None),
        ("age", None),
    ],
)
def test_what_an_effect_is_against(name, level):
    assert baseline(name, {"trt": ["ctrl", "stim"], "cls": ["B", "NK"]}) == level
