"""What the pass over the cells gives each model: statistics of the genes that are fitted in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flashmm_sc._base.errors import listed, warn
from flashmm_sc._results.refined import Residuals
from flashmm_sc._results.residual import added_up, linear_columns
from flashmm_sc._stream.sums import Tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashmm_sc._design.rows import Rows
    from flashmm_sc._results.filters import Filter
    from flashmm_sc._results.models import Model
    from flashmm_sc._results.study import Study
    from flashmm_sc._stats.summary import SummaryStats
    from flashmm_sc._stream.kernel import Transform
    from flashmm_sc._stream.sums import Sums


@dataclass(frozen=True, eq=False)
class SummedModel:
    """A model and the statistics of its cells.

    Attributes
    ----------
    model
        The model.
    genes
        Positions of its genes among those of the study.
    stats
        Their statistics.
    expressed
        Share of the cells that express each of them; empty if they weren't counted.
    means
        Least-squares coefficients of their values over size factors, before the logarithm, genes × p; None without any.
    """

    model: Model
    genes: np.ndarray
    stats: SummaryStats
    expressed: np.ndarray
    means: np.ndarray | None


def tally_of(models: Sequence[Model], rows: Rows, *, expressed: bool, linear: bool) -> Tally:
    """What the pass is to sum of the values as they are read; `linear` asks for means."""
    if not linear:
        return Tally(expressed, expressed)
    if groups := models[0].groups:
        return Tally(expressed, expressed, linear_columns(groups, models[0].p))
    pairs = zip(models, rows.encoder.start, strict=True)
    return Tally(expressed, expressed, np.concatenate([start + np.arange(model.p) for model, start in pairs]))


def passes(
    study: Study, models: Sequence[Model], rows: Rows, tally: Tally, transform: Transform, **options: Any
) -> tuple[Sums, Residuals | None]:
    """Sums over all cells, and those of the residuals of genes that need them."""
    sums = study.sums(rows, tally=tally, transform=transform, **options)
    return sums, Residuals.of(study, models, rows, sums, transform=transform, **options)


def summed(
    models: Sequence[Model],
    rows: Rows,
    passed: tuple[Sums, Residuals | None],
    least: Filter,
    gene_names: list[str],
) -> list[SummedModel]:
    """Each model with its statistics. Models without a gene that passes the filter are left out, with a warning.

    Raises
    ------
    ValueError
        When that is all of them.
    """
    (sums, residuals), found, first, starts = passed, [], 0, rows.encoder.start
    read = sums
    if groups := models[0].groups:
        sums, starts = added_up(groups, sums, models[0].p), [0]
    for i, (model, start) in enumerate(zip(models, starts, strict=True)):
        genes = least.passing(sums, i, model)
        expressed = sums.seen[i, genes] / model.n if sums.seen.size else np.empty(0)
        means = model.projection.ols(sums.WC[first : first + model.p, genes]).T if sums.WC.size else None
        first += model.p
        if genes.size:
            which = start, i, genes, gene_names
            stats = model.stats(read, *which)
            if residuals is not None:
                stats = residuals.refining(stats, model, *which)
            found.append(SummedModel(model, genes, stats, expressed, means))
    if not found:
        msg = f"No gene has min_fraction={least.min_fraction} and min_counts={least.min_counts}; lower them."
        raise ValueError(msg)
    if len(found) < len(models):
        kept = {part.model.group for part in found}
        left_out = listed(model.group for model in models if model.group not in kept)
        warn(
            f"{left_out}: no gene passes min_fraction={least.min_fraction} and min_counts={least.min_counts}. Left out."
        )
    return found
