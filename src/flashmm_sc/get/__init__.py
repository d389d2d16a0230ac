"""Get results out of an AnnData."""

from flashmm_sc.get._fitted import fitted
from flashmm_sc.get._matrix import matrix
from flashmm_sc.get._results import results
from flashmm_sc.get._summary import summary
from flashmm_sc.get._tables import lmm_de_df
from flashmm_sc.get._variance import ranef_df, variance_df, variance_test_df
from flashmm_sc.get._variance_explained import variance_explained_df

__all__ = [
    "fitted",
    "lmm_de_df",
    "matrix",
    "ranef_df",
    "results",
    "summary",
    "variance_df",
    "variance_explained_df",
    "variance_test_df",
]
