"""Covariances of cells that have a residual variance by group, V = Σ_g s_g I_g + Z D Z', with the last group's as s_0.

Of V / s_0 the parameters are the ratios γ_k of the components and ρ_g = s_g / s_0 of the other groups: V is linear in them
as it is in the components alone, with V_g = I_g, the identity on the group's cells. So all formulas hold with T_jl = Z_j'PZ_l
replaced by what they take of it: tr P V_j, tr P V_j P V_l, y'P V_j P y and y'P V_j P V_l P y.

The random columns fall into levels i that no cell shares (those of donors, with all that is nested in them). With w_g = 1/ρ_g,
U = [Q, y] for an orthonormal basis Q of the fixed columns, and the sums N_ig = Z_ig'Z_ig and E_ig = Z_ig'U_ig of units (cells of
a level and group),

    N_i = Σ_g w_g N_ig    E_i = Σ_g w_g E_ig    J_i = (I + N_i D)⁻¹    F_i = Z_i'V_1⁻¹U = J_i E_i    B_i = D J_i
    U'V_1⁻¹U = Σ_g w_g U_g'U_g - Σ_i E_i'D F_i        V_1⁻¹ = diag(w) - Σ_i w Z_i B_i Z_i'w

gives C = (Q'V⁻¹Q)⁻¹ = R R' and the coefficients η of y. In terms of [Q R, y - Q η] for U, and H_ig = E_ig - N_ig D F_i,

    U'V_1⁻¹V_k V_1⁻¹U = Σ_i F_ik'F_ik        U'V_1⁻¹I_g V_1⁻¹U = w_g² [U_g'U_g - Σ_i (E_ig'D F_i + F_i'D H_ig)]

whose parts on Q are what P subtracts from traces, and the gradient of c'cov(β)c; those on y are y'P V_j P y. Pairs go alike.
Nothing divides by D.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.selection import component_slices
from flashmm_sc._gaussian.grouped.kernel import points
from flashmm_sc._gaussian.grouped.units import Units
from flashmm_sc._gaussian.vectors import Layout, Vectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    import scipy.sparse as sp

    from flashmm_sc._stats.cross import CrossProducts
    from flashmm_sc._stats.residual import ResidualGroup


@dataclass(frozen=True, eq=False)
class GroupedShared:
    """Vectors A L that all genes share, by L⁻¹ of X'X times L."""

    L: np.ndarray

    @property
    def vectors(self) -> Vectors:
        """As vectors over the basis of the fixed columns, 1 × r × p."""
        return Vectors(Layout((0,), 1), (self.L.T[None],))


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What the likelihood takes at the parameters of m genes; P parameters, and the residual of the last group.

    Attributes
    ----------
    ok, logdet, Q
        Whether V is positive definite, log det V + log det X'V⁻¹X - log det X'X (ML: log det V), and y'Py, all with s_0 = 1.
    trace, norm, squares, quad
        tr P V_j, tr P V_j P V_l, y'P V_j P y and y'P V_j P V_l P y: m × P or m × P × P.
    eta
        Coefficients in the basis Q, beyond those of ordinary least squares, m × p.
    v
        Z'Py, m × q in the order of the levels.
    root, spread
        R of C = R R', and R'Q'V⁻¹V_j V⁻¹Q R of all parameters and the last residual, m × (P + 1) × p × p.
    """

    ok: np.ndarray
    logdet: np.ndarray
    Q: np.ndarray
    trace: np.ndarray
    norm: np.ndarray
    squares: np.ndarray
    quad: np.ndarray
    eta: np.ndarray
    v: np.ndarray
    root: np.ndarray
    spread: np.ndarray


@dataclass(frozen=True, eq=False)
class GroupedCovariance:
    """Z'RZ (or Z'Z, without X) of cells whose residual variances differ by group.

    Attributes
    ----------
    units
        Sums of the designs by levels and groups.
    d
        Columns of each component.
    ZZ, B
        Z'Z and Z'Q.
    Li
        L⁻¹ of X'X = L L', so that Q = X L⁻ᵀ.
    """

    units: Units
    d: tuple[int, ...]
    ZZ: sp.csr_array
    B: np.ndarray
    Li: np.ndarray

    @classmethod
    def of(cls, cross: CrossProducts, d: Sequence[int], groups: Sequence[ResidualGroup]) -> GroupedCovariance:
        """From the cross-products of the designs, of all cells and of each group."""
        scale = np.sqrt(np.diag(cross.XX))
        Li = np.linalg.inv(np.linalg.cholesky(cross.XX / np.outer(scale, scale))) / scale
        return cls(Units.of(cross, d, groups, Li), tuple(d), cross.ZZ, cross.ZX @ Li.T, Li)

    @property
    def size(self) -> int:
        """Number of parameters."""
        return len(self.d) + len(self.units.n) - 1

    @property
    def between(self) -> None:
        """Every gene is factorised."""

    @property
    def cheap_forms(self) -> bool:
        """Quadratic forms at shared ratios depend on each gene's residual variances."""
        return False

    @cached_property
    def layout(self) -> Layout:
        """Vectors have a block for each component."""
        return Layout(tuple(range(len(self.d))), len(self.d))

    def split(self, r: np.ndarray) -> Vectors:
        """Columns r (q × m) as vectors, one a gene."""
        return self._cut(r.T)

    def _cut(self, rows: np.ndarray) -> Vectors:
        return Vectors(self.layout, tuple(np.ascontiguousarray(rows[..., part]) for part in component_slices(self.d)))

    def restore(self, v: Vectors) -> np.ndarray:
        """Undo `split`: genes × q in the order of Z's columns."""
        return np.concatenate(v.parts, axis=-1)

    def from_levels(self, v: np.ndarray) -> Vectors:
        """Vectors from rows in the order of the levels."""
        rows = np.empty_like(v)
        rows[..., self.units.order] = v
        return self._cut(rows)

    def shared(self, A: np.ndarray, L: np.ndarray) -> GroupedShared:
        """The vectors A L that all genes share, from A (q × p) and L (p × r)."""
        return GroupedShared(self.Li @ L)

    def times(self, v: Vectors) -> Vectors:
        """S v, without weights."""
        rows = self.restore(v)
        u = rows.reshape(-1, rows.shape[-1]).T
        return self._cut((self.ZZ @ u - self.B @ (self.B.T @ u)).T.reshape(rows.shape))

    def eigenvalues(self, k: int) -> np.ndarray:
        """Those of S_kk, without weights, ascending."""
        part = component_slices(self.d)[k]
        return np.linalg.eigvalsh(self.ZZ[part, part].toarray() - self.B[part] @ self.B[part].T)

    def evaluate(
        self, gamma: np.ndarray, data: np.ndarray, whole: np.ndarray, *, reml: bool = True, derived: bool = True
    ) -> Evaluated:
        """At the parameters of each gene (m × P), from its Z'y of units and its Q'y and y'y of groups.

        Without what is `derived` there is no more than Q and eta.
        """
        u, m, p = self.units, len(gamma), len(self.Li)
        P, q = self.size + 1, sum(self.d)
        shapes = ((), (), (), (P,), (P, P), (P,), (P, P), (p,), (q,), (p, p), (P, p + 1, p + 1))
        out = [np.full((m, *shape), np.nan) for shape in shapes[1:]]
        ok = np.zeros(m, bool)
        points(u.layout, u.n, u.XX, np.ascontiguousarray(gamma), data, whole, reml, derived, (ok, *out))
        logdet, Q, trace, norm, squares, quad, eta, v, root, spread = out
        return Evaluated(
            ok,
            logdet,
            Q,
            trace[:, :-1],
            norm[:, :-1, :-1],
            squares[:, :-1],
            quad[:, :-1, :-1],
            eta,
            v,
            root,
            spread[:, :-1, :p, :p],
        )

    def factor(self, gamma: np.ndarray) -> GroupedFactorisation:
        """Factorise V at the parameters of each gene (m × P)."""
        return GroupedFactorisation(self, gamma)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """tr R V_j (P) and tr R V_j R V_l (P × P)."""
        trace, norm = self.factor(self.equal).traces()
        return trace[0], norm[0]

    @property
    def equal(self) -> np.ndarray:
        """Parameters without random effects, and with one residual variance: 1 × P."""
        return np.concatenate([np.zeros((1, len(self.d))), np.ones((1, len(self.units.n) - 1))], axis=1)

    def prepared(self, n_genes: int, n_jobs: int | None, *, traces: bool = True) -> GroupedCovariance:
        """Nothing pays here."""
        return self

    def gene_bytes(self, r: int, *, solved: bool = False) -> int:
        """Memory that a gene needs while it is fitted, or r linear combinations of it tested."""
        P, p, q = self.size + 1, len(self.Li), sum(self.d)
        return 8 * (4 * P * (p + 1) ** 2 + 6 * P * P + 4 * q + 2 * len(self.units.place) + r * p * (P + 2))


