"""Preprocessing: what is done to cells before any model."""

from flashmm_sc.pp._aggregate import aggregate

__all__ = ["aggregate"]
