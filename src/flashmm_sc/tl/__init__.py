"""Tools: compute, and write to the AnnData."""

from flashmm_sc.tl._forget import forget
from flashmm_sc.tl._lmm_anova import lmm_anova
from flashmm_sc.tl._lmm_de import lmm_de
from flashmm_sc.tl._lmm_test import lmm_test
from flashmm_sc.tl._lmm_variance_test import lmm_variance_test
from flashmm_sc.tl._nbmm_de import nbmm_de
from flashmm_sc.tl._rank_genes_groups import rank_genes_groups
from flashmm_sc.tl._shrink import shrink

__all__ = ["forget", "lmm_anova", "lmm_de", "lmm_test", "lmm_variance_test", "nbmm_de", "rank_genes_groups", "shrink"]