class GroupedFactorisation:
    """V at the parameters of m genes, for what doesn't take their data."""

    def __init__(self, covariance: GroupedCovariance, gamma: np.ndarray):
        self.covariance, self.gamma = covariance, gamma
        units, m, p = covariance.units, len(gamma), len(covariance.Li)
        whole = np.zeros((m, len(units.n), p + 1))
        whole[..., -1] = 1.0  # some y'y
        self.at = covariance.evaluate(gamma, np.zeros((m, len(units.place))), whole)

    @property
    def ok(self) -> np.ndarray:
        """Where V is positive definite, m."""
        return self.at.ok

    @property
    def logdet(self) -> np.ndarray:
        """log det V + log det X'V⁻¹X - log det X'X at s_0 = 1, m."""
        return self.at.logdet

    def __getitem__(self, index: np.ndarray) -> GroupedFactorisation:
        """Those of some genes."""
        return GroupedFactorisation(self.covariance, self.gamma[index])

    def traces(self) -> tuple[np.ndarray, np.ndarray]:
        """tr P V_j (m × P) and tr P V_j P V_l (m × P × P)."""
        return self.at.trace, self.at.norm

    def shared_quadratics(self, x: GroupedShared) -> tuple[np.ndarray, np.ndarray]:
        """c'cov(β)c less c'(X'X)⁻¹c (m × r), and its gradient (m × r × P), for r combinations c."""
        c = self._turned(x.L)
        parts = np.einsum("mar,mjab,mbr->mrj", c, self.at.spread, c)
        return np.sum(c**2, axis=1) - np.sum(x.L**2, axis=0), parts

    def shared_matrix(self, x: GroupedShared) -> np.ndarray:
        """The same for pairs of combinations, m × r × r."""
        c = self._turned(x.L)
        return c.swapaxes(1, 2) @ c - x.L.T @ x.L

    def solve(self, r: Vectors) -> tuple[Vectors, np.ndarray]:
        """Vectors of shared combinations c_i, a block a parameter, of which products are u_i'V_j u_j, u = V⁻¹X cov(β)c."""
        c = self._turned(r.parts[0][0].T)
        value, vector = np.linalg.eigh(np.nan_to_num(self.at.spread))
        root = vector * np.sqrt(np.maximum(value, 0.0))[..., None, :]
        parts = np.einsum("mar,mjab->jmrb", c, root)
        P = len(parts)
        return Vectors(Layout(tuple(range(P)), P), tuple(parts)), np.sum(c**2, axis=1)

    def _turned(self, L: np.ndarray) -> np.ndarray:
        """R'L⁻¹c of combinations, m × p × r."""
        return self.at.root.swapaxes(1, 2) @ L
