"""Plots of results."""

from flashmm_sc.pl._volcano import volcano

__all__ = ["volcano"]
