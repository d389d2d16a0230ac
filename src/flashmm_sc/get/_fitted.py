"""Fitted means at chosen points, as a DataFrame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.api.types import is_list_like

from flashmm_sc._base.options import check_level
from flashmm_sc._design.reference_grid import ReferenceGrid
from flashmm_sc._results.finding import found_fit, selected
from flashmm_sc._results.fitted import fitted_models

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from flashmm_sc._results.result import Result

_VALUES = {"coef": "fit", "se": "se", "df": "df", "ci_low": "ci_low", "ci_high": "ci_high"}


def fitted(
    adata: AnnData,
    genes: str | Sequence[str] | None,
    grid: pd.DataFrame | Mapping[str, Any],
    *,
    key: str | None = None,
    conf_level: float = 0.95,
    groups: str | Sequence[str] | None = None,
) -> pd.DataFrame:
    """Means that the model gives at points of your choice, with confidence intervals: curves over time, doses or ages.

    The fixed effects at each point, x'β̂, of a sample whose random effects are zero. Columns of the model that the grid
    doesn't mention are averaged over with equal weights if they have levels, and at their mean over the cells if they are
    numbers, as in R's emmeans.

    Parameters
    ----------
    adata
        With results of `flashmm_sc.tl.lmm_de`.
    genes
        One gene or several, of which alone the means are computed; None for all.
    grid
        Columns of obs and their values: a DataFrame of one row a point, or a dictionary from columns to values, of which
        all combinations are taken. Numbers are to be within the range of the cells.
    key
        Key of the fit, by default ``"lmm_de"`` or that of the only fit.
    conf_level
        Level of the intervals, for each point by itself.
    groups
        Groups to show if the fit has any (`groupby`), in this order; by default all.

    Returns
    -------
    DataFrame of one row per gene, group and point, with the columns

    `variable` (and `group`)
        Gene, and group of cells if the fit has groups.
    the columns of the grid
        As they were given; called ``"fit_grid"`` instead of ``"fit"``, where a column here has that name.
    `fit`, `se`, `df`, `ci_low`, `ci_high`
        Mean on the scale of the fitted values (of counts, natural logarithm of the mean count of a cell of mean depth), its standard error, degrees of freedom, and confidence interval. NaN for
        genes that were not fitted.

    Raises
    ------
    KeyError
        When there is no fit under `key`, or it lacks a gene or group asked for.
    TypeError
        For arguments of a wrong type.
    ValueError
        For columns that are not in the model, unknown levels, numbers outside of the range of the cells, a level of
        confidence that is none, and fits of older versions, which hold no design.

    Notes
    -----
    A fit holds its formula, which is code: ask only fits from files that you trust.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ trt * bs(libsize, df=4) + cls", "sam + sam:cls", transform="log1p")
    >>> curves = fsc.get.fitted(adata, adata.var_names[:2], {"trt": ["A", "B"], "libsize": range(80, 160, 10)})
    >>> curves.columns.to_list()
    ['variable', 'trt', 'libsize', 'fit', 'se', 'df', 'ci_low', 'ci_high']
    >>> len(curves)
    32
    """
    check_level(conf_level)
    result = found_fit(adata, key)
    wanted = selected("genes", genes, list(adata.var_names), result.key)
    rows = np.arange(adata.n_vars) if wanted is None else adata.var_names.get_indexer_for(pd.Index(wanted))
    return fitted_at(result, adata.var_names, rows, grid, conf_level, groups)


def fitted_at(
    result: Result,
    var_names: pd.Index,
    rows: np.ndarray,
    grid: pd.DataFrame | Mapping[str, Any],
    conf_level: float,
    groups: str | Sequence[str] | None,
) -> pd.DataFrame:
    """The same of a fit, of genes at these positions."""
    wanted_groups = selected("groups", groups, result.groups, result.key)
    points = _points(grid)
    models = fitted_models(result.of_genes(rows))
    if wanted_groups is not None:
        models = sorted((m for m in models if m.group in wanted_groups), key=lambda m: wanted_groups.index(m.group))
    weights = [_weights(model.reference, points, model.group) for model in models]
    tests = [
        model.inference.t_tests(L, conf_level=conf_level, n_jobs=1) for model, L in zip(models, weights, strict=True)
    ]
    m, g, n = len(rows), len(models), len(points)
    table: dict[str, Any] = {"variable": np.repeat(var_names.to_numpy()[rows], g * n)}
    if result.n_groups:
        table["group"] = np.tile(np.repeat(np.array([model.group for model in models], dtype=object), n), m)
    taken = {*table, *_VALUES.values()}
    for name, values in points.iloc[np.tile(np.arange(n), m * g)].items():
        table[f"{name}_grid" if name in taken else str(name)] = values.array
    for field, name in _VALUES.items():
        found = [getattr(one, field) for one in tests] or [np.empty((m, 0))]
        table[name] = np.concatenate(found, axis=1).reshape(-1)
    return pd.DataFrame(table)


def _points(grid: pd.DataFrame | Mapping[str, Any]) -> pd.DataFrame:
    """The points, one a row."""
    if isinstance(grid, pd.DataFrame):
        points = grid.reset_index(drop=True)
    elif isinstance(grid, Mapping):
        crossed = [_several(name, values) for name, values in grid.items()]
        points = (
            pd.MultiIndex.from_product(crossed, names=list(grid)).to_frame(index=False) if grid else pd.DataFrame([()])
        )
    else:
        msg = f"grid must be a DataFrame or a dictionary from columns of obs to values, not {type(grid).__name__}."
        raise TypeError(msg)
    if points.columns.has_duplicates or not len(points):
        msg = "grid has columns of the same name." if len(points) else "grid has no points: a column has no values."
        raise ValueError(msg)
    return points.set_axis(points.columns.map(str), axis=1)


def _several(name: object, values: Any) -> list[Any]:
    """The values of a column, one or several."""
    several = is_list_like(values, allow_sets=False) and not isinstance(values, Mapping)
    found = list(values) if several else [values]
    if any(map(is_list_like, found)):
        msg = f"grid: what {name!r} is to be must be one value, or several in a list, not {type(values).__name__} {values!r}."
        raise TypeError(msg)
    return found


def _weights(reference: str, points: pd.DataFrame, group: str) -> np.ndarray:
    """Weights of the p coefficients in each point, p × points."""
    grid = ReferenceGrid.read(reference)
    where = f"grid, in group {group!r}" if group else "grid"
    found = {str(name): grid.values(str(name), values.tolist(), where) for name, values in points.items()}
    return grid.rows(found).T
