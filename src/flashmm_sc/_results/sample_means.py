"""Means of genes over the cells of each sample, on the scale of a fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flashmm_sc._base.errors import listed, warn
from flashmm_sc._counts.regression import PRIOR_COUNT
from flashmm_sc._design.cell_design import in_memory
from flashmm_sc._design.columns import as_factor, check_columns
from flashmm_sc._design.random import Component
from flashmm_sc._design.random_terms import parse_random
from flashmm_sc._results.aggregated import made, n_cells
from flashmm_sc._results.checks import reading_of
from flashmm_sc._results.chosen import from_text, mask_of
from flashmm_sc._results.count_models import sample_term
from flashmm_sc._results.result import strings
from flashmm_sc._results.strata import numbered, strata_of
from flashmm_sc._results.strata_study import cells_or_strata
from flashmm_sc._results.values import TOTAL, Values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from flashmm_sc._design.random_terms import RandomTerm
    from flashmm_sc._results.result import Result

BINS = 10
"""Parts of the range of a number that varies within samples, of which each has a mean; so many values have one each."""


@dataclass(frozen=True, eq=False)
class Means:
    """Means over the cells that a sample has at each level, or in each part of the range of a number.

    Attributes
    ----------
    sample
        Name of the sample of each mean.
    levels
        Levels of the factors that tell means of a sample apart, one row a mean.
    n
        Number of cells.
    x
        Mean of the number over them; NaN where none was asked for.
    mean
        Means × genes.
    """

    sample: np.ndarray
    levels: pd.DataFrame
    n: np.ndarray
    x: np.ndarray
    mean: np.ndarray


def lacking(adata: AnnData, fit: Result) -> str:
    """Why samples' means can't be had, empty if they can."""
    layer, words = fit.params["layer"], "samples' means come from the cells"
    if not adata.n_obs:
        return f"adata holds no cells, as a fit of several files, but {words}; results in varm and uns can be copied to what has them."
    values = () if fit.of_counts else ("size_factors", "weights")
    given = [name for name in ("mask_obs", *values) if fit.params[name] == "given"]
    if given:
        return (
            f"{words}, but the fit {fit.key!r} was given {listed(given)} as arrays, which aren't stored. Put them in a column of obs "
            "and give its name to the fit."
        )
    if fit.of_counts:
        return ""
    with reading_of(adata):
        there = adata.raw if fit.params["use_raw"] else adata.X if layer is None else adata.layers.get(layer)
    if there is None:
        where = "adata.raw" if fit.params["use_raw"] else "adata.X" if layer is None else f"adata.layers[{layer!r}]"
        return f"{words}, in {where}, which is not there: adata holds results only."
    return _of_other_genes(adata, fit)


def _of_other_genes(adata: AnnData, fit: Result) -> str:
    """Why the cells' totals aren't those that the fit divided by, empty if they are."""
    n_vars = (adata.raw if fit.params["use_raw"] else adata).n_vars
    fitted = np.ravel(fit.params.get("n_vars", n_vars))  # earlier versions didn't note it; one for each file of several
    if fit.params["size_factors"] != TOTAL or made(adata) is not None or n_vars >= fitted.max():
        return ""
    return (
        f"samples' means come from the cells, over their totals, which the fit {fit.key!r} had of {' or '.join(map(str, fitted))} "
        f"genes, and adata has {n_vars}. Plot before genes are left out, or put the totals in a column of obs and give its name to "
        "the fit, as size_factors=."
    )


def _tell_if_others(n: int, fit: Result, at: int, what: str) -> None:
    """Warn where a group has other cells than were fitted."""
    if n != (fitted := int(fit.models[at]["n"])):
        where = f" in {fit.groups[at]!r}" if fit.groups[at] else ""
        warn(
            f"The fit {fit.key!r} is of {fitted} cells{where}, but adata has {n} now: the {what} of samples are of these."
        )


def sample_means(
    adata: AnnData,
    fit: Result,
    genes: np.ndarray,
    group: str,
    factors: Sequence[str],
    *,
    sample: str | None = None,
    x: str | None = None,
) -> Means:
    """Means of some genes over the cells of a group, by sample and by levels of factors, or values of x.

    Samples are told apart by a column of obs, by default by that of the random terms which has most levels.

    Raises
    ------
    KeyError, ValueError
        For columns that obs lacks or that are incomplete, and values that can't be summed.
    """
    if fit.of_counts:
        return _of_counts(adata, fit, genes, group, factors, sample, x)
    groupby = fit.params["groupby"]
    columns = list(dict.fromkeys([*_sample_columns(_obs(adata), fit, sample, factors), *factors]))
    needed = list(dict.fromkeys([*columns, *filter(None, [groupby, x])]))
    values = _values(adata, fit, genes)

    def all_needed(obs: Any, where: str) -> list[str]:
        check_columns(needed, obs.columns, f"The plot{where}")
        return list(dict.fromkeys([*needed, *values.columns.values()]))

    with cells_or_strata(adata, all_needed, values, copy=False) as study:
        obs = study.obs
        own = _in_group(obs, groupby, group)
        _tell_if_others(int(own.sum()), fit, fit.groups.index(group), "means")
        cells = obs.loc[own, needed].reset_index(drop=True)
        codes, first, x_of = _numbered(cells, columns, x)
        every = np.full(len(obs), -1)
        every[own] = codes
        sums = strata_of(study, every, len(first), study.fitted, show_progress=False)
    total = sums.n if sums.weight_sum is None else sums.weight_sum
    table = cells.iloc[first].reset_index(drop=True)
    names = [name for name in columns if name not in factors]
    means = sums.sums[:, np.argsort(np.argsort(genes))] / total[:, None]
    return Means(_joined(table, names), table[list(factors)].astype(str), sums.n, x_of, means)


def _obs(adata: AnnData) -> pd.DataFrame:
    """The table of the cells, which may be lazy."""
    return in_memory(adata.obs, list(adata.obs.columns))


def _in_group(obs: pd.DataFrame, groupby: str | None, group: str) -> np.ndarray:
    """Which rows are of a group."""
    return np.ones(len(obs), bool) if groupby is None else np.asarray(as_factor(obs[groupby]).astype(str) == group)


def _values(adata: AnnData, fit: Result, genes: np.ndarray) -> Values:
    """The values of the fit, of these genes; sums of strata are of their values already."""
    mask = np.isin(np.arange(adata.n_vars), genes)
    if made(adata) is not None:
        return Values(mask_var=mask, mask_obs=from_text(fit.params["mask_obs"]))
    names = ("layer", "use_raw", "transform", "size_factors", "target_sum", "weights")
    params: dict[str, Any] = {name: fit.params[name] for name in names}
    params["mask_obs"] = from_text(fit.params["mask_obs"])
    for name, kind in {"use_raw": bool, "target_sum": float}.items():
        params[name] = params[name] if params[name] is None else kind(params[name])
    return Values(mask_var=mask, **params)


def _numbered(cells: pd.DataFrame, columns: list[str], x: str | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number of each cell's mean, the first cell of each, and the mean of x over its cells."""
    if x is None:
        codes, first, _ = numbered(cells, columns)
        return codes, first, np.full(len(first), np.nan)
    values = cells[x].to_numpy(np.float64)
    part = pd.factorize(values)[0]
    codes, first, _ = numbered(cells.assign(**{x: part}), [*columns, x])
    if part.max() >= BINS and len(first) > len(numbered(cells, columns)[1]):  # x varies within samples
        part = np.digitize(values, np.linspace(values.min(), values.max(), BINS + 1)[1:-1])
        codes, first, _ = numbered(cells.assign(**{x: part}), [*columns, x])
    return codes, first, np.bincount(codes, values) / np.bincount(codes)


