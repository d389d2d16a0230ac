"""Sums of residuals, of genes whose sums as they are keep too few digits of how their values vary.

Σ y² of values a thousand times as large as their variation has six digits less of it. Sums of y' = y - X b keep all, and
fits need no others: with X'y' and Z'y' in the place of X'y and Z'y, β = b + β', and all else is the same. b is a first
estimate, of ordinary least squares; of its coefficients those are left out that matter less, so that models without them
have the same y'.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from flashmm_sc._base.rank import TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Sequence

_FAR = 1e-4
"""Share of y'y that a residual sum of squares is at least, where sums keep digits enough."""
_MATTERS = 1e4
"""Least sum of squares of a coefficient's fitted values, relative to the residual one, that is subtracted."""
_NOISE = 1e-12
"""Least residual, relative to the values: of less only the rounding of these and of fitted values is left."""


@dataclass(frozen=True, eq=False)
class Refined:
    """Sums of residuals of some genes.

    Attributes
    ----------
    genes
        Positions of these genes among those of the statistics, ascending.
    coef
        b of each, p × genes.
    stats
        Statistics of y - X b, of the same model.
    noise
        Residual sums of squares that the rounding of stored values makes.
    """

    genes: np.ndarray
    coef: np.ndarray
    stats: Any
    noise: np.ndarray

    @classmethod
    def of(
        cls, stats: Any, genes: np.ndarray, coef: np.ndarray, noise: np.ndarray, sums: tuple[np.ndarray, ...]
    ) -> Refined:
        """From statistics of all genes, and X'y', Z'y' and y'y' of these."""
        XY, ZY, yy = sums
        return cls(genes, coef, replace(stats.select(genes=genes), XY=XY, ZY=ZY, yy=yy), noise)

    def select(self, coefs: np.ndarray, components: np.ndarray, genes: np.ndarray) -> Refined | None:
        """Of a sub-model and some genes (positions): those whose b has no coefficient that is left out."""
        place = np.full(max(self.genes.max(initial=0), genes.max(initial=0)) + 1, -1)
        place[genes] = np.arange(len(genes))
        at, left_out = place[self.genes], np.delete(self.coef, coefs, axis=0)
        kept = np.flatnonzero((at >= 0) & ~left_out.any(axis=0))
        if not kept.size:
            return None
        kept = kept[np.argsort(at[kept])]
        stats = self.stats.select(coefs=coefs, components=components, genes=kept)
        return Refined(at[kept], self.coef[np.ix_(coefs, kept)], stats, self.noise[kept])


def first_estimates(XX: np.ndarray, XY: np.ndarray, yy: np.ndarray) -> np.ndarray:
    """Coefficients b (p × m) to subtract, zero for genes whose sums keep digits enough."""
    norm = np.sqrt(XX.diagonal())
    scale = np.outer(norm, norm) + (np.outer(norm, norm) == 0)
    b = np.linalg.pinv(XX / scale, hermitian=True, rcond=TOLERANCE) / scale @ XY
    left = yy - np.einsum("ij,ij->j", XY, b)
    matters = b**2 * XX.diagonal()[:, None] > _MATTERS * np.maximum(left, 0.0)
    return np.where(matters & (left < _FAR * yy), b, 0.0)


def noise_of(stats: Any, genes: np.ndarray, coef: np.ndarray, eps: float) -> np.ndarray:
    """Residual sums of squares that are rounding: of values stored to a relative `eps`, and of the fitted values of `coef`."""
    b = coef if stats.basis is None else stats.basis @ coef
    fitted = np.sqrt(stats.plain.XX.diagonal()) @ np.abs(b)
    return stats.yy[genes] * max(4 * eps, _NOISE) ** 2 + (4 * np.finfo(np.float64).eps * fitted) ** 2


def added(a: Any, b: Any, total: Any) -> Refined | None:
    """Sums of residuals of two sets of cells from their statistics, for the statistics of both."""
    each = [one.refined for one in (a, b)]
    names = [[one.gene_names[j] for j in its.genes] if its else [] for one, its in zip((a, b), each, strict=True)]
    union = set(names[0]) | set(names[1])
    if not union:
        return None
    genes = [j for j, name in enumerate(total.gene_names) if name in union]
    chosen = [total.gene_names[j] for j in genes]
    coef, noise = np.zeros((len(total.XX), len(genes))), np.zeros(len(genes))
    for its, known in zip(each[::-1], names[::-1], strict=True):
        if its:
            at = [chosen.index(name) for name in known]
            coef[:, at] = its.coef
            noise[at] += its.noise
    stats = _less(a, chosen, coef) + _less(b, chosen, coef)
    return Refined(np.array(genes), coef, stats, noise)


def _less(stats: Any, names: Sequence[str], coef: np.ndarray) -> Any:
    """Statistics of y - X b of these genes."""
    own, before = replace(stats.select(genes=list(names)), refined=None), np.zeros_like(coef)
    its = stats.refined
    XY, ZY, yy = own.XY.copy(), own.ZY.copy(), own.yy.copy()
    if its:
        at = [list(names).index(stats.gene_names[j]) for j in its.genes]
        before[:, at], XY[:, at], ZY[:, at], yy[at] = its.coef, its.stats.XY, its.stats.ZY, its.stats.yy
    change = coef - before
    left = XY - own.XX @ change
    yy -= np.einsum("ij,ij->j", change, XY + left)
    return replace(own, XY=left, ZY=ZY - own.ZX @ change, yy=np.maximum(yy, 0.0))
