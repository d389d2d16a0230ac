"""Plots of results."""

from flashmm_sc.pl._curve import curve
from flashmm_sc.pl._dotplot import dotplot
from flashmm_sc.pl._effects import effects
from flashmm_sc.pl._fit_diagnostics import fit_diagnostics
from flashmm_sc.pl._hits import hits
from flashmm_sc.pl._ma import ma
from flashmm_sc.pl._pval_hist import pval_hist
from flashmm_sc.pl._qq import qq
from flashmm_sc.pl._ranef import ranef
from flashmm_sc.pl._samples import samples
from flashmm_sc.pl._variance import variance
from flashmm_sc.pl._variance_prior import variance_prior
from flashmm_sc.pl._volcano import volcano

__all__ = [
    "curve",
    "dotplot",
    "effects",
    "fit_diagnostics",
    "hits",
    "ma",
    "pval_hist",
    "qq",
    "ranef",
    "samples",
    "variance",
    "variance_prior",
    "volcano",
]
