"""Interpolation between Chebyshev points of [-1, 1], in barycentric form.

Trefethen, Approximation Theory and Approximation Practice.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np


class Chebyshev:
    """So many points, ascending in their angle, so descending in x."""

    def __init__(self, points: int):
        angle = (np.arange(points) + 0.5) * np.pi / points
        self.nodes = np.cos(angle)
        self._weights = np.sin(angle) * (-1.0) ** np.arange(points)

    @cached_property
    def slopes(self) -> np.ndarray:
        """Derivatives at the points of what is interpolated between them: matrix on the values."""
        distance = self.nodes[:, None] - self.nodes + np.eye(self.nodes.size)
        out = self._weights / self._weights[:, None] / distance
        np.fill_diagonal(out, 0.0)
        np.fill_diagonal(out, -out.sum(axis=1))
        return out

    def shares(self, x: np.ndarray) -> np.ndarray:
        """Weights of the points in an interpolation at x: rows that sum to one."""
        distance = x[:, None] - self.nodes
        distance[distance == 0] = np.finfo(float).tiny
        share = self._weights / distance
        return share / share.sum(axis=1, keepdims=True)
