"""FLASH-MM for AnnData: linear mixed models for every gene, from sums over cells."""
