"""Covariances of thousands of levels: nothing q × q is dense.

From Henderson's mixed model equations. With B = |D|^½, E = sign(D) and W = [Z B, X],

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
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.threads import BLOCK_BYTES
from flashmm_sc._gaussian.sparse import kernel as kernel
from flashmm_sc._gaussian.sparse.kernel import LANES
from flashmm_sc._gaussian.sparse.pattern import Pattern
from flashmm_sc._gaussian.sparse.table import POINTS, TraceTable
from flashmm_sc._gaussian.vectors import Layout, Vectors

if TYPE_CHECKING:
    from flashmm_sc._gaussian.gram import Gram

_STEP = 3e-5  # relative: truncation and rounding leave some 1e-9 of |T_kl|²
_TINY = 1e-30


@dataclass(frozen=True, eq=False)
class SparseCovariance:
    """Z'RZ, or Z'Z without X.

    Attributes
    ----------
    gram
        Its sparse parts.
    pattern
        That of the factorisation.
    table
        Traces and norms, once tabulated (see `prepared`).
    """

    gram: Gram
    pattern: Pattern
    table: TraceTable | None = None

    @classmethod
    def of(cls, gram: Gram) -> SparseCovariance:
        """From the cross-products of the designs."""
        return cls(gram, Pattern.of(gram))

    @property
    def d(self) -> tuple[int, ...]:
        """Columns of each component."""
        return self.gram.d

    @cached_property
    def member(self) -> np.ndarray:
        """q × K indicator of the components."""
        return np.repeat(np.eye(len(self.d)), self.d, axis=0)[self.pattern.order]

    @cached_property
    def layout(self) -> Layout:
        """Vectors have one block, in the order of elimination."""
        return Layout((self.member,), len(self.d))

    @property
    def between(self) -> None:
        """Every gene is factorised."""

    @property
    def cheap_forms(self) -> bool:
        """A quadratic form takes a solve."""
        return False

    @cached_property
    def equal_levels(self) -> np.ndarray:
        """tr Z_k'Z_k / max diag Z_k'Z_k: as many levels as large as the largest."""
        sizes = self.gram.ZZ.diagonal()[self.pattern.order, None] * self.member
        return sizes.sum(axis=0) / sizes.max(axis=0)

    def split(self, r: np.ndarray) -> Vectors:
        """Columns r (q × m) as vectors, one a gene."""
        return Vectors(self.layout, (np.ascontiguousarray(r[self.pattern.order].T),))

    def restore(self, v: Vectors) -> np.ndarray:
        """Undo `split`: genes × q in the original order of columns."""
        out = np.empty_like(v.parts[0])
        out[:, self.pattern.order] = v.parts[0]
        return out

    def times(self, v: Vectors) -> Vectors:
        """S v."""
        (rows,), q = v.parts, self.pattern.order.size
        u = np.empty((q, rows.size // q))
        u[self.pattern.order] = rows.reshape(u.shape[::-1]).T
        return Vectors(self.layout, (self.gram.times(u)[self.pattern.order].T.reshape(rows.shape),))

    def shared(self, A: np.ndarray, L: np.ndarray) -> SparseShared:
        """The vectors A L that genes share, for L p × r."""
        return SparseShared(self.split(A @ L), L / self.gram.scale[:, None])

    def gene_bytes(self, r: int, *, solved: bool = False) -> int:
        """Memory that a gene needs while it is fitted or tested, such that blocks hold whole groups of genes."""
        return BLOCK_BYTES // (LANES * max(1, BLOCK_BYTES // (LANES * self.pattern.value.nbytes)))

    def prepared(self, n_genes: int, n_jobs: int | None, *, traces: bool = True) -> SparseCovariance:
        """With tabulated traces and norms where that pays."""
        if self.table is not None or not traces or (POINTS + 1) ** len(self.d) >= 5 * n_genes:
            return self
        alone, exact = (lambda gamma: self.factor(gamma).trace), (lambda gamma: self.factor(gamma).differences())
        return replace(self, table=TraceTable.of(self.d, alone, exact, self.gene_bytes(0), n_jobs))

    def eigenvalues(self, k: int) -> np.ndarray:
        """Those of S_kk, ascending."""
        return self.gram.eigenvalues(k)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """tr S_kk (K) and |S_kl|² (K × K)."""
        return self.gram.moments()

    def factor(self, gamma: np.ndarray) -> SparseFactorisation:
        """Factorise at the ratios of each gene (m × K)."""
        return SparseFactorisation(self, gamma)


@dataclass(frozen=True, eq=False)
class SparseShared:
    """Columns A L as rows of vectors, q columns each, and L for X's scaled columns."""

    columns: Vectors
    L: np.ndarray

    @property
    def vectors(self) -> Vectors:
        """As vectors, 1 × r × q."""
        return Vectors(self.columns.layout, (self.columns.parts[0][None],))


