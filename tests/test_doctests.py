"""Everything public has an example in its docstring, and the examples run and leave no files behind."""

from __future__ import annotations

import doctest
import inspect

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

import flashmm_sc as fsc

HOMES = (fsc, fsc.contrasts, fsc.datasets, fsc.get, fsc.pl, fsc.tl)
PUBLIC = {f"{home.__name__}.{name}": getattr(home, name) for home in HOMES for name in home.__all__}


def is_documented(obj: object) -> bool:
    """A function or class, but no warning, of which there is nothing to show."""
    return callable(obj) and not (inspect.isclass(obj) and issubclass(obj, Warning))


def examples(name: str, obj: object) -> list[doctest.DocTest]:
    """Those of a function, or of a class and its public methods."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = finder.find(obj, name, module=inspect.getmodule(obj))
    return [test for test in found if test.examples and not test.name.removeprefix(name).startswith("._")]


@pytest.mark.parametrize("name", [name for name, obj in PUBLIC.items() if is_documented(obj)])
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = examples(name, PUBLIC[name])
    assert found, f"{name} has no example in its docstring"
    report = []
    with mpl.rc_context({"backend": "agg"}):
        for test in found:
            doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=report.append)
        plt.close("all")
    assert not report, "".join(report)
    assert not list(tmp_path.iterdir())
