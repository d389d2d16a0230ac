"""What results there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from flashmm_sc._results.result import Result

if TYPE_CHECKING:
    from anndata import AnnData


def results(adata: AnnData) -> pd.DataFrame:
    """List the results of all tools, one row a key, in the order in which they were made.

    Parameters
    ----------
    adata
        With results of `flashmm_sc.tl`.

    Returns
    -------
    DataFrame with the columns

    `key`
        Where they lie: ``adata.uns[key]``, and arrays ``adata.varm[f"{key}_..."]``.
    `what`
        "fit", "t tests", "F tests", "variance tests" or "shrinkage".
    `of`
        Key of the fit or tests they were made from; empty for a fit.
    `formula`
        Fixed and random effects of a fit, else what was tested or shrunken.
    `groups`
        Number of groups of cells with a model of their own (`groupby`), 1 without and for contrasts across groups alone.
    `columns`
        Number of coefficients or contrasts, over all groups.
    `when`, `version`
        Time (UTC, ISO 8601) and version of flashmm-sc; empty for results of versions that didn't note them.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", size_factors="total")
    >>> fsc.tl.lmm_test(adata, {"up": "trt[T.B]"}, alternative="greater")
    >>> fsc.get.results(adata)[["key", "what", "of", "formula", "groups"]]
            key     what      of               formula  groups
    0    lmm_de      fit          ~ trt, random: 'sam'       2
    1  lmm_test  t tests  lmm_de                  'up'       2
    """
    rows = [
        {
            "key": result.key,
            "what": result.what,
            "of": ", ".join(result.of),
            "formula": result.formula,
            "groups": max(1, result.n_groups),
            "columns": len(result.names("coef_names")),
            "when": str(result.params.get("time", "")),
            "version": str(result.params.get("version", "")),
        }
        for result in Result.all(adata)
    ]
    rows.sort(key=lambda row: str(row["when"]))  # files sort by key
    return pd.DataFrame(rows, columns=["key", "what", "of", "formula", "groups", "columns", "when", "version"])
