"""Results as DataFrames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from flashmm_sc._results.finding import columns_of, found
from flashmm_sc._results.quantities import quantities, quantity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


def lmm_de_df(
    adata: AnnData,
    coefs: str | Sequence[str] | None = None,
    *,
    key: str | None = None,
    groups: str | Sequence[str] | None = None,
) -> pd.DataFrame:
    """Tests as a tidy table, one row per gene and coefficient.

    Parameters
    ----------
    adata
        With results of `flashmm_sc.tl.lmm_de`, `flashmm_sc.tl.nbmm_de`, `flashmm_sc.tl.lmm_test`,
        `flashmm_sc.tl.lmm_anova` or `flashmm_sc.tl.shrink`.
    coefs
        Coefficients or contrasts to show, in this order (in each group, unless each names one column); by default all.
    key
        Key of the results. By default that of the fit or tests that have all of `coefs`: ``"lmm_de"`` before others.
    groups
        Groups to show if the fit has any (`groupby`), in this order; by default all; "" for contrasts across groups.

    Returns
    -------
    DataFrame with the columns

    `variable`, `contrast` (and `group`)
        Gene, coefficient or contrast, group of cells ("" for contrasts across groups).
    `coef`, `se`
        Estimate and standard error on the scale of the fitted values.
    `log_fc`
        The estimate as log2: coef / ln 2 for natural logs. A difference of mean log-expression, which is smaller than the
        logarithm of the ratio of means: log(1 + x) of single cells compresses it, the more the fewer the counts. NaN,
        with a warning, where the base of the logarithm isn't known; no fold change for a covariate. Of counts
        (`flashmm_sc.tl.nbmm_de`) it is the logarithm of the ratio of mean counts itself.
    `log2_ratio`
        For fits with `size_factors`: log2 of the ratio of fitted mean counts, uncompressed. The means are those of cells
        (least squares, each cell counts the same). NaN where a contrast is no difference of two means, as for
        interactions and slopes; infinite where one of the means is zero.
    `t_value`, `z`, `df`, `p_value`, `adj_p_value`
        The test, and its p-value adjusted over the genes of one coefficient (or as `corr_scope` said). `z` is the normal
        deviate with the same p-value and the sign of t. It can be compared across genes whose degrees of freedom differ,
        which t can't, and tells genes apart whose p-values are too small for a number. In moderated fits the p-value is
        an average of exact ones, t_value = coef / se, and df those at which this t has the p-value (`moderate` in
        `flashmm_sc.tl.lmm_de`); one-sided tests and those with `lfc` have the se and df of the two-sided one, and the
        t_value that has their p-value. Of counts, which are tested by likelihood ratios, t_value is z, and df are infinite.
    `ci_low`, `ci_high`
        Confidence interval of `coef`, after `flashmm_sc.tl.lmm_test` with `conf_level`.
    `f_value`, `df_num`
        For F tests (`joint`, `flashmm_sc.tl.lmm_anova`), in place of `coef` to `z`.
    `sd`, `lfsr`, `s_value`
        After `flashmm_sc.tl.shrink`, in place of `se` to `adj_p_value`: `coef` is the posterior mean, with its standard
        deviation, local false sign rate and s-value.
    `status`
        "ok" or "boundary", else why the gene has no result.

    The names are pertpy's, whose plots take the table as it is.

    Raises
    ------
    KeyError
        When there is no result under `key`, or it lacks a coefficient or group asked for: names the key that has it.
        Without a key, when several results have the coefficients.
    TypeError
        For arguments of a wrong type.
    ValueError
        For a damaged result.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", size_factors="total")
    >>> table = fsc.get.lmm_de_df(adata, "trt[T.B]", groups="2")
    >>> best = table.sort_values("p_value").head(3)
    """
    result = found(adata, key, coefs)
    if result.what == "variance tests":
        msg = f"adata.uns[{result.key!r}] holds tests of variance components; use fsc.get.variance_test_df."
        raise KeyError(msg)
    names, in_group = result.names("column_names"), result.names("column_groups")
    columns = columns_of(result, coefs, groups)
    repeat = lambda values: np.repeat(np.array([values[j] for j in columns], dtype=object), adata.n_vars)
    table = {"variable": np.tile(adata.var_names.to_numpy(), len(columns)), "contrast": repeat(names)}
    if result.n_groups:
        table["group"] = repeat(in_group)
    for name in quantities(result):
        table[name] = quantity(result, name, columns).T.reshape(-1)
    status = result["status"][:, np.array(result.status_columns, dtype=int)[columns]]
    table["status"] = np.array(result.names("status_names"), dtype=object)[status.T.reshape(-1).astype(int)]
    return pd.DataFrame(table)
