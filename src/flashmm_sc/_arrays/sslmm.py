"""Summary statistics of designs and expression at hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from flashmm_sc._arrays.refined import refined
from flashmm_sc._base.options import check_real, real_array
from flashmm_sc._design.columns import positive_numbers
from flashmm_sc._design.rows import Rows
from flashmm_sc._stats.cross import CrossProducts
from flashmm_sc._stats.summary import SummaryStats
from flashmm_sc._stats.weights import Weights
from flashmm_sc._stream.accumulate import accumulate
from flashmm_sc._stream.sums import CellMatrix

if TYPE_CHECKING:
    from collections.abc import Sequence


def sslmm(
    X: Any,
    Y: Any,
    Z: Any,
    d: Sequence[int] | int | None = None,
    *,
    correlated: Sequence[Sequence[int]] = (),
    weights: Any = None,
    n_jobs: int | None = None,
) -> SummaryStats:
    """Compute the summary statistics of a linear mixed model.

    Parameters
    ----------
    X
        Fixed-effects design, cells × p, dense, sparse or DataFrame.
    Y
        Expression, cells × genes (FLASHMM has genes × cells): dense, sparse, DataFrame or a backed matrix. Used as it
        is; log-transform counts before, or use `flashmm_sc.tl.lmm_de`.
    Z
        Random-effects design [Z_1, ..., Z_K], cells × q.
    d
        Columns of each component, (q_1, ..., q_K); by default Z is one component.
    correlated
        Positions of the components of each correlated term, e.g. ``[(0, 1)]`` for intercepts and slopes in Z_1 and Z_2, the
        levels in the same order; by default all are independent.
    weights
        Precision weights, one positive number a cell, as R's lm and lmer take them: Var(e_i) = s_0 / w_i. By default 1.
    n_jobs
        Threads; by default all cores.

    Returns
    -------
    The sums X'X, X'Y, Z'X, Z'Y, Z'Z, y'y of all genes, weighted if there are weights. Beside them, what keeps the digits that
    these lack: `refined`, of values far from zero; `untangled`, of columns of X that are far from zero or nearly depend on others.

    Raises
    ------
    TypeError
        For what are no matrices of numbers.
    ValueError
        When the numbers of cells differ, a value is NaN, infinite, complex or masked, or weights aren't one positive number
        a cell.

    Notes
    -----
    FLASHMM's ``sslmm``; Xu et al., Nature Communications 2026, doi 10.1038/s41467-026-69063-2. Weights are lme4's.

    Examples
    --------
    >>> import numpy as np, flashmm_sc as fsc
    >>> rng = np.random.default_rng(0)
    >>> sample = np.arange(60) % 6
    >>> X = np.column_stack([np.ones(60), sample % 2])
    >>> Z = np.eye(6)[sample]
    >>> fsc.sslmm(X, rng.normal(size=(60, 4)), Z)
    SummaryStats of 60 cells × 4 genes: 2 fixed columns, 6 random columns in (6,)
    """
    coefs, genes, ranefs = (_columns(table) for table in (X, Y, Z))
    Xs, Zs = _as_csr("X", X), _as_csr("Z", Z)
    Y = _two_dimensional("Y", Y)
    if not Xs.shape[0] == Zs.shape[0] == Y.shape[0]:
        msg = (
            f"X, Y and Z must have one row a cell, but have {Xs.shape[0]}, {Y.shape[0]} and {Zs.shape[0]} rows "
            "(Y is cells × genes here; FLASHMM's is its transpose)."
        )
        raise ValueError(msg)
    rows = Rows.of(sp.csr_array(sp.hstack([Xs, Zs], format="csr")))
    each = None
    if weights is not None:
        check_real("weights", weights)
        each = positive_numbers(weights, rows.n, "weights", "one number a cell", "row {}".format)
    own, gram, basis = rows.untangled(p := Xs.shape[1], each)
    parts = [replace(CellMatrix.of(Y), precision=each)]
    sums = accumulate(parts, own, n_jobs=n_jobs)
    stats = SummaryStats.of(
        CrossProducts.of(gram, p, basis),
        sums.WY,
        sums.yy[0],
        rows.n,
        d=() if d is None else d,
        correlated=correlated,
        coef_names=coefs,
        gene_names=genes,
        ranef_names=ranefs,
        named_levels=bool(ranefs) and not isinstance(Z.columns, pd.RangeIndex),
        **({} if each is None else Weights.of(each).sums),
    )
    stats = refined(stats, parts, own, n_jobs=n_jobs)
    if basis is None:
        return stats
    exact = CrossProducts.of(rows.gram(each), p)
    return replace(stats.plain, XX=exact.XX, ZX=exact.ZX, untangled=stats)


def _columns(table: Any) -> list[str]:
    return [str(name) for name in table.columns] if isinstance(table, pd.DataFrame) else []


def _two_dimensional(name: str, table: Any) -> Any:
    """A matrix of numbers; one on disk is left there."""
    values = table.to_numpy() if isinstance(table, pd.DataFrame | pd.Series) else table
    if isinstance(values, list | tuple) or getattr(getattr(values, "dtype", None), "kind", "") == "O":
        values = real_array(name, values)
    check_real(name, values)
    shape: tuple[int, ...] = getattr(values, "shape", ())
    if len(shape) not in (1, 2) or not hasattr(values, "dtype"):
        what = f"an array of shape {shape}" if shape else type(table).__name__
        msg = f"{name} must be a matrix of numbers with one row a cell, dense, sparse or a DataFrame, not {what}."
        raise TypeError(msg)
    if 0 in shape and (name != "Y" or not shape[0]):  # no genes are none that can't be fitted
        msg = f"{name} has shape {tuple(shape)}; there is nothing to fit."
        raise ValueError(msg)
    return np.asarray(values).reshape(-1, 1) if len(shape) == 1 else values


def _as_csr(name: str, table: Any) -> sp.csr_array:
    matrix = sp.csr_array(_two_dimensional(name, table), dtype=np.float64)
    if not np.isfinite(matrix.data).all():
        msg = f"The design {name} holds NaN or infinite values; drop these cells or fill the values in."
        raise ValueError(msg)
    return matrix
