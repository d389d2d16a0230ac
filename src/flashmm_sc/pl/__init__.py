"""Plots of results."""

from flashmm_sc.pl._variance_prior import variance_prior
from flashmm_sc.pl._volcano import volcano

__all__ = ["variance_prior", "volcano"]
