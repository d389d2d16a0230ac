"""Two components or three of which the largest is eliminated, at any ratios: `dense.between` and `dense.nested` without a basis.

At a point γ_1, with t = [r_2; 0] - γ_1 C'diag(e) r_1 of a gene and W'V_1⁻¹W = [[G_22, G_2X], [G_X2, G_XX]] (see `covariance`),

    G = G_22 - G_2X G_XX⁻¹G_X2 = U diag(μ) U'    G_XX = L L'    b = F't,  F = [[U, 0], [-G_XX⁻¹G_X2 U, L⁻ᵀ]]

and m is the diagonal of F'C'diag(e²)C F, first columns. With three components G has points of its own, and U = I.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.threads import BLOCK_BYTES, for_gene_blocks
from flashmm_sc._gaussian.crossed import kernel as kernel
from flashmm_sc._gaussian.dense.axis import Axis
from flashmm_sc._gaussian.dense.between import Between
from flashmm_sc._gaussian.dense.covariance import DenseCovariance
from flashmm_sc._gaussian.dense.nested import Nested, inner, outer

if TYPE_CHECKING:
    import scipy.sparse as sp

    from flashmm_sc._gaussian.crossed.table import DeterminantTable
    from flashmm_sc._gaussian.gram import Gram

_BYTES = 2**28
"""What F of all points may take."""


@dataclass(frozen=True, eq=False)
class SparseFold:
    """b of rows r_1 and r_2.

    Attributes
    ----------
    C
        Z_1'W, by rows.
    weight
        γ_1 e of each level at each point, q_1 × P.
    F
        P × N × N.
    fixed
        Columns of X.
    """

    C: sp.csr_array
    weight: np.ndarray
    F: np.ndarray
    fixed: int

    def __call__(self, a: np.ndarray, r2: np.ndarray) -> np.ndarray:
        """b of all points, · × P N."""
        P, N, _ = self.F.shape
        t = np.empty((P, len(a), N))
        kernel.fold(self.C.indptr, self.C.indices, self.C.data, self.weight, np.ascontiguousarray(a), r2, t)
        out = np.empty((len(a), P, N))
        for p, F in enumerate(self.F):
            out[:, p] = t[p] @ F
        return out.reshape(len(a), -1)


def between(
    first: int, table: DeterminantTable, C: sp.csr_array, logdet_XX: float, n_jobs: int | None
) -> Between | Nested:
    """What is left at each point: diagonalised, or of two components between points of their own."""
    size, two, R, N = table.size, len(table.d) == 1, sum(table.d), C.shape[1]
    axis = Axis(size[-1]) if two else outer(size)
    gamma = axis.ratios
    P = len(gamma)
    mu, m, F = np.empty((P, R)), np.empty((P, R)), np.zeros((P, N, N))
    logdet, left = np.empty(P), {}

    def work(part: slice) -> None:
        for p in range(part.start, part.stop):
            whole = table.schur(gamma[p])
            L = np.linalg.cholesky(whole[R:, R:])
            F[p, R:, R:] = np.linalg.inv(L).T
            B = F[p, R:, R:].T @ whole[R:, :R]
            G, U = whole[:R, :R] - B.T @ B, np.eye(R)
            if two:
                value, U = np.linalg.eigh(G)
                mu[p] = np.maximum(value, 0.0)
            else:
                left[p] = DenseCovariance.of(G, table.d, table.rank)
            F[p, :R, :R], F[p, R:, :R] = U, -F[p, R:, R:] @ (B @ U)
            if two:
                m[p] = np.square((C @ F[p, :, :R]) / (1 + gamma[p] * size)[:, None]).sum(axis=0)
            logdet[p] = 2 * np.log(np.diag(L)).sum() - logdet_XX

    for_gene_blocks(work, P, BLOCK_BYTES, n_jobs)
    fold = SparseFold(C, gamma / (1 + gamma * size[:, None]), F, N - R)
    if two:
        return Between(first, size, axis, mu, m, fold, logdet)
    own = inner([*left.values()])

    def points(part: slice) -> None:
        for p in range(part.start, part.stop):
            left[p] = left[p].with_points(own)

    for_gene_blocks(points, P, BLOCK_BYTES, n_jobs)
    return Nested(first, size, axis, [left[p] for p in range(P)], fold, logdet)


def interpolates(gram: Gram) -> bool:
    """Whether two or three components, the largest a factor, have an F of all points that takes no more memory than it may."""
    _, *others = sorted(gram.d, reverse=True)
    if len(others) not in (1, 2) or not gram.has_levels or (len(others) == 2 and not Nested.fits(others)):
        return False
    return 8 * Axis.size * (sum(others) + len(gram.XX)) ** 2 < _BYTES