def _sample_columns(obs: pd.DataFrame, fit: Result, sample: str | None, factors: Sequence[str]) -> list[str]:
    """Columns that tell samples apart: of the random terms with fewest of them, factors aside, those with most levels."""
    if sample is not None:
        check_columns([sample], obs.columns, f"sample={sample!r}")
        return [sample]
    terms = parse_random(strings(fit.params["random"]), list(obs.columns))
    each = [[name for name in term.groups if name not in factors] for term in terms]
    known = [names for names in each if names] or [list(terms[0].groups)]
    return max(known, key=lambda names: (-len(names), len(obs[names].drop_duplicates())))


def _of_counts(
    adata: AnnData,
    fit: Result,
    genes: np.ndarray,
    group: str,
    factors: Sequence[str],
    sample: str | None,
    x: str | None,
) -> Means:
    """The samples of a fit of counts, from the sums that are stored: log(y_i / S_i) with the prior count of the model in y_i."""
    obs, at = _obs(adata), fit.groups.index(group)
    term = sample_term(str(fit.params["sample"]), list(map(str, obs.columns)))
    table, n = _of_samples(adata, fit, term, at, [name for name in (*factors, x, sample) if name])
    described = fit.models[at]
    size = np.asarray(described["size"])
    start = sum(len(one["samples"]) for one in fit.models[:at])
    counts = fit["sums"][genes][:, start : start + len(size)].T.astype(np.float64)
    prior = PRIOR_COUNT * np.shape(described["X"])[1] / len(size) * size / size.mean()
    mean = np.log((counts + prior[:, None]) / size[:, None])
    columns = [sample] if sample else [name for name in term.groups if name not in factors]
    x_of = np.full(len(n), np.nan) if x is None else table[x].to_numpy(np.float64)
    return Means(_joined(table, columns), table[list(factors)].astype(str), n, x_of, mean)