class SparseFactorisation:
    """H at the ratios of m genes, in groups of LANES."""

    def __init__(self, covariance: SparseCovariance, gamma: np.ndarray):
        self.covariance, s = covariance, covariance.pattern
        self.gamma = gamma
        m = len(gamma)
        self.B = np.hstack([np.maximum(np.sqrt(np.abs(gamma)), _TINY), np.ones((m, 1))])
        self.E = np.hstack([np.where(gamma < 0, -1.0, 1.0), np.zeros((m, 1))])
        self.scale, self.sign = _lanes(self.B), _lanes(self.E)
        groups = len(self.sign)
        self.L = np.empty((groups, s.value.size, LANES))
        logdet, excess = np.zeros((groups, LANES)), np.zeros((groups, LANES), int)
        kernel.factorise(s.start, s.target, s.value, s.kind, self.scale, self.sign, self.L, logdet, excess)
        self.logdet = logdet.reshape(-1)[:m] - covariance.gram.logdet_XX
        self.ok = (excess.reshape(-1)[:m] == 0) & np.isfinite(self.logdet)

    def __getitem__(self, index: np.ndarray) -> SparseFactorisation:
        """Those of some genes, factorised anew: that takes less than to keep them."""
        return SparseFactorisation(self.covariance, self.gamma[index])

    @cached_property
    def trace(self) -> np.ndarray:
        """tr T_kk, m × K."""
        s, (m, K), d = self.covariance.pattern, self.gamma.shape, np.array(self.covariance.d)
        diagonal, pairs = np.zeros((len(self.L), K + 1, LANES)), np.zeros((len(self.L), K + 1, K + 1, LANES))
        kernel.diagonal_sums(s.start, s.target, s.value, s.kind, self.L, diagonal, pairs)
        E, B = self.E[:, :-1], self.B[:, :-1]
        difference = E * d - _genes(diagonal, m)[:, :-1]
        summed = E * np.einsum("ikl,il->ik", _genes(pairs, m), self.B)[:, :-1] * B
        return np.where(np.abs(difference) > 0.1 * d, difference, summed) / B**2

    def traces(self) -> tuple[np.ndarray, np.ndarray]:
        """tr T_kk (m × K) and |T_kl|² (m × K × K)."""
        if self.covariance.table is None:
            return self.differences()
        trace, norm, known = self.covariance.table(self.gamma)
        rest = np.flatnonzero(~known)
        if rest.size:
            trace[rest], norm[rest] = self[rest].differences()
        return trace, norm

    def differences(self) -> tuple[np.ndarray, np.ndarray]:
        """`traces`, the norms by differences; steps are relative to 1 / the largest eigenvalues of T_kk."""
        s, (m, K) = self.covariance, self.gamma.shape
        norm, step = np.empty((m, K, K)), _STEP * s.equal_levels / self.trace
        for k in range(K):
            h = step[:, k, None] * np.eye(K)[k]
            norm[:, k] = (s.factor(self.gamma - h).trace - s.factor(self.gamma + h).trace) / (2 * h[:, k, None])
        return self.trace, (norm + norm.swapaxes(1, 2)) / 2

    def solve(self, r: Vectors) -> tuple[Vectors, np.ndarray]:
        """v = (I + S D)⁻¹ r and the quadratic form r' D v, for one or several r a gene, or several that all share."""
        s, m, q = self.covariance.pattern, len(self.gamma), self.covariance.pattern.order.size
        shape = (m, *r.parts[0].shape[1:])
        rows = np.ascontiguousarray(np.broadcast_to(r.parts[0], shape)).reshape(m, -1, q)
        v = np.empty_like(rows)
        kernel.solve(s.start, s.row, s.kind, self.L, self.scale, self.sign, rows, v)
        quad = np.einsum("irk,ik->ir", (rows * v) @ self.covariance.member, self.gamma)
        return Vectors(r.layout, (v.reshape(shape),)), quad.reshape(shape[:-1])

    def products(self, v: Vectors) -> np.ndarray:
        """v_k' T_kl v_l: m × K × K, or m × r × K × K for several v a gene."""
        s, (m, K) = self.covariance.pattern, self.gamma.shape
        rows = np.ascontiguousarray(v.parts[0]).reshape(m, -1, s.order.size)
        out = np.zeros((*rows.shape[:2], K, K))
        kernel.products(s.start, s.row, s.value, s.kind, self.L, self.scale, self.sign, rows, out)
        return out.reshape(*v.parts[0].shape[:-1], K, K)

    def shared_forms(self, r: Vectors) -> np.ndarray:
        """r' D (I + S D)⁻¹ r for one r a gene, at the ratios of every row of the factorisation: genes × rows."""
        s, (rows,) = self.covariance.pattern, r.parts
        out = np.empty((len(rows), len(self.gamma)))
        for k, B in enumerate(self.B):
            l = np.ascontiguousarray(self.L[k // LANES, :, k % LANES])
            out[:, k] = kernel.forms(s.start, s.row, l, rows * (self.covariance.member @ B[:-1]))
        return out

    def shared_quadratics(self, x: SparseShared) -> tuple[np.ndarray, np.ndarray]:
        """x' D (I + S D)⁻¹ x (m × r) and |component k of (I + S D)⁻¹ x|² (m × r × K) for r vectors x all genes share."""
        beta, squares = self._columns(x)
        XXi = np.sum(x.L * (self.covariance.gram.XXi @ x.L), axis=0)
        return np.einsum("jr,ijr->ir", x.L, beta) - XXi, squares / self.B[:, None, :-1] ** 2

    def shared_matrix(self, x: SparseShared) -> np.ndarray:
        """x_i' D (I + S D)⁻¹ x_j for r vectors all genes share, m × r × r."""
        return x.L.T @ (self._columns(x)[0] - self.covariance.gram.XXi @ x.L)

    def _columns(self, x: SparseShared) -> tuple[np.ndarray, np.ndarray]:
        """β (m × p × r), and sums of u² by component (m × r × K) for H [u; β] = [0; L]."""
        s, (m, K) = self.covariance.pattern, self.gamma.shape
        beta, squares = np.empty((m, *x.L.shape)), np.zeros((m, K, x.L.shape[1]))
        kernel.fixed_columns(s.start, s.row, s.kind, self.L, np.ascontiguousarray(x.L), beta, squares)
        return beta, squares.swapaxes(1, 2)


def _lanes(x: np.ndarray) -> np.ndarray:
    """Genes × ... to groups × ... × LANES; the last group is filled up with its last gene."""
    padded = x[np.minimum(np.arange(-(-len(x) // LANES) * LANES), len(x) - 1)]
    return np.ascontiguousarray(np.moveaxis(padded.reshape(-1, LANES, *x.shape[1:]), 1, -1))


def _genes(x: np.ndarray, m: int) -> np.ndarray:
    """Undo `_lanes` for m genes."""
    return np.moveaxis(x, -1, 1).reshape(-1, *x.shape[1:-1])[:m]
