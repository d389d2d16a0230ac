"""Covariances of large crossed factors: the largest component is eliminated, what is left is dense.

Levels of the largest component don't overlap, so Z_1'Z_1 = diag(n) and V_1 = I + γ_1 Z_1Z_1' is inverted by a division,
e = 1 / (1 + γ_1 n). With W = [Z_2 X] all other columns, C = Z_1'W, B = [D_2^½, I] and E = [I, 0] on them, the mixed model
equations (I + S D) v = r become

    M y = B t    M = B (W'W - C' diag(γ_1 e) C) B + E    t = [r_2; 0] - C' diag(γ_1 e) r_1
    v_2 = y_2 / B_2    v_1 = e (r_1 - C B y)

M is factorised for every gene. Then, with T = (I + S D)⁻¹ S = Z'P Z,

    log det(I + S D) = Σ log(1 + γ_1 n) + log det M - log det X'X
    r'D (I + S D)⁻¹ r = Σ γ_1 e r_1² + t'B M⁻¹B t
    [Z'Z_l v_l; X'Z_l v_l] in the place of [r; 0]   gives   T_·l v_l
    [0; c] in the place of [r; 0]   gives   c'[(X'X)⁻¹ + A'D (I + S D)⁻¹ A] c = c'y_X   and   -(I + S D)⁻¹ A c = v

A ratio of zero is replaced by 1e-60, which changes nothing but divides. Traces and norms come from a table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from flashmm_sc._base.selection import component_slices
from flashmm_sc._base.threads import BLOCK_BYTES
from flashmm_sc._gaussian.crossed import kernel as kernel
from flashmm_sc._gaussian.crossed.between import between, interpolates
from flashmm_sc._gaussian.crossed.shared import CrossedShared
from flashmm_sc._gaussian.crossed.table import DeterminantTable
from flashmm_sc._gaussian.dense.covariance import MANY
from flashmm_sc._gaussian.dense.spectrum import Resolvent, Spectrum
from flashmm_sc._gaussian.vectors import Layout, Vectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashmm_sc._gaussian.dense.between import Between
    from flashmm_sc._gaussian.dense.nested import Nested
    from flashmm_sc._gaussian.gram import Gram

_TINY = 1e-30
_BYTES = 2**28
"""What the factors of genes that are fitted together may take."""


@dataclass(frozen=True, eq=False)
class CrossedCovariance:
    """Z'RZ, or Z'Z without X, its largest component eliminated.

    Attributes
    ----------
    gram
        Its sparse parts.
    largest
        Which component is eliminated.
    order
        The random columns: those of the largest component, then the others.
    size
        Diagonal of Z_1'Z_1.
    C, WW
        Z_1'W and W'W.
    table
        Traces and norms.
    between
        Values between shared points, for many genes with two components or three.
    """

    gram: Gram
    largest: int
    order: np.ndarray
    size: np.ndarray
    C: sp.csr_array
    WW: sp.csr_array
    table: DeterminantTable
    between: Between | Nested | None = None

    @classmethod
    def of(cls, gram: Gram, rank: Sequence[int]) -> CrossedCovariance:
        """From the cross-products of the designs; rank is that of S_kk of each component."""
        d = gram.d
        largest, rows = int(np.argmax(d)), np.arange(sum(d))
        first = rows[component_slices(d)[largest]]
        rest = np.delete(rows, first)
        first = first[np.argsort(gram.ZZ.diagonal()[first], kind="stable")]
        ZX = gram.ZX[rest]
        C = sp.csr_array(sp.hstack([gram.ZZ[first][:, rest], gram.ZX[first]]))
        C.sort_indices()
        parts: list[list[Any]] = [[gram.ZZ[rest][:, rest], ZX], [ZX.T, sp.csr_array(gram.XX)]]
        WW = sp.csr_array(sp.block_array(parts))
        size = gram.ZZ.diagonal()[first]
        schur = lambda gamma: (WW - C.T @ sp.diags_array(gamma / (1 + gamma * size)) @ C).toarray()
        others = [k for k in range(len(d)) if k != largest]
        table = DeterminantTable(size, schur, tuple(d[k] for k in others), tuple(rank[k] for k in others))
        return cls(gram, largest, np.concatenate([first, rest]), size, C, WW, table)

    @property
    def K(self) -> int:
        """Number of components."""
        return len(self.gram.d)

    @property
    def others(self) -> np.ndarray:
        """The components that aren't eliminated."""
        return np.delete(np.arange(self.K), self.largest)

    @cached_property
    def member(self) -> np.ndarray:
        """R × K indicator: the component of each remaining column."""
        return np.repeat(np.eye(self.K)[self.others], np.array(self.gram.d)[self.others], axis=0)

    @cached_property
    def layout(self) -> Layout:
        """The blocks of vectors."""
        return Layout((self.largest, self.member), self.K)

    @cached_property
    def corner(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows, columns and values of W'W's lower triangle."""
        lower = sp.coo_array(sp.tril(self.WW))
        return lower.row.astype(np.int64), lower.col.astype(np.int64), lower.data

    @property
    def cheap_forms(self) -> bool:
        """Without points, a quadratic form takes a solve."""
        return self.between is not None and self.K == 2

    @cached_property
    def spectrum(self) -> Spectrum:
        """The levels' sizes, for sums over them."""
        return Spectrum.of(self.size)

    def split(self, r: np.ndarray) -> Vectors:
        """Columns r (q × m) as vectors, one a gene."""
        own, q1 = r[self.order].T, self.size.size
        return Vectors(self.layout, (np.ascontiguousarray(own[:, :q1]), np.ascontiguousarray(own[:, q1:])))

    def restore(self, v: Vectors) -> np.ndarray:
        """Undo `split`: genes × q in the original order of columns."""
        out = np.empty((len(v.parts[0]), self.order.size))
        out[:, self.order] = np.concatenate(v.parts, axis=1)
        return out

    def times(self, v: Vectors) -> Vectors:
        """S v."""
        flat = Vectors(self.layout, tuple(part.reshape(-1, part.shape[-1]) for part in v.parts))
        parts = self.split(self.gram.times(self.restore(flat).T)).parts
        return Vectors(self.layout, tuple(new.reshape(old.shape) for new, old in zip(parts, v.parts, strict=True)))

    def shared(self, A: np.ndarray, L: np.ndarray) -> CrossedShared:
        """The vectors A L that genes share, for L p × r."""
        return CrossedShared(self.spectrum, self.between, self.split(A @ L), L / self.gram.scale[:, None])

    def gene_bytes(self, r: int, *, solved: bool = False) -> int:
        """Memory that a gene needs while it is fitted or tested, such that a block's factors take 256 MB, or its vectors 64."""
        if self.between is not None and not solved:
            own = 32 * (6 * self.size.size + 4 * self.between.width + 8 * r)
        else:
            vectors = (r * self.K if solved else r) + self.K
            own = 8 * (kernel.packed(self.C.shape[1]) + 6 * vectors * (sum(self.C.shape)))
        return BLOCK_BYTES // max(1, _BYTES // own)

    def prepared(self, n_genes: int, n_jobs: int | None, *, traces: bool = True) -> CrossedCovariance:
        """With the points where there are few other columns, else with the panel of the table that most genes need."""
        if self.between is not None:
            return self
        if interpolates(self.gram) and n_genes >= MANY:
            return replace(self, between=between(self.largest, self.table, self.C, self.gram.logdet_XX, n_jobs))
        if traces:
            self.table.fill(0, n_jobs)
        return self

    def eigenvalues(self, k: int) -> np.ndarray:
        """Those of S_kk, ascending."""
        return self.gram.eigenvalues(k)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """tr S_kk (K) and |S_kl|² (K × K)."""
        return self.gram.moments()

    def factor(self, gamma: np.ndarray) -> CrossedFactorisation:
        """Factorise at the ratios of each gene (m × K)."""
        return CrossedFactorisation(self, gamma)


class CrossedFactorisation:
    """M at the ratios of m genes; `which` tells the factor of each."""

    def __init__(self, covariance: CrossedCovariance, gamma: np.ndarray):
        s, m = covariance, len(gamma)
        self.covariance, self.gamma, self.which = s, gamma, np.arange(m)
        self.inside = np.isfinite(gamma).all(axis=1) & (gamma >= 0).all(axis=1)
        self.known = np.where(self.inside[:, None], gamma, 0.0)

    @cached_property
    def e(self) -> np.ndarray:
        """1 / (1 + γ_1 n), m × q_1."""
        s = self.covariance
        return 1 / (1 + self.known[:, s.largest, None] * s.size)

    @cached_property
    def B(self) -> np.ndarray:
        """D_2^½, and 1 for X: m × N."""
        R = len(self.covariance.member)
        out = np.ones((len(self.gamma), self.covariance.C.shape[1]))
        out[:, :R] = np.maximum(np.sqrt(self.known @ self.covariance.member.T), _TINY)
        return out

    @cached_property
    def triangle(self) -> tuple[np.ndarray, np.ndarray]:
        """The factors and log det(I + S D)."""
        s, (m, N) = self.covariance, self.B.shape
        scale = np.stack([self.B, np.broadcast_to(np.arange(N) < len(s.member), (m, N))], axis=1)
        L, logdet = np.empty((m, kernel.packed(N))), np.empty(m)
        rows = s.C.indptr.astype(np.int64), s.C.indices.astype(np.int64), s.C.data
        kernel.factorise(s.size, *rows, s.corner, np.ascontiguousarray(self.known[:, s.largest]), scale, L, logdet)
        return L, logdet - np.log(self.e).sum(axis=1) - s.gram.logdet_XX

    @property
    def logdet(self) -> np.ndarray:
        """log det(I + S D)."""
        return self.triangle[1][self.which]

    @cached_property
    def ok(self) -> np.ndarray:
        """Where it is positive definite."""
        return self.inside & np.isfinite(self.logdet)

    def __getitem__(self, index: np.ndarray) -> CrossedFactorisation:
        """Those of some genes."""
        new = CrossedFactorisation(self.covariance, self.gamma[index])
        new.which, new.triangle = self.which[index], self.triangle
        return new

    def traces(self) -> tuple[np.ndarray, np.ndarray]:
        """tr T_kk (m × K) and |T_kl|² (m × K × K)."""
        s = self.covariance
        if s.between is not None and s.between.knows(self.known).all():
            return s.between.determinant(self.known)[1:]
        back = np.argsort(np.append(s.largest, s.others))
        gamma = self.known
        trace, norm = s.table(gamma[:, s.largest], gamma[:, s.others])
        return trace[:, back], norm[:, back[:, None], back]

    def solve(self, r: Vectors) -> tuple[Vectors, np.ndarray]:
        """v = (I + S D)⁻¹ r and the quadratic form r' D v, for one or several r a gene, or several that all share."""
        shape = r.parts[0].shape[1:-1]
        rows = [part.reshape(len(part), -1, part.shape[-1]) for part in r.parts]
        right = np.zeros((*rows[1].shape[:2], self.B.shape[1]))
        right[..., : rows[1].shape[-1]] = rows[1]
        v, _ = self._solve(rows[0], right)
        sums = self.covariance.layout.sums(tuple(a * b for a, b in zip(rows, v.parts, strict=True)))
        v = Vectors(r.layout, tuple(part.reshape(-1, *shape, part.shape[-1]) for part in v.parts))
        return v, np.einsum("irk,ik->ir", sums, self.gamma).reshape(-1, *shape)

    def products(self, v: Vectors) -> np.ndarray:
        """v_k' T_kl v_l: m × K × K, or m × r × K × K for several v a gene."""
        s = self.covariance
        v1, v2 = (part.reshape(len(part), -1, part.shape[-1]) for part in v.parts)
        out = np.empty((*v1.shape[:2], s.K, s.K))
        for l in range(s.K):
            if l == s.largest:
                right = s.size * v1, _times(s.C.T, v1)
            else:
                z = np.pad(v2 * s.member[:, l], [(0, 0), (0, 0), (0, s.C.shape[1] - v2.shape[-1])])
                right = _times(s.C, z), _times(s.WW, z)
            Tv, _ = self._solve(*right)
            out[..., l] = s.layout.sums((v1 * Tv.parts[0], v2 * Tv.parts[1]))
        return out.reshape(*v.parts[0].shape[:-1], s.K, s.K)

    def shared_forms(self, r: Vectors) -> np.ndarray:
        """r' D (I + S D)⁻¹ r for one r a gene, at the ratios of every row of the factorisation: genes × rows."""
        s, (r1, r2) = self.covariance, r.parts
        weight = self.gamma[:, s.largest, None] * self.e
        out = r1**2 @ weight.T
        x = np.zeros((kernel.padded(s.C.shape[1]), len(r1)))
        for k, which in enumerate(self.which):
            t = -(s.C.T @ (weight[k] * r1).T)
            t[: r2.shape[1]] += r2.T
            x[: len(t)] = self.B[k, :, None] * t
            x[len(t) :] = 0.0
            kernel.forward(self.triangle[0][which], x)
            out[:, k] += np.einsum("ij,ij->j", x, x)
        return out

    def shared_quadratics(self, x: CrossedShared) -> tuple[np.ndarray, np.ndarray]:
        """x' D (I + S D)⁻¹ x (m × r) and |component k of (I + S D)⁻¹ x|² (m × r × K) for r vectors x all genes share."""
        s, (m, K), r = self.covariance, self.gamma.shape, x.L.shape[1]
        quad, parts, known = np.empty((m, r)), np.empty((m, r, K)), np.zeros(m, bool)
        if s.between is not None:
            known = s.between.knows(self.gamma) & self.inside
            first = Resolvent(s.spectrum, self.gamma[known, s.largest])
            quad[known], parts[known] = x.forms.rest_quadratics(self.gamma[known])
            quad[known] += first.g[:, None] * first.sums(lambda d, n: d, x.squares)
            parts[known, :, s.largest] += first.sums(lambda d, n: d**2, x.squares)
        if not known.all():
            v, beta = (s.factor(self.gamma[~known]) if known.any() else self).columns(x)
            XXi = np.sum(x.L * (s.gram.XXi @ x.L), axis=0)
            quad[~known], parts[~known] = np.einsum("jr,irj->ir", x.L, beta) - XXi, v.squares()
        return quad, parts

    def shared_matrix(self, x: CrossedShared) -> np.ndarray:
        """x_i' D (I + S D)⁻¹ x_j for r vectors all genes share, m × r × r."""
        return self.columns(x)[1] @ x.L - x.L.T @ self.covariance.gram.XXi @ x.L

    def columns(self, x: CrossedShared) -> tuple[Vectors, np.ndarray]:
        """-(I + S D)⁻¹ A c and β, m × r × p, for the columns c of L."""
        s, r = self.covariance, x.L.shape[1]
        right = np.zeros((1, r, s.C.shape[1]))
        right[..., len(s.member) :] = x.L.T
        return self._solve(np.zeros((1, r, s.size.size)), right)

    def _solve(self, r1: np.ndarray, right: np.ndarray) -> tuple[Vectors, np.ndarray]:
        """v and y_X from r_1 (m or 1 × r × q_1) and what stands below it in the equations (m or 1 × r × N)."""
        s, R, N = self.covariance, len(self.covariance.member), right.shape[2]
        e, B = self.e[:, None], self.B[:, None]
        t = right - _times(s.C.T, self.gamma[:, s.largest, None, None] * e * r1)
        x = np.zeros((len(t), kernel.padded(N), t.shape[1]))
        x[:, :N] = (B * t).swapaxes(1, 2)
        kernel.solve(self.triangle[0], self.which, x)
        y = x[:, :N].swapaxes(1, 2)
        v = Vectors(s.layout, (e * (r1 - _times(s.C, B * y)), y[..., :R] / B[..., :R]))
        return v, y[..., R:]


def _times(A: sp.csr_array | sp.csc_array, x: np.ndarray) -> np.ndarray:
    """A x for the vectors along the last axis of x."""
    return (A @ x.reshape(-1, x.shape[-1]).T).T.reshape(*x.shape[:-1], -1)
