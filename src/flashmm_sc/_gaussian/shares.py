"""How much of a gene's variance over the cells the fixed terms, the random terms and the residual explain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.selection import component_slices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashmm_sc._gaussian.structure import Structure
    from flashmm_sc._stats.cross import CrossProducts


@dataclass(frozen=True, eq=False)
class Centred:
    """The designs of a model, centred over its cells.

    Attributes
    ----------
    XX
        X'X of centred columns.
    varies
        Which fixed columns vary over the cells.
    sizes
        tr Z_k'Z_l of centred columns, of components k, l of the same random term; 0 for others.
    structure
        Which components are correlated.
    n
        Number of cells; of each group of them, if these have a residual variance each.
    """

    XX: np.ndarray
    varies: np.ndarray
    sizes: np.ndarray
    structure: Structure
    n: np.ndarray

    @classmethod
    def of(
        cls,
        cross: CrossProducts,
        totals: tuple[np.ndarray, np.ndarray],
        weight_sum: float,
        d: Sequence[int],
        structure: Structure,
        n: int | Sequence[int],
    ) -> Centred:
        """From the cross-products, and 1'X and 1'Z; with weights all of them are weighted sums."""
        total_X, total_Z = totals
        XX, least = _centred(cross, total_X, weight_sum), 1e-11 if cross.basis is None else 1e-14
        parts, sizes = component_slices(d), np.zeros((len(d), len(d)))
        for term in structure.terms:
            for k in term:
                for l in term:
                    whole = cross.ZZ[parts[k], parts[l]].trace()
                    sizes[k, l] = whole - total_Z[parts[k]] @ total_Z[parts[l]] / weight_sum
        return cls(XX, XX.diagonal() > least * cross.plain.XX.diagonal(), sizes, structure, np.atleast_1d(n))

    def random_terms(self, names: Sequence[str]) -> list[str]:
        """Names of the random terms, whose components have these."""
        return [" + ".join(names[k] for k in term) for term in sorted(self.structure.terms)]

    def shares(self, coef: np.ndarray, theta: np.ndarray, terms: Sequence[np.ndarray]) -> np.ndarray:
        """Shares of fixed terms (positions of their columns), random terms and the residual, which add up to 1: genes × these.

        The variance of X β is shared out in proportion to those of X_t β_t. A random term has Σ_kl γ_kl tr Z_k'Z_l / (n - 1),
        nothing if that is negative; the residual the mean of its variances over the cells.
        """
        spread = self.n.sum() - 1
        quadratic = lambda j: np.einsum("ij,ij->i", coef[:, j] @ self.XX[np.ix_(j, j)], coef[:, j]) / spread
        fixed = quadratic(np.flatnonzero(self.varies))
        each = np.column_stack([quadratic(j[self.varies[j]]) for j in terms]) if terms else np.empty((len(coef), 0))
        place = self.structure.place
        random = [
            np.maximum(sum(theta[:, place(k, l)] * self.sizes[k, l] for k in term for l in term) / spread, 0.0)
            for term in sorted(self.structure.terms)
        ]
        residual = theta[:, -len(self.n) :] @ self.n / self.n.sum()
        with np.errstate(divide="ignore", invalid="ignore"):
            sums = each.sum(axis=1, keepdims=True)
            own = np.where(sums == 0, 0.0, each / sums) * fixed[:, None]
        parts = np.column_stack([own, *random, residual])
        return np.asarray(parts / parts.sum(axis=1, keepdims=True))


def _centred(cross: CrossProducts, total: np.ndarray, weight_sum: float) -> np.ndarray:
    """X'X of centred columns, from the sums 1'X̃ of those that the cross-products are of.

    Large coefficients are mostly multiples of 1 = X̃ c, of which centring leaves not even rounding.
    """
    XX = cross.XX - np.outer(total, total) / weight_sum
    c = np.linalg.solve(cross.XX, total)
    if abs(weight_sum - c @ total) < 1e-9 * weight_sum:
        others = np.eye(len(c)) - np.outer(c, c) / (c @ c)
        XX = others @ XX @ others
    return replace(cross, XX=XX).plain.XX