def _of_samples(
    adata: AnnData, fit: Result, term: RandomTerm, at: int, columns: list[str]
) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows of obs of the first cell of each sample of a group, and how many cells it has."""
    obs, groupby = _obs(adata), fit.params["groupby"]
    check_columns([*columns, *([groupby] if groupby else [])], obs.columns, "The plot")
    n = n_cells(adata) if made(adata) is not None else np.ones(len(obs))
    own = n > 0
    if (mask := from_text(fit.params["mask_obs"])) is not None:
        own &= mask_of([obs], mask)
    own &= _in_group(obs, groupby, fit.groups[at])
    cells, names = obs[own], strings(fit.models[at]["samples"])
    levels = Component.of(term, cells, f"sample={term.spelled!r}")
    if unknown := sorted(set(names) - set(levels.levels)):
        msg = f"adata lacks cells of the samples {listed(unknown)} of the fit {fit.key!r}, whose levels can't be told; fit again."
        raise ValueError(msg)
    _tell_if_others(int(n[own].sum()), fit, at, "sizes")
    codes, place = levels.codes(cells), [levels.levels.index(name) for name in names]
    first = [np.flatnonzero(codes == code)[0] for code in place]
    return cells.iloc[first].reset_index(drop=True), np.bincount(codes, n[own])[place]


def _joined(table: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """Names of samples, of the levels of several columns; without any, all are one's."""
    each = [as_factor(table[name]).astype(str) for name in columns]
    return np.array(["|".join(names) for names in zip(*each, strict=True)] or [""] * len(table), dtype=object)


def scale(fit: Result) -> str:
    """Words for the values of a fit, as an axis takes them."""
    if fit.of_counts:
        return "log mean count per cell"
    transform, layer = fit.params["transform"], fit.params["layer"]
    if transform is not None:
        count = "count" if fit.params["size_factors"] is None else "normalised count"
        return f"mean {'log' if transform == 'log1p' else 'log2'}(1 + {count})"
    return "mean of " + ("raw.X" if fit.params["use_raw"] else "X" if layer is None else f"layer {layer!r}")
