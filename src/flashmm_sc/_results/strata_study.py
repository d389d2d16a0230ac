"""The study of strata: their cells, as far as a design knows them, and the sums in the place of a pass over them."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flashmm_sc._base.errors import listed, named
from flashmm_sc._design.rows import Rows
from flashmm_sc._results.aggregated import COLUMNS, LAYERS, Made, check_options, check_strata, made, n_cells, numbers
from flashmm_sc._results.checks import first_values
from flashmm_sc._results.scale import Scale
from flashmm_sc._results.shared_rows import add_strata
from flashmm_sc._results.study import Needed, Source, Study, join, opened
from flashmm_sc._results.weights import with_weights
from flashmm_sc._stats.weights import Weights
from flashmm_sc._stream.accumulate import accumulate
from flashmm_sc._stream.sums import Sums, Tally, Zeros

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import scipy.sparse as sp
    from anndata import AnnData

    from flashmm_sc._design.rows import StratumRows
    from flashmm_sc._results.values import Values
    from flashmm_sc._stream.kernel import Transform


@dataclass(frozen=True, eq=False, kw_only=True)
class StrataStudy(Study):
    """A study whose matrices hold the sums of strata; `obs` has a row for each of their cells, stratum by stratum.

    So whatever a design learns from cells, such as means and knots, it learns here, and rows of the design are made of
    one cell a stratum.

    Attributes
    ----------
    n
        Number of cells of each stratum.
    how
        How they were made.
    """

    n: np.ndarray
    how: Made

    @classmethod
    def of(cls, strata: Study, needed: Sequence[str], n: np.ndarray, how: Made) -> StrataStudy:
        """From a study with strata in the place of cells, and the columns of obs that are needed."""
        obs = strata.obs[list(needed)].iloc[np.repeat(np.arange(len(n)), n)].reset_index(drop=True)
        study = cls(**{**vars(strata), "obs": obs, "fitted": how.fitted(strata.fitted)}, n=n, how=how)
        if how.weights is None:
            return study
        sums = (study._column(COLUMNS[name]) for name in ("weight_sum", "log_weight_sum"))
        return replace(study, weights=Weights.of_strata(n, *sums))

    @property
    def divided(self) -> bool:
        """Values were divided before they were summed."""
        return True

    @property
    def of_strata(self) -> bool:
        """Sums of strata stand for their cells."""
        return True

    @property
    def scales(self) -> list[Scale]:
        """What the values of the cells seem to be."""
        found = []
        for adata, its in self.sources:
            sums = adata.layers[LAYERS["counts"]] if self.how.apart else its.X
            first, cells = first_values(sums), first_values(adata.layers[LAYERS["expressed"]])
            negative = bool(first.min(initial=0.0) < 0)
            counts = not negative and bool((first == np.round(first)).all()) and first.sum() > cells.sum()
            base = math.nan if self.how.transform else self.how.log_base
            found.append(Scale(its.source, counts, logged=False, negative=negative, base=base))
        return found

    def sums(
        self,
        rows: Rows | StratumRows,
        *,
        transform: Transform,
        tally: Tally | None = None,
        n_jobs: int | None,
        show_progress: bool | None,
        new: Zeros = np.zeros,
    ) -> Sums:
        """The sums over all cells, whose design rows these are, from those of the strata."""
        tally = tally or Tally()
        layers = {
            "total": "",
            "yy": LAYERS["squares"],
            "seen": LAYERS["expressed"],
            "counts": LAYERS["counts"] if self.how.apart else "",
            "weighted": LAYERS["size_sum" if tally.weigh else "ratios"],
        }

        def product(name: str, W: sp.csr_array) -> np.ndarray:
            layer = layers[name]
            parts = [
                replace(part, X=adata.layers[layer] if layer else part.X)
                for part, (adata, _) in zip(self.matrices, self.sources, strict=True)
            ]
            return accumulate(parts, Rows.of(W), n_jobs=n_jobs, describe=self.describe).WY

        first = np.where(self.n > 0, np.cumsum(self.n) - self.n, -1)
        sizes = [self._column(COLUMNS[name]) for name in ("size", "size_sq")] if tally.weigh else None
        return add_strata(product, rows.at(first), tally, None if sizes is None else np.column_stack(sizes))

    def _column(self, name: str) -> np.ndarray:
        return np.concatenate([numbers(adata, name) for adata, _ in self.sources])


@contextmanager
def cells_or_strata(
    adata: AnnData | Sequence[Source], needed: Needed, values: Values, *, copy: bool
) -> Iterator[Study]:
    """The study of an AnnData or of several, see `join`, which hold cells, or strata of `flashmm_sc.pp.aggregate`.

    Raises
    ------
    KeyError, ValueError
        As `opened` and `join`; for strata that don't go together, lack something, or are to be changed as only cells can be.
    """
    with opened(adata, values.mask_obs, copy=copy) as (several, names):
        found = []
        for name, one in zip(names, several, strict=True):
            with named(name):
                found.append(made(one))
        known = [how for how in found if how is not None]
        if not known:
            yield with_weights(join(several, names, needed, values))
            return
        if len(known) < len(found):
            msg = f"{names[found.index(None)]} holds cells, but {names[found.index(known[0])]} strata; aggregate all of them."
            raise ValueError(msg)
        _check_alike(known, names)
        check_options(values)
        for name, one, how in zip(names, several, known, strict=True):
            with named(name):
                check_strata(one, how)
        in_obs = lambda obs, where: _in_obs(obs, where, known, needed)
        strata = join(several, names, in_obs, values)
        wanted = in_obs(strata.obs, "")
        n = np.concatenate([n_cells(one) for one in several])
        if not n.any():
            msg = "obs['n_cells'] is zero in all strata: there are no cells."
            raise ValueError(msg)
        yield StrataStudy.of(strata, wanted, n, known[0])


def _check_alike(known: Sequence[Made], names: Sequence[str]) -> None:
    """Refuse strata of values that were made differently."""
    for name, how in zip(names, known, strict=True):
        if how.words != known[0].words:
            msg = (
                f"The sums of {names[0]} and {name} don't go together: they are of {known[0].words!r} and {how.words!r}. Aggregate "
                "the cells of both in the same way, with the same target_sum where there are size factors."
            )
            raise ValueError(msg)


def _in_obs(obs: Any, where: str, known: Sequence[Made], needed: Needed) -> list[str]:
    """The columns of obs that are needed; refuses those that are not aggregated, and says why."""
    by = known[0].by
    told = f"{where} (aggregated by {listed(by)})" if by else where
    dropped = {name for how in known for name in how.dropped} - set(map(str, obs.columns))
    try:
        names = needed(pd.DataFrame(columns=[*map(str, obs.columns), *sorted(dropped)]), where)
    except KeyError as error:
        msg = f"{error.args[0]} The strata{told} have no more columns: add it to by= of fsc.pp.aggregate, or use the cells."
        raise KeyError(msg) from None
    if lost := [name for name in names if name in dropped]:
        msg = (
            f"{listed(lost)} varied within the strata{told}, so fsc.pp.aggregate could not keep it: add it to by=, or use the "
            "cells."
        )
        raise KeyError(msg)
    return names
