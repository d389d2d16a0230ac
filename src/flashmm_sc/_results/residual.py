"""One model whose cells have residual variances by group: its rows and sums are those of the groups."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from flashmm_sc._design.columns import as_factor, complete_column, level_names
from flashmm_sc._design.rows import Encoder, Rows
from flashmm_sc._gaussian.structure import INDEPENDENT
from flashmm_sc._stats.residual import ResidualGroup
from flashmm_sc._stream.sums import Sums

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd

    from flashmm_sc._stats.weights import Weights


def check_residual_by(
    residual_by: str | None, groupby: str | None, *, moderate: bool, nonnegative: bool, ddf: str
) -> None:
    """Refuse what doesn't go with residual variances by group."""
    reasons = {
        "groupby": groupby is not None
        and "each group has a model, and a residual variance, of its own: leave one of them out",
        "moderate=True": moderate
        and "moderation is of one ratio of variances: use moderate=False, or groupby= in its place",
        "nonnegative=False": not nonnegative and "its variance components are bounded at zero",
        "ddf='kenward-roger'": ddf == "kenward-roger" and "use ddf='satterthwaite'",
    }
    for what, reason in reasons.items():
        if residual_by is not None and reason:
            msg = f"residual_by={residual_by!r} can't be combined with {what}; {reason}."
            raise ValueError(msg)


def check_uncorrelated(residual_by: str, correlated: Sequence[Sequence[int]]) -> None:
    """Refuse correlated random effects."""
    if correlated:
        msg = f"residual_by={residual_by!r} can't be combined with correlated random effects yet; make them independent: {INDEPENDENT}."
        raise ValueError(msg)


def residual_rows(
    encode: Callable[[Any], sp.csr_array],
    width: int,
    table: pd.DataFrame,
    obs: pd.DataFrame,
    residual_by: str,
    weights: Weights | None,
    min_cells: int,
) -> tuple[Rows, list[ResidualGroup]]:
    """Design rows of the cells of each level of a column, only of the columns that they have; and the groups.

    `encode` makes whole rows, of this width, of those of a table.

    Raises
    ------
    ValueError
        For one level, and for levels whose cells don't tell a variance.
    """
    where = f"residual_by={residual_by!r}"
    factor = as_factor(complete_column(obs, residual_by, where))
    names = level_names(factor, residual_by, where)
    if len(names) < 2:
        msg = f"{where} has one level only: there is one residual variance in any case. Leave it out."
        raise ValueError(msg)
    each = [np.flatnonzero(factor.codes == code) for code in range(len(names))]
    parts = [(cells, table.iloc[cells]) for cells in each]
    starts = [g * width for g in range(len(names))]
    gram = Rows(len(obs), Encoder([encode] * len(names), starts, len(names) * width), parts).gram(
        None if weights is None else weights.each
    )
    groups = []
    for name, cells, start in zip(names, each, starts, strict=True):
        own = gram[start : start + width, start : start + width]
        columns = np.flatnonzero(own.diagonal())
        groups.append(ResidualGroup(name, len(cells), columns, own[columns][:, columns]))
        _check_cells(groups[-1], where, min_cells)
    encoders = [_Columns(encode, group.columns) for group in groups]
    ends = np.cumsum([len(group.columns) for group in groups]).tolist()
    return Rows(len(obs), Encoder(encoders, [0, *ends[:-1]], ends[-1]), parts), groups


def _check_cells(group: ResidualGroup, where: str, min_cells: int) -> None:
    """Refuse a group of too few cells, or of no more than its columns, which could fit them exactly."""
    few = group.n < 2 * len(group.columns)
    if group.n < min_cells or (few and group.n <= np.linalg.matrix_rank(group.gram.toarray())):
        msg = (
            f"{where}: the {group.n} cells of {group.name!r} are too few for a residual variance of their own (min_cells="
            f"{min_cells}, and more than the effects they have). Merge it with another level, or leave its cells out."
        )
        raise ValueError(msg)


@dataclass(frozen=True)
class _Columns:
    """Makes design rows of some columns."""

    encode: Callable[[Any], sp.csr_array]
    columns: np.ndarray

    def __call__(self, table: Any) -> sp.csr_array:
        return self.encode(table)[:, self.columns]


def own_sums(groups: Sequence[ResidualGroup], sums: Sums, genes: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """W'Y of each group, and sums of squares (groups × genes), of some genes."""
    ends = np.cumsum([len(group.columns) for group in groups])
    return [part[:, genes] for part in np.split(sums.WY, ends[:-1])], sums.yy[:, genes]


def linear_columns(groups: Sequence[ResidualGroup], p: int) -> np.ndarray:
    """Positions of the fixed columns among those of all groups side by side."""
    return np.flatnonzero(np.concatenate([group.columns for group in groups]) < p)


def added_up(groups: Sequence[ResidualGroup], sums: Sums, p: int) -> Sums:
    """The sums of the whole model from those of its groups, but for W'Y."""
    columns = np.concatenate([group.columns for group in groups])
    fixed = columns[columns < p]
    out = {"WY": sums.WY}
    for field in fields(Sums):
        values = getattr(sums, field.name)
        if field.name == "WC" and len(values):
            place = sp.csr_array((np.ones(len(fixed)), (fixed, np.arange(len(fixed)))), shape=(p, len(fixed)))
            out["WC"] = place @ values
        elif field.name != "WY":
            out[field.name] = values.sum(axis=0, keepdims=True) if len(values) else values
    return Sums(**out)
