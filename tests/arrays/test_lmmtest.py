"""`lmmtest`: FLASHMM's results and columns, and what can be given as a contrast or an index."""

from __future__ import annotations

import dense_reference as dense
import numpy as np
import pandas as pd
import pytest
import reference_data as rd

import flashmm_sc as fsc

ALTERNATIVES = ["two-sided", "less", "greater"]


@pytest.fixture(scope="module")
def flashmm_fit():
    """All genes of the reference data, the design `sam`."""
    _, X, Z = rd.designs(rd.FIXED, rd.random_of["sam"])
    return fsc.lmmfit(rd.log_counts(), X, Z)


@pytest.fixture(scope="module")
def fit():
    X, Z, d, Y = dense.example("nested")
    names = ["cls[A]", "cls[B]", "cls[A]:trt", "cls[B]:trt", "depth"]
    return fsc.lmmfit(pd.DataFrame(Y).add_prefix("g"), pd.DataFrame(X, columns=names), Z, d, nonnegative=True)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_contrasts_of_flashmm(flashmm_fit, alternative):
    ours = fsc.lmmtest(flashmm_fit, rd.contrasts_of, alternative=alternative)
    theirs = rd.contrasts().query("alternative == @alternative")
    assert list(ours.columns) == [f"{name}_{what}" for what in ("coef", "t", "p") for name in rd.contrasts_of]
    for name in rd.contrasts_of:
        expected = theirs[theirs["contrast"] == name].set_index("gene")
        assert list(ours.index) == list(expected.index)
        for what in ("coef", "t", "p"):
            np.testing.assert_allclose(ours[f"{name}_{what}"], expected[what], rtol=1e-6)


def test_all_coefficients_are_the_default(fit):
    table = fsc.lmmtest(fit)
    names = list(fit.coef.columns)
    assert list(table.index) == list(fit.coef.index)
    for what in ("coef", "t", "p"):
        np.testing.assert_allclose(table[[f"{name}_{what}" for name in names]], getattr(fit, what), rtol=1e-12)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_alternatives_fit_together(fit, alternative):
    table, two_sided = fsc.lmmtest(fit, alternative=alternative), fsc.lmmtest(fit)
    t, p, both = (frame.filter(like=end).to_numpy() for frame, end in [(table, "_t"), (table, "_p"), (two_sided, "_p")])
    towards = {"two-sided": np.ones_like(t, bool), "less": t < 0, "greater": t > 0}[alternative]
    assert towards.any()
    half = both if alternative == "two-sided" else both / 2
    np.testing.assert_allclose(p, np.where(towards, half, 1 - half), rtol=1e-9)


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
def test_degrees_of_freedom_are_those_of_a_fit_with_them(fit, ddf):
    again = fit.refit(ddf=ddf)
    table = fsc.lmmtest(fit, ddf=ddf)
    np.testing.assert_allclose(table.filter(like="_t"), again.t, rtol=1e-9)
    np.testing.assert_allclose(table.filter(like="_p"), again.p, rtol=1e-9)
    assert not np.allclose(again.p, fit.p)


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger", "residual"])
def test_degrees_of_freedom_are_by_default_those_of_the_fit(fit, ddf):
    again = fit.refit(ddf=ddf)
    np.testing.assert_allclose(fsc.lmmtest(again).filter(like="_p"), again.p, rtol=1e-9)
    joint = fsc.lmmtest(again, index=[2, 3], joint=True)
    pd.testing.assert_frame_equal(joint, fsc.lmmtest(again, index=[2, 3], joint=True, ddf=ddf))


