"""Get results out of an AnnData."""

from flashmm_sc.get._tables import lmm_de_df, variance_df

__all__ = ["lmm_de_df", "variance_df"]
