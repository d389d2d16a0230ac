"""Whether values are raw counts, as models of counts need them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flashmm_sc._base.errors import listed, named
from flashmm_sc._results.aggregated import made
from flashmm_sc._results.scale import first_values

if TYPE_CHECKING:
    from anndata import AnnData

    from flashmm_sc._results.study import Study


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
            what = "logarithms, not counts" if how.transform else "counts, but not over the depth of their cells"
            msg = (
                f"These strata are sums of {what}: aggregate raw counts for models of counts, without transform and with "
                "size_factors='total'."
            )
            raise ValueError(msg)
        if (bad := _first_that_is_none(found.X)) is not None:
            with named(part.name):
                msg = f"{found.source} holds {bad:g}, which is no count: {_where_counts_are(adata)}"
                raise ValueError(msg)


def _first_that_is_none(X: Any) -> float | None:
    values = first_values(X)
    bad = values[(values < 0) | (values != np.round(values))]
    return float(bad[0]) if bad.size else None


def _where_counts_are(adata: AnnData) -> str:
    """What to do instead."""
    whole = [f"layer={name!r}" for name in adata.layers if name and _first_that_is_none(adata.layers[name]) is None]
    if adata.raw is not None and _first_that_is_none(adata.raw.X) is None:
        whole.append("use_raw=True")
    if whole:
        return f"the model is of raw counts, which {listed(whole)} gives."
    return (
        "the model is of raw counts, as they were before sc.pp.normalize_total and sc.pp.log1p. Keep them in a layer, "
        "adata.layers['counts'] = adata.X.copy(), and use layer='counts'; logarithms are for fsc.tl.lmm_de."
    )
