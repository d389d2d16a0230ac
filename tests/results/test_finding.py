"""A contrast is found under whatever key it lies; names that there aren't are met with names that there are."""

from __future__ import annotations

import time

import matplotlib as mpl
import pytest

import flashmm_sc as fsc
from flashmm_sc._results.finding import fit_of
from flashmm_sc._results.result import Result

mpl.use("agg")
EFFECT = "cls[B]:trt[T.B]"


@pytest.fixture
def tested(adata):
    fsc.tl.lmm_de(adata, "~ 0 + cls + cls:trt", "sam", transform="log1p", contrasts={"B vs NK": "cls[B] - cls[NK]"})
    fsc.tl.lmm_test(adata, {"NK only": "cls[NK]:trt[T.B]", "minus": f"-{EFFECT}"})
    return adata


@pytest.fixture
def grouped(adata):
    fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p")
    fsc.tl.lmm_test(adata, {"down": "-trt[T.B]"})
    return adata


def shown(adata, *arguments, **options):
    table = fsc.get.lmm_de_df(adata, *arguments, **options)
    return list(dict.fromkeys(table["contrast"]))


def test_a_damaged_result_does_not_keep_others_from_being_found(tested):
    tested.uns["lmm_test"]["params"] = 3
    assert shown(tested, EFFECT) == [EFFECT]
    assert shown(tested, "B vs NK") == ["B vs NK"]
    with pytest.raises(ValueError, match="'lmm_test' is damaged"):  # which may have it
        shown(tested, "NK only")
    tested.uns["lmm_de"]["params"] = 3
    with pytest.raises(ValueError, match="'lmm_de' is damaged"):
        shown(tested)


def test_it_is_found_wherever_it_lies(tested):
    for name, key in {"B vs NK": "lmm_de_contrasts", "NK only": "lmm_test", EFFECT: "lmm_de"}.items():
        assert shown(tested, name) == [name]
        assert fsc.get.lmm_de_df(tested, name).equals(fsc.get.lmm_de_df(tested, name, key=key))
        assert fsc.pl.volcano(tested, name, show=False).get_title() == name
    assert shown(tested, ["minus", "NK only"]) == ["minus", "NK only"]
    assert len(shown(tested)) == 4


@pytest.mark.parametrize(
    ("coefs", "groups", "expected"),
    [
        (None, None, ["B|x", "B|y", "NK|x", "NK|y", "|d"]),
        (None, ["NK", "B"], ["NK|x", "NK|y", "B|x", "B|y"]),
        (None, ["", "NK"], ["|d", "NK|x", "NK|y"]),
        (["y", "x"], None, ["B|y", "B|x", "NK|y", "NK|x"]),
        (["y", "x"], ["NK", "B"], ["NK|y", "NK|x", "B|y", "B|x"]),
        (["NK|x", "B|y"], None, ["NK|x", "B|y"]),
        (["d", "x"], ["", "B"], ["|d", "B|x"]),
    ],
)
def test_in_the_order_in_which_they_are_asked_for(grouped, coefs, groups, expected):
    effects = {"x": "trt[T.B]", "d": "`B|trt[T.B]` - `NK|trt[T.B]`", "y": "2 * trt[T.B]"}
    fsc.tl.lmm_test(grouped, effects)
    table = fsc.get.lmm_de_df(grouped, coefs, groups=groups, key="lmm_test")
    assert list(dict.fromkeys(table["group"] + "|" + table["contrast"])) == expected


def test_tables_of_variances_and_means_are_in_that_order_too(grouped):
    asked, first = ["NK", "B"], list(grouped.var_names[:1])
    fsc.tl.lmm_de(grouped, "~ trt", ["sam", "batch"], groupby="cls", transform="log1p", ranef=True)
    tables = [
        fsc.get.variance_df(grouped, groups=asked),
        fsc.get.variance_explained_df(grouped, groups=asked),
        fsc.get.ranef_df(grouped, groups=asked),
        fsc.get.fitted(grouped, first, {"trt": ["A"]}, groups=asked),
    ]
    assert [list(dict.fromkeys(table["group"])) for table in tables] == [asked] * 4
    assert fsc.get.matrix(grouped, coefs="down", groups=asked).index.tolist() == asked
    effects = fsc.get.ranef_df(grouped, ["batch", "sam"])
    assert list(dict.fromkeys(zip(effects["group"], effects["component"], strict=True))) == [
        (group, component) for group in ("B", "NK") for component in ("batch", "sam")
    ]
    fitted = fsc.get.fitted(grouped, first, {"trt": ["A"]})
    assert tables[-1]["fit"].tolist() == fitted.set_index("group").loc[asked, "fit"].tolist()


