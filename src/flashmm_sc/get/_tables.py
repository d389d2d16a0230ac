"""Results as DataFrames."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from flashmm_sc._base.errors import warn
from flashmm_sc._results.result import Result
from flashmm_sc.get._columns import selected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


def lmm_de_df(
    adata: AnnData,
    coefs: str | Sequence[str] | None = None,
    *,
    key: str = "lmm_de",
    groups: str | Sequence[str] | None = None,
) -> pd.DataFrame:
    """Tests as a tidy table, one row per gene and coefficient.

    Parameters
    ----------
    adata
        With results of `flashmm_sc.tl.lmm_de` or `flashmm_sc.tl.lmm_test`.
    coefs
        Coefficients or contrasts to show, by default all.
    key
        Key of the results.
    groups
        Groups to show if the fit has any (`groupby`), by default all; "" for contrasts across groups.

    Returns
    -------
    DataFrame with the columns

    `variable`, `contrast` (and `group`)
        Gene, coefficient or contrast, group of cells ("" for contrasts across groups).
    `coef`, `se`
        Estimate and standard error on the scale of the fitted values.
    `log_fc`
        The estimate as log2: coef / ln 2 for natural logs. A difference of mean log-expression, not the log of a ratio
        of means. NaN, with a warning, where the base of the logarithm isn't known; no fold change for a covariate.
    `t_value`, `df`, `p_value`, `adj_p_value`
        The test, and its p-value adjusted over the genes of one coefficient (or as `corr_scope` says). In moderated fits the p-value is an average
        of exact ones, t_value = coef / se, and df those at which this t has the p-value (`moderate` in
        `flashmm_sc.tl.lmm_de`); one-sided tests and those with `lfc` have the se and df of the two-sided one, and the
        t_value that has their p-value.
    `ci_low`, `ci_high`
        Confidence interval of `coef`, after `flashmm_sc.tl.lmm_test` with `conf_level`.
    `f_value`, `df_num`
        For F tests (`joint`, `flashmm_sc.tl.lmm_anova`), in place of `coef` to `t_value`.
    `status`
        "ok" or "boundary", else why the gene has no result.

    The first columns fit the plots of pertpy and decoupler.

    Raises
    ------
    KeyError
        When there is no result under `key`, or it lacks a coefficient or group asked for.
    TypeError
        For arguments of a wrong type.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ 0 + cls + cls:trt", "sam", transform="log1p")
    >>> table = fsc.get.lmm_de_df(adata, "cls[2]:trt[T.B]")
    >>> best = table.sort_values("p_value").head(3)
    """
    result = Result.read(adata, key)
    if "stat" in result.arrays:
        msg = f"adata.uns[{key!r}] holds tests of variance components; use fsc.get.variance_test_df."
        raise KeyError(msg)
    names, full_names, in_group = (result.names(name) for name in ("column_names", "coef_names", "column_groups"))
    wanted = selected("coefs", coefs, [*names, *full_names], key)
    wanted_groups = selected("groups", groups, result.groups, key)
    columns = [
        j
        for j, (name, full) in enumerate(zip(names, full_names, strict=True))
        if (wanted is None or name in wanted or full in wanted)
        and (wanted_groups is None or in_group[j] in wanted_groups)
    ]
    repeat = lambda values: np.repeat(np.array([values[j] for j in columns], dtype=object), adata.n_vars)
    table = {"variable": np.tile(adata.var_names.to_numpy(), len(columns)), "contrast": repeat(names)}
    if result.groups != [""]:
        table["group"] = repeat(in_group)
    for suffix, name in _COLUMNS.items():
        if suffix in result.arrays:
            table[name] = result[suffix][:, columns].T.reshape(-1)
            if suffix == "coef":
                table["log_fc"] = table[name] * _log2_factor(result)
    places = result.status_columns
    status = result["status"][:, [places[j] for j in columns]]
    table["status"] = np.array(result.names("status_names"), dtype=object)[status.T.reshape(-1).astype(int)]
    return pd.DataFrame(table)


_COLUMNS = {
    "coef": "coef",
    "se": "se",
    "ci_low": "ci_low",
    "ci_high": "ci_high",
    "t": "t_value",
    "F": "f_value",
    "df_num": "df_num",
    "df": "df",
    "pval": "p_value",
    "pval_adj": "adj_p_value",
}


def _log2_factor(result: Result) -> float:
    base = float(result.params["log_base"])
    if math.isnan(base):
        msg = (
            "log_fc is NaN, since the logarithm that the values are on isn't known: use transform= in tl.lmm_de, or "
            "sc.pp.log1p, which notes it in adata.uns['log1p']."
        )
        warn(msg)
    return math.log(base) / math.log(2)
