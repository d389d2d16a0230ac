"""The covariance structure shared by all genes, and its factorisation at each gene's variance ratios.

With D = diag(γ) (the ratio γ_k = s_k / s_0 on the columns of component k) and a positive semidefinite S (Z'RZ, or Z'Z
for ML's determinant), everything the model needs comes from I + S D. The largest component is diagonalised once for
all genes, S_11 = U diag(λ) U'; the remaining R columns are a small dense problem for each gene (MATH: "eliminate
the largest, Woodbury for the rest"). With one component nothing remains, and these are the spectral formulas.

Arrays run over genes first: a is genes × q_1 (eigenbasis of the largest component), r2 is genes × R.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np


@dataclass(frozen=True)
class Structure:
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
    """

    largest: int
    lam: np.ndarray
    U: np.ndarray
    C: np.ndarray
    S22: np.ndarray
    member: np.ndarray
    order: np.ndarray

    @classmethod
    def of(cls, S: np.ndarray, d: Sequence[int]) -> Structure:
        """Diagonalise the largest component of S (q × q); d holds the columns of each component."""
        largest = int(np.argmax(d))
        component = np.repeat(np.arange(len(d)), d)
        first, rest = np.flatnonzero(component == largest), np.flatnonzero(component != largest)
        lam, U = np.linalg.eigh(S[np.ix_(first, first)])
        lam[lam < 1e-12 * max(lam[-1], 0.0)] = 0.0
        member = (component[rest][:, None] == np.arange(len(d))).astype(float)
        C = U.T @ S[np.ix_(first, rest)]
        return cls(largest, lam, U, C, S[np.ix_(rest, rest)], member, np.concatenate([first, rest]))

    @property
    def n_rest(self) -> int:
        """Columns outside the largest component, R."""
        return len(self.S22)

    def rotate(self, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Split q × m columns into (U'r_1)' and r_2', both with m rows."""
        q1 = self.lam.size
        return r[self.order[:q1]].T @ self.U, np.ascontiguousarray(r[self.order[q1:]].T)

    def restore(self, v1: np.ndarray, v2: np.ndarray) -> np.ndarray:
        """Undo `rotate`: genes × q in the original order of columns."""
        out = np.empty((len(v1), self.order.size))
        out[:, self.order] = np.concatenate([v1 @ self.U.T, v2], axis=1)
        return out

    def times(self, u1: np.ndarray, u2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """S u, for one u a gene."""
        return self.lam * u1 + u2 @ self.C.T, u1 @ self.C + u2 @ self.S22

    def factor(self, gamma: np.ndarray) -> Factor:
        """Factorise I + S D at the ratios of each gene (m × K)."""
        return Factor(self, gamma)


class Factor:
    """I + S D at the ratios of m genes. `ok` tells where it is positive definite (as inertia, not as determinant)."""

    def __init__(self, structure: Structure, gamma: np.ndarray):
        s = self.structure = structure
        self.gamma = gamma
        g1 = gamma[:, s.largest, None]
        edge = 1.0 + g1 * s.lam
        negative = (edge < 0).sum(axis=1)
        self.ok = (edge != 0).all(axis=1) & np.isfinite(gamma).all(axis=1) & ((negative == 0) | (s.n_rest > 0))
        edge[~self.ok] = 1.0
        self.d = 1.0 / edge
        self.h = g1 * self.d
        self.logdet = np.log(np.abs(edge)).sum(axis=1)
        if s.n_rest:
            self.D = gamma @ s.member.T
            self.G = s.S22 - weighted_products(self.h, s.C, s.C)
            self.K2 = np.empty_like(self.G)
            logdet2, ok2 = np.empty(len(gamma)), np.empty(len(gamma), dtype=bool)
            _invert_signed(self.G, self.D, negative, self.K2, logdet2, ok2)
            self.logdet = self.logdet + logdet2
            self.ok &= ok2

    @cached_property
    def M(self) -> np.ndarray:
        """C' diag(d²) C."""
        return weighted_products(self.d**2, self.structure.C, self.structure.C)

    def solve(self, a: np.ndarray, r2: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """v = (I + S D)⁻¹ r and the quadratic form r' D v, for one r a gene (m × q) or several (m × r × q)."""
        h, d = (self.h, self.d) if a.ndim == 2 else (self.h[:, None], self.d[:, None])
        ha = h * a
        quad = np.einsum("...j,...j->...", ha, a)
        if not self.structure.n_rest:
            return d * a, r2, quad
        bt = r2 - ha @ self.structure.C
        rows = bt if bt.ndim == 3 else bt[:, None]
        t = rows @ self.K2
        v2 = (rows - t @ self.G).reshape(bt.shape)
        t = t.reshape(bt.shape)
        return d * (a - t @ self.structure.C.T), v2, quad + np.einsum("...j,...j->...", bt, t)

    def shared_forms(self, a: np.ndarray, r2: np.ndarray) -> np.ndarray:
        """r' D (I + S D)⁻¹ r for one r a gene, at the ratios of every row of the factor: genes × rows."""
        forms = a**2 @ self.h.T
        if self.structure.n_rest:
            for k, (h, K2) in enumerate(zip(self.h, self.K2, strict=True)):
                bt = r2 - a @ (h[:, None] * self.structure.C)
                forms[:, k] += np.einsum("ij,ij->i", bt @ K2, bt)
        return forms

    def by_component(self, x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
        """Sum a quantity of the random columns within components: ... × q to ... × K."""
        out = x2 @ self.structure.member
        out[..., self.structure.largest] = x1.sum(axis=-1)
        return out

    def products(self, v1: np.ndarray, v2: np.ndarray) -> np.ndarray:
        """v_k' T_kl v_l with T = (I + S D)⁻¹ S: m × K × K, or m × r × K × K for several v a gene."""
        s, K = self.structure, self.gamma.shape[1]
        out = np.empty((*v1.shape[:-1], K, K))
        for k in range(K):
            u1 = v1 if k == s.largest else np.zeros_like(v1)
            Tu1, Tu2, _ = self.solve(*s.times(u1, v2 * s.member[:, k]))
            out[..., k] = self.by_component(v1 * Tu1, v2 * Tu2)
        return (out + out.swapaxes(-1, -2)) / 2

    def traces(self) -> tuple[np.ndarray, np.ndarray]:
        """tr T_kk (m × K) and |T_kl|² in Frobenius norm (m × K × K), T = (I + S D)⁻¹ S."""
        s, K = self.structure, self.gamma.shape[1]
        e = s.lam * self.d
        trace, norm = np.zeros((len(e), K)), np.zeros((len(e), K, K))
        j = s.largest
        trace[:, j], norm[:, j, j] = e.sum(axis=1), np.einsum("ij,ij->i", e, e)
        if not s.n_rest:
            return trace, norm
        N = weighted_products(e * self.d**2, s.C, s.C)
        W = np.eye(s.n_rest) - self.K2 @ self.G
        K2M, T22, MW = self.K2 @ self.M, self.G @ W, self.M @ W
        trace += np.einsum("ijj->ij", T22) @ s.member
        trace[:, j] -= np.einsum("ijj->i", K2M)
        norm += s.member.T @ (T22**2 @ s.member)
        norm[:, j, j] += np.einsum("ijk,ikj->i", K2M, K2M) - 2 * np.einsum("ijk,ijk->i", self.K2, N)
        cross = np.einsum("ikj,ikj->ij", W, MW) @ s.member
        cross[:, j] = norm[:, j, j]
        norm[:, j, :] = norm[:, :, j] = cross
        return trace, norm

    def shared_quadratics(self, A1: np.ndarray, A2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x' D (I + S D)⁻¹ x (m × r) and |component k of (I + S D)⁻¹ x|² (m × r × K) for r vectors x all genes share.

        A1 (q_1 × r, in the eigenbasis) and A2 (R × r) hold the vectors as columns.
        """
        s, K = self.structure, self.gamma.shape[1]
        d2 = self.d**2
        quad, parts = self.h @ A1**2, np.zeros((len(d2), A1.shape[1], K))
        parts[:, :, s.largest] = d2 @ A1**2
        if s.n_rest:
            bt = A2 - weighted_products(self.h, s.C, A1)
            t = self.K2 @ bt
            v2 = bt - self.G @ t
            quad += np.einsum("ijk,ijk->ik", bt, t)
            parts += (v2**2).swapaxes(1, 2) @ s.member
            cross = self.M @ t - 2 * weighted_products(d2, s.C, A1)
            parts[:, :, s.largest] += np.einsum("ijk,ijk->ik", t, cross)
        return quad, parts

    def shared_matrix(self, A1: np.ndarray, A2: np.ndarray) -> np.ndarray:
        """A' D (I + S D)⁻¹ A, m × r × r."""
        out = weighted_products(self.h, A1, A1)
        if self.structure.n_rest:
            bt = A2 - weighted_products(self.h, self.structure.C, A1)
            out += bt.swapaxes(1, 2) @ (self.K2 @ bt)
        return out


def weighted_products(weights: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """left' diag(w_g) right for the weights w_g of every gene g: one matrix product a column of `left`."""
    out = np.empty((len(weights), left.shape[1], right.shape[1]))
    for i in range(left.shape[1]):
        if left is right:
            out[:, i, i:] = weights @ (left[:, i, None] * right[:, i:])
            out[:, i:, i] = out[:, i, i:]
        else:
            out[:, i] = weights @ (left[:, i, None] * right)
    return out


@numba.njit(nogil=True, cache=True)
def _invert_signed(G, D, negative, K2, logdet, ok):  # type: ignore[no-untyped-def]
    """K2 = D (I + G D)⁻¹ and log |det(I + G D)| for a stack of genes, and whether I + S D is positive definite.

    With B = |D|^½ and E = sign(D), K2 = B (E + B G B)⁻¹ B. By inertia I + S D has only positive eigenvalues exactly when
    E + B G B has as many negative pivots as E, and one more for each `negative` eigenvalue of the block eliminated.
    """
    R = G.shape[1]
    left = np.empty(R, dtype=np.bool_)
    for g in range(G.shape[0]):
        A = K2[g]
        B = np.sqrt(np.abs(D[g]))
        for i in range(R):
            for j in range(R):
                A[i, j] = B[i] * G[g, i, j] * B[j]
            A[i, i] += 1.0 if D[g, i] >= 0 else -1.0
        expected, found = negative[g] + (D[g] < 0).sum(), 0
        logdet[g], ok[g], left[:] = 0.0, True, True
        for _ in range(R):
            k, largest = -1, 0.0
            for i in range(R):
                if left[i] and np.abs(A[i, i]) > largest:
                    k, largest = i, np.abs(A[i, i])
            if k < 0 or not np.isfinite(largest):
                ok[g] = False
                break
            left[k] = False
            pivot = A[k, k]
            found += pivot < 0
            logdet[g] += np.log(largest)
            A[k, k] = 1.0
            for j in range(R):
                A[k, j] /= pivot
            for i in range(R):
                if i != k:
                    f = A[i, k]
                    A[i, k] = 0.0
                    for j in range(R):
                        A[i, j] -= f * A[k, j]
        ok[g] = ok[g] and found == expected
        for i in range(R):
            for j in range(R):
                A[i, j] = B[i] * A[i, j] * B[j] if ok[g] else 0.0
