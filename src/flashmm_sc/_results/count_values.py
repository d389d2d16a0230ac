"""Whether values are raw counts, as models of counts need them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flashmm_sc._base.errors import named
from flashmm_sc._results.aggregated import made
from flashmm_sc._results.checks import first_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashmm_sc._results.cells_file import Cells
    from flashmm_sc._results.checks import Expression
    from flashmm_sc._results.study import Study
    from flashmm_sc._stats.strata import Strata


def check_counts(study: Study) -> None:
    """Refuse matrices whose first values aren't counts; name layers that hold some.

    Raises
    ------
    ValueError
        For negative and fractional values, and strata of others, or without size factors.
    """
    for part, (adata, found) in zip(study.matrices, study.sources, strict=True):
        how = made(adata) if study.of_strata else None
        if how is not None and not how.weighed:
            what = "logarithms, not counts" if how.transform else "counts without the size factors of their cells"
            what = f"values weighted by {how.weights!r}, which no counts are" if how.weights else what
            msg = (
                f"These strata are sums of {what}: aggregate raw counts for models of counts, without transform and with "
                "size_factors='total'."
            )
            raise ValueError(msg)
        if (bad := _first_that_is_none(found.X)) is not None:
            with named(part.name):
                msg = f"{found.source} holds {bad:g}, which is no count: {_where_counts_are(adata, found)}"
                raise ValueError(msg)


def check_sums(study: Study, strata: Strata, samples: Sequence[str]) -> None:
    """Refuse sums that no counts have, of values that the first didn't tell: fractional, or less than one a cell.

    Raises
    ------
    ValueError
        Names a gene and a sample.
    """
    for sample, T, V, n in zip(samples, strata.sums, strata.squares, strata.expressed, strict=True):
        bad = np.flatnonzero((np.round(T) != T) | (np.round(V) != V) | (n > T))
        if bad.size:
            gene, (adata, found) = bad[0], study.sources[0]
            msg = (
                f"{found.source} holds values of gene {study.genes[gene]!r} in sample {sample!r} that are no counts (fractions, or "
                f"below zero; their sum is {T[gene]:.10g}): {_where_counts_are(adata, found)}"
            )
            raise ValueError(msg)


def _first_that_is_none(X: Any) -> float | None:
    values = first_values(X)
    bad = values[(values < 0) | (values != np.round(values))]
    return float(bad[0]) if bad.size else None


def _where_counts_are(adata: Cells, found: Expression) -> str:
    """What to do instead."""
    if made(adata) is not None:
        return "the model is of raw counts; aggregate these."
    whole = [f"layer={name!r}" for name in adata.layers if name and _first_that_is_none(adata.layers[name]) is None]
    if adata.raw is not None and _first_that_is_none(adata.raw.X) is None:
        whole.append("use_raw=True")
    if found.source != "adata.X" and adata.X is not None and _first_that_is_none(adata.X) is None:
        whole.insert(0, "adata.X, without layer= and use_raw=,")
    if whole:
        return f"the model is of raw counts, which {' or '.join(whole)} gives."
    return (
        "the model is of raw counts, as they were before sc.pp.normalize_total and sc.pp.log1p. Keep them in a layer, "
        "adata.layers['counts'] = adata.X.copy(), and use layer='counts'; logarithms are for fsc.tl.lmm_de."
    )
