"""Covariances of hundreds of levels: dense matrices, their largest component diagonalised once for all genes.

S_11 = U diag(λ) U' for the largest component; the remaining R columns are a small dense problem for each gene, by Woodbury's
identity. With one component nothing remains, and these are the spectral formulas.

Vectors have two blocks: the q_1 columns of the largest component in its eigenbasis (v1), and the others (v2).
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from flashmm_sc._base.linalg import diagonalised
from flashmm_sc._gaussian.dense.alone import Alone
from flashmm_sc._gaussian.dense.between import Between
from flashmm_sc._gaussian.dense.elimination import invert_signed
from flashmm_sc._gaussian.dense.nested import Nested
from flashmm_sc._gaussian.dense.shared import DenseShared
from flashmm_sc._gaussian.dense.spectrum import Products, Resolvent, Spectrum
from flashmm_sc._gaussian.vectors import Layout, Vectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashmm_sc._gaussian.dense.axis import Axis


MANY = 100
"""Genes from which on what they share pays."""


@dataclass(frozen=True, eq=False)
class DenseCovariance:
    """S with its largest component diagonalised.

    Attributes
    ----------
    largest
        Which component is diagonalised.
    lam, U
        Eigenvalues and -vectors of S_11.
    C
        U'S_12, q_1 × R.
    S22
        R × R.
    member
        R × K indicator: the component of each remaining column.
    order
        The random columns: those of the largest component, then the others.
    rank
        That of S_kk of each component.
    between
        For many genes: values between shared points with two components, or of the one component there is.
    """

    largest: int
    lam: np.ndarray
    U: np.ndarray
    C: np.ndarray
    S22: np.ndarray
    member: np.ndarray
    order: np.ndarray
    rank: Sequence[int]
    between: Between | Nested | Alone | None = None

    @classmethod
    def of(cls, S: np.ndarray, d: Sequence[int], rank: Sequence[int]) -> DenseCovariance:
        """Diagonalise the largest component of S (q × q); d holds the columns of each component, rank that of its S_kk."""
        largest = int(np.argmax(d))
        component = np.repeat(np.arange(len(d)), d)
        first, rest = np.flatnonzero(component == largest), np.flatnonzero(component != largest)
        lam, U = diagonalised(S[np.ix_(first, first)])
        lam = np.maximum(lam, 0.0)
        lam[: lam.size - rank[largest]] = 0.0
        member = (component[rest][:, None] == np.arange(len(d))).astype(float)
        C = U.T @ S[np.ix_(first, rest)]
        return cls(largest, lam, U, C, S[np.ix_(rest, rest)], member, np.concatenate([first, rest]), rank)

    @cached_property
    def spectrum(self) -> Spectrum:
        """The eigenvalues, for sums over them."""
        return Spectrum.of(self.lam)

    @cached_property
    def count(self) -> Products:
        """For plain sums over the eigenvalues."""
        return Products(self.spectrum, None, np.ones(self.lam.size))

    @cached_property
    def pairs(self) -> Products:
        """C' · C."""
        return Products(self.spectrum, self.C, self.C)

    @property
    def n_rest(self) -> int:
        """Columns outside the largest component, R."""
        return len(self.S22)

    @property
    def others(self) -> list[int]:
        """Columns of each of the other components."""
        return np.delete(self.member.sum(axis=0), self.largest).astype(int).tolist()

    @property
    def K(self) -> int:
        """Number of components."""
        return self.member.shape[1]

    @cached_property
    def layout(self) -> Layout:
        """The blocks of vectors."""
        return Layout((self.largest, self.member), self.K)

    @property
    def cheap_forms(self) -> bool:
        """Quadratic forms at shared ratios are matrix products."""
        return True

    def split(self, r: np.ndarray) -> Vectors:
        """Columns r (q × m) as (U'r_1)' and r_2', one vector a gene."""
        q1 = self.lam.size
        return Vectors(self.layout, (r[self.order[:q1]].T @ self.U, np.ascontiguousarray(r[self.order[q1:]].T)))

    def restore(self, v: Vectors) -> np.ndarray:
        """Undo `split`: genes × q in the original order of columns."""
        v1, v2 = v.parts
        out = np.empty((len(v1), self.order.size))
        out[:, self.order] = np.concatenate([v1 @ self.U.T, v2], axis=1)
        return out

    def shared(self, A: np.ndarray, L: np.ndarray) -> DenseShared:
        """The columns of A L, which all genes share."""
        return DenseShared(
            self.layout, self.spectrum, self.C, self.between, *(part.T for part in self.split(A @ L).parts)
        )

    def gene_bytes(self, r: int, *, solved: bool = False) -> int:
        """Memory that a gene needs while it is fitted, or r linear combinations of it tested, by `solve` too."""
        R, K, q1 = self.n_rest, self.K, self.lam.size
        if self.between is not None and not solved:
            own = 8 * (12 * q1 + 4 * self.between.width + 8 * r)
            return own if K < 3 else -(-own // 4)  # larger blocks, as each takes a step a point
        width = r * (q1 + r) if solved else r
        return 8 * (12 * q1 + 12 * R**2 + 4 * width * (R + K + 1) + 16 * K * K)

    def prepared(self, n_genes: int, n_jobs: int | None, *, traces: bool = True) -> DenseCovariance:
        """With what serves so many genes while they are fitted."""
        pays = self.K == 1 or (self.K < 4 and Between.pays(self.lam.size, self.n_rest, self.K))
        fits = self.K != 3 or Nested.fits(self.others)
        return self.with_points() if n_genes >= MANY and pays and fits else self

    def with_points(self, axis: Axis | None = None) -> DenseCovariance:
        """With what one component needs, or two and three at points of the largest one's ratio; those of two may be given."""
        if self.K == 1:
            return replace(self, between=Alone(self.lam))
        if self.K == 2:
            return replace(self, between=Between.of(self.largest, self.lam, self.C, self.S22, axis))
        covariance = lambda S: DenseCovariance.of(S, self.others, np.delete(self.rank, self.largest).tolist())
        return replace(self, between=Nested.of(self.largest, self.lam, self.C, self.S22, covariance))

    def times(self, v: Vectors) -> Vectors:
        """S v."""
        v1, v2 = v.parts
        return Vectors(self.layout, (self.lam * v1 + v2 @ self.C.T, v1 @ self.C + v2 @ self.S22))

    def eigenvalues(self, k: int) -> np.ndarray:
        """Those of S_kk, ascending."""
        if k == self.largest:
            return self.lam
        own = self.member[:, k] > 0
        return diagonalised(self.S22[np.ix_(own, own)])[0]

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """tr S_kk (K) and |S_kl|² (K × K)."""
        trace, norm = self.factor(np.zeros((1, self.K))).traces()
        return trace[0], norm[0]

    def factor(self, gamma: np.ndarray) -> DenseFactorisation:
        """Factorise I + S D at the ratios of each gene (m × K)."""
        return DenseFactorisation(self, gamma)


class Rest(NamedTuple):
    """G, K2 = D_2 (I + G D_2)⁻¹, log det(I + G D_2), and whether I + S D is positive definite."""

    G: np.ndarray
    K2: np.ndarray
    logdet: np.ndarray
    ok: np.ndarray


class DenseFactorisation:
    """I + S D at the ratios of m genes. `ok` tells where it is positive definite (as inertia, not as determinant)."""

    def __init__(self, covariance: DenseCovariance, gamma: np.ndarray):
        s = self.covariance = covariance
        self.gamma = gamma
        self.first = Resolvent(s.spectrum, gamma[:, s.largest])

    @cached_property
    def rest(self) -> Rest:
        """What is left of the other columns, where that is asked for."""
        s, first, m = self.covariance, self.first, len(self.gamma)
        G = s.S22 - first.g[:, None, None] * first.sums(lambda d, lam: d, s.pairs)
        K2, logdet, ok = np.empty_like(G), np.empty(m), np.empty(m, dtype=bool)
        invert_signed(G, self.gamma @ s.member.T, first.negative, K2, logdet, ok)
        return Rest(G, K2, logdet, ok)

    @cached_property
    def logdet(self) -> np.ndarray:
        """log det(I + S D)."""
        own = -self.first.sums(lambda d, lam: np.log(np.abs(d)), self.covariance.count)
        return own + self.rest.logdet if self.covariance.n_rest else own

    @cached_property
    def ok(self) -> np.ndarray:
        """Where it is positive definite."""
        regular = self.first.regular & np.isfinite(self.gamma).all(axis=1)
        return regular & (self.rest.ok if self.covariance.n_rest else self.first.negative == 0)

    def __getitem__(self, index: np.ndarray) -> DenseFactorisation:
        """The factors of these genes, for `solve`, `products` and `shared_forms`."""
        new = copy(self)
        new.gamma, new.ok, new.first = self.gamma[index], self.ok[index], self.first[index]
        if self.covariance.n_rest:
            new.rest = Rest(*(part[index] for part in self.rest))
        return new

    @cached_property
    def M(self) -> np.ndarray:
        """C' diag(d²) C."""
        return self.first.sums(lambda d, lam: d**2, self.covariance.pairs)

    def solve(self, r: Vectors) -> tuple[Vectors, np.ndarray]:
        """v = (I + S D)⁻¹ r and the quadratic form r' D v, for one or several r a gene."""
        a, r2 = r.parts
        several = (slice(None), None) if r.several else slice(None)
        g, d = self.first.g[several][..., None], self.first.d[several]
        da = d * a
        quad = g[..., 0] * np.einsum("...j,...j->...", da, a)
        if not self.covariance.n_rest:
            return Vectors(r.layout, (da, np.empty((*da.shape[:-1], 0)))), quad
        bt = r2 - g * (da @ self.covariance.C)
        rows = bt if bt.ndim == 3 else bt[:, None]
        t = rows @ self.rest.K2
        v2 = (rows - t @ self.rest.G).reshape(bt.shape)
        t = t.reshape(bt.shape)
        v1 = da - d * (t @ self.covariance.C.T)
        return Vectors(r.layout, (v1, v2)), quad + np.einsum("...j,...j->...", bt, t)

    def shared_forms(self, r: Vectors) -> np.ndarray:
        """r' D (I + S D)⁻¹ r for one r a gene, at the ratios of every row of the factorisation: genes × rows."""
        a, r2 = r.parts
        h = self.first.g[:, None] * self.first.d
        forms = a**2 @ h.T
        if self.covariance.n_rest:
            for g in np.unique(self.first.g):
                alike = np.flatnonzero(self.first.g == g)
                bt = r2 - a @ (h[alike[0], :, None] * self.covariance.C)
                for k in alike:
                    forms[:, k] += np.einsum("ij,ij->i", bt @ self.rest.K2[k], bt)
        return forms

    def products(self, v: Vectors) -> np.ndarray:
        """v_k' T_kl v_l with T = (I + S D)⁻¹ S: m × K × K, or m × r × K × K for several v a gene."""
        s, K = self.covariance, self.gamma.shape[1]
        v1, v2 = v.parts
        several = (slice(None), None) if v.several else slice(None)
        out = np.zeros((*v1.shape[:-1], K, K))
        dv = self.first.d[several] * v1
        out[..., s.largest, s.largest] = np.einsum("...j,...j->...", dv * s.lam, v1)
        if not s.n_rest:
            return out
        G, K2 = self.rest.G[several], self.rest.K2[several]
        parts = v2[..., None, :] * s.member.T
        z = (dv @ s.C)[..., None, :]
        Gv = parts @ G
        Wv = parts - Gv @ K2
        out += Wv @ Gv.swapaxes(-1, -2)
        cross = np.einsum("...kj,...ij->...k", Wv, z)
        cross[..., s.largest] = -0.5 * np.einsum("...ij,...ij->...", z @ K2, z)
        out[..., s.largest, :] += cross
        out[..., :, s.largest] += cross
        return out

    def traces(self) -> tuple[np.ndarray, np.ndarray]:
        """tr T_kk (m × K) and |T_kl|² in Frobenius norm (m × K × K), T = (I + S D)⁻¹ S."""
        s, K, j = self.covariance, self.gamma.shape[1], self.covariance.largest
        trace, norm = np.zeros((len(self.gamma), K)), np.zeros((len(self.gamma), K, K))
        trace[:, j] = self.first.sums(lambda d, lam: lam * d, s.count)
        norm[:, j, j] = self.first.sums(lambda d, lam: (lam * d) ** 2, s.count)
        if not s.n_rest:
            return trace, norm
        N = self.first.sums(lambda d, lam: lam * d**3, s.pairs)
        W = np.eye(s.n_rest) - self.rest.K2 @ self.rest.G
        K2M, T22, MW = self.rest.K2 @ self.M, self.rest.G @ W, self.M @ W
        trace += np.einsum("ijj->ij", T22) @ s.member
        trace[:, j] -= np.einsum("ijj->i", K2M)
        norm += s.member.T @ (T22**2 @ s.member)
        norm[:, j, j] += np.einsum("ijk,ikj->i", K2M, K2M) - 2 * np.einsum("ijk,ijk->i", self.rest.K2, N)
        cross = np.einsum("ikj,ikj->ij", W, MW) @ s.member
        cross[:, j] = norm[:, j, j]
        norm[:, j, :] = norm[:, :, j] = cross
        return trace, norm

    def shared_quadratics(self, x: DenseShared) -> tuple[np.ndarray, np.ndarray]:
        """x' D (I + S D)⁻¹ x (m × r) and |component k of (I + S D)⁻¹ x|² (m × r × K) for r vectors x all genes share."""
        s, K, first = self.covariance, self.gamma.shape[1], self.first
        quad = first.g[:, None] * first.sums(lambda d, lam: d, x.squares)
        parts = np.zeros((*quad.shape, K))
        parts[:, :, s.largest] = first.sums(lambda d, lam: d**2, x.squares)
        if not s.n_rest:
            return quad, parts
        known = np.zeros(len(quad), bool)
        if s.between is not None:
            known = s.between.knows(self.gamma)
            form, slopes = x.forms.rest_quadratics(self.gamma[known])
            quad[known] += form
            parts[known] += slopes
        if not known.all():
            left = s.factor(self.gamma[~known]) if known.any() else self
            form, slopes = left.rest_quadratics(x)
            quad[~known] += form
            parts[~known] += slopes
        return quad, parts

    def rest_quadratics(self, x: DenseShared) -> tuple[np.ndarray, np.ndarray]:
        """What the other columns add to both."""
        s, first = self.covariance, self.first
        bt = x.A2 - first.g[:, None, None] * first.sums(lambda d, lam: d, x.crossed)
        t = self.rest.K2 @ bt
        v2 = bt - self.rest.G @ t
        parts = (v2**2).swapaxes(1, 2) @ s.member
        cross = self.M @ t - 2 * first.sums(lambda d, lam: d**2, x.crossed)
        parts[:, :, s.largest] += np.einsum("ijk,ijk->ik", t, cross)
        return np.einsum("ijk,ijk->ik", bt, t), parts

    def shared_matrix(self, x: DenseShared) -> np.ndarray:
        """x_i' D (I + S D)⁻¹ x_j for r vectors all genes share, m × r × r."""
        first = self.first
        out = first.g[:, None, None] * first.sums(lambda d, lam: d, x.pairs)
        if self.covariance.n_rest:
            bt = x.A2 - first.g[:, None, None] * first.sums(lambda d, lam: d, x.crossed)
            out += bt.swapaxes(1, 2) @ (self.rest.K2 @ bt)
        return out
