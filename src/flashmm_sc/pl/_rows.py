"""Columns of a result as rows of a plot: groups, contrasts, or contrasts with their groups below them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from flashmm_sc._results.result import Result

ROW = 0.27
"""Inches from one row to the next."""
CHARACTER = 0.08
"""Inches of a character of a label."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Where columns are drawn, from the top downwards.

    Attributes
    ----------
    at
        Height of each column.
    labels
        Labels of rows by height.
    headings
        Labels of blocks by height.
    title
        What all rows have in common; empty if nothing.
    """

    at: np.ndarray
    labels: dict[int, str]
    headings: dict[int, str]
    title: str

    @classmethod
    def of(cls, result: Result, columns: Sequence[int]) -> Rows:
        """Rows of groups if there is one contrast, of contrasts if there is one group, else a block a contrast."""
        contrasts, groups = ([result.names(f"column_{name}")[j] for j in columns] for name in ("names", "groups"))
        if len(set(contrasts)) == 1 and any(groups):
            return cls(np.arange(len(columns)), dict(enumerate(groups)), {}, contrasts[0])
        if len(set(groups)) == 1:
            return cls(np.arange(len(columns)), dict(enumerate(contrasts)), {}, groups[0])
        at, labels, headings, y = np.empty(len(columns), dtype=int), {}, {}, 0
        for contrast in dict.fromkeys(contrasts):
            headings[y] = contrast
            members = [i for i, its in enumerate(contrasts) if its == contrast]
            y += any(groups[i] for i in members)  # a contrast across groups is its own row
            for i in members:
                at[i], labels[y], y = y, groups[i], y + 1
        return cls(at, labels, headings, "")

    def size(self, width: float, around: float) -> tuple[float, float]:
        """Size in inches of a figure with axes of this width, and of rows and what is above and below them."""
        return width + CHARACTER * max(map(len, self._texts.values())), around + ROW * max(len(self._texts), 3)

    @property
    def _texts(self) -> dict[int, str]:
        return self.labels | self.headings

    def label(self, ax: Axes) -> None:
        """Write the labels at the left, headings in bold."""
        texts = self._texts
        ax.set_yticks(list(texts), list(texts.values()))
        for y, text in zip(texts, ax.get_yticklabels(), strict=True):
            text.set_fontweight("bold" if y in self.headings else "normal")
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(len(texts) - 0.4, -0.6)
