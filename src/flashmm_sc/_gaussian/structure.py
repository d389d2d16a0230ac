"""Where the parameters θ of the variances lie in the covariance of the random effects.

Component k has the variance γ_k on its columns. Components of one correlated term, lme4's (1 + x | g), have the same levels,
and for each pair (k, l) of them a covariance γ_kl that joins the columns of a level: b_i ~ N(0, Γ), Γ of all its components.
So γ has K variances, then the covariances; D = Σ_j γ_j E_j is linear in them, and every formula of the likelihood holds
with V_j = Z E_j Z'.

The optimiser keeps Γ positive semidefinite by Γ = Λ Λ', Λ a lower triangle (Bates et al., Journal of Statistical Software
2015), whose entries x lie where those of Γ lie in γ; uncorrelated components are bounded coordinates as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.selection import correlated_pairs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


INDEPENDENT = "write '(1 + x || g)', or for a factor an interaction, 'g + g:x'"
"""What to write instead of a correlated term, in messages that don't know it."""


@dataclass(frozen=True)
class Structure:
    """K components, the groups of those that are correlated, and residual variances beside s_0, whose ratios follow in γ.

    `order` has the groups in the order in which their components make rows of Λ, if it is another.
    """

    K: int
    groups: tuple[tuple[int, ...], ...] = ()
    residuals: int = 0
    order: tuple[tuple[int, ...], ...] = ()

    @cached_property
    def turns(self) -> tuple[Structure, ...]:
        """The same with other orders of correlated components, each being the first and the last: other coordinates for Γ."""
        most = max(map(len, self.groups), default=1)
        turned = [
            tuple(group[k % len(group) :] + group[: k % len(group)] for group in self.groups) for k in range(most)
        ]
        orders = [*turned, *(tuple(group[::-1] for group in order) for order in turned)]
        return tuple(replace(self, order=order) for order in dict.fromkeys(orders))

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of correlated components, in the order of their covariances."""
        return tuple(correlated_pairs(self.groups))

    @cached_property
    def terms(self) -> tuple[tuple[int, ...], ...]:
        """Components of each term: those of a correlated one, or one by itself."""
        return (*self.groups, *((k,) for k in range(self.K) if self.bounded[k]))

    @property
    def size(self) -> int:
        """Number of parameters: variances, covariances and ratios of residual variances."""
        return self.K + len(self.pairs) + self.residuals

    @cached_property
    def bounded(self) -> np.ndarray:
        """Which coordinates are variances of their own, which have a bound at zero."""
        together = {k for group in self.groups for k in group}
        return np.array([j < self.K and j not in together for j in range(self.size)])

    @cached_property
    def linear(self) -> np.ndarray:
        """Which coordinates are parameters themselves."""
        return self.bounded | (np.arange(self.size) >= self.size - self.residuals)

    @cached_property
    def row(self) -> np.ndarray:
        """Component of the row of Λ in which a coordinate is."""
        rank = {k: i for group in self.order or self.groups for i, k in enumerate(group)}
        return np.array([*range(self.K), *(max(pair, key=rank.__getitem__) for pair in self.pairs)])

    def place(self, k: int, l: int) -> int:
        """Position in γ of the covariance of two components, the variance if they are the same."""
        return k if k == l else self.K + self.pairs.index((min(k, l), max(k, l)))

    def places(self, group: tuple[int, ...]) -> np.ndarray:
        """Positions of the entries of Γ, c × c."""
        return np.array([[self.place(k, l) for l in group] for k in group])

    def matrices(self, gamma: np.ndarray, group: tuple[int, ...]) -> np.ndarray:
        """Γ of these components, m × c × c."""
        return gamma[:, self.places(group)]

    def roots(self, gamma: np.ndarray, group: tuple[int, ...]) -> np.ndarray:
        """Λ of these components, m × c × c; of a single one the square root."""
        if len(group) == 1:
            return np.sqrt(gamma[:, group])[:, :, None]
        return np.tril(self.coordinates(gamma)[:, self.places(group)])

    @cached_property
    def _products(self) -> list[tuple[int, int, int]]:
        """All (j, a, b) of γ_j = Σ x_a x_b, from Γ = Λ Λ'."""
        return [
            (at[i, j], at[i, k], at[j, k])
            for group in self.order or self.groups
            for at in [self.places(group)]
            for i in range(len(group))
            for j in range(i + 1)
            for k in range(j + 1)
        ]

    def gamma(self, x: np.ndarray) -> np.ndarray:
        """γ of coordinates, m × P."""
        out = np.where(self.linear, x, 0.0)
        for j, a, b in self._products:
            out[:, j] += x[:, a] * x[:, b]
        return out

    def coordinates(self, gamma: np.ndarray) -> np.ndarray:
        """Coordinates of γ; a pivot that is no more than rounding is zero, and what is below it too."""
        x = np.where(self.linear, gamma, 0.0)
        for group in self.order or self.groups:
            at = self.places(group)
            left = self.matrices(gamma, group)
            for k in range(len(group)):
                pivot = left[:, k, k]
                pivot = np.where(pivot > 1e-14 * gamma[:, at[k, k]], pivot, 0.0)
                with np.errstate(divide="ignore", invalid="ignore"):
                    column = np.where(pivot[:, None] > 0, left[:, k:, k] / np.sqrt(pivot)[:, None], 0.0)
                x[:, at[k:, k]] = column
                left[:, k:, k:] -= column[:, :, None] * column[:, None, :]
        return x

    def jacobian(self, x: np.ndarray) -> np.ndarray:
        """∂γ / ∂x, m × P × P."""
        out = np.repeat(np.diag(self.linear.astype(float))[None], len(x), axis=0)
        for j, a, b in self._products:
            out[:, j, a] += x[:, b]
            out[:, j, b] += x[:, a]
        return out

    def curvature(self, gradient: np.ndarray) -> np.ndarray:
        """Σ_j g_j ∂²γ_j / ∂x∂x for a gradient in γ (m × P): m × P × P."""
        out = np.zeros((*gradient.shape, self.size))
        for j, a, b in self._products:
            out[:, a, b] += gradient[:, j]
            out[:, b, a] += gradient[:, j]
        return out

    def within(self, gamma: np.ndarray, low: float | np.ndarray, high: np.ndarray) -> np.ndarray:
        """γ with its variances cut to [low, high] (by component), those of Γ's principal axes where it is a matrix."""
        out = gamma.copy()
        out[:, : self.K] = np.clip(gamma[:, : self.K], low, high)
        for group in self.groups:
            unit = np.sqrt(high[list(group)])
            value, vector = np.linalg.eigh(self.matrices(gamma, group) / np.outer(unit, unit))
            cut = (vector * np.clip(value, 0.0, 1.0)[:, None, :]) @ vector.swapaxes(1, 2)
            out[:, self.places(group)] = cut * np.outer(unit, unit)
        return out

    def nonnegative(self, gamma: np.ndarray) -> np.ndarray:
        """Whether all variances are, residual ones positive, and every Γ is positive semidefinite: m."""
        ok = np.asarray(
            (gamma[:, : self.K] >= 0).all(axis=1) & (gamma[:, self.size - self.residuals :] > 0).all(axis=1)
        )
        for group in self.groups:
            value = np.linalg.eigvalsh(self.matrices(gamma, group))
            ok &= value[:, 0] >= -1e-12 * value[:, -1]
        return ok

    def boundary(self, gamma: np.ndarray) -> np.ndarray:
        """Whether a variance is zero, or a Γ singular: m."""
        at_zero = self.coordinates(gamma)[:, : self.K] == 0
        return np.asarray(at_zero.any(axis=1))

    def units(self) -> Iterator[tuple[int, int]]:
        """The components that each parameter joins, twice the same for a variance."""
        yield from ((k, k) for k in range(self.K))
        yield from self.pairs


def check_correlated(groups: Sequence[Sequence[int]], nonnegative: bool, moderate: bool) -> None:
    """Refuse what correlated terms can't have."""
    if groups and not nonnegative:
        msg = (
            "Correlated random effects can't have nonnegative=False: their covariance matrix is kept positive semidefinite, as "
            f"in lme4. Independent ones may be free: {INDEPENDENT}."
        )
        raise ValueError(msg)
    if groups and moderate:
        msg = f"Correlated random effects can't have moderate=True, which is for independent ones: {INDEPENDENT}."
        raise ValueError(msg)