@pytest.mark.parametrize(
    ("index", "names"),
    [
        (4, ["depth"]),
        ("depth", ["depth"]),
        ([3, 0], ["cls[B]:trt", "cls[A]"]),
        (["cls[B]:trt", 0], ["cls[B]:trt", "cls[A]"]),
        (-1, ["depth"]),
        (range(2), ["cls[A]", "cls[B]"]),
        (pd.Index(["depth"]), ["depth"]),
        (np.array([2, 3]), ["cls[A]:trt", "cls[B]:trt"]),
        (None, ["cls[A]", "cls[B]", "cls[A]:trt", "cls[B]:trt", "depth"]),
    ],
)
def test_index(fit, index, names):
    table = fsc.lmmtest(fit, index=index)
    assert list(table.columns) == [f"{name}_{what}" for what in ("coef", "t", "p") for name in names]
    np.testing.assert_allclose(table.filter(like="_t"), fit.t[names], rtol=1e-12)


@pytest.mark.parametrize("index", [np.int64(2), np.array([0, 1, 0, 0, 1], bool)], ids=repr)
def test_index_from_numpy(fit, index):
    names = fit.coef.columns[index].tolist() if index.ndim else [fit.coef.columns[index]]
    assert list(fsc.lmmtest(fit, index=index).filter(like="_t")) == [f"{name}_t" for name in names]


def test_position_there_is_not(fit):
    with pytest.raises(ValueError, match="5"):
        fsc.lmmtest(fit, index=5)


def test_contrasts_in_every_form(fit):
    names = list(fit.coef.columns)
    text = "cls[A]:trt - cls[B]:trt"
    vector = [0, 0, 1, -1, 0]
    expected = fit.coef["cls[A]:trt"] - fit.coef["cls[B]:trt"]
    tables = [
        fsc.lmmtest(fit, contrast)
        for contrast in (
            text,
            [text],
            {"d": text},
            {"d": vector},
            {"d": pd.Series(vector, names)},
            np.array(vector)[:, None],
            fsc.contrast_matrix({"d": text}, names),
            pd.DataFrame({"d": vector[::-1]}, names[::-1]),
        )
    ]
    assert [table.columns[0] for table in tables] == [f"{text}_coef"] * 2 + ["d_coef"] * 3 + ["contrast1_coef"] + [
        "d_coef"
    ] * 2
    for table in tables:
        np.testing.assert_allclose(table.iloc[:, 0], expected, rtol=1e-9)
        np.testing.assert_allclose(table, tables[0])


def test_smallest_effect_that_counts(fit):
    plain, shifted = fsc.lmmtest(fit, index="depth"), fsc.lmmtest(fit, index="depth", min_effect=0.1)
    assert (shifted["depth_p"] > plain["depth_p"]).all()
    np.testing.assert_array_equal(shifted["depth_coef"], plain["depth_coef"])
    np.testing.assert_allclose(fsc.lmmtest(fit, min_effect=0.0), fsc.lmmtest(fit))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"alternative": "two.sided"}, "alternative='two.sided' is unknown; choose one of 'two-sided'"),
        ({"ddf": "n-p"}, "ddf='n-p' is unknown"),
        ({"index": "dept"}, "'dept'.* Did you mean 'depth'"),
        ({"contrast": "cls[A]:trt - cls[C]:trt"}, "unknown coefficient"),
        ({"contrast": {"none": "cls[A] - cls[A]"}}, "'none' is zero"),
        ({"contrast": np.eye(4)}, "5 coefficients"),
        ({"min_effect": -1}, "min_effect=-1"),
        ({"min_effect": np.nan}, "min_effect=nan"),
        ({"joint": True, "min_effect": 1.0}, "joint=True"),
        ({"joint": True, "alternative": "less"}, "joint=True"),
    ],
    ids=str,
)
def test_what_is_refused(fit, options, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        fsc.lmmtest(fit, **options)


def test_genes_without_a_fit():
    X, Z, d, Y = dense.example("sam")
    Y[:, 2] = 0
    table = fsc.lmmtest(fsc.lmmfit(Y, X, Z, d, nonnegative=True), "x3 - x4")
    assert table.isna().all(axis=1).tolist() == [False, False, True, False, False, False]
