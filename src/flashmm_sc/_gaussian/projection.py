"""Projecting the fixed effects out: after this, nothing needs X'X or an n × anything array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import scipy.sparse as sp

from flashmm_sc._base.errors import listed
from flashmm_sc._base.rank import aliased_columns, dependencies, rounding
from flashmm_sc._base.selection import component_slices
from flashmm_sc._gaussian.containment import Within
from flashmm_sc._gaussian.dense.covariance import Shared, Structure
from flashmm_sc._gaussian.sparse.covariance import Sparse
from flashmm_sc._stats.cross import CrossProducts
from flashmm_sc._stats.summary import SummaryStats

# Most levels of the largest component, and of all others together, with dense matrices where sparse ones would do: the first
# is diagonalised once (3,000 levels: 10 s), the others are factorised for every gene (1,200 levels and 150: 17 ms, sparse 2).
MOST_DENSE = 3000, 100
MOST_AT_ALL = 20_000
"""Most random columns of dense matrices, of 3 GB each."""


@dataclass(frozen=True, eq=False)
class Projection:
    """What the designs X and Z give, the same for all genes. R = I - X (X'X)⁻¹ X'.

    Attributes
    ----------
    XXi
        (X'X)⁻¹, p × p.
    logdet_XX
        log det X'X.
    A
        Z'X (X'X)⁻¹, q × p.
    n, p
        Cells and fixed columns.
    d
        Columns of each random component.
    ZX
        Z'X, q × p.
    ZZ
        Z'Z, q × q.
    S
        Structure of Z'RZ = Z'Z - B B'.
    basis
        L⁻¹ of X'X = L L', p × p: X times its transpose is an orthonormal basis of the fixed columns, B = Z'X L⁻ᵀ.
    within
        What is left of the fixed columns within the levels of each component.
    rounding
        Relative error that X's condition leaves in a residual sum of squares.
    """

    XXi: np.ndarray
    logdet_XX: float
    A: np.ndarray
    n: int
    p: int
    d: tuple[int, ...]
    ZX: np.ndarray
    ZZ: sp.csr_array
    S: Structure
    basis: np.ndarray
    within: list[Within]
    rounding: float

    @classmethod
    def of(
        cls,
        cross: CrossProducts,
        n: int,
        d: Sequence[int],
        coef_names: Sequence[str],
        component_names: Sequence[str],
        *,
        sparse: bool = False,
    ) -> Projection:
        """Project the designs; `sparse` tells whether sparse matrices will do: nonnegative components, not moderated.

        Raises
        ------
        ValueError
            When fixed columns are linearly dependent, no residual df are left, or a random component lies within the
            fixed columns.
        """
        XX, ZX, ZZ = cross.XX, cross.ZX, cross.ZZ
        p = len(XX)
        aliased = aliased_columns(XX)
        if aliased:
            msg = (
                f"The fixed-effects design is rank deficient: {listed(coef_names[j] for j in aliased)} can be written "
                "as combinations of the columns before; remove them or merge levels."
            )
            raise ValueError(msg)
        if n <= p:
            msg = f"{n} cells leave no residual degrees of freedom for {p} fixed columns; use fewer columns."
            raise ValueError(msg)
        scale = np.sqrt(np.diag(XX))
        unit = XX / np.outer(scale, scale)
        L = np.linalg.cholesky(unit)
        Li = np.linalg.inv(L)
        XXi = (Li.T @ Li) / np.outer(scale, scale)
        B = (ZX / scale) @ Li.T
        within = [Within.of(ZZ[part, part], B[part], Li) for part in component_slices(d)]
        _check_components(within, component_names)
        logdet = 2 * float(np.log(np.diag(L)).sum() + np.log(scale).sum())
        structure = _structure(XX, ZX, ZZ, B, d, [component.rank for component in within], sparse)
        _check_distinct(structure, n - p, component_names)
        error = float(rounding(np.linalg.cond(unit)))
        return cls(XXi, logdet, ZX @ XXi, n, p, tuple(d), ZX, ZZ, structure, Li / scale, within, error)

    @cached_property
    def Z(self) -> Structure:
        """Structure of Z'Z: ML's determinant, and whether V is positive definite."""
        nothing = np.empty((sum(self.d), 0))
        levels = [component.levels for component in self.within]
        return _structure(np.empty((0, 0)), nothing, self.ZZ, nothing, self.d, levels, self.is_sparse)

    @property
    def is_sparse(self) -> bool:
        """Whether there are many random columns, and sparse matrices serve."""
        return isinstance(self.S, Sparse)

    @cached_property
    def random_part(self) -> Shared:
        """A, split and rotated by the structure."""
        return self.combined(np.eye(self.p))

    def combined(self, L: np.ndarray) -> Shared:
        """A c for the columns c of L (p × r)."""
        return self.S.combined(self.A, L)

    @property
    def ranks(self) -> list[int]:
        """Rank of Z_k'RZ_k of each component."""
        return [component.rank for component in self.within]

    @cached_property
    def spectra(self) -> list[np.ndarray]:
        """Positive eigenvalues of Z_k'RZ_k of each component, ascending."""
        out = []
        for k, (part, rank) in enumerate(zip(component_slices(self.d), self.ranks, strict=True)):
            if k == self.S.largest:
                value = self.S.lam
            else:
                B = self.ZX[part] @ self.basis.T
                value = np.linalg.eigvalsh(self.ZZ[part, part].toarray() - B @ B.T)
            out.append(value[value.size - rank :])
        return out

    def containment(self, L: np.ndarray) -> np.ndarray:
        """Containment degrees of freedom of each component for the columns c of L (p × r): K × r.

        Where c'β can't be estimated within the levels of component k, rank Z_k'RZ_k, the levels minus the fixed columns
        constant within them, bounds its df.
        """
        c = self.basis @ L
        return np.array([np.where(k.needs_levels(c), k.rank, np.inf) for k in self.within])

    def gene_bytes(self, r: int) -> int:
        """Memory that a gene needs while it is fitted, or r linear combinations of it tested."""
        return self.S.gene_bytes(r)


def _structure(
    XX: np.ndarray,
    ZX: np.ndarray,
    ZZ: sp.csr_array,
    B: np.ndarray,
    d: Sequence[int],
    rank: Sequence[int],
    sparse: bool,
) -> Structure:
    """Structure of Z'Z - B B', dense or sparse; both have the same methods."""
    if sparse and (max(d) > MOST_DENSE[0] or sum(d) - max(d) > MOST_DENSE[1]):
        return cast(Structure, Sparse.of(ZZ, d, ZX, XX))
    if sum(d) > MOST_AT_ALL:
        msg = (
            f"Random components of {listed(d)} columns are too many for free or moderated variance components, which take "
            "dense matrices; use nonnegative=True and moderate=False, or fit one model for each group of cells (groupby)."
        )
        raise ValueError(msg)
    return Structure.of(ZZ.toarray() - B @ B.T, d, rank)


def _check_components(within: Sequence[Within], names: Sequence[str]) -> None:
    """Refuse a component of which the fixed columns leave nothing."""
    for name, component in zip(names, within, strict=True):
        if not component.rank:
            msg = (
                f"The random component {name!r} lies within the fixed columns, so its variance can't be estimated; "
                "remove it, or the fixed term that spans it."
            )
            raise ValueError(msg)


def _check_distinct(S: Structure, nu: int, names: Sequence[str]) -> None:
    """Refuse components that no data can tell apart, or from the residual: V_k that are linearly dependent under R."""
    trace, norm = S.moments()
    found = dependencies(np.block([[norm, trace[:, None]], [np.append(trace, nu)]]))
    if found:
        j, weights = next(iter(found.items()))
        alike = [name for i, name in enumerate([*names, "residual"]) if weights[i] or i == j]
        msg = f"The variances of {listed(alike)} can't be told apart with these designs; leave out a component."
        raise ValueError(msg)


@dataclass(frozen=True, eq=False)
class Genes:
    """What the solver knows of each of m genes: the projected data.

    Attributes
    ----------
    b
        Ordinary least squares coefficients, m × p.
    a, r2
        Z'Ry, split and rotated by the structure: m × q_1 and m × R.
    yRy
        Residual sum of squares of ordinary least squares, m.
    yy
        Sum of squares, m.
    """

    b: np.ndarray
    a: np.ndarray
    r2: np.ndarray
    yRy: np.ndarray
    yy: np.ndarray

    @classmethod
    def of(cls, projection: Projection, stats: SummaryStats, genes: slice = slice(None)) -> Genes:
        """Project the data of some genes."""
        XY, ZY, yy = stats.XY[:, genes], stats.ZY[:, genes], stats.yy[genes]
        b = projection.XXi @ XY
        a, r2 = projection.S.rotate(ZY - projection.A @ XY)
        return cls(b.T, a, r2, yy - np.einsum("ij,ij->j", XY, b), yy)

    def __getitem__(self, index: np.ndarray) -> Genes:
        return Genes(self.b[index], self.a[index], self.r2[index], self.yRy[index], self.yy[index])

    def vary(self, rounding: float) -> np.ndarray:
        """Which genes vary beyond the fixed effects by more than rounding."""
        return self.yRy > rounding * self.yy
