"""What benchmarks of tests count: small p-values, power, false discoveries; means over splits and differences in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

LEVELS, FDR = (0.05, 0.01, 0.001), 0.05


def counted(p: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Small p-values of genes without effect; power and false discovery proportion by Benjamini and Hochberg."""
    null = p[~true]
    found = (false_discovery_control(p) if p.size else p) < FDR
    row = {"n": null.size} | {f"p<{level}": (null < level).sum() for level in LEVELS}
    row["power"] = found[true].mean() if true.any() else np.nan
    return row | {"fdp": (found & ~true).sum() / max(found.sum(), 1)}


def ranking(p: np.ndarray, true: np.ndarray, share: float = 0.01) -> float:
    """Power at the p-value that this share of the genes without effect fall below, whatever their level."""
    null = np.sort(p[~true])
    return (p[true] < null[int(share * null.size)]).mean() if true.any() else np.nan


def means_over_splits(part: pd.DataFrame) -> dict[str, float]:
    """Means over splits (all rows of a repeat together) and their Monte-Carlo errors."""
    sets = part.groupby("repeat")
    n = sets["n"].sum()
    row = {"splits": len(n), "p_values": n.sum()}
    for name in (f"p<{level}" for level in LEVELS):
        counts = sets[name].sum()
        share = counts.sum() / max(n.sum(), 1)
        spread = (counts / n).std() / np.sqrt(len(n))
        row |= {name: share, f"se {name}": np.fmax(spread, np.sqrt(share * (1 - share) / max(n.sum(), 1)))}
    for name in part.columns.intersection(["power", "fdp", "ranking"]):
        values = sets[name].mean()
        row |= {name: values.mean(), f"se {name}": values.std() / np.sqrt(len(values))}
    return row


def paired_differences(
    rows: pd.DataFrame, setting: list[str], own: str, peers: Sequence[str], measure: str
) -> pd.DataFrame:
    """A method's mean minus that of each peer in the same splits."""
    table = rows[rows[measure].notna()].pivot_table(index=[*setting, "repeat"], columns="method", values=measure)
    out = []
    for peer in peers:
        if own not in table or peer not in table:
            continue
        gain = (table[own] - table[peer]).dropna()
        for key, values in gain.groupby(setting):
            row = dict(zip(setting, key, strict=True)) | {"peer": peer, "splits": len(values)}
            out.append(row | {"gain": values.mean(), "se": values.std() / np.sqrt(len(values))})
    return pd.DataFrame(out, columns=[*setting, "peer", "splits", "gain", "se"])
