"""Which values are fitted, and on what scale: the arguments of a call that say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from flashmm_sc._base.options import check_flags, check_number, one_of
from flashmm_sc._results.chosen import CellMask, as_text
from flashmm_sc._stream.kernel import Transform

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

PerCell: TypeAlias = "str | Sequence[float] | np.ndarray | pd.Series | None"
"""A column of obs, or one number a cell."""
SizeFactors: TypeAlias = PerCell
TOTAL = "total"


@dataclass(frozen=True, eq=False)
class Values:
    """The arguments of these names in `flashmm_sc.tl.lmm_de`."""

    layer: str | None = None
    use_raw: bool = False
    mask_var: str | Sequence[bool] | np.ndarray | None = None
    transform: Transform = None
    size_factors: SizeFactors = None
    target_sum: float | None = None
    log_base: float | None = None
    weights: PerCell = None
    mask_obs: CellMask = None
    weigh: bool = False
    """Whether size factors weigh counts as they are, instead of dividing them."""

    def __post_init__(self) -> None:
        one_of("transform", self.transform, Transform)
        check_flags(use_raw=self.use_raw)
        self._check_sizes()
        self._check_base()
        if self.weights is not None and self.sized and self.weigh:
            msg = (
                "weights are for linear mixed models, but size_factors without a transform for models of counts, which take none. "
                "Give transform='log1p' as well, or leave one of the two out."
            )
            raise ValueError(msg)

    @property
    def sized(self) -> bool:
        """Whether values are divided by size factors."""
        return self.size_factors is not None

    @property
    def columns(self) -> dict[str, str]:
        """The columns of obs that arguments name, by these."""
        given = {"size_factors": self.size_factors, "weights": self.weights}
        return {
            name: its for name, its in given.items() if isinstance(its, str) and (name, its) != ("size_factors", TOTAL)
        }

    @property
    def words(self) -> str:
        """Words that differ for values whose sums can't be added up."""
        sizes = ""
        if self.sized:
            word = _word(self.size_factors)
            sizes = f", weighed by {word}" if self.weigh else f" of values over {word} / {self.target_sum:.17g}"
        weights = "" if self.weights is None else f", precision weights {_word(self.weights)}"
        return f"{self.transform or 'values as they are'}{sizes}{weights}"

    @property
    def params(self) -> dict[str, Any]:
        """As they are stored with results."""
        mask = self.mask_var
        return {
            "layer": self.layer,
            "use_raw": self.use_raw,
            "mask_obs": as_text(self.mask_obs),
            "mask_var": mask if mask is None or isinstance(mask, str) else np.asarray(mask),
            "transform": self.transform,
            "size_factors": _word(self.size_factors),
            "target_sum": self.target_sum,
            "weights": _word(self.weights),
        }

    def _check_sizes(self) -> None:
        """Refuse options of size factors that don't go together."""
        if self.target_sum is not None:
            hint = "It is the total that cells are brought to."
            check_number("target_sum", self.target_sum, 0.0, hint=hint, without=(0.0,))
            if not self.sized:
                msg = f"target_sum={self.target_sum!r} is for size_factors; give size_factors='total' as well."
                raise ValueError(msg)
            if self.weigh:
                msg = (
                    f"target_sum={self.target_sum!r} is for a transform, as in transform='log1p': size factors weigh counts as "
                    "they are. Leave it out."
                )
                raise ValueError(msg)
        if self.sized and self.transform is None and not self.weigh:
            msg = "size_factors divide counts before their logarithm; give transform='log1p' (or 'log2p1') as well."
            raise ValueError(msg)

    def _check_base(self) -> None:
        """Refuse what is no base of a logarithm, and one that contradicts the transform."""
        if self.log_base is None:
            return
        hint = "It is the base of the logarithm that the values are on, such as 2, or math.e for natural logarithms."
        check_number("log_base", self.log_base, 0.0, hint=hint, without=(0.0, 1.0))
        if self.transform is not None:
            msg = f"log_base is for values that are logarithms already, but transform={self.transform!r} takes them."
            raise ValueError(msg)


def _word(given: Any) -> str | None:
    """What is given for the cells, in a word."""
    return given if given is None or isinstance(given, str) else "given"
