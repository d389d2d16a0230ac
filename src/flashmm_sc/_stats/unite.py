"""Adding up summary statistics of different cells: columns must agree, levels of random effects are united."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import scipy.sparse as sp

from flashmm_sc._base.errors import listed
from flashmm_sc._base.selection import component_slices

Fields: TypeAlias = Mapping[str, Any]


def united(a: Fields, b: Fields) -> dict[str, Any]:
    """Sums over the cells of two sets, see `SummaryStats.__add__`; both and the result by the names of its fields."""
    for what in ("coef_names", "component_names", "slopes", "correlated", "origin"):
        one, other = a[what], b[what]
        if one != other:
            msg = f"These statistics don't add up: their {what} differ, {one!r:.200} and {other!r:.200}."
            raise ValueError(msg + " Make one design and use it for all parts (flashmm_sc.Design).")
    if set(a["gene_names"]) != set(b["gene_names"]):
        lacking = set(a["gene_names"]) ^ set(b["gene_names"])
        msg = f"These statistics don't add up: only one of them has {listed(sorted(lacking))}. Keep the genes that"
        raise ValueError(msg + " both have, with select(genes=[...]).")
    if not (a["named_levels"] and b["named_levels"]):
        msg = (
            "These statistics don't add up: names of random effects are made up, so which levels are the same can't be "
            "known. Name them, with ranef_names= or as the rows of a DataFrame (in sslmm, as the columns of Z)."
        )
        raise ValueError(msg)
    gene = pd.Index(b["gene_names"]).get_indexer(a["gene_names"])
    d, names, place = _united_levels(a, b)
    grown = lambda ZY, at: _placed(ZY, at, len(names))
    spread = [sp.csr_array((np.ones(len(at)), (at, np.arange(len(at)))), shape=(len(names), len(at))) for at in place]
    return {
        **a,
        "XX": a["XX"] + b["XX"],
        "XY": a["XY"] + b["XY"][:, gene],
        "ZX": grown(a["ZX"], place[0]) + grown(b["ZX"], place[1]),
        "ZY": grown(a["ZY"], place[0]) + grown(b["ZY"][:, gene], place[1]),
        "ZZ": sum(P @ stats["ZZ"] @ P.T for P, stats in zip(spread, (a, b), strict=True)),
        "yy": a["yy"] + b["yy"][gene],
        **{name: a[name] + b[name] for name in ("n", "weight_sum", "log_weight_sum")},
        "d": d,
        "ranef_names": names,
        "basis": None,
        "untangled": None,
        "refined": None,
    }


def _united_levels(a: Fields, b: Fields) -> tuple[tuple[int, ...], list[str], list[np.ndarray]]:
    """Sizes and level names of the united components, and the position among them of each level of a and of b."""
    names: list[str] = []
    d: list[int] = []
    place: list[list[np.ndarray]] = [[], []]
    for parts in zip(component_slices(a["d"]), component_slices(b["d"]), strict=True):
        each = [list(stats["ranef_names"][part]) for stats, part in zip((a, b), parts, strict=True)]
        if any(len(set(levels)) < len(levels) for levels in each):
            msg = "These statistics don't add up: their random effects have no unique names to unite them by (ranef_names)."
            raise ValueError(msg)
        both = list(dict.fromkeys(each[0] + each[1]))
        for found, levels in zip(place, each, strict=True):
            found.append(len(names) + pd.Index(both).get_indexer(levels))
        d.append(len(both))
        names += both
    return tuple(d), names, [np.concatenate(found) for found in place]


def _placed(values: np.ndarray, rows: np.ndarray, size: int) -> np.ndarray:
    out = np.zeros((size, values.shape[1]))
    out[rows] = values
    return out