def test_plots_are_in_that_order_too(grouped):
    groups = ["NK", "B"]
    assert [ax.get_title() for ax in fsc.pl.volcano(grouped, groups=groups, key="lmm_test", show=False)] == groups
    rows = [
        fsc.pl.hits(grouped, key="lmm_test", groups=groups, show=False),
        fsc.pl.dotplot(grouped, ["gene0"], key="lmm_test", groups=groups, show=False),
        fsc.pl.effects(grouped, "gene0", key="lmm_test", groups=groups, show=False),
    ]
    assert [[text.get_text() for text in ax.get_yticklabels()] for ax in rows] == [groups] * 3


def test_groups_have_names_of_their_own(grouped):
    assert shown(grouped, "down") == ["down"]
    assert set(fsc.get.lmm_de_df(grouped, "NK|down")["group"]) == {"NK"}
    assert fsc.pl.volcano(grouped, "down", group="B", show=False).get_title() == "B: down"


def test_the_first_key_goes_before_others_and_shrunken_effects_lie_under_their_own(tested):
    fsc.tl.lmm_test(tested, EFFECT, alternative="less", key_added="one-sided")
    fsc.tl.shrink(tested, ["minus", "NK only"])
    assert fsc.get.lmm_de_df(tested, EFFECT).equals(fsc.get.lmm_de_df(tested, EFFECT, key="lmm_de"))
    assert "p_value" in fsc.get.lmm_de_df(tested, "minus")
    assert "lfsr" in fsc.get.lmm_de_df(tested, "minus", key="lmm_shrink")


def test_the_only_result_needs_no_key(adata):
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p", ranef=True, moderate=False, key_added="mine")
    assert shown(adata) == ["Intercept", "trt[T.B]"]
    fsc.tl.lmm_variance_test(adata, key="mine")
    assert shown(adata, "trt[T.B]") == ["trt[T.B]"]
    assert len(fsc.get.variance_df(adata)) == 24
    assert len(fsc.get.ranef_df(adata)) == 96
    fsc.tl.lmm_test(adata, "trt[T.B]", key="mine")
    assert len(fsc.get.variance_df(adata)) == 24  # there is one fit still
    with pytest.raises(KeyError, match=r"There are several results; choose key= among 'mine', 'lmm_test'"):
        fsc.get.lmm_de_df(adata)
    with pytest.raises(KeyError, match=r"several results have 'trt\[T\.B\]'; choose key= among 'mine', 'lmm_test'"):
        fsc.get.lmm_de_df(adata, "trt[T.B]")
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p", key_added="yours")
    with pytest.raises(KeyError, match=r"several fits; choose key= among 'mine', 'yours'"):
        fsc.get.variance_df(adata)


@pytest.mark.parametrize(
    ("coefs", "key", "words"),
    [
        ("B vs NK", "lmm_de", "coefs: the result 'lmm_de' has no 'B vs NK'; key='lmm_de_contrasts' has it."),
        (EFFECT, "lmm_test", f"has no '{EFFECT}'; key='lmm_de' and key='again' have it."),
        ("B vs Nk", None, "no result has 'B vs Nk'. Did you mean 'B vs NK'?"),
        (["B vs NK", "minus"], None, "no result has all of 'B vs NK', 'minus'"),
        (["NK only", "x"], None, "no result has 'x'. There are: 'cls[B]'"),
        ("minis", "lmm_test", "the result 'lmm_test' has no 'minis'. Did you mean 'minus'?"),
    ],
)
def test_what_is_not_there(tested, coefs, key, words):
    fsc.tl.lmm_test(tested, EFFECT, key_added="again")
    with pytest.raises(KeyError) as caught:
        fsc.get.lmm_de_df(tested, coefs, key=key)
    assert words in caught.value.args[0]
    if isinstance(coefs, str):
        with pytest.raises(KeyError) as caught:
            fsc.pl.volcano(tested, coefs, key=key, show=False)
        assert words.removeprefix("coefs: ") in caught.value.args[0]


def test_a_name_is_suggested_once_not_once_a_group(grouped):
    with pytest.raises(KeyError) as caught:
        fsc.get.lmm_de_df(grouped, "trt[T.b]", key="lmm_de")
    assert caught.value.args[0].endswith("has no 'trt[T.b]'. Did you mean 'trt[T.B]'?")
    with pytest.raises(KeyError) as caught:
        fsc.get.lmm_de_df(grouped, "NK|trt[T.b]", key="lmm_de")
    assert "Did you mean 'NK|trt[T.B]'" in caught.value.args[0]


def test_a_fit_that_was_replaced_is_not_that_of_the_tests(adata):
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p")
    fsc.tl.lmm_test(adata, "trt[T.B]")
    tests = Result.read(adata, "lmm_test")
    assert fit_of(adata, tests).key == "lmm_de"
    time.sleep(0.01)  # stamps are of milliseconds
    with pytest.warns(fsc.AdviceWarning, match="was made from the result"):
        fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p")
    assert fit_of(adata, tests) is None
    with pytest.raises(ValueError, match="The fit that 'lmm_test' was made from is gone or replaced"):
        fsc.pl.ma(adata, "trt[T.B]", key="lmm_test", show=False)
