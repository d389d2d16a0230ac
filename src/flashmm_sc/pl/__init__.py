"""Plots of results."""

from flashmm_sc.pl._curve import curve
from flashmm_sc.pl._samples import samples
from flashmm_sc.pl._variance_prior import variance_prior
from flashmm_sc.pl._volcano import volcano

__all__ = ["curve", "samples", "variance_prior", "volcano"]
