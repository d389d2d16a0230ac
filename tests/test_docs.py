"""What the documentation shows in Python runs, prints what it says, and links to what is there.

Blocks with prompts are doctests, one after the other. Blocks without are run on a simulated study, of the design that a comment
above says, `<!-- study: paired -->`; those that need what isn't at hand say why not, `<!-- not run: a scheduler -->`. A page
that needs optional packages says so, `<!-- needs decoupler -->`.
"""

from __future__ import annotations

import doctest
import re
import warnings
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from docs_studies import study

import flashmm_sc as fsc
from flashmm_sc._gaussian.estimate import STATUS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MADE = {"_build", "api", "jupyter_execute", "tutorials"}
"""Folders that building the site makes."""
WRITTEN = [page for page in DOCS.rglob("*.md") if not MADE & set(page.relative_to(DOCS).parts)]
PAGES = {
    str(page.relative_to(ROOT)): page.read_text(encoding="utf-8")
    for page in [*sorted(ROOT.glob("*.md")), ROOT / "benchmarks" / "README.md", *sorted(WRITTEN)]
}
PROMPTED = re.compile(r"^```python\n(>>> .*?)^```$", re.MULTILINE | re.DOTALL)
PLAIN = re.compile(r"^<!-- (study|not run): (.*?) -->$|^```python\n((?!>>> ).*?)^```$", re.MULTILINE | re.DOTALL)
NEEDS = re.compile(r"^<!-- needs (.*) -->$", re.MULTILINE)
"""Optional packages without which a page can't run."""
FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(f"{FENCED.pattern}|`[^`\n]*`", re.MULTILINE | re.DOTALL)
INCLUDED = re.compile(r"^```{include} (\S+)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if PROMPTED.search(text)])
def test_blocks_run_one_after_the_other(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for package in " ".join(NEEDS.findall(PAGES[page])).split():
        pytest.importorskip(package, reason=f"{package} is not installed")
        for category in (DeprecationWarning, FutureWarning, PendingDeprecationWarning):
            warnings.simplefilter("ignore", category)  # theirs
    text = "\n".join(PROMPTED.findall(PAGES[page]))
    test = doctest.DocTestParser().get_doctest(text, {}, page, page, 0)
    report = []
    with mpl.rc_context({"backend": "agg"}):
        doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=report.append)
        plt.close("all")
    assert test.examples
    assert not report, "".join(report)
    assert not list(tmp_path.iterdir())


def runs(text: str) -> list[tuple[str, list[str]]]:
    """Designs of studies and the blocks that run on each, one after the other; a study lasts until the next comment."""
    found, left_out = [("nested", [])], False
    for kind, said, code in PLAIN.findall(text):
        if kind == "study":
            found.append((said, []))
        elif code and not left_out:
            found[-1][1].append(code)
        left_out = kind == "not run"
    return [(design, blocks) for design, blocks in found if blocks]


RUNS = {
    f"{page} {k}, {design}": (design, blocks)
    for page, text in PAGES.items()
    for k, (design, blocks) in enumerate(runs(text))
}


@pytest.mark.filterwarnings("error::flashmm_sc.AdviceWarning")  # what is shown follows the advice
@pytest.mark.parametrize("part", RUNS)
def test_calls_run_on_a_study(part, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    design, blocks = RUNS[part]
    adata = study(design)
    adata.write_h5ad("study.h5ad")
    names = {"fsc": fsc, "adata": adata, "obs": adata.obs}
    with mpl.rc_context({"backend": "agg"}):
        for code in blocks:
            exec(compile(code, part, "exec"), names)
        plt.close("all")


def anchors(page: Path) -> set[str]:
    """Those of the headings of a page, or of the one that it includes, as GitHub and MyST make them."""
    text = page.read_text(encoding="utf-8")
    if included := INCLUDED.match(text):
        return anchors(page.parent / included[1])
    titles = re.findall(r"^#+ (.*)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in LINK.findall(CODE.sub("", PAGES[page])):
        path, _, anchor = link.partition("#")
        if "://" in path or path.startswith("mailto:"):
            continue
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        name = str(target.relative_to(ROOT))
        assert target.exists() or name in ("docs/api/index.rst", "docs/bridges.md"), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES)
def test_what_is_named_is_there(page):
    for home, name in re.findall(r"\bfsc\.(contrasts|datasets|get|pl|pp|tl)\.(\w+)", PAGES[page]):
        assert name in getattr(fsc, home).__all__, f"fsc.{home}.{name}"


def test_each_status_is_explained():
    assert set(STATUS) == set(re.findall(r"^\| `([a-z ]*)` \|", PAGES["docs/messages.md"], re.MULTILINE))


def test_pages_with_blocks():
    assert PROMPTED.search(PAGES["docs/contrasts.md"])
    assert runs(PAGES["README.md"])
    designs = {design for design, _ in runs(PAGES["docs/which_model.md"])}
    assert designs == {"nested", "paired", "replicates", "time", "batches"}
