"""FLASH-MM for AnnData: linear mixed models for every gene, from sums over cells."""

from importlib.metadata import version

from flashmm_sc import datasets, get, pl, tl
from flashmm_sc._contrasts import contrast_matrix
from flashmm_sc._errors import FlashmmWarning
from flashmm_sc._lmm import LMMFit, lmm, lmmfit
from flashmm_sc._lmmtest import lmmtest
from flashmm_sc._lrt import lrt
from flashmm_sc._summary import SummaryStats, sslmm
from flashmm_sc._varexp import variance_explained

__version__ = version("flashmm-sc")

__all__ = [
    "FlashmmWarning",
    "LMMFit",
    "SummaryStats",
    "contrast_matrix",
    "datasets",
    "get",
    "lmm",
    "lmmfit",
    "lmmtest",
    "lrt",
    "pl",
    "sslmm",
    "tl",
    "variance_explained",
]
