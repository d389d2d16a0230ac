"""What was fitted and how much was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flashmm_sc._base.options import check_number
from flashmm_sc._results.finding import found
from flashmm_sc._results.summary import ALPHA, summarised

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


def summary(adata: AnnData, *, key: str | None = None, alpha: float = ALPHA) -> pd.DataFrame:
    """Count the genes of a result by status, and those found.

    Parameters
    ----------
    adata
        With results.
    key
        Key of the result: a fit, tests or shrunken effects. By default ``"lmm_de"``, or that of the only fit or tests.
    alpha
        Adjusted p-value, or s-value of shrunken effects, below which a gene is found.

    Returns
    -------
    DataFrame with a row for each coefficient or contrast in each group; intercepts and means of levels, which differ from
    zero in every gene that is expressed, are left out. Its columns:

    `group`
        Group of cells, if the fit has any.
    `contrast`
        Coefficient or contrast.
    `cells`
        Number of cells of the group; of fits.
    `tested`, `found`, `up`, `down`
        Genes with a p-value; those found, and how many of these have a positive and a negative estimate (not of F tests).
    ``ok``, ``boundary``, ...
        Genes of each status in the group. At the boundary a variance is zero, or a correlation ±1; the tests are valid.

    Raises
    ------
    KeyError
        When there is no such result.
    TypeError, ValueError
        For an `alpha` that is no number from 0 to 1.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=12, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", size_factors="total")
    >>> fsc.get.summary(adata)[["group", "contrast", "cells", "tested"]]
      group  contrast  cells  tested
    0     1  trt[T.B]    978      50
    1     2  trt[T.B]   1022      50
    """
    check_number("alpha", alpha, 0.0, 1.0, "It is a false discovery rate such as 0.05.")
    return summarised(found(adata, key), alpha)
