"""The AnnData of strata that `pp.aggregate` makes: what it holds, how it is recognised, and what it says of its values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flashmm_sc._base.errors import listed
from flashmm_sc._results.result import strings
from flashmm_sc._results.values import Values

if TYPE_CHECKING:
    from flashmm_sc._results.cells_file import Cells
    from flashmm_sc._stream.kernel import Transform

KEY = "aggregate"
LAYERS = {
    "squares": "sum_sq",
    "expressed": "n_expressed",
    "counts": "counts",
    "size_sum": "size_sum",
    "ratios": "counts_over_size",
}
"""Layers by what `Strata` calls them; the sums are X."""
COLUMNS = {
    "n": "n_cells",
    "size": "size",
    "size_sq": "size_sq",
    "weight_sum": "weight_sum",
    "log_weight_sum": "log_weight_sum",
}
"""Columns of obs likewise."""


@dataclass(frozen=True)
class Made:
    """How strata were made, as it is stored in uns.

    Attributes
    ----------
    words
        Words that differ for strata whose sums don't go together.
    transform, target_sum
        As in `Values`.
    size_factors, weights
        Likewise in a word, None without any.
    log_base
        Base of the logarithm that the values are on, NaN where it isn't known.
    by, dropped
        Columns of obs that tell strata apart, and those that vary within them.
    """

    words: str
    transform: Transform
    size_factors: str | None
    target_sum: float | None
    log_base: float
    weights: str | None = None
    by: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: Values, log_base: float, by: list[str], dropped: list[str]) -> Made:
        """How strata are made of these values."""
        logged = values.transform is None and not math.isnan(log_base)
        words = values.words + (f", logarithms to base {log_base:.17g}" if logged else "")
        params = values.params
        target, sizes, weights = params["target_sum"], params["size_factors"], params["weights"]
        return cls(words, values.transform, sizes, target, log_base, weights, tuple(by), tuple(dropped))

    @property
    def entry(self) -> dict[str, Any]:
        """As it is stored: without None, which not every file can hold."""
        stored: dict[str, Any] = {
            "values": self.words,
            "transform": self.transform,
            "size_factors": self.size_factors,
            "target_sum": self.target_sum,
            "log_base": None if math.isnan(self.log_base) else self.log_base,
            "weights": self.weights,
            "by": np.array(self.by, dtype=object),
            "dropped": np.array(self.dropped, dtype=object),
        }
        return {name: value for name, value in stored.items() if value is not None}

    @classmethod
    def read(cls, entry: Any) -> Made:
        """Of what is stored."""
        text = lambda name: str(entry[name]) if name in entry else None
        transform: Any = text("transform")
        target = float(entry["target_sum"]) if "target_sum" in entry else None
        columns = [tuple(strings(entry.get(name, ()))) for name in ("by", "dropped")]
        base = float(entry.get("log_base", math.nan))
        return cls(str(entry["values"]), transform, text("size_factors"), target, base, text("weights"), *columns)

    @property
    def weighed(self) -> bool:
        """Whether size factors weigh counts as they are."""
        return self.transform is None and self.size_factors is not None

    @property
    def apart(self) -> bool:
        """Whether the sums of values as they are read are others than those that are fitted."""
        return self.transform is not None or self.weights is not None

    @property
    def layers(self) -> list[str]:
        """The layers that there must be."""
        more = ["counts"] if self.apart else []
        sized = [] if self.size_factors is None else ["size_sum" if self.weighed else "ratios"]
        return [LAYERS[name] for name in ("squares", "expressed", *more, *sized)]

    @property
    def columns(self) -> list[str]:
        """The columns of numbers that there must be in obs."""
        return added(sized=self.size_factors is not None, weighted=self.weights is not None)

    def fitted(self, values: Values) -> Values:
        """The values whose sums these are; genes and base of the logarithm as the call says."""
        sizes = None if self.transform is None else self.size_factors
        return Values(
            mask_var=values.mask_var,
            mask_obs=values.mask_obs,
            transform=self.transform,
            size_factors=sizes,
            target_sum=None if sizes is None else self.target_sum,
            log_base=values.log_base,
            weights=self.weights,
        )


def added(*, sized: bool, weighted: bool) -> list[str]:
    """The columns of obs that strata of cells have, with size factors or with weights."""
    names = ["n", *(["size", "size_sq"] if sized else []), *(["weight_sum", "log_weight_sum"] if weighted else [])]
    return [COLUMNS[name] for name in names]


def made(adata: Cells) -> Made | None:
    """How the strata of an AnnData were made; None if its rows are cells.

    Raises
    ------
    ValueError
        For strata of which this was lost, or that were made in several ways.
    """
    entry = adata.uns.get(KEY)
    ours = {LAYERS["squares"], LAYERS["expressed"]} <= set(adata.layers) and COLUMNS["n"] in adata.obs
    if entry is not None and hasattr(entry, "get") and "values" in entry:
        return Made.read(entry)
    if not ours:
        return None
    if entry is None:
        msg = (
            "These rows look like strata of fsc.pp.aggregate, but adata.uns['aggregate'], which says what was summed, is lost. "
            "Concatenate strata with ad.concat(..., uns_merge='same')."
        )
        raise ValueError(msg)
    msg = (
        "These strata come from several calls of fsc.pp.aggregate with different transforms or size factors, or weights (uns['aggregate'] "
        "has no 'values' that all share): their sums don't go together. Aggregate all cells in the same way, with a "
        "target_sum where there are size factors, then concatenate."
    )
    raise ValueError(msg)


def check_strata(adata: Cells, how: Made) -> None:
    """Refuse strata that lack what they should have, or whose numbers can't be.

    Raises
    ------
    ValueError
        When that is so.
    """
    lacking = [f"layers[{name!r}]" for name in how.layers if name not in adata.layers]
    lacking += [f"obs[{name!r}]" for name in how.columns if name not in adata.obs]
    if lacking:
        words = ", ".join(lacking)
        msg = f"adata holds strata of fsc.pp.aggregate, but {words} is missing; aggregate the cells again."
        raise ValueError(msg)
    for name in how.columns:
        values = numbers(adata, name)
        bad = ~np.isfinite(values)
        if name != COLUMNS["log_weight_sum"]:
            bad |= values < 0
        if name == COLUMNS["weight_sum"]:
            bad |= (values == 0) & (n_cells(adata) > 0)
        if name == COLUMNS["n"]:
            bad |= values % 1 != 0
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            kinds = {COLUMNS["n"]: "a number of cells", COLUMNS["log_weight_sum"]: "a sum of logarithms"}
            kind = kinds.get(name, "a sum of positive numbers")
            msg = (
                f"obs[{name!r}] is {values[row]:g} in stratum {str(adata.obs_names[row])!r}, which is not {kind}; aggregate the "
                "cells again."
            )
            raise ValueError(msg)


def check_options(values: Values) -> None:
    """Refuse what can only be done to cells."""
    given: dict[str, Any] = {"layer": values.layer, "use_raw": values.use_raw or None, "transform": values.transform}
    given |= {"size_factors": values.size_factors, "target_sum": values.target_sum, "weights": values.weights}
    names = [name for name, value in given.items() if value is not None]
    if names:
        words = listed(names)
        better = (
            "weights='weight'"
            if names == ["weights"]
            else "size_factors='total'"
            if values.weigh
            else "transform='log1p', size_factors='total', target_sum=1e4"
        )
        msg = (
            f"adata holds strata of fsc.pp.aggregate, sums that take no {words}. Give it to fsc.pp.aggregate, where values of "
            f"cells are read, as in {better}, and leave it out here."
        )
        raise ValueError(msg)


def n_cells(adata: Cells) -> np.ndarray:
    """Number of cells of each stratum."""
    return numbers(adata, COLUMNS["n"]).astype(np.int64)


def numbers(adata: Cells, name: str) -> np.ndarray:
    """A column of numbers of obs, one a stratum."""
    column = adata.obs[name]
    values = column if isinstance(column, pd.Series) else pd.Series(np.asarray(column))
    return pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
