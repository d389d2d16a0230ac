"""The results that a plot shows: those of one coefficient, in one group or in several."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.errors import FlashmmWarning, did_you_mean, listed
from flashmm_sc._results.finding import selected
from flashmm_sc.get import lmm_de_df

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData

    from flashmm_sc._results.result import Result


def tables(
    adata: AnnData,
    result: Result,
    coef: str | None,
    group: str | None,
    groups: str | Sequence[str] | None,
    gene_symbols: str | None,
) -> dict[str, pd.DataFrame]:
    """Rows of `get.lmm_de_df`, with names of `gene`s, of each panel by its title: of `group`, or of each of `groups`.

    The effect, `x`, is log2 fold change, or the coefficient where the logarithm of the fitted values isn't known;
    `attrs["effect"]` says which, in words for an axis.
    """
    wanted = chosen_groups(result, group, groups)
    with warnings.catch_warnings():  # of an unknown logarithm, which the label of the axis shows
        warnings.simplefilter("ignore", FlashmmWarning)
        table = lmm_de_df(adata, coef, key=result.key, groups=wanted)
    _check_one(table, "contrast", "coef", result.key)
    if groups is None:
        _check_one(table, "group", "group", result.key)
    if "coef" in table:
        known = table["log_fc"].notna().any()
        table = table.assign(x=table["log_fc" if known else "coef"])
        table.attrs["effect"] = r"$\log_2$ fold change" if known else "coefficient"
    table["gene"] = np.tile(gene_names(adata, gene_symbols), len(table) // max(adata.n_vars, 1))
    if "group" not in table:
        return {str(table["contrast"].iloc[0]): table}
    by_group = table.groupby("group", sort=False)
    return {": ".join(rows[["group", "contrast"]].iloc[0].astype(str)): rows for _, rows in by_group}


def chosen_groups(result: Result, group: str | None, groups: str | Sequence[str] | None) -> list[str] | None:
    """The groups asked for, by either argument; None where neither chooses."""
    if group is not None and groups is not None:
        msg = "Give group= for one group on one pair of axes, or groups= for a grid of several, not both."
        raise ValueError(msg)
    if groups == "all" and "all" not in result.groups:
        return list(dict.fromkeys(result.groups))
    found = selected("group", group, result.groups, result.key) or selected("groups", groups, result.groups, result.key)
    if groups is not None and not found:
        msg = 'groups=[] asks for no group; give names of groups, or "all".'
        raise ValueError(msg)
    return found


def gene_names(adata: AnnData, gene_symbols: str | None) -> np.ndarray:
    """Names of the genes to show."""
    if gene_symbols is None:
        return adata.var_names.to_numpy()
    if gene_symbols not in adata.var:
        msg = f"gene_symbols={gene_symbols!r} is not a column of adata.var. {did_you_mean(gene_symbols, adata.var)}"
        raise KeyError(msg)
    symbols = adata.var[gene_symbols].astype(object)
    return symbols.where(symbols.notna(), adata.var_names).to_numpy()


def gene_position(adata: AnnData, gene: str, gene_symbols: str | None) -> int:
    """Where a gene is, by the name that is shown."""
    names = gene_names(adata, gene_symbols)
    (at,) = np.nonzero(names == gene)
    if len(at) == 1:
        return int(at[0])
    if len(at):
        msg = (
            f"gene={gene!r} names {len(at)} genes; use one of var_names, {listed(adata.var_names[at].astype(str), 5)}."
        )
        raise ValueError(msg)
    msg = f"There is no gene {gene!r}. {did_you_mean(gene, map(str, names))}"
    raise KeyError(msg)


def _check_one(table: pd.DataFrame, column: str, argument: str, key: str) -> None:
    names: list[str] = list(table[column].unique()) if column in table else []
    if len(names) > 1:
        msg = f"The result {key!r} has more than one {argument}; choose {argument}= among {listed(names, 20)}."
        raise ValueError(msg)
