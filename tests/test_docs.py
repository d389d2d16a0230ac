"""What pages of documentation show in Python runs, and prints what they say."""

from __future__ import annotations

import doctest
import re
import warnings
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```python\n(>>> .*?)^```$", re.MULTILINE | re.DOTALL)
NEEDS = re.compile(r"^<!-- needs (.*) -->$", re.MULTILINE)
"""Optional packages without which a page can't run."""
PAGES = [page.name for page in sorted(DOCS.glob("*.md")) if BLOCK.search(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", PAGES)
def test_blocks_run_one_after_the_other(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written = (DOCS / page).read_text(encoding="utf-8")
    for package in " ".join(NEEDS.findall(written)).split():
        pytest.importorskip(package, reason=f"{package} is not installed")
        for category in (DeprecationWarning, FutureWarning, PendingDeprecationWarning):
            warnings.simplefilter("ignore", category)  # theirs
    text = "\n".join(BLOCK.findall(written))
    test = doctest.DocTestParser().get_doctest(text, {}, page, page, 0)
    report = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=report.append)
    assert test.examples
    assert not report, "".join(report)
    assert not list(tmp_path.iterdir())


def test_pages_with_blocks():
    assert "contrasts.md" in PAGES
