"""The cells of a simulation, and which genes respond to treatment in which cluster."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd

from flashmm_sc._base.errors import did_you_mean, listed
from flashmm_sc._base.options import real_array
from flashmm_sc._design.columns import level_names, repeated

if TYPE_CHECKING:
    from flashmm_sc.datasets._simu_checks import Direction

FACTORS = ("sam", "cls", "trt")
PerCluster: TypeAlias = Mapping[str, float] | Sequence[float] | np.ndarray | pd.Series


def random_cells(
    rng: np.random.Generator, cells: pd.Index, *, n_samples: int, n_clusters: int, n_treatments: int, nested: bool
) -> pd.DataFrame:
    """Give each cell a sample, a cluster and a treatment at random."""
    if n_treatments > 26:
        msg = f"n_treatments={n_treatments}, but treatments are named A to Z. Give at most 26, or your own metadata."
        raise ValueError(msg)
    treatments = list(string.ascii_uppercase[:n_treatments])
    trt = rng.integers(n_treatments, size=len(cells))
    if nested:
        if n_samples < n_treatments:
            msg = (
                f"n_samples={n_samples} samples can't be nested in n_treatments={n_treatments} treatments. "
                "Give at least one sample for each treatment, or samples_nested=False."
            )
            raise ValueError(msg)
        n_within = 1 + rng.multinomial(n_samples - n_treatments, np.full(n_treatments, 1 / n_treatments))
        sam = (n_within.cumsum() - n_within)[trt] + rng.integers(n_within[trt])
        samples = [f"{t}{i + 1}" for t, n in zip(treatments, n_within, strict=True) for i in range(n)]
    else:
        sam = rng.integers(n_samples, size=len(cells))
        samples = [f"S{i + 1}" for i in range(n_samples)]
    cls = rng.integers(n_clusters, size=len(cells))
    clusters = [str(i + 1) for i in range(n_clusters)]
    columns = zip(FACTORS, (sam, cls, trt), (samples, clusters, treatments), strict=True)
    return pd.DataFrame(
        {name: pd.Categorical.from_codes(codes, pd.Index(labels)) for name, codes, labels in columns}, cells
    )


def given_cells(metadata: pd.DataFrame) -> pd.DataFrame:
    """Check the samples, clusters and treatments of the user's table and make them categories of strings."""
    if not isinstance(metadata, pd.DataFrame):
        msg = f"metadata must be a DataFrame with columns {listed(FACTORS)}, not a {type(metadata).__name__}."
        raise TypeError(msg)
    columns = repeated(map(str, metadata.columns))
    for name in FACTORS:
        if name in columns:
            msg = f"metadata has several columns named {name!r}. Rename or remove the others."
            raise ValueError(msg)
        if name not in metadata.columns:
            msg = f"metadata has no column {name!r}. {did_you_mean(name, metadata.columns)}"
            raise ValueError(msg)
        if n_missing := int(metadata[name].isna().sum()):
            msg = f"metadata[{name!r}] has {n_missing} missing values. Fill them, or drop these cells."
            raise ValueError(msg)
    return pd.DataFrame({name: _categories(metadata[name], name) for name in FACTORS}, metadata.index.astype(str))


def _categories(column: pd.Series, name: str) -> pd.Categorical:
    values = pd.Categorical(column).remove_unused_categories()
    level_names(values, name, "metadata")
    return values.rename_categories(str)


def check_same_cells(rows: pd.Index, cells: pd.Index) -> None:
    """Refuse metadata of other cells than the reference's, or in another order."""
    if len(rows) != len(cells):
        msg = f"metadata has {len(rows)} rows, but reference has {len(cells)} cells. Give one row for each cell."
        raise ValueError(msg)
    differs = np.asarray(rows) != np.asarray(cells)
    if differs.any():
        i = int(differs.argmax())
        msg = (
            f"metadata and reference differ in their cells or the order of them: row {i} of metadata is {rows[i]!r}, "
            f"cell {i} of reference is {cells[i]!r}. Give metadata.loc[reference.obs_names], or set "
            "metadata.index = reference.obs_names if the order is right."
        )
        raise ValueError(msg)


