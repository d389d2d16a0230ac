"""What calls tell: to the standard library's logger, and as scanpy says once it is imported."""

from __future__ import annotations

import inspect
import io
import logging
import re
import subprocess
import sys

import pytest
import scanpy as sc

import flashmm_sc as fsc
from flashmm_sc._base.log import HINT, detail, informs, told

BEGIN = "lmm_de: fitting linear mixed models"
FINISHED = r"    finished \(0:00:\d\d\)"


@pytest.fixture
def scanpy_says():
    """What scanpy's logger writes at a verbosity."""
    before, file = sc.settings.verbosity, sc.settings.logfile

    def at(verbosity):
        sc.settings.logfile = said = io.StringIO()
        sc.settings.verbosity = verbosity
        return said

    yield at
    sc.settings.logfile, sc.settings.verbosity = file, before


def fitted(adata, **options):
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p", **options)
    return adata


def test_a_fit_tells_its_begin_and_its_end(adata, caplog):
    with caplog.at_level(logging.INFO, "flashmm_sc"):
        fitted(adata)
    assert caplog.messages[0] == BEGIN
    assert re.fullmatch(FINISHED, caplog.messages[-1])


def test_at_hint_level_it_tells_what_was_added_where(adata, caplog):
    with caplog.at_level(HINT, "flashmm_sc"):
        fitted(adata, contrasts={"down": "-1 * trt[T.B]"})
    first, *lines, last = caplog.messages[-1].split("\n")
    assert first == "    finished: added"
    assert "    'lmm_de_coef', coefficients (adata.varm)" in lines
    told = [re.match(r" {4}'(.*)', .* \(adata\.(varm|uns)\)", line).groups() for line in [*lines, last]]
    assert {name for name, place in told if place == "varm"} == set(adata.varm)
    assert {name for name, place in told if place == "uns"} == {"lmm_de", "lmm_de_contrasts"}
    assert re.search(r"\(adata\.uns\) \(0:00:\d\d\)$", last)


@pytest.mark.parametrize(
    ("verbosity", "begins", "names"), [(0, False, False), (1, False, False), (2, True, False), (3, True, True)]
)
def test_scanpys_verbosity_decides(adata, scanpy_says, verbosity, begins, names):
    said = scanpy_says(verbosity)
    fitted(adata)
    text = said.getvalue()
    assert text.startswith(f"{BEGIN}\n") == begins
    assert bool(re.search("    finished", text)) == begins
    assert ("'lmm_de_coef', coefficients (adata.varm)\n" in text) == names
    assert (text == "") == (not begins)


def test_as_scanpys_own_calls(adata, scanpy_says):
    said = scanpy_says(3)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=2)
    theirs = said.getvalue()
    said = scanpy_says(3)
    fsc.tl.lmm_de(adata, "~ trt", "sam")
    pattern = r"\n    finished(: added\n    '\w+', [^\n]+ \(adata\.\w+\)(\n    '\w+', [^\n]+ \(adata\.\w+\))*)? \(0:00:\d\d\)\n$"
    assert re.search(r"\n    finished \(0:00:\d\d\)\n$", theirs)
    assert re.search(pattern, said.getvalue())


CALLS = {
    "lmm_test": lambda adata: fsc.tl.lmm_test(adata, "trt[T.B]"),
    "lmm_anova": fsc.tl.lmm_anova,
    "lmm_variance_test": fsc.tl.lmm_variance_test,
    "shrink": fsc.tl.shrink,
    "forget": lambda adata: fsc.tl.forget(adata, "lmm_de"),
    "aggregate": lambda adata: fsc.pp.aggregate(adata, "sam"),
    "nbmm_de": lambda adata: fsc.tl.nbmm_de(adata, "~ trt", "sam"),
    "summarize": lambda adata: fsc.summarize(adata, fsc.Design.of(adata.obs, "~ trt", "sam"), transform="log1p"),
}
ENDS = {
    "forget": "removed 'lmm_de'",
    "aggregate": "8 strata × 12 genes",
    "summarize": "SummaryStats of 160 cells × 12 genes: 2 fixed columns, 8 random columns in (8,)",
}


@pytest.mark.filterwarnings("ignore:Only 12 genes")
@pytest.mark.parametrize("name", CALLS)
def test_all_calls_tell(adata, caplog, name):
    fitted(adata)
    with caplog.at_level(HINT, "flashmm_sc"):
        CALLS[name](adata)
    assert caplog.messages[0].startswith(f"{name}: ")
    assert caplog.messages[-1].startswith(f"    finished: {ENDS.get(name, 'added')}")


def test_what_fails_has_not_finished(adata, caplog):
    with caplog.at_level(logging.INFO, "flashmm_sc"):
        with pytest.raises(KeyError):
            fsc.tl.lmm_de(adata, "~ treatment", "sam")
        assert caplog.messages == [BEGIN]
        fitted(adata)
    assert re.fullmatch(FINISHED, caplog.messages[-1])


def test_nothing_is_printed_by_default(adata, capsys, scanpy_says):
    said = scanpy_says(sc.settings.verbosity)
    fitted(adata)
    assert capsys.readouterr() == ("", "")
    assert said.getvalue() == ""
    assert not logging.getLogger("flashmm_sc").handlers


def test_scanpy_is_not_imported_for_it():
    code = (
        "import sys, logging, numpy as np, pandas as pd, anndata as ad, flashmm_sc as fsc\n"
        "logging.basicConfig(level=logging.INFO)\n"
        "obs = pd.DataFrame({'sam': list('aabbccdd') * 4}).astype(str)\n"
        "adata = ad.AnnData(np.random.default_rng(0).random((32, 3)), obs)\n"
        "fsc.tl.lmm_de(adata, '~ 1', 'sam')\n"
        "print('scanpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert f"INFO:flashmm_sc:{BEGIN}" in done.stderr


def test_a_function_that_tells_is_the_same_to_its_readers():
    assert "fixed" in inspect.signature(fsc.tl.lmm_de).parameters
    assert inspect.getdoc(fsc.tl.lmm_de).startswith("Test differential expression with a linear mixed model")
    assert fsc.tl.lmm_de.__module__ == "flashmm_sc.tl._lmm_de"


def test_details_of_one_call_are_not_those_of_another(caplog):
    @told("counting")
    def inner():
        detail("one")

    @told("calling")
    def outer():
        detail("before")
        inner()
        detail("after")

    detail("of no call")
    with caplog.at_level(HINT, "flashmm_sc"):
        outer()
    ends = [re.sub(r" \(0:00:00\)$", "", message) for message in caplog.messages if "finished" in message]
    assert ends == ["    finished: one", "    finished: before\nafter"]


def test_whether_anyone_is_told(scanpy_says, caplog):
    scanpy_says(1)
    assert not informs()
    scanpy_says(2)
    assert informs()
    scanpy_says(1)
    with caplog.at_level(logging.INFO, "flashmm_sc"):
        assert informs()
