"""The documentation site: `sphinx-build -W -b html docs docs/_build/html`."""

from __future__ import annotations

import os
import pkgutil
import shutil
import warnings
from pathlib import Path

from sphinx.ext.napoleon.docstring import NumpyDocstring

import flashmm_sc
from flashmm_sc.cli import _main

HERE = Path(__file__).parent
MADE = HERE / "api"
"""What is made from the code, anew with every build, as are the copies of the tutorials."""
API = """\
API
===

.. code-block:: python

   import flashmm_sc as fsc

What is public, module by module. Functions of ``tl``, ``pp``, ``get`` and ``pl`` take an AnnData; those of ``fsc`` itself
take arrays, as the R package FLASHMM does. The examples run as they stand.

.. autosummary::
   :toctree: .
   :template: autosummary/namespace.rst

{lines}
"""

warnings.filterwarnings("ignore", r"'sphinx_autodoc_typehints", DeprecationWarning)  # for its authors to hear

project = "flashmm-sc"
author = "The flashmm-sc developers"
copyright = author
release = version = flashmm_sc.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_autodoc_typehints",
    "sphinx_copybutton",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "jupyter_execute", "Thumbs.db", ".DS_Store", "**.ipynb_checkpoints"]

html_theme = "sphinx_book_theme"
html_title = "flashmm-sc"
html_show_copyright = False
html_theme_options = {
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "navbar_persistent": [],
}  # the search is at the left
html_static_path = ["_static"]
html_css_files = ["site.css"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # tutorials are run by the tests, and committed with what they put out
nb_merge_streams = True
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

default_role = "py:obj"
autosummary_generate = True
autosummary_imported_members = True
autosummary_ignore_module_all = False  # what is public is in __all__
autodoc_member_order = "bysource"
autodoc_mock_imports = ["pertpy"]
napoleon_google_docstring = False
napoleon_use_rtype = False
typehints_defaults = "comma"
typehints_document_rtype = False  # the docstrings say what is returned
always_use_bars_union = True

nitpicky = True
nitpick_ignore_regex = [  # other packages, what is private here, and the words in which a docstring describes what it takes
    (r"py:.*", r"(?!flashmm_sc\b).*"),
    (r"py:.*", r"flashmm_sc\..*\b_.*"),
]
suppress_warnings = ["sphinx_autodoc_typehints", "mystnb.unknown_mime_type"]

if os.environ.get("DOCS_INTERSPHINX"):  # needs the network, which tests of the documentation don't have
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "anndata": ("https://anndata.readthedocs.io/en/stable/", None),
        "matplotlib": ("https://matplotlib.org/stable/", None),
        "numpy": ("https://numpy.org/doc/stable/", None),
        "pandas": ("https://pandas.pydata.org/docs/", None),
        "python": ("https://docs.python.org/3", None),
        "scanpy": ("https://scanpy.readthedocs.io/en/stable/", None),
        "scipy": ("https://docs.scipy.org/doc/scipy/", None),
    }


def what_is_returned(docstring: NumpyDocstring, _: str) -> list[str]:
    """What a function returns, as it was written; napoleon takes each line for a type, and typehints puts a colon before them."""
    lines = docstring._dedent(docstring._consume_to_next_section())
    return [*docstring._format_block(":returns: ", lines[lines[0] == ":" :]), ""]


NumpyDocstring._parse_returns_section = what_is_returned


def write_api() -> None:
    """List the public modules; autosummary makes a page of each, and of all that is in its `__all__`."""
    inside = {module.name for module in pkgutil.iter_modules(flashmm_sc.__path__) if module.name[0] != "_"} - {"cli"}
    first = ["tl", "pp", "get", "pl", "contrasts", "datasets"]
    names = ["flashmm_sc", *(f"flashmm_sc.{name}" for name in [*first, *sorted(inside - set(first))])]
    lines = "\n".join(f"   {name}" for name in names)
    (MADE / "index.rst").write_text(API.format(lines=lines), encoding="utf-8")


def write_commands() -> None:
    """Write down what `--help` says, of the program and of each command."""
    os.environ.update(COLUMNS="100", NO_COLOR="1")
    program = _main._parser([])
    helps = {"flashmm-sc": program.format_help()}
    for name in program._subparsers._group_actions[0].choices:
        command = (
            _main._parser([name])._subparsers._group_actions[0].choices[name]
        )  # options are added when it is called
        helps[f"flashmm-sc {name}"] = command.format_help()
    text = "\n".join(f"## `{name}`\n\n```text\n{words}```\n" for name, words in helps.items())
    (MADE / "commands.txt").write_text(text, encoding="utf-8")


for folder in (MADE, HERE / "tutorials"):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
for notebook in (HERE.parent / "tutorials").glob("*.ipynb"):
    text = notebook.read_text(encoding="utf-8").replace("](../docs/", "](../")  # where the pages are from there
    (HERE / "tutorials" / notebook.name).write_text(text, encoding="utf-8")
write_api()
write_commands()
