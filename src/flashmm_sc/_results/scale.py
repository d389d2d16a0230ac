"""The scale of the values: counts, logarithms or z-scores, as their first values and the AnnData's notes tell."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.errors import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashmm_sc._results.cells_file import Cells
    from flashmm_sc._results.checks import Expression
    from flashmm_sc._stream.kernel import Transform

_LARGEST_LOG = 20.0
"""No count has a logarithm beyond it, while values that were only divided by size factors mostly reach further."""
_BASES: dict[Transform, float] = {"log1p": math.e, "log2p1": 2.0}


@dataclass(frozen=True)
class Scale:
    """What the values of a matrix seem to be.

    Attributes
    ----------
    source
        Words for the matrix.
    counts
        Whole numbers, some above 1.
    logged
        Logarithms already.
    negative
        Some are below zero, as after `sc.pp.scale`.
    base
        Base of the logarithm that `sc.pp.log1p` noted, NaN where it noted none.
    """

    source: str
    counts: bool
    logged: bool
    negative: bool
    base: float

    @classmethod
    def of(cls, adata: Cells, found: Expression) -> Scale:
        """Look at the first values of a matrix."""
        values = found.first_values
        whole = bool((values == np.round(values)).all())
        negative = bool(values.min(initial=0.0) < 0)
        counts = bool(values.size and values.max() > 1 and not negative and whole)
        noted = adata.uns.get("log1p")
        base = math.nan
        if noted is not None and not negative:
            base = _noted(noted.get("base") if hasattr(noted, "get") else None)
        logged = not whole and not negative and (noted is not None or bool(values.max(initial=0.0) < _LARGEST_LOG))
        return cls(found.source, counts, logged, negative, base)


def _noted(base: object) -> float:
    """The base that `sc.pp.log1p` noted, None for e."""
    if base is None:
        return math.e
    base = base.item() if isinstance(base, np.ndarray) and base.ndim == 0 else base  # as zarr gives back
    if isinstance(base, numbers.Real) and math.isfinite(base) and 0 < float(base) != 1:
        return float(base)
    msg = (
        f"adata.uns['log1p']['base'] is {base!r}, which is no base of a logarithm. Put the base there that X was made with: "
        "None for natural logarithms, as sc.pp.log1p writes by default."
    )
    raise ValueError(msg)


def base_of(scales: Sequence[Scale], transform: Transform, log_base: float | None) -> float:
    """Base of the logarithm that the fitted values are on, NaN where it can't be known.

    Raises
    ------
    ValueError
        When several AnnData are on different scales.
    """
    if transform is not None or log_base is not None:
        return _BASES[transform] if log_base is None else float(log_base)
    if any(scale.counts for scale in scales):
        return math.nan
    bases = [scale.base for scale in scales]
    known = sorted({base for base in bases if not math.isnan(base)})
    if len(known) > 1:
        msg = f"The values are logarithms to different bases, {listed(known)}: bring them to one scale first."
        raise ValueError(msg)
    return known[0] if known and not any(map(math.isnan, bases)) else math.nan
