"""Summary statistics as an AnnData file: genes in var, sums over their cells in varm, what genes share in uns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from flashmm_sc._base.files import appearing_whole, reading
from flashmm_sc._stats.correlated import from_numbers, to_numbers
from flashmm_sc._stream.h5write import writable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_FORMAT = "flashmm-sc summary statistics 1"
_NAMES = ("coef_names", "component_names", "ranef_names")
_WEIGHTS = ("weight_sum", "log_weight_sum")
"""Files of earlier versions lack them: their cells have no weights."""
_REFINED, _SUMS = ("genes", "coef", "noise"), ("XY", "ZY", "yy")


def save(stats: Mapping[str, Any], path: Path) -> None:
    """Write statistics, given by the names of their fields; the file appears whole or not at all."""
    adata = ad.AnnData(var=pd.DataFrame(index=pd.Index(stats["gene_names"], dtype=object)))
    adata.varm["XY"], adata.varm["ZY"], adata.varm["yy"] = stats["XY"].T, stats["ZY"].T, stats["yy"][:, None]
    adata.uns.update(format=_FORMAT, n=stats["n"], d=np.array(stats["d"]), origin=stats["origin"])
    adata.uns.update({name: stats[name] for name in ("named_levels", *_WEIGHTS)})
    adata.uns.update(XX=stats["XX"], ZX=stats["ZX"], ZZ=sp.csr_matrix(stats["ZZ"]))
    adata.uns.update({name: np.array(stats[name], dtype=object) for name in _NAMES})
    if (refined := stats["refined"]) is not None:
        its = {name: getattr(refined, name) for name in _REFINED} | {
            name: getattr(refined.stats, name) for name in _SUMS
        }
        adata.uns["refined"] = its
    if stats["basis"] is not None:
        adata.uns["basis"] = stats["basis"]
    if stats["correlated"]:
        adata.uns["correlated"] = to_numbers(stats["correlated"], len(stats["d"]))
    if stats["slopes"] is not None:
        adata.uns["slopes"] = np.array(stats["slopes"])
    with appearing_whole(path) as part:
        write_h5ad(adata, part)


def write_h5ad(adata: ad.AnnData, path: Path) -> None:
    """Write an h5ad file as anndata does.

    Raises
    ------
    OSError
        When the disk is full.
    """
    adata.strings_to_categoricals()
    with writable(path, "w") as (file, _):
        ad.io.write_elem(file, "/", adata)
        file.pop("raw", None)  # a null, which a backed AnnData takes for a raw without matrix


def load(path: Path) -> tuple[dict[str, Any], tuple[Any, ...] | None]:
    """Read the fields of statistics, and what `Refined.of` takes if there are sums of residuals."""
    with reading(path):
        adata = ad.read_h5ad(path)
    if adata.uns.get("format") != _FORMAT:
        msg = f"{str(path)!r} holds no summary statistics of flashmm-sc."
        raise ValueError(msg)
    stored, varm = adata.uns, adata.varm
    try:
        fields = dict(
            XX=stored["XX"],
            XY=varm["XY"].T,
            ZX=stored["ZX"],
            ZY=varm["ZY"].T,
            ZZ=stored["ZZ"],
            yy=varm["yy"],
            n=int(stored["n"]),
            d=tuple(stored["d"]),
            gene_names=list(adata.var_names),
            slopes=stored["slopes"].tolist() if "slopes" in stored else None,
            correlated=from_numbers(stored["correlated"]) if "correlated" in stored else (),
            origin=str(stored["origin"]),
            basis=stored.get("basis"),
            named_levels=bool(stored["named_levels"]),
            **{name: [str(text) for text in stored[name]] for name in _NAMES},
            **{name: float(stored[name]) for name in _WEIGHTS if name in stored},
        )
        its = stored.get("refined")
        refined = None if its is None else (*(its[name] for name in _REFINED), tuple(its[name] for name in _SUMS))
        return fields, refined
    except KeyError as error:
        msg = f"{str(path)!r} lacks {error} of the summary statistics; write it anew."
        raise ValueError(msg) from error
