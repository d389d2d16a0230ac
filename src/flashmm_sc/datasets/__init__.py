"""Simulated data with a known truth."""

from flashmm_sc.datasets._simu_rnaseq import simu_rnaseq

__all__ = ["simu_rnaseq"]
