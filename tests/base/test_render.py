"""What objects show in notebooks: names that are markup stay names."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

import flashmm_sc as fsc
from flashmm_sc._base.render import MOST, counted, table

ODD = 'CD4<b>&"x'


@pytest.fixture(scope="module")
def stats():
    rng = np.random.default_rng(0)
    sample = np.arange(60) % 6
    X = pd.DataFrame({ODD: np.ones(60), "x": sample % 2})
    Y = pd.DataFrame(rng.normal(size=(60, 4)) + rng.normal(size=(6, 4))[sample], columns=list("abcd"))
    Y["d"] = 1.0
    parts = fsc.sslmm(X, Y, np.eye(6)[sample])
    return fsc.SummaryStats(**{**vars(parts), "component_names": ["<i>donor"], "origin": "a < b"})


def rows(html):
    """The title, and cells by label; fails where it is not well formed."""
    title, *others = ElementTree.fromstring(html).findall("tr")
    texts = [["".join(cell.itertext()) for cell in row] for row in others]
    return "".join(title.itertext()), dict(texts)


def test_a_fit(stats):
    fit = fsc.lmm(stats, nonnegative=True, ddf="satterthwaite")
    title, shown = rows(fit._repr_html_())
    assert title == "LMMFit of 60 cells × 4 genes"
    counts = fit.status.value_counts()
    assert shown == {
        "method": "REML, variances at least zero",
        "tests": "satterthwaite degrees of freedom",
        "status": ", ".join(f"{n} {name}" for name, n in counts[counts > 0].items()),
        "coefficients": f"{ODD}, x",
        "variance components": "<i>donor, residual",
    }
    assert "1 constant" in shown["status"]
    assert shown["status"] in repr(fit)
    assert rows(fsc.lmm(stats, method="ML")._repr_html_())[1]["method"] == "ML, variances free"


def test_statistics(stats):
    assert rows(stats._repr_html_()) == (
        "SummaryStats of 60 cells × 4 genes",
        {"fixed columns": f"{ODD}, x", "random components": "<i>donor (6)", "values": "a < b"},
    )
    weighted = fsc.SummaryStats(**{**vars(stats), "weight_sum": 90.0, "log_weight_sum": 3.0})
    assert rows(weighted._repr_html_())[1]["sum of weights"] == "90"


def test_many_names_are_cut():
    _, shown = rows(table("many", {"names": [f"<{i}>" for i in range(MOST + 1200)]}))
    assert shown["names"].startswith("<0>, <1>, ")
    assert shown["names"].endswith(f"<{MOST - 1}> and 1,200 more")


def test_counts_of_what_there_is():
    assert counted([("ok", 1200), ("constant", 0), ("boundary", 3)]) == "1,200 ok, 3 boundary"
