"""Whatever an option may be given, it is refused by name before anything is computed, and adata stays as it was."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from containers import assert_unchanged

import flashmm_sc as fsc
from flashmm_sc._gaussian import estimate
from flashmm_sc._stream import accumulate

NO_FLAG = ["False", 0, None, np.zeros(3)]
NO_NUMBER = ["0.1", None, [0.1]]
NO_WHOLE = [2.5, "3", [1]]


def bad(option, values, *words):
    return [(option, value, words or (f"{option}=",)) for value in values]


LMM_DE = [
    *(case for flag in ("use_raw", "nonnegative", "moderate", "ranef", "copy") for case in bad(flag, NO_FLAG)),
    *bad("show_progress", ["no", 1]),
    *bad("max_iter", [*NO_WHOLE, 0, -1, True, np.nan]),
    *bad("n_jobs", [*NO_WHOLE, 0, 10**11]),
    *bad("method", ["reml", None, 1, ["REML"]]),
    *bad("ddf", ["n-p", None, 3]),
    *bad("transform", ["log", 1, True]),
    *bad("corr_method", ["fdr", None]),
    *bad("corr_scope", ["columns", None]),
    *bad("key_added", ["", "a/b", ".", "a\0b", None, 3]),
    *bad("groupby", ["clss", 3, ["cls"]]),
    *bad("contrasts", [3, 2.5, [1, 2], {"a": None}, True, "trt[T.C]"], "ontrast"),
    *bad("fixed", [None, 3, ["~ trt"]], "fixed must be a formula"),
    *bad("random", [None, 3, [3]]),
]
LMM_TEST = [
    *bad("joint", NO_FLAG),
    *bad("alternative", ["two.sided", None, 1]),
    *bad("lfc", [*NO_NUMBER, -1, np.nan, np.inf]),
    *bad("conf_level", ["0.9", 95, -0.1, np.nan, [0.9], 0, 1]),
    *bad("ddf", ["n-p", 3]),
    *bad("corr_method", ["fdr", None]),
    *bad("corr_scope", ["columns", None]),
    *bad("key_added", ["", "a/b", ".", "a\0b", None, "lmm_de"]),
    *bad("n_jobs", [*NO_WHOLE, 0, 10**11]),
    *bad("contrasts", [3, None, [1, 2], {"a": None}, {}], "ontrast"),
]
LMM = [
    *(case for flag in ("nonnegative", "moderate") for case in bad(flag, NO_FLAG)),
    *bad("max_iter", [*NO_WHOLE, 0]),
    *bad("tol", [*NO_NUMBER, -1.0, np.nan, np.inf]),
    *bad("method", ["reml", None]),
    *bad("ddf", ["n-p", None]),
    *bad("theta0", ["a", [1.0], [1.0, -1.0], [np.nan, 1.0], {"a": 1}]),
    *bad("n_jobs", [*NO_WHOLE, 0, 10**11]),
]
LMMTEST = [
    *bad("joint", NO_FLAG),
    *bad("alternative", ["two.sided", None]),
    *bad("min_effect", [*NO_NUMBER, -1, np.nan, np.inf]),
    *bad("ddf", ["n-p", 3]),
    *bad("index", [2.5, "x9", [0.5], 99], "index"),
]


def named(cases):
    return pytest.mark.parametrize(("option", "value", "words"), cases, ids=lambda value: str(value)[:30])


def assert_named(caught, words):
    message = str(caught.value.args[0])
    assert all(word in message for word in words), message
    assert message.endswith((".", "?", "…")), message


@pytest.fixture
def nothing_computed(monkeypatch):
    """A pass over the data, or a fit, would fail."""

    def stop(*_, **__):
        pytest.fail("computed before the options were checked")

    monkeypatch.setattr(accumulate, "blocks", stop)
    monkeypatch.setattr(estimate, "optimise", stop)


@named(LMM_DE)
def test_lmm_de(adata, nothing_computed, option, value, words):
    arguments = {"fixed": "~ trt", "random": "sam", "transform": "log1p"} | {option: value}
    before = adata.copy()
    with pytest.raises((TypeError, ValueError, KeyError)) as caught:
        fsc.tl.lmm_de(adata, **arguments)
    assert_named(caught, words)
    assert_unchanged(adata, before)


@pytest.fixture(scope="module")
def fitted(counts, cells, genes):
    import anndata as ad
    import scipy.sparse as sp

    adata = ad.AnnData(sp.csr_matrix(counts), cells.copy(), genes.copy())
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p", n_jobs=1)
    return adata


@named(LMM_TEST)
def test_lmm_test(fitted, option, value, words):
    before = fitted.copy()
    with pytest.raises((TypeError, ValueError, KeyError)) as caught:
        fsc.tl.lmm_test(fitted, **({"contrasts": "trt[T.B]"} | {option: value}))
    assert_named(caught, words)
    assert_unchanged(fitted, before)


@pytest.fixture(scope="module")
def stats():
    sample = np.arange(60) % 6
    X = np.column_stack([np.ones(60), sample % 2])
    return fsc.sslmm(X, np.random.default_rng(0).normal(size=(60, 4)), np.eye(6)[sample])


@named(LMM)
def test_lmm(stats, nothing_computed, option, value, words):
    with pytest.raises((TypeError, ValueError)) as caught:
        fsc.lmm(stats, **{option: value})
    assert_named(caught, words)


@named(LMMTEST)
def test_lmmtest(stats, option, value, words):
    fit = fsc.lmm(stats)
    with pytest.raises((TypeError, ValueError, KeyError)) as caught:
        fsc.lmmtest(fit, **{option: value})
    assert_named(caught, words)


VOLCANO = [
    *bad("alpha", [*NO_NUMBER, 0, 1.5, np.nan]),
    *bad("min_effect", [*NO_NUMBER, -1, np.inf]),
    *bad("labels", [2.5, -1, None]),
    *bad("coef", [3, ["trt[T.B]"]]),
    *bad("group", [3, ["B"]]),
    *bad("title", [3]),
    *bad("gene_symbols", [3]),
    *bad("ax", ["axes", 1]),
    *bad("show", ["no", 1]),
]
GET = [*bad("coefs", [3, "trt[T.C]", [2.5]], "coefs"), *bad("groups", [3, "C"], "groups")]


@named(VOLCANO)
def test_volcano(fitted, option, value, words):
    with pytest.raises((TypeError, ValueError)) as caught:
        fsc.pl.volcano(fitted, **({"coef": "trt[T.B]", "show": False} | {option: value}))
    assert_named(caught, words)


@named(GET)
def test_get(fitted, option, value, words):
    with pytest.raises((TypeError, KeyError)) as caught:
        fsc.get.lmm_de_df(fitted, **{option: value})
    assert_named(caught, words)


@pytest.mark.parametrize(
    "call",
    [
        lambda adata: fsc.tl.lmm_test(adata, "trt[T.B]"),
        fsc.tl.lmm_anova,
        fsc.tl.lmm_variance_test,
        fsc.tl.shrink,
        lambda adata: fsc.tl.forget(adata, "lmm_de"),
        fsc.get.lmm_de_df,
        fsc.get.variance_df,
        fsc.get.results,
        fsc.get.summary,
        lambda adata: fsc.get.fitted(adata, None, {}),
        lambda adata: fsc.pl.volcano(adata, "trt[T.B]"),
    ],
)
def test_what_a_call_returned_is_no_anndata(call):
    with pytest.raises(TypeError, match=r"adata must be an AnnData, not NoneType\. Functions of fsc\.tl return None"):
        call(None)


@pytest.mark.parametrize("value", [None, 3, "fit", pd.DataFrame()])
@pytest.mark.parametrize(
    ("call", "words"),
    [
        (fsc.lmm, "stats must be SummaryStats, as fsc.sslmm or fsc.summarize gives"),
        (fsc.lmmtest, "fit must be LMMFit, as fsc.lmm or fsc.lmmfit gives"),
        (fsc.lrt, "fit must be LMMFit, as fsc.lmm or fsc.lmmfit gives"),
        (fsc.variance_explained, "fit must be LMMFit, as fsc.lmm or fsc.lmmfit gives"),
    ],
)
def test_what_is_no_fit(call, words, value):
    with pytest.raises(TypeError, match=rf"{words}, not {type(value).__name__}\."):
        call(value)


@pytest.mark.parametrize("value", [3, "fit"])
def test_what_is_no_smaller_fit(stats, value):
    with pytest.raises(TypeError, match=r"null must be LMMFit, as fit\.refit"):
        fsc.lrt(fsc.lmm(stats), value)
