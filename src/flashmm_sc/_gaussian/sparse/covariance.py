"""The covariance structure where components have thousands of levels: nothing q × q is dense.

The same interface as `_structure`, from Henderson's mixed model equations. With B = |D|^½, E = sign(D) and W = [Z B, X],

    H = W'W + diag(E, 0) = [[E + B Z'Z B, B Z'X], [X'Z B, X'X]]

is sparse with one pattern for all genes. Its factorisation H = L diag(δ) L' is ordered and laid out once, X's columns
last, and carried out for `LANES` genes at a time. Then, with T = (I + S D)⁻¹ S = Z'P Z,

    log det(I + S D) = log |det H| - log det X'X
    H [u; β] = [B r; 0]   gives   (I + S D)⁻¹ r = E u / B   and   r'D (I + S D)⁻¹ r = (B r)'u
    H [u; β] = [0; c]     gives   c'[(X'X)⁻¹ + A'D (I + S D)⁻¹ A] c = c'β   and   (I + S D)⁻¹ A c = -E u / B
    |γ_j| T_jj = E_j - (H⁻¹)_jj = E_j Σ_i (H⁻¹)_ji (W'W)_ij

The last two are the same; the sum is exact for small γ_j, where the difference cancels. They need H⁻¹ on the pattern of L
only (Takahashi, Fagan & Chin 1973). A ratio of zero is replaced by 1e-60, which changes nothing but divides. The
norms |T_kl|² = -∂ tr T_kk / ∂γ_l are central differences.

Largest and eliminated first is no component here: in the terms of `_structure`, q_1 = 0 and R = q.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from flashmm_sc._base.errors import listed
from flashmm_sc._base.selection import component_slices
from flashmm_sc._base.threads import BLOCK_BYTES
from flashmm_sc._gaussian.sparse import kernel as kernel
from flashmm_sc._gaussian.sparse.kernel import LANES
from flashmm_sc._gaussian.sparse.table import POINTS, Table

_STEP = 3e-5  # relative: truncation and rounding leave some 1e-9 of |T_kl|²
_TINY = 1e-30
_MOST_PAIRS = 3e8
"""Steps of a factorisation: a few seconds a gene, and places of 4 bytes to be kept."""


@dataclass(eq=False)
class Sparse:
    """Z'RZ (or Z'Z, without X) by its sparse parts.

    Attributes
    ----------
    d
        Columns of each component.
    ZZ, ZX
        Z'Z and Z'X, X's columns divided by their norms.
    scale
        These norms.
    order
        Columns of Z in the order of elimination.
    start, row
        Pattern of L by columns, the diagonal first.
    value
        W'W on that pattern, without B.
    kind
        Component of each column and row of the pattern's entries (K for X): 2 × entries.
    target
        For all pairs of entries below the diagonal of a column, where the entry of their two rows is.
    Li
        L⁻¹ of X'X = L L', of the scaled columns.
    table
        Traces and norms, once tabulated.
    """

    d: tuple[int, ...]
    ZZ: sp.csr_array
    ZX: sp.csr_array
    scale: np.ndarray
    order: np.ndarray
    start: np.ndarray
    row: np.ndarray
    value: np.ndarray
    kind: np.ndarray
    target: np.ndarray
    Li: np.ndarray
    table: Table | None = None

    largest = -1
    lam = np.empty(0)

    @classmethod
    def of(cls, ZZ: sp.csr_array, d: Sequence[int], ZX: np.ndarray, XX: np.ndarray) -> Sparse:
        """Order and lay out the factorisation, eliminating the columns with fewest neighbours first."""
        q, p = ZX.shape
        scale = np.sqrt(np.diag(XX))
        unit = XX / np.outer(scale, scale)
        order = _fewest_neighbours(ZZ)
        sparse_ZX = sp.csr_array(ZX / scale)
        right = sparse_ZX[order]
        whole = sp.block_array([[ZZ[order][:, order], right], [right.T, unit]]) if p else ZZ[order][:, order]
        lower = sp.csc_array(sp.tril(whole))
        start, row = _fill(lower, q)
        column = np.repeat(np.arange(q + p), np.diff(start))
        _check_fill(np.diff(start), d)
        place = column * (q + p) + row
        at = lambda i, j: np.searchsorted(place, j * (q + p) + i)
        value = np.zeros(row.size)
        value[at(lower.indices, np.repeat(np.arange(q + p), np.diff(lower.indptr)))] = lower.data
        pairs = (row[a:b] for a, b in zip(start[:-1] + 1, start[1:], strict=True))
        target = np.concatenate(
            [at(rows[i], rows[j]).astype(np.uint32) for rows in pairs for i, j in [_triangle(rows.size)]]
        )
        component = np.append(np.repeat(np.arange(len(d)), d)[order], np.full(p, len(d)))
        kind = np.stack([component[row], component[column]]).astype(np.uint8)
        Li, row = np.linalg.inv(np.linalg.cholesky(unit)), row.astype(np.uint32)
        return cls(tuple(d), ZZ, sparse_ZX, scale, order, start, row, value, kind, target, Li)

    @cached_property
    def XXi(self) -> np.ndarray:
        """(X'X)⁻¹ of the scaled columns."""
        return self.Li.T @ self.Li

    @cached_property
    def member(self) -> np.ndarray:
        """q × K indicator of the components."""
        return np.repeat(np.eye(len(self.d)), self.d, axis=0)[self.order]

    @cached_property
    def equal_levels(self) -> np.ndarray:
        """tr Z_k'Z_k / max diag Z_k'Z_k: as many levels as large as the largest."""
        sizes = self.ZZ.diagonal()[self.order, None] * self.member
        return sizes.sum(axis=0) / sizes.max(axis=0)

    @property
    def n_rest(self) -> int:
        """All random columns, q."""
        return self.order.size

    def rotate(self, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Columns (q × m) as rows, in the order of elimination."""
        return np.empty((r.shape[1], 0)), np.ascontiguousarray(r[self.order].T)

    def restore(self, v1: np.ndarray, v2: np.ndarray) -> np.ndarray:
        """Undo `rotate`: genes × q in the original order of columns."""
        out = np.empty_like(v2)
        out[:, self.order] = v2
        return out

    def times(self, u1: np.ndarray, u2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """S u, for one or several u a gene."""
        u = np.empty((self.n_rest, u2.size // self.n_rest))
        u[self.order] = u2.reshape(u.shape[::-1]).T
        Su = self.ZZ @ u - self.ZX @ (self.XXi @ (self.ZX.T @ u))
        return u1, Su[self.order].T.reshape(u2.shape)

    def combined(self, A: np.ndarray, L: np.ndarray) -> Combined:
        """The vectors A L that genes share, for L p × r."""
        return Combined(np.empty((0, L.shape[1])), (A @ L)[self.order], L / self.scale[:, None])

    def gene_bytes(self, r: int) -> int:
        """Memory that a gene needs while it is fitted or tested, such that blocks hold whole groups of genes."""
        return BLOCK_BYTES // (LANES * max(1, BLOCK_BYTES // (LANES * self.value.nbytes)))

    def tabulate(self, n_genes: int, n_jobs: int | None) -> None:
        """Prepare traces and norms for many genes, where that pays."""
        if self.table is None and (POINTS + 1) ** len(self.d) < 5 * n_genes:
            self.table = Table.of(self, n_jobs)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """As `Structure.moments`, with S_kl = Z_k'Z_l - B_k B_l'."""
        B, parts = self.ZX @ self.Li.T, component_slices(self.d)
        BB = np.array([B[k].T @ B[k] for k in parts])
        norm = np.einsum("kij,lij->kl", BB, BB)
        for (i, k), (j, l) in product(enumerate(parts), repeat=2):
            ZZ = self.ZZ[k, l]
            norm[i, j] += (ZZ.data**2).sum() - 2 * (B[k] * (ZZ @ B[l])).sum()
        trace = [self.ZZ.diagonal()[k].sum() for k in parts] - np.einsum("kii->k", BB)
        return trace, norm

    def factor(self, gamma: np.ndarray) -> SparseFactor:
        """Factorise at the ratios of each gene (m × K)."""
        return SparseFactor(self, gamma)


@dataclass(frozen=True, eq=False)
class Combined:
    """A L as columns (A1 is empty), and L for X's scaled columns."""

    A1: np.ndarray
    A2: np.ndarray
    L: np.ndarray


class SparseFactor:
    """The factorisation at the ratios of m genes; as `_structure.Factor`."""

    def __init__(self, structure: Sparse, gamma: np.ndarray):
        s = self.structure = structure
        self.gamma = gamma
        m = len(gamma)
        self.B = np.hstack([np.maximum(np.sqrt(np.abs(gamma)), _TINY), np.ones((m, 1))])
        self.E = np.hstack([np.where(gamma < 0, -1.0, 1.0), np.zeros((m, 1))])
        self.scale, self.sign = _lanes(self.B), _lanes(self.E)
        groups = len(self.sign)
        self.L = np.empty((groups, s.value.size, LANES))
        logdet, excess = np.zeros((groups, LANES)), np.zeros((groups, LANES), int)
        kernel.factorise(s.start, s.target, s.value, s.kind, self.scale, self.sign, self.L, logdet, excess)
        self.logdet = logdet.reshape(-1)[:m] + np.linalg.slogdet(s.XXi)[1]
        self.ok = (excess.reshape(-1)[:m] == 0) & np.isfinite(self.logdet)

    def __getitem__(self, index: np.ndarray) -> SparseFactor:
        return SparseFactor(self.structure, self.gamma[index])

    @cached_property
    def trace(self) -> np.ndarray:
        """tr T_kk, m × K."""
        s, (m, K) = self.structure, self.gamma.shape
        diagonal, pairs = np.zeros((len(self.L), K + 1, LANES)), np.zeros((len(self.L), K + 1, K + 1, LANES))
        kernel.diagonal_sums(s.start, s.row, s.target, s.value, s.kind, self.L, diagonal, pairs)
        E, B = self.E[:, :-1], self.B[:, :-1]
        difference = E * s.d - _genes(diagonal, m)[:, :-1]
        summed = E * np.einsum("ikl,il->ik", _genes(pairs, m), self.B)[:, :-1] * B
        return np.where(np.abs(difference) > 0.1 * np.array(s.d), difference, summed) / B**2

    def traces(self) -> tuple[np.ndarray, np.ndarray]:
        """tr T_kk (m × K) and |T_kl|² (m × K × K)."""
        if self.structure.table is None:
            return self.differences()
        trace, norm, known = self.structure.table(self.gamma)
        rest = np.flatnonzero(~known)
        if rest.size:
            trace[rest], norm[rest] = self[rest].differences()
        return trace, norm

    def differences(self) -> tuple[np.ndarray, np.ndarray]:
        """`traces`, the norms by differences; steps are relative to 1 / the largest eigenvalues of T_kk."""
        s, (m, K) = self.structure, self.gamma.shape
        norm, step = np.empty((m, K, K)), _STEP * s.equal_levels / self.trace
        for k in range(K):
            h = step[:, k, None] * np.eye(K)[k]
            norm[:, k] = (s.factor(self.gamma - h).trace - s.factor(self.gamma + h).trace) / (2 * h[:, k, None])
        return self.trace, (norm + norm.swapaxes(1, 2)) / 2

    def solve(self, a: np.ndarray, r2: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """v = (I + S D)⁻¹ r and the quadratic form r' D v, for one r a gene (m × q) or several (m × r × q)."""
        s, m = self.structure, len(self.gamma)
        r2 = np.ascontiguousarray(np.broadcast_to(r2, (m, *r2.shape[1:])))
        r = r2.reshape(m, -1, s.n_rest)
        v = np.empty_like(r)
        kernel.solve(s.start, s.row, s.kind, self.L, self.scale, self.sign, r, v)
        quad = np.einsum("irk,ik->ir", (r * v) @ s.member, self.gamma)
        return np.empty((*r2.shape[:-1], 0)), v.reshape(r2.shape), quad.reshape(r2.shape[:-1])

    def by_component(self, x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
        """Sum a quantity of the random columns within components: ... × q to ... × K."""
        return x2 @ self.structure.member

    def products(self, v1: np.ndarray, v2: np.ndarray) -> np.ndarray:
        """v_k' T_kl v_l: m × K × K, or m × r × K × K for several v a gene."""
        s, (m, K) = self.structure, self.gamma.shape
        v = np.ascontiguousarray(v2).reshape(m, -1, s.n_rest)
        out = np.zeros((*v.shape[:2], K, K))
        kernel.products(s.start, s.row, s.value, s.kind, self.L, self.scale, self.sign, v, out)
        return out.reshape(*v2.shape[:-1], K, K)

    def shared_forms(self, a: np.ndarray, r2: np.ndarray) -> np.ndarray:
        """r' D (I + S D)⁻¹ r for one r a gene, at the ratios of every row of the factor: genes × rows."""
        s = self.structure
        out = np.empty((len(r2), len(self.gamma)))
        for k, B in enumerate(self.B):
            l = np.ascontiguousarray(self.L[k // LANES, :, k % LANES])
            out[:, k] = kernel.forms(s.start, s.row, l, r2 * (s.member @ B[:-1]))
        return out

    def shared_quadratics(self, x: Combined) -> tuple[np.ndarray, np.ndarray]:
        """x' D (I + S D)⁻¹ x (m × r) and |component k of (I + S D)⁻¹ x|² (m × r × K) for r vectors x all genes share."""
        beta, squares = self._columns(x)
        XXi = np.sum(x.L * (self.structure.XXi @ x.L), axis=0)
        return np.einsum("jr,ijr->ir", x.L, beta) - XXi, squares / self.B[:, None, :-1] ** 2

    def shared_matrix(self, x: Combined) -> np.ndarray:
        """x_i' D (I + S D)⁻¹ x_j for r vectors all genes share, m × r × r."""
        return x.L.T @ (self._columns(x)[0] - self.structure.XXi @ x.L)

    def _columns(self, x: Combined) -> tuple[np.ndarray, np.ndarray]:
        """β (m × p × r), and sums of u² by component (m × r × K) for H [u; β] = [0; L]."""
        s, (m, K) = self.structure, self.gamma.shape
        beta, squares = np.empty((m, *x.L.shape)), np.zeros((m, K, x.L.shape[1]))
        kernel.fixed_columns(s.start, s.row, s.kind, self.L, x.L, beta, squares)
        return beta, squares.swapaxes(1, 2)


def _lanes(x: np.ndarray) -> np.ndarray:
    """Genes × ... to groups × ... × LANES; the last group is filled up with its last gene."""
    padded = x[np.minimum(np.arange(-(-len(x) // LANES) * LANES), len(x) - 1)]
    return np.ascontiguousarray(np.moveaxis(padded.reshape(-1, LANES, *x.shape[1:]), 1, -1))


def _genes(x: np.ndarray, m: int) -> np.ndarray:
    """Undo `_lanes` for m genes."""
    return np.moveaxis(x, -1, 1).reshape(-1, *x.shape[1:-1])[:m]


def _check_fill(sizes: np.ndarray, d: Sequence[int]) -> None:
    """Refuse components that are crossed so densely that eliminating one joins all levels of another."""
    if (sizes.astype(float) ** 2).sum() / 2 > _MOST_PAIRS:
        msg = (
            f"Random components of {listed(d)} columns are crossed with each other too densely to be fitted together; leave "
            "out one, make one a fixed term, or fit one model for each group of cells (groupby)."
        )
        raise ValueError(msg)


def _fewest_neighbours(ZZ: sp.csr_array) -> np.ndarray:
    """Order of elimination of the random columns that leaves few new entries: minimum degree, as SuperLU finds it."""
    pattern = sp.csc_matrix(ZZ, copy=True)
    pattern.data[:] = 1e-3 / pattern.shape[0]
    pattern = pattern + sp.eye(pattern.shape[0], format="csc")
    lu = splu(pattern, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    return np.argsort(lu.perm_c)


def _fill(lower: sp.csc_array, q: int) -> tuple[np.ndarray, np.ndarray]:
    """Pattern of L, columns of rows with the diagonal first; X's columns, from q on, are dense."""
    N = lower.shape[0]
    rows: list[np.ndarray] = []
    children: list[list[np.ndarray]] = [[] for _ in range(N)]
    for j in range(N):
        own = lower.indices[lower.indptr[j] : lower.indptr[j + 1]] if j < q else np.arange(j, N)
        below = np.unique(np.concatenate([own, *children[j], [j]]))
        rows.append(below)
        if below.size > 1:
            children[below[1]].append(below[1:])
    return np.append(0, np.cumsum([x.size for x in rows])), np.concatenate(rows)


def _triangle(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (i, j), i >= j, by j."""
    j, i = np.triu_indices(size)
    return i, j
