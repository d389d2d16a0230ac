"""The results that a plot shows: those of one coefficient, in one group or in several."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.errors import FlashmmWarning, did_you_mean, listed
from flashmm_sc._results.finding import columns_of, found, selected
from flashmm_sc._results.quantities import log2_factor
from flashmm_sc.get import lmm_de_df

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData

    from flashmm_sc._results.result import Result


def found_tests(
    adata: AnnData,
    key: str | None,
    coefs: str | Sequence[str] | None,
    argument: str = "coefs",
    *,
    effects: bool = False,
) -> Result:
    """The tests under a key, or those that have these coefficients; of effects, where a plot shows them."""
    result = found(adata, key, coefs, argument)
    if result.what == "F tests" and effects:
        msg = (
            f"The result {result.key!r} holds F tests, which have no effects; fsc.pl.dotplot, fsc.pl.hits, fsc.pl.qq and "
            "fsc.pl.pval_hist draw them."
        )
        raise ValueError(msg)
    if result.what not in ("fit", "t tests", "F tests"):
        msg = f"The result {result.key!r} holds {result.what}, not tests of coefficients; choose another key."
        raise ValueError(msg)
    return result


def scale_of(result: Result) -> tuple[float, str]:
    """What makes coefficients effects as they are shown, and what these are called.

    They are log2 fold changes, or the coefficients where the logarithm of the fitted values isn't known.
    """
    factor = log2_factor(result)
    return (1.0, "coefficient") if math.isnan(factor) else (factor, r"$\log_2$ fold change")


def tables(
    adata: AnnData,
    result: Result,
    coef: str | None,
    group: str | None,
    groups: str | Sequence[str] | None,
    gene_symbols: str | None = None,
) -> dict[str, pd.DataFrame]:
    """Rows of `get.lmm_de_df`, with names of `gene`s, of each panel by its title: of `group`, or of each of `groups`.

    Without `coef` those of the only one that is no intercept or mean. The effect is `x`, see `scale_of`.
    """
    wanted = chosen_groups(result, group, groups)
    if coef is None:
        findings = {name for name, yes in zip(result.names("column_names"), result.findings, strict=True) if yes}
        coef = findings.pop() if len(findings) == 1 else None
    table = table_of(adata, result, coef, wanted, gene_symbols)
    _check_one(table, "contrast", "coef", result.key)
    if groups is None:
        _check_one(table, "group", "group", result.key)
    if "group" not in table:
        return {str(table["contrast"].iloc[0]): table}
    title = ["group", "contrast"] if groups is None else ["group"]
    by_group = table.groupby("group", sort=False)
    return {": ".join(rows[title].iloc[0].astype(str)) or "across groups": rows for _, rows in by_group}


def table_of(
    adata: AnnData,
    result: Result,
    coefs: str | Sequence[str] | None,
    groups: Sequence[str] | None,
    gene_symbols: str | None = None,
) -> pd.DataFrame:
    """Rows of `get.lmm_de_df`, with names of `gene`s and the effect `x`, see `scale_of`."""
    names = gene_names(adata, gene_symbols)
    with warnings.catch_warnings():  # of an unknown logarithm, which the label of the axis shows
        warnings.simplefilter("ignore", FlashmmWarning)
        table = lmm_de_df(adata, coefs, key=result.key, groups=groups)
    if table.empty:
        msg = f"The result {result.key!r} has nothing of coefs={coefs!r} in groups={groups!r}."
        raise ValueError(msg)
    if "coef" in table:
        table["x"] = table["coef"] * scale_of(result)[0]
    table["gene"] = np.tile(names, len(table) // len(names))
    return table


def shown_columns(result: Result, coefs: str | Sequence[str] | None, groups: str | Sequence[str] | None) -> list[int]:
    """Columns of these coefficients in these groups; without any, of all that are no intercepts or means of levels."""
    columns = columns_of(result, coefs, chosen_groups(result, None, groups))
    if coefs is None:
        columns = [j for j in columns if result.findings[j]]
    if not columns:
        what = "only intercepts and means of levels, which coefs= can name" if coefs is None else f"no {coefs!r}"
        where = "" if groups is None else f" in groups={groups!r}"
        msg = f"The result {result.key!r} has {what}{where}."
        raise ValueError(msg)
    return columns


def chosen_groups(result: Result, group: str | None, groups: str | Sequence[str] | None) -> list[str] | None:
    """The groups asked for, by either argument; None where neither chooses."""
    if group is not None and groups is not None:
        msg = "Give group= for one group on one pair of axes, or groups= for a grid of several, not both."
        raise ValueError(msg)
    if isinstance(groups, str) and groups == "all":
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
    if not isinstance(gene, str):
        msg = f"gene={gene!r} must be the name of one gene."
        raise TypeError(msg)
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
        grid = " Or give groups='all', for a panel each." if argument == "group" else ""
        msg = f"{several(argument, names, key)}{grid}"
        raise ValueError(msg)


def several(argument: str, names: Sequence[str], key: str) -> str:
    """Say that one of several is to be chosen."""
    return f"The result {key!r} has more than one {argument}; choose {argument}= among {listed(names, 20)}."
