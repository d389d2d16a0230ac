"""Results as a wide table, for methods that take a matrix of statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from flashmm_sc._base.errors import listed
from flashmm_sc._base.options import check_number, check_optional_texts
from flashmm_sc._results.finding import columns_of, found
from flashmm_sc._results.quantities import quantity
from flashmm_sc._results.result import joined

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from flashmm_sc._results.result import Result

_SHORT = {"t": "t_value"}


def matrix(
    adata: AnnData,
    value: str = "z",
    *,
    coefs: str | Sequence[str] | None = None,
    key: str | None = None,
    groups: str | Sequence[str] | None = None,
    fill_value: float | None = None,
) -> pd.DataFrame:
    """One statistic of every gene as a wide table: groups or contrasts × genes, as enrichment methods take it.

    Parameters
    ----------
    adata
        With results of `flashmm_sc.tl.lmm_de`, `flashmm_sc.tl.nbmm_de`, `flashmm_sc.tl.lmm_test`,
        `flashmm_sc.tl.lmm_anova` or `flashmm_sc.tl.shrink`.
    value
        What to show: a column of numbers of `flashmm_sc.get.lmm_de_df`. By default "z", the normal deviate with the
        p-value of the test and the sign of the effect, which can be compared between genes. "t_value", or "t", can't
        where degrees of freedom differ from gene to gene, as they do unless ``ddf="residual"``: t = 5 is weak evidence
        on 3 df and strong on 300. After `flashmm_sc.tl.shrink`, "coef" has the shrunken effects.
    coefs
        Coefficients or contrasts, in this order (in each group, unless each names one column); by default all but intercepts
        and means of levels.
    key
        Key of the results. By default that of the fit or tests that have all of `coefs`: ``"lmm_de"`` before others.
    groups
        Groups to show if the fit has any (`groupby`), in this order; by default all; "" for contrasts across groups.
    fill_value
        What to put where a gene has no result. By default genes that lack one in any row are left out, so that nothing
        is made up. 0 keeps them as if they hadn't changed; ``float("nan")`` keeps them as they are.

    Returns
    -------
    DataFrame with a row for each group, or each contrast, or both as ``"B cells|trt[T.stim]"`` where there are several of
    both; and a column for each gene.

    Raises
    ------
    KeyError
        When there is no result under `key`, or it lacks a coefficient or group asked for.
    TypeError
        For arguments of a wrong type.
    ValueError
        When the result is damaged or has no such value, nothing is chosen, no gene has the value in all rows, or
        `fill_value` is infinite.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", size_factors="total")
    >>> wide = fsc.get.matrix(adata)
    >>> wide.index.to_list(), wide.shape
    (['1', '2'], (2, 50))
    """
    check_optional_texts(value=value)
    if fill_value is not None and not (isinstance(fill_value, float | np.floating) and np.isnan(fill_value)):
        check_number("fill_value", fill_value, -np.inf)
    result = found(adata, key, coefs)
    columns = columns_of(result, coefs, groups)
    if coefs is None:
        columns = [j for j in columns if result.findings[j]]
    if not columns:
        msg = f"Nothing of the result {result.key!r} is chosen: coefs={coefs!r}, groups={groups!r}."
        raise ValueError(msg)
    table = pd.DataFrame(
        quantity(result, _SHORT.get(value, value), columns).T,
        index=_labels(result, columns),
        columns=adata.var_names,
    )
    if fill_value is not None:
        return table.fillna(fill_value)
    complete = table.dropna(axis=1)
    if complete.empty:
        empty = table.index[table.isna().all(axis=1)]
        which = f"; {listed(empty)} lack it everywhere: leave them out by groups= or coefs=" if len(empty) else ""
        msg = f"No gene has {value!r} in all rows{which}. Or give fill_value=."
        raise ValueError(msg)
    return complete


def _labels(result: Result, columns: list[int]) -> list[str]:
    """What tells rows apart: the group, the contrast or both."""
    names, in_group = (
        np.array(result.names(name), dtype=object)[columns] for name in ("column_names", "column_groups")
    )
    for labels in (in_group, names):
        if len(set(labels)) == len(labels) and all(labels):
            return list(labels)
    return [joined(group, [name])[0] for group, name in zip(in_group, names, strict=True)]
