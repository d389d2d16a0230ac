"""Questions to ask of a model, in the words of its columns of obs instead of its coefficients.

Each function makes a question, which `flashmm_sc.tl.lmm_de` (``contrasts=``) and `flashmm_sc.tl.lmm_test` take. It is
answered on the reference grid of the model, as in R's emmeans: other factors are averaged over with equal weights for
their levels, and covariates are at their mean over the cells.
"""

from flashmm_sc.contrasts._each import each
from flashmm_sc.contrasts._means import means
from flashmm_sc.contrasts._pairwise import pairwise
from flashmm_sc.contrasts._slope import slope

__all__ = ["each", "means", "pairwise", "slope"]
