"""FLASH-MM for AnnData: linear mixed models for every gene, from sums over cells."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

__version__ = version("flashmm-sc")

__all__ = [
    "AdviceWarning",
    "Design",
    "FlashmmWarning",
    "LMMFit",
    "SummaryStats",
    "contrast_matrix",
    "contrasts",
    "datasets",
    "get",
    "lmm",
    "lmmfit",
    "lmmtest",
    "lrt",
    "pl",
    "pp",
    "sslmm",
    "summarize",
    "tl",
    "variance_explained",
]

# Names are imported at first use, since what they need takes seconds to import. Type checkers and editors read this.
if TYPE_CHECKING:
    from flashmm_sc import contrasts, datasets, get, pl, pp, tl
    from flashmm_sc._arrays.lmm import LMMFit, lmm, lmmfit
    from flashmm_sc._arrays.lmmtest import lmmtest
    from flashmm_sc._arrays.lrt import lrt
    from flashmm_sc._arrays.sslmm import sslmm
    from flashmm_sc._arrays.varexp import variance_explained
    from flashmm_sc._base.errors import AdviceWarning, FlashmmWarning
    from flashmm_sc._design.shared import Design
    from flashmm_sc._inference.contrasts import contrast_matrix
    from flashmm_sc._results.summarize import summarize
    from flashmm_sc._stats.summary import SummaryStats
else:  # hidden from type checkers, which would take any name to exist
    _MODULES = {
        "AdviceWarning": "_base.errors",
        "Design": "_design.shared",
        "FlashmmWarning": "_base.errors",
        "LMMFit": "_arrays.lmm",
        "SummaryStats": "_stats.summary",
        "contrast_matrix": "_inference.contrasts",
        "lmm": "_arrays.lmm",
        "lmmfit": "_arrays.lmm",
        "lmmtest": "_arrays.lmmtest",
        "lrt": "_arrays.lrt",
        "sslmm": "_arrays.sslmm",
        "summarize": "_results.summarize",
        "variance_explained": "_arrays.varexp",
    }

    def __getattr__(name: str) -> object:
        if name not in __all__:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        module = import_module(f"{__name__}.{_MODULES.get(name, name)}")
        value = globals()[name] = getattr(module, name) if name in _MODULES else module
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
