"""Plots of results."""

from flashmm_sc.pl._curve import curve
from flashmm_sc.pl._fit_diagnostics import fit_diagnostics
from flashmm_sc.pl._ranef import ranef
from flashmm_sc.pl._samples import samples
from flashmm_sc.pl._variance import variance
from flashmm_sc.pl._variance_prior import variance_prior
from flashmm_sc.pl._volcano import volcano

__all__ = ["curve", "fit_diagnostics", "ranef", "samples", "variance", "variance_prior", "volcano"]
