"""The models of a call, one a group of cells: designs checked before any pass over the data, then fitted after it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flashmm_sc._base.errors import FlashmmWarning
from flashmm_sc._design import type3
from flashmm_sc._design.cell_design import CellDesign, needed_columns
from flashmm_sc._design.fixed import check_full_rank, fixed_design
from flashmm_sc._design.random import random_design
from flashmm_sc._design.reference_grid import ReferenceGrid
from flashmm_sc._design.rows import Encoder, Rows, turned
from flashmm_sc._gaussian.projection import Projection
from flashmm_sc._results.groups import each_group
from flashmm_sc._results.residual import check_uncorrelated, own_sums, residual_rows
from flashmm_sc._results.strata_study import cells_or_strata
from flashmm_sc._results.values import Values
from flashmm_sc._stats.cross import CrossProducts
from flashmm_sc._stats.residual import ResidualGroup, ResidualStats
from flashmm_sc._stats.summary import SummaryStats

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from flashmm_sc._results.study import Source
    from flashmm_sc._stats.weights import Weights
    from flashmm_sc._stream.sums import Sums


@dataclass(frozen=True, eq=False)
class Model:
    """The mixed model of one group of cells.

    Attributes
    ----------
    group
        Name of the group; empty when there is no grouping.
    n
        Number of its cells.
    design
        Designs of its fixed and random effects.
    cross
        Their cross-products.
    projection
        What they give, X projected out.
    terms
        Type III hypothesis of each fixed term, p × r.
    reference
        Its reference grid as text.
    weight_sums
        Sums of its cells' weights, by the names of `SummaryStats`; empty without weights.
    groups
        Groups of its cells with residual variances of their own; none where all have the same.
    """

    group: str
    n: int
    design: CellDesign
    cross: CrossProducts
    projection: Projection
    terms: dict[str, np.ndarray]
    reference: str
    weight_sums: dict[str, float]
    groups: tuple[ResidualGroup, ...] = ()

    @classmethod
    def of(
        cls,
        group: str,
        obs: pd.DataFrame,
        fixed: str,
        random: Any,
        weights: Weights | None = None,
        *,
        sparse: bool = False,
        residual_by: str | None = None,
        min_cells: int = 1,
    ) -> tuple[Model, Rows]:
        """Build and check the designs of the cells of a group; give their rows too."""
        X = fixed_design(fixed, obs)
        n, p = len(obs), len(X.names)
        if p >= n:
            msg = f"{n} cells leave no residual degrees of freedom for the {p} columns of {fixed!r}."
            raise ValueError(msg)
        design = CellDesign(X, random_design(random, obs))
        Z, table = design.random, design.table(obs)
        groups: list[ResidualGroup] = []
        rows, gram, basis = design.all_rows(table).untangled(p, None if weights is None else weights.each)
        cross = CrossProducts.of(gram, p, basis)
        if residual_by is not None:
            check_uncorrelated(residual_by, Z.correlated)
            rows, groups = residual_rows(
                turned(design.rows, basis), design.width, table, obs, residual_by, weights, min_cells
            )
        check_full_rank(X, cross.XX, obs)
        how: dict[str, Any] = {"sparse": sparse, "correlated": Z.correlated, "groups": groups}
        projection = Projection.of(cross, n, Z.d, X.names, Z.names, **how)
        reference = ReferenceGrid.of(X, obs, table, group).text()
        sums = {} if weights is None else weights.sums
        terms = type3.hypotheses(X, obs)
        return cls(group, n, design, cross, projection, terms, reference, sums, tuple(groups)), rows

    @property
    def p(self) -> int:
        """Number of fixed columns."""
        return len(self.design.fixed.names)

    def fixed_columns(self, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Columns of W that are of fixed columns, in this group, which has those from `start` on; and which of these each is."""
        columns = np.concatenate([one.columns for one in self.groups]) if self.groups else np.arange(self.p)
        at = np.flatnonzero(columns < self.p)
        return at + (0 if self.groups else start), columns[at]

    def stats(self, sums: Sums, start: int, index: int, genes: np.ndarray, gene_names: list[str]) -> SummaryStats:
        """Statistics of some genes in this group, which has columns `start` on of WY and row `index` of yy."""
        labels = self.design.labels | self.weight_sums
        if self.groups:
            own, names = own_sums(self.groups, sums, genes), [gene_names[j] for j in genes]
            return ResidualStats.of_groups(self.cross, self.groups, *own, gene_names=names, **labels)
        WY, yy = sums.WY[start : start + self.cross.width], sums.yy[index]
        if len(genes) < len(yy):
            WY, yy, gene_names = WY[:, genes], yy[genes], [gene_names[j] for j in genes]
        return SummaryStats.of(self.cross, WY, yy, self.n, gene_names=gene_names, **labels)


def coefficients_of(
    sources: Sequence[Source], fixed: str, alike: Any, *, groupby: str | None = None, min_cells: int = 10, **values: Any
) -> tuple[list[str], list[str]]:
    """Coefficients that the models of these cells will have, and those of them that are no intercepts or means of levels.

    `alike` are the random terms, or the sample; `values` choose cells and a matrix.
    """
    needed = lambda obs, where: needed_columns(obs, fixed, alike, where, groupby=groupby)
    with warnings.catch_warnings(), cells_or_strata(sources, needed, Values(**values), copy=False) as study:
        warnings.simplefilter("ignore", FlashmmWarning)  # of groups that are left out, which the fit tells
        built = each_group(study.obs, groupby, lambda _, own, __: fixed_design(fixed, own), min_cells=min_cells)
    pairs = [pair for _, design in built for pair in zip(design.names, design.constant, strict=True)]
    return [name for name, _ in pairs], [name for name, mean in pairs if not mean]


def build_models(
    obs: pd.DataFrame,
    fixed: str,
    random: Any,
    groupby: str | None,
    residual_by: str | None = None,
    *,
    weights: Weights | None = None,
    min_cells: int = 1,
    sparse: bool = False,
) -> tuple[list[Model], Rows]:
    """One model for all cells, or one for each category of `groupby` with enough cells; and the design rows of all cells.

    `weights` are those of the cells, `sparse` is as in `Projection.of`, and levels of `residual_by` have residual variances of
    their own; then there is no `groupby`, and the rows are those of the levels.

    Raises
    ------
    KeyError, ValueError
        When a design can't be built; with `groupby`, only when that is so in every group. Groups left out are named in
        a warning.
    """
    own_weights = lambda cells: weights and weights.at(cells)
    how: dict[str, Any] = {"sparse": sparse, "residual_by": residual_by, "min_cells": min_cells}
    build = lambda group, own, cells: Model.of(group, own, fixed, random, own_weights(cells), **how)
    built = each_group(obs, groupby, build, min_cells=min_cells)
    models = [model for _, (model, _) in built]
    if groupby is None:
        return models, built[0][1][1]
    parts = [(cells, rows.parts[0][1]) for cells, (_, rows) in built]
    starts = np.cumsum([0, *(model.cross.width for model in models)]).tolist()
    encode = [rows.encoder.encode[0] for _, (_, rows) in built]
    return models, Rows(len(obs), Encoder(encode, starts[:-1], starts[-1]), parts)