def resampled(rng: np.random.Generator, table: pd.DataFrame, n: int | None) -> pd.DataFrame:
    """Draw n rows, with replacement only if there are too few; if there are n, or n is None, all in their order."""
    if n is not None and n != len(table):
        table = table.iloc[rng.choice(len(table), n, replace=len(table) < n)]
    table = table.set_axis(_unique(table.index))
    unused = {name: table[name].cat.remove_unused_categories() for name in FACTORS if name in table}
    return table.assign(**unused)


def numbered(prefix: str, n: int) -> pd.Index:
    """Name things prefix1, prefix2, ..."""
    return prefix + pd.RangeIndex(1, n + 1).astype(str)


def _unique(names: pd.Index) -> pd.Index:
    """Append -1, -2, ... to names that were there before, as AnnData does but without a loop over them."""
    while names.has_duplicates:
        earlier = names.to_series().groupby(names, sort=False).cumcount().to_numpy()
        names = names.where(earlier == 0, names + "-" + pd.Index(earlier).astype(str))
    return names


def de_genes_per_cluster(
    rng: np.random.Generator,
    clusters: pd.Index,
    n_de_genes: int | None,
    n_per_cluster: PerCluster | None,
    p_per_cluster: PerCluster | None,
) -> np.ndarray:
    """Count the DE genes of each cluster: as given, or multinomial."""
    if n_per_cluster is None:
        p = np.ones(len(clusters))
        if p_per_cluster is not None:
            p = _per_cluster("p_de_genes_per_cluster", p_per_cluster, clusters)
        if p.sum() == 0:
            msg = "p_de_genes_per_cluster holds only zeros. Give at least one cluster a positive proportion."
            raise ValueError(msg)
        return rng.multinomial(len(clusters) if n_de_genes is None else n_de_genes, p / p.sum())
    if p_per_cluster is not None:
        msg = "Both n_de_genes_per_cluster and p_de_genes_per_cluster are given. Give numbers or proportions."
        raise ValueError(msg)
    counts = _per_cluster("n_de_genes_per_cluster", n_per_cluster, clusters)
    if (counts != np.floor(counts)).any():
        msg = f"n_de_genes_per_cluster must hold whole numbers, not {listed(counts)}."
        raise ValueError(msg)
    if n_de_genes not in (None, counts.sum()):
        msg = f"n_de_genes={n_de_genes}, but n_de_genes_per_cluster sums to {counts.sum():.0f}. Leave n_de_genes out."
        raise ValueError(msg)
    return counts.astype(np.int64)


def _per_cluster(argument: str, given: PerCluster, clusters: pd.Index) -> np.ndarray:
    if isinstance(given, (Mapping, pd.Series)):
        named = {str(cluster): value for cluster, value in given.items()}
        for cluster in named:
            if cluster not in clusters:
                msg = f"{argument} names a cluster {cluster!r} that no cell is in. {did_you_mean(cluster, clusters)}"
                raise ValueError(msg)
        given = [named.get(cluster, 0) for cluster in clusters]
    values = real_array(argument, given)
    if values.shape != (len(clusters),):
        msg = (
            f"{argument} has shape {values.shape}, but there are {len(clusters)} clusters: {listed(clusters)}. "
            "Give one number for each, in this order, or a dict of those that have DE genes."
        )
        raise ValueError(msg)
    if not (np.isfinite(values) & (values >= 0)).all():
        msg = f"{argument} must hold finite numbers of 0 or more, not {listed(values)}."
        raise ValueError(msg)
    return values


def with_effects(
    rng: np.random.Generator,
    genes: pd.DataFrame,
    clusters: pd.Index,
    n_de: np.ndarray,
    direction: Direction,
    bounds: tuple[float, float],
) -> pd.DataFrame:
    """Make the last genes DE, cluster after cluster: columns `de_cluster` and `beta`."""
    n, total = len(genes), int(n_de.sum())
    if total > n:
        msg = f"{total} DE genes were asked for, but there are {n} genes. Give a smaller n_de_genes, or more genes."
        raise ValueError(msg)
    cluster = np.concatenate([np.full(n - total, -1), np.repeat(np.arange(len(clusters)), n_de)])
    beta = np.zeros(n)
    beta[n - total :] = rng.uniform(*bounds, total)
    if direction == "both":
        beta[n - total :] *= rng.choice([-1.0, 1.0], total)
    return genes.assign(de_cluster=pd.Categorical.from_codes(cluster + 1, pd.Index(["", *clusters])), beta=beta)
