"""The models of a call, one a group of cells: designs checked before any pass over the data, then fitted after it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from flashmm_sc._accumulate import Sums
from flashmm_sc._design import FixedDesign, check_full_rank, fixed_design
from flashmm_sc._errors import FlashmmWarning, listed
from flashmm_sc._obs import as_factor, complete_column, repeated
from flashmm_sc._projection import Projection
from flashmm_sc._random import RandomDesign, random_design
from flashmm_sc._summary import SummaryStats
from flashmm_sc._terms import type3


@dataclass(frozen=True, eq=False)
class Model:
    """The mixed model of one group of cells.

    Attributes
    ----------
    group
        Name of the group; empty when there is no grouping.
    cells
        Positions of its cells.
    fixed, random
        Designs, one row a cell of the group.
    projection
        What the designs give, X projected out.
    ZX
        Z'X, q × p.
    XX
        X'X, p × p.
    terms
        Type III hypothesis of each fixed term, p × r.
    """

    group: str
    cells: np.ndarray
    fixed: FixedDesign
    random: RandomDesign
    projection: Projection
    XX: np.ndarray
    ZX: np.ndarray
    terms: dict[str, np.ndarray]

    @classmethod
    def of(cls, group: str, cells: np.ndarray, obs: pd.DataFrame, fixed: str, random: Any) -> Model:
        """Build and check the designs of the cells of a group."""
        rows = obs.iloc[cells] if len(cells) < len(obs) else obs
        X = fixed_design(fixed, rows)
        if len(X.names) >= len(rows):
            msg = f"{len(rows)} cells leave no residual degrees of freedom for the {len(X.names)} columns of {fixed!r}."
            raise ValueError(msg)
        check_full_rank(X, rows)
        Z = random_design(random, rows)
        if "residual" in Z.names:
            msg = "A random component is called 'residual', as the residual variance is; give it another name."
            raise ValueError(msg)
        XX, ZX = (X.matrix.T @ X.matrix).toarray(), (Z.matrix.T @ X.matrix).toarray()
        ZZ = sp.csr_array(Z.matrix.T @ Z.matrix)
        projection = Projection.of(XX, ZX, ZZ, len(rows), Z.d, X.names, Z.names)
        return cls(group, cells, X, Z, projection, XX, ZX, type3(X, rows))

    @property
    def width(self) -> int:
        """Columns of the design, p + q."""
        return sum(self.ZX.shape)

    @property
    def ranef_names(self) -> list[str]:
        """Names of the random effects, `component[level]`."""
        pairs = zip(self.random.names, self.random.levels, strict=True)
        return [f"{name}[{level}]" for name, levels in pairs for level in levels]

    def stats(self, sums: Sums, start: int, index: int, gene_names: list[str]) -> SummaryStats:
        """Statistics of this group, which has columns `start` on of WY and row `index` of yy."""
        p = len(self.XX)
        return SummaryStats(
            XX=self.XX,
            XY=sums.WY[start : start + p],
            ZX=self.ZX,
            ZY=sums.WY[start + p : start + self.width],
            ZZ=self.projection.ZZ,
            yy=sums.yy[index],
            n=len(self.cells),
            d=self.random.d,
            coef_names=self.fixed.names,
            gene_names=gene_names,
            component_names=self.random.names,
            ranef_names=self.ranef_names,
        )


def build_models(obs: pd.DataFrame, fixed: str, random: Any, groupby: str | None) -> list[Model]:
    """One model for all cells, or one for each category of `groupby`.

    Raises
    ------
    KeyError, ValueError
        When a design can't be built; with `groupby`, only when that is so in every group. Groups left out are named in
        a warning.
    """
    if groupby is None:
        return [Model.of("", np.arange(len(obs)), obs, fixed, random)]
    where = f"groupby={groupby!r}"
    values = complete_column(obs, groupby, where)
    factor = as_factor(values)
    if pd.api.types.is_float_dtype(values.dtype) and pd.api.types.is_float_dtype(factor.categories.dtype):
        msg = f"{where} holds numbers that are not whole; cut them into categories, or use them in the formula."
        raise ValueError(msg)
    if twice := repeated(map(str, factor.categories)):
        msg = f"Different categories of {where} read the same: {listed(twice)}. Rename or merge them."
        raise ValueError(msg)
    models, reasons = [], {}
    for code, name in enumerate(factor.categories):
        try:
            models.append(Model.of(str(name), np.flatnonzero(factor.codes == code), obs, fixed, random))
        except ValueError as error:
            reasons[str(name)] = str(error)
    details = "\n".join(f"{name!r}: {reason}" for name, reason in reasons.items())
    if not models:
        msg = f"The model can be fitted in no group of {where}.\n{details}"
        raise ValueError(msg)
    if reasons:
        msg = f"{len(reasons)} of {len(factor.categories)} groups of {where} are left out:\n{details}"
        warnings.warn(msg, FlashmmWarning, stacklevel=3)
    return models


def design_rows(models: list[Model], n: int) -> tuple[sp.csr_array, np.ndarray]:
    """Design rows [X Z] of all n cells, the models' columns side by side, and the model of each cell (-1: none)."""
    group = np.full(n, -1, np.int32)
    for index, model in enumerate(models):
        group[model.cells] = index
    rows = sp.csr_array(sp.block_diag([sp.hstack([m.fixed.matrix, m.random.matrix]) for m in models], format="csr"))
    if len(models) == 1 and len(models[0].cells) == n:
        return rows, group
    place = np.full(n, rows.shape[0])
    place[np.concatenate([model.cells for model in models])] = np.arange(rows.shape[0])
    padded = sp.csr_array(sp.vstack([rows, sp.csr_array((1, rows.shape[1]))], format="csr"))
    return padded[place], group
