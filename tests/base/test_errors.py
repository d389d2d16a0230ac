"""Warnings point at the user's line, however deep in the package they arise, and whatever lies in between."""

from __future__ import annotations

import inspect

import pytest

import flashmm_sc as fsc
from flashmm_sc._base import errors
from flashmm_sc._base.errors import did_you_mean, listed

LOGGED = {"transform": "log1p", "size_factors": "total"}


def here():
    """Line of the caller."""
    return inspect.currentframe().f_back.f_lineno


def raw_counts(adata):
    return here(), fsc.tl.lmm_de(adata, "~ trt", "sam")


def few_genes(adata):
    return here(), fsc.tl.lmm_de(adata, "~ trt", "sam", moderate=True, **LOGGED)


def group_left_out(adata):
    adata.obs.loc[adata.obs["cls"] == "NK", "trt"] = "A"
    return here(), fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", **LOGGED)


def unknown_logarithm(adata):
    adata.X = adata.X.toarray() + 0.5
    fsc.tl.lmm_de(adata, "~ trt", "sam")
    return here(), fsc.get.lmm_de_df(adata)


def summarized_counts(adata):
    return here(), fsc.summarize(adata, fsc.Design.of(adata.obs, "~ trt", "sam"))


def group_not_tested(adata):
    adata = adata[(adata.obs["cls"] == "B") | (adata.obs["batch"] != "z")].copy()
    fsc.tl.lmm_de(adata, "~ batch", "sam", groupby="cls", **LOGGED)
    return here(), fsc.tl.lmm_test(adata, "batch[T.z]")


def label_without_result(adata):
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p", mask_var="use")
    return here(), fsc.pl.volcano(adata, "trt[T.B]", labels=["gene0"], show=False)


WARNINGS = [raw_counts, few_genes, group_left_out, unknown_logarithm, summarized_counts]
WARNINGS += [group_not_tested, label_without_result]


@pytest.mark.parametrize("call", WARNINGS, ids=lambda call: call.__name__)
def test_every_warning_points_at_the_line_of_the_call(adata, call):
    with pytest.warns(fsc.FlashmmWarning) as caught:
        line, _ = call(adata)
    found = [(one.filename, one.lineno) for one in caught if issubclass(one.category, fsc.FlashmmWarning)]
    assert found[-1] == (__file__, line)
    assert {file for file, _ in found} == {__file__}


def test_through_other_peoples_frames():
    """A context manager of the standard library stands between two frames of ours."""
    code = "import contextlib\nfrom flashmm_sc._base.errors import warn\n@contextlib.contextmanager\ndef inner():\n"
    code += "    warn('deep')\n    yield\ndef outer():\n    with inner():\n        pass\n"
    ours: dict = {}
    exec(compile(code, f"{errors._HOME}elsewhere.py", "exec"), ours)
    line = here() + 2
    with pytest.warns(fsc.FlashmmWarning, match="deep") as caught:
        ours["outer"]()
    assert (caught[0].filename, caught[0].lineno) == (__file__, line)


def test_words():
    assert listed("abc", 2) == "'a', 'b' and 1 more"
    assert did_you_mean("trtt", ["trt", "cls"]) == "Did you mean 'trt'?"
    assert did_you_mean("x", ["trt", "cls"]) == "There are: 'trt', 'cls'."
    assert did_you_mean("x", []) == "There are none."
