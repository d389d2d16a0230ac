"""Projecting the fixed effects out: after this, nothing needs X'X or an n × anything array."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np

from flashmm_sc._base.errors import listed, too_few_levels
from flashmm_sc._base.rank import aliased_columns, dependencies, rounding
from flashmm_sc._base.selection import component_slices
from flashmm_sc._gaussian.blocks.covariance import BlockCovariance
from flashmm_sc._gaussian.containment import Within
from flashmm_sc._gaussian.crossed.between import interpolates
from flashmm_sc._gaussian.crossed.covariance import CrossedCovariance
from flashmm_sc._gaussian.dense.covariance import MANY, DenseCovariance
from flashmm_sc._gaussian.gram import Gram
from flashmm_sc._gaussian.grouped.covariance import GroupedCovariance
from flashmm_sc._gaussian.sparse.covariance import SparseCovariance
from flashmm_sc._gaussian.structure import INDEPENDENT, Structure
from flashmm_sc._stats.correlated import covariance_names
from flashmm_sc._stats.residual import residual_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashmm_sc._gaussian.covariance import Covariance, SharedVectors
    from flashmm_sc._stats.cross import CrossProducts
    from flashmm_sc._stats.residual import ResidualGroup

# Most levels of the largest component, and of all others together, with dense matrices where sparse ones would do: the first
# is diagonalised once (3,000 levels: 10 s), the others are factorised for every gene (1,200 levels and 150: 17 ms, sparse 2).
MOST_DENSE = 3000, 100
FILLED, MOST_LEFT = 0.1, 5000
"""Share of the pairs of all other columns that eliminating the largest component joins, from which on sparse matrices would fill
in, and most such columns: what is left of them is factorised for every gene (1,130 columns: 25 ms)."""
MOST_AT_ALL = 20_000
"""Most random columns of dense matrices, of 3 GB each."""


@dataclass(frozen=True, eq=False)
class Projection:
    """What the designs X and Z give, the same for all genes. R = I - X (X'X)⁻¹ X'.

    Where the cross-products are those of X T, X̃ = X T: the span is the same, and β = T β̃.

    Attributes
    ----------
    XXi
        (X'X)⁻¹, p × p.
    logdet_XX
        log det X'X.
    inverse
        (X̃'X̃)⁻¹, p × p.
    A
        Z'X̃ (X̃'X̃)⁻¹, q × p.
    n, p
        Cells and fixed columns.
    d
        Columns of each random component.
    cross
        Cross-products of the designs.
    S
        Covariance Z'RZ = Z'Z - B B'.
    basis
        L⁻¹ of X'X = L L', p × p: X times its transpose is an orthonormal basis of the fixed columns, B = Z'X L⁻ᵀ.
    within
        What is left of the fixed columns within the levels of each component.
    rounding
        Relative error that X's condition leaves in a residual sum of squares.
    sparse
        Whether sparse matrices would do.
    structure
        Which components are correlated, and how many residual variances there are.
    groups
        Groups of cells that have a residual variance each; none where all have the same.
    """

    XXi: np.ndarray
    logdet_XX: float
    inverse: np.ndarray
    A: np.ndarray
    n: int
    p: int
    d: tuple[int, ...]
    cross: CrossProducts
    S: Covariance
    basis: np.ndarray
    within: list[Within]
    rounding: float
    sparse: bool
    structure: Structure
    groups: tuple[ResidualGroup, ...] = ()

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
        correlated: Sequence[Sequence[int]] = (),
        groups: Sequence[ResidualGroup] = (),
    ) -> Projection:
        """Project the designs; `sparse` tells whether sparse matrices will do: nonnegative components, not moderated.

        `correlated` holds the positions of the components of each correlated term, `groups` what has residual variances of its
        own.

        Raises
        ------
        ValueError
            When fixed columns are linearly dependent, no residual df are left, a random component lies within the
            fixed columns, or a correlated term has no more levels than effects.
        """
        XX, ZX, ZZ = cross.XX, cross.ZX, cross.ZZ
        p = len(XX)
        aliased = aliased_columns(XX)
        if aliased:
            msg = (
                f"The fixed-effects design is rank deficient: {listed(coef_names[j] for j in aliased)} can be written "
                "as combinations of the columns before; remove them, merge levels, or centre numbers far from zero."
            )
            raise ValueError(msg)
        if n <= p:
            msg = f"{n} cells leave no residual degrees of freedom for {p} fixed columns; use fewer columns."
            raise ValueError(msg)
        scale = np.sqrt(np.diag(XX))
        unit = XX / np.outer(scale, scale)
        L = np.linalg.cholesky(unit)
        Li = np.linalg.inv(L)
        inverse = (Li.T @ Li) / np.outer(scale, scale)
        T = np.eye(p) if cross.basis is None else cross.basis  # of determinant 1
        B = (ZX / scale) @ Li.T
        within = [Within.of(ZZ[part, part], B[part], Li) for part in component_slices(d)]
        structure = Structure(len(d), tuple(map(tuple, correlated)), max(len(groups) - 1, 0))
        _check_components(within, component_names, structure)
        logdet = 2 * float(np.log(np.diag(L)).sum() + np.log(scale).sum())
        if groups:
            S = _grouped(cross, d, groups)
        else:
            S = _covariance(cross, B, d, [component.rank for component in within], sparse, structure)
        residuals = residual_names([group.name for group in groups]) or ["residual"]
        _check_distinct(S, n - p, component_names, covariance_names(component_names, structure.groups), residuals)
        error = float(rounding(np.linalg.cond(unit)))
        fixed = T @ inverse @ T.T, logdet, inverse, ZX @ inverse
        basis = (Li / scale) @ T.T
        return cls(*fixed, n, p, tuple(d), cross, S, basis, within, error, sparse, structure, tuple(groups))

    @cached_property
    def Z(self) -> Covariance:
        """Covariance Z'Z: ML's determinant, and whether V is positive definite."""
        alone = self.cross.without_fixed()
        if self.groups:
            return _grouped(alone, self.d, [group.without_fixed(self.p) for group in self.groups])
        return _covariance(
            alone, alone.ZX, self.d, [component.levels for component in self.within], self.sparse, self.structure
        )

    @cached_property
    def random_part(self) -> SharedVectors:
        """The columns of Z'X (X'X)⁻¹."""
        return self.shared(np.eye(self.p))

    def shared(self, L: np.ndarray) -> SharedVectors:
        """A T'c for the columns c of L (p × r)."""
        return self.S.shared(self.A, L if self.cross.basis is None else self.cross.basis.T @ L)

    def ols(self, XY: np.ndarray) -> np.ndarray:
        """Coefficients (p × ·) of ordinary least squares, from X̃'y."""
        return self.original(self.inverse @ XY)

    def original(self, coef: np.ndarray) -> np.ndarray:
        """Coefficients β = T β̃ of X's columns, from those of X̃'s (p × ·)."""
        return coef if self.cross.basis is None else self.cross.basis @ coef

    def prepared(self, n_genes: int, n_jobs: int | None, *, traces: bool) -> Projection:
        """The same for many genes, with the traces of REML or without."""
        return replace(self, S=_for_many(self.S, self.ranks, n_genes).prepared(n_genes, n_jobs, traces=traces))

    def prepared_Z(self, n_genes: int, n_jobs: int | None) -> Covariance:
        """Covariance Z'Z with its traces, for many genes."""
        return _for_many(self.Z, [component.levels for component in self.within], n_genes).prepared(n_genes, n_jobs)

    @property
    def ranks(self) -> list[int]:
        """Rank of Z_k'RZ_k of each component."""
        return [component.rank for component in self.within]

    @cached_property
    def spectra(self) -> list[np.ndarray]:
        """Positive eigenvalues of Z_k'RZ_k of each component, ascending."""
        values = [self.S.eigenvalues(k) for k in range(len(self.d))]
        return [value[value.size - rank :] for value, rank in zip(values, self.ranks, strict=True)]

    def containment(self, L: np.ndarray) -> np.ndarray:
        """Containment degrees of freedom of each component for the columns c of L (p × r), inf for other parameters: P × r.

        Where c'β can't be estimated within the levels of component k, rank Z_k'RZ_k, the levels minus the fixed columns
        constant within them, bounds its df.
        """
        c = self.basis @ L
        each = [np.where(k.needs_levels(c), k.rank, np.inf) for k in self.within]
        return np.array(each + [np.full(L.shape[1], np.inf)] * (self.structure.size - len(self.d)))


def _grouped(cross: CrossProducts, d: Sequence[int], groups: Sequence[ResidualGroup]) -> Covariance:
    """By groups. It has all but what forms at ratios that genes share and Kenward and Roger's df take, which nobody asks it for."""
    return cast("Covariance", GroupedCovariance.of(cross, d, groups))


def _covariance(
    cross: CrossProducts, B: np.ndarray, d: Sequence[int], rank: Sequence[int], sparse: bool, structure: Structure
) -> Covariance:
    """Z'Z - B B' of the fixed columns of X: by blocks of correlated effects, dense, or, if large and allowed, sparse or crossed."""
    if structure.groups:
        return BlockCovariance.of(cross, d, structure)
    if sparse and (max(d) > MOST_DENSE[0] or sum(d) - max(d) > MOST_DENSE[1]):
        gram = Gram.of(cross, d)
        return CrossedCovariance.of(gram, rank) if _fills_in(gram) else SparseCovariance.of(gram)
    if sum(d) > MOST_AT_ALL:
        msg = (
            f"Random components of {listed(d)} columns are too many for free or moderated variance components, which take "
            "dense matrices; use nonnegative=True and moderate=False, or fit one model for each group of cells (groupby)."
        )
        raise ValueError(msg)
    return DenseCovariance.of(cross.ZZ.toarray() - B @ B.T, d, rank)


def _for_many(S: Covariance, rank: Sequence[int], n_genes: int) -> Covariance:
    """What serves so many genes: few that are factorised sparsely, many between points of what the crossed one leaves."""
    if not isinstance(S, SparseCovariance) or n_genes < MANY or not interpolates(S.gram):
        return S
    p, pattern = len(S.gram.XX), S.pattern
    points = 4 * (n_genes + 700) * (min(S.gram.d) + p) ** 2  # in some 5 ns, as measured
    return (
        CrossedCovariance.of(S.gram, rank) if points < n_genes * (pattern.pairs + (24 + p / 3) * pattern.entries) else S
    )


def _fills_in(gram: Gram) -> bool:
    """Whether eliminating the largest component, whose levels don't overlap, leaves a block that is nearly full."""
    ZZ, part = gram.ZZ, component_slices(gram.d)[int(np.argmax(gram.d))]
    rest = np.delete(np.arange(sum(gram.d)), part)
    if not 0 < rest.size <= MOST_LEFT or not gram.has_levels:
        return False
    joined = abs(ZZ[rest][:, part])
    return (joined @ joined.T).nnz > FILLED * rest.size**2


def _check_components(within: Sequence[Within], names: Sequence[str], structure: Structure) -> None:
    """Refuse a component of which the fixed columns leave nothing, and too few levels for the covariances of effects."""
    for name, component in zip(names, within, strict=True):
        if not component.rank:
            msg = (
                f"The random component {name!r} lies within the fixed columns: its levels can't be told from these, as where each "
                "arm has one donor only. No test can then tell the treatment from the donor, and without the component cells "
                "would be taken for replicates. Remove a fixed term that is the component itself, or add donors."
            )
            raise ValueError(msg)
    for group in structure.groups:
        if (levels := within[group[0]].levels) <= len(group):
            its = f"of {listed(names[k] for k in group)}"
            raise ValueError(too_few_levels(its, len(group), levels, f"make them independent: {INDEPENDENT}"))


def _check_distinct(
    S: Covariance, nu: int, names: Sequence[str], covariances: Sequence[str], residuals: Sequence[str]
) -> None:
    """Refuse parameters that no data can tell apart, or from the residual: V_j that are linearly dependent under R."""
    trace, norm = S.moments()
    found = dependencies(np.block([[norm, trace[:, None]], [np.append(trace, nu)]]))
    if found:
        j, weights = next(iter(found.items()))
        alike = [name for i, name in enumerate([*names, *covariances, *residuals]) if weights[i] or i == j]
        if len(alike) == 1:
            msg = f"{listed(alike)} can't be estimated: no cells tell of it. Independent effects have none: {INDEPENDENT}."
            raise ValueError(msg)
        what = "variances of" if set(alike).isdisjoint(covariances) else "variances and covariances"
        msg = f"The {what} {listed(alike)} can't be told apart with these designs; leave out a component, or centre covariates of slopes."
        raise ValueError(msg)
