"""I + S D of many genes by the levels of the largest term; formulas and names as in `covariance`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._gaussian.blocks.kernel import halves, resolvents
from flashmm_sc._gaussian.vectors import Vectors

if TYPE_CHECKING:
    from flashmm_sc._gaussian.blocks.terms import Terms


_COLUMNS, _NUMBERS = 256, 2**18
"""Columns of a product with the data of all genes, at which BLAS is fast, and most numbers in them."""


@dataclass(frozen=True, eq=False)
class BlockShared:
    """Vectors A L that all genes share, and what they are of Q's columns, L⁻¹ of X'X times L."""

    columns: Vectors
    L: np.ndarray

    @property
    def vectors(self) -> Vectors:
        """As vectors, 1 × r × q."""
        return Vectors(self.columns.layout, tuple(part[None] for part in self.columns.parts))


class BlockFactorisation:
    """I + S D at the parameters of m genes; Γ of every term is positive semidefinite."""

    def __init__(self, terms: Terms, gamma: np.ndarray):
        self.terms, self.gamma = terms, gamma
        finite = np.isfinite(gamma).all(axis=1)
        gamma = np.where(finite[:, None], gamma, 0.0)
        m, (levels, c, n) = len(gamma), terms.C.shape
        self.Gamma = np.ascontiguousarray(terms.structure.matrices(gamma, terms.first))
        self.J, logdet = np.empty((m, levels, c, c)), np.empty(m)
        resolvents(terms.N, self.Gamma, self.J, logdet)
        self.F = np.einsum("mlab,lbn->mlan", self.J, terms.C)
        Y = np.empty_like(self.J)
        halves(terms.N, np.ascontiguousarray(terms.structure.roots(gamma, terms.first)), Y)
        half = np.einsum("mlab,lbn->mlan", Y, terms.C).reshape(m, levels * c, n)
        self.G = terms.UU - half.swapaxes(1, 2) @ half
        root = terms.root(gamma)
        middle = root.swapaxes(1, 2) @ self.G @ root
        middle[:, range(terms.R), range(terms.R)] += 1.0
        sign, rest = np.linalg.slogdet(middle)
        self.ok = finite & (sign > 0) & np.isfinite(logdet)
        middle[~self.ok] = np.eye(n)
        self.K2 = root @ np.linalg.inv(middle) @ root.swapaxes(1, 2)
        self.logdet = logdet + rest

    def __getitem__(self, index: np.ndarray) -> BlockFactorisation:
        """Those of some genes, factorised anew: that takes little of what the traces take."""
        return BlockFactorisation(self.terms, self.gamma[index])

    def solve(self, r: Vectors) -> tuple[Vectors, np.ndarray]:
        """v = (I + S D)⁻¹ r and the quadratic form r'D v, for one or several r a gene, or several that all share."""
        r1, r2 = self.terms.cut(r)
        r1, r2 = (r1, r2) if r.several else (r1[:, None], r2[:, None])
        R, C = self.terms.R, self.terms.C
        levels, c, n = C.shape
        Jr = np.einsum("mlab,mslb->msla", self.J, np.broadcast_to(r1, (len(self.J), *r1.shape[1:])))
        W = np.einsum("mab,mslb->msla", self.Gamma, Jr)
        u = -W.reshape(*W.shape[:2], levels * c) @ C.reshape(levels * c, n)
        u[..., :R] += r2
        t = u @ self.K2
        v1 = Jr - (t @ self.F.reshape(len(t), levels * c, n).swapaxes(1, 2)).reshape(Jr.shape)
        v2 = (u - t @ self.G)[..., :R]
        form = np.einsum("msla,msla->ms", np.broadcast_to(r1, W.shape), W) + np.einsum("msn,msn->ms", u, t)
        if r.several:
            return self.terms.joined(v1, v2), form
        return self.terms.joined(v1[:, 0], v2[:, 0]), form[:, 0]

    def shared_forms(self, r: Vectors) -> np.ndarray:
        """r'D (I + S D)⁻¹ r for one r a gene, at the parameters of every row of the factorisation: genes × rows."""
        r1, r2 = self.terms.cut(r)
        (levels, c, n), m = self.terms.C.shape, len(r1)
        a, b = np.triu_indices(c)
        rows, products = r1.reshape(m, levels * c), (r1[..., a] * r1[..., b]).reshape(m, -1)
        out, step = np.empty((m, len(self.gamma))), max(1, min(_COLUMNS // n, _NUMBERS // (levels * c * n)))
        for start in range(0, len(self.gamma), step):
            part = slice(start, start + step)
            GJ = self.Gamma[part, None] @ self.J[part]
            weights = np.where(a == b, 1, 2) * GJ[..., a, b]
            out[:, part] = products @ weights.reshape(len(GJ), -1).T
            F = (GJ @ self.terms.C).reshape(-1, levels * c, n)
            u = -(rows @ np.concatenate(F, axis=1)).reshape(m, -1, n)
            u[..., : self.terms.R] += r2[:, None]
            t = (u.swapaxes(0, 1) @ self.K2[part]).swapaxes(0, 1)
            out[:, part] += np.einsum("gkn,gkn->gk", u, t)
        return out

    def products(self, v: Vectors) -> np.ndarray:
        """v'E_j T E_l v of all parameters: m × P × P, or m × r × P × P for several v a gene."""
        s, m, P = self.terms, len(self.gamma), self.terms.structure.size
        levels, c, n = s.C.shape
        v1, v2 = s.cut(v)
        several = v1.shape[1:-2]
        r = several[0] if v.several else 1
        z1, z2 = self._moved(v1.reshape(m, r, levels, c), v2.reshape(m, r, s.R))
        F = self.F.reshape(m, levels * c, n)
        Tz = np.einsum("mlab,mklb->mkla", self.T0, z1).reshape(m, r * P, levels * c)
        first = z1.reshape(Tz.shape)
        fz = first @ F
        y = fz + z2 @ self.G[:, : s.R]
        each = lambda x: x.reshape(m, r, P, x.shape[-1])
        inner = lambda x, z: each(x) @ each(z).swapaxes(-1, -2)
        cross = inner(fz[..., : s.R], z2)
        out = inner(first, Tz) + cross + cross.swapaxes(-1, -2) + inner(z2 @ self.G[:, : s.R, : s.R], z2)
        return (out - inner(y @ self.K2, y)).reshape(m, *several, P, P)

    def _moved(self, v1: np.ndarray, v2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """E_j v of all parameters, cut as v is: m × r P × L × c and m × r P × R."""
        s, P = self.terms, self.terms.structure.size
        m, r, levels, c = v1.shape
        z1, z2 = np.zeros((m, r, P, levels, c)), np.zeros((m, r, P, s.R))
        for j, a, b in s.parameters(s.first):
            z1[:, :, j, :, a] = v1[..., b]
            z1[:, :, j, :, b] = v1[..., a]
        for j, a, b in s.parameters(s.others):
            one, other = (s.rest[s.others[i]] for i in (a, b))
            z2[:, :, j, one] = v2[..., other]
            z2[:, :, j, other] = v2[..., one]
        return z1.reshape(m, r * P, levels, c), z2.reshape(m, r * P, s.R)

    @cached_property
    def T0(self) -> np.ndarray:
        """Z_i'V_1⁻¹Z_i, m × L × c × c."""
        T0 = np.einsum("mlab,lbc->mlac", self.J, self.terms.N)
        return (T0 + T0.swapaxes(2, 3)) / 2

    @cached_property
    def M(self) -> dict[int, np.ndarray]:
        """F'E_j F of the parameters j of the largest term, m × n × n each."""
        out = {}
        for j, a, b in self.terms.parameters(self.terms.first):
            half = self.F[:, :, a].swapaxes(1, 2) @ self.F[:, :, b]
            out[j] = half if a == b else half + half.swapaxes(1, 2)
        return out

    def traces(self) -> tuple[np.ndarray, np.ndarray]:
        """tr T E_j (m × P) and tr T E_j T E_l (m × P × P)."""
        s, m, P, R = self.terms, len(self.gamma), self.terms.structure.size, self.terms.R
        trace, norm = np.zeros((m, P)), np.zeros((m, P, P))
        H = np.einsum("mlan,mlbn->mlab", self.F @ self.K2[:, None], self.F)
        T11, own, others = self.T0 - H, s.parameters(s.first), s.parameters(s.others)
        W = (np.eye(len(s.UU)) - self.K2 @ self.G)[..., :R]
        T22 = (self.G @ W)[:, :R]
        for j, a, b in own:
            trace[:, j] = T11[:, :, a, b].sum(axis=1) * (1 if a == b else 2)
        for (j, a, b), (l, c, d) in product(own, own):
            norm[:, j, l] = _within(self.T0, self.T0 - 2 * H, (a, b), (c, d))
            norm[:, j, l] += np.einsum("mij,mji->m", self.K2 @ self.M[j], self.K2 @ self.M[l])
        turned = {l: self._turned(T22, a, b) for l, a, b in others}
        for l, TE in turned.items():
            trace[:, l] = np.einsum("mii->m", TE)
            for j, other in turned.items():
                norm[:, j, l] = np.einsum("mik,mki->m", TE, other)
        for j, M in self.M.items():
            X = W.swapaxes(1, 2) @ M @ W
            for l, a, b in others:
                norm[:, j, l] = norm[:, l, j] = np.einsum("mii->m", self._turned(X, a, b))
        return trace, (norm + norm.swapaxes(1, 2)) / 2

    def _turned(self, X: np.ndarray, a: int, b: int) -> np.ndarray:
        """X E_l for the parameter l that joins two of the other components."""
        out, (one, other) = np.zeros_like(X), (self.terms.rest[self.terms.others[i]] for i in (a, b))
        out[:, :, one] = X[:, :, other]
        out[:, :, other] = X[:, :, one]
        return out

    def shared_quadratics(self, x: BlockShared) -> tuple[np.ndarray, np.ndarray]:
        """x'D (I + S D)⁻¹ x (m × r) and v'E_j v of v = (I + S D)⁻¹ x (m × r × P) for r shared vectors x."""
        s = self.terms
        k = self.K2[:, :, s.R :] @ x.L
        quad = np.einsum("nr,mnr->mr", x.L, k[:, s.R :]) - np.sum(x.L**2, axis=0)
        parts = np.empty((*quad.shape, s.structure.size))
        for j, M in self.M.items():
            parts[:, :, j] = np.einsum("mnr,mnr->mr", k, M @ k)
        v2 = self.G[:, : s.R] @ k
        for l, a, b in s.parameters(s.others):
            one, other = (s.rest[s.others[i]] for i in (a, b))
            parts[:, :, l] = np.einsum("mnr,mnr->mr", v2[:, one], v2[:, other]) * (1 if a == b else 2)
        return quad, parts

    def shared_matrix(self, x: BlockShared) -> np.ndarray:
        """x_i'D (I + S D)⁻¹ x_j for r vectors all genes share, m × r × r."""
        R = self.terms.R
        return x.L.T @ (self.K2[:, R:, R:] @ x.L) - x.L.T @ x.L


def _within(A: np.ndarray, B: np.ndarray, one: tuple[int, int], other: tuple[int, int]) -> np.ndarray:
    """Σ_i tr(E_j A_i E_l B_i) for parameters that join columns a, b and c, d of a level (blocks m × L × c × c)."""
    (a, b), (c, d) = one, other
    total = np.zeros(len(A))
    for x, y in {(a, b), (b, a)}:
        for z, w in {(c, d), (d, c)}:
            total += np.einsum("ml,ml->m", A[:, :, y, z], B[:, :, w, x])
    return total
