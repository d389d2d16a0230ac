"""How well the random effects of a gene are predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.selection import component_slices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashmm_sc._gaussian.structure import Structure
    from flashmm_sc._stats.cross import CrossProducts
    from flashmm_sc._stats.residual import ResidualGroup


def prediction_variance(
    cross: CrossProducts, d: Sequence[int], structure: Structure, groups: Sequence[ResidualGroup], theta: np.ndarray
) -> np.ndarray:
    """Var(b̂ - b) of the q random effects of one gene, its variances θ taken for known: the diagonal of (I + D W)⁻¹ D.

    W = Z'R⁻¹Z - Z'R⁻¹X (X'R⁻¹X)⁻¹ X'R⁻¹Z, as the fixed effects are estimated as well (Henderson's mixed model equations).
    """
    p, q = cross.ZX.shape[1], sum(d)
    if groups:
        each = zip(groups, theta[-len(groups) :], strict=True)
        whole = [(one.cross(p, cross.width), s) for one, s in each]
    else:
        whole = [(cross, theta[-1])]
    XX, ZX = (sum(getattr(one, name) / s for one, s in whole) for name in ("XX", "ZX"))
    W = sum(one.ZZ.toarray() / s for one, s in whole) - ZX @ np.linalg.solve(XX, ZX.T)
    D, parts = np.zeros((q, q)), component_slices(d)
    for term in structure.terms:
        for k in term:
            for l in term:
                D[parts[k], parts[l]] = theta[structure.place(k, l)] * np.eye(d[k])
    return np.asarray(np.linalg.solve(np.eye(q) + D @ W, D).diagonal())
