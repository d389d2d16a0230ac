"""The reference of a simulation: moments of genes and library sizes of cells, estimated or drawn."""

from __future__ import annotations

from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd

from flashmm_sc._base.log import info
from flashmm_sc._base.options import check_real
from flashmm_sc._stream.blocks import blocks, whole
from flashmm_sc.datasets._simu_design import check_same_cells, numbered


@dataclass(frozen=True)
class Reference:
    """Mean and variance of each gene, library size of each cell."""

    genes: pd.Index
    cells: pd.Index
    mean: np.ndarray
    var: np.ndarray
    libsize: np.ndarray

    def gene_table(self) -> pd.DataFrame:
        """Mean and NB size (method of moments) of the genes that have them: mean > 0 and variance > mean."""
        kept = (self.mean > 0) & (self.var > self.mean)
        n_zero, n_dropped = int((self.mean <= 0).sum()), int((~kept).sum())
        if n_dropped:
            info(
                f"Dropped {n_dropped} of {len(kept)} reference genes: {n_zero} without counts, {n_dropped - n_zero} with "
                "variance <= mean."
            )
        if not kept.any():
            msg = (
                "No gene of the reference has a variance above its mean, which the negative binomial distribution "
                "needs. Give raw counts of more cells, or of genes that vary more."
            )
            raise ValueError(msg)
        mean, var = self.mean[kept], self.var[kept]
        return pd.DataFrame({"mean": mean, "dispersion": mean**2 / (var - mean)}, index=self.genes[kept])

    def library_sizes(self, *, adjust: bool) -> np.ndarray:
        """Library size of each cell, or with `adjust=False` the mean for all."""
        if not adjust:
            return np.full(len(self.cells), self.libsize.mean())
        if n_empty := int((self.libsize == 0).sum()):
            msg = (
                f"The reference has cells without counts ({n_empty}): they give no library size to simulate by. "
                "Filter them (scanpy.pp.filter_cells(reference, min_counts=1)) or give adjust_library_size=False."
            )
            raise ValueError(msg)
        return self.libsize


def reference_for(
    rng: np.random.Generator,
    adata: ad.AnnData | None,
    n_genes: int | None,
    n_cells: int | None,
    cells: pd.DataFrame | None,
) -> Reference:
    """Estimate the reference from `adata`, or draw one; `cells` is the metadata, if given."""
    if adata is not None:
        source = _estimated(adata)
        if cells is not None:
            check_same_cells(cells.index, source.cells)
        return source
    n_cells = len(cells) if n_cells is None and cells is not None else n_cells
    if n_genes is None or n_cells is None:
        msg = "Without a reference, n_genes and n_cells (or metadata) are needed. Give them, or a reference."
        raise ValueError(msg)
    if cells is not None and len(cells) != n_cells:
        msg = (
            f"metadata has {len(cells)} rows, but n_cells={n_cells}. Give one row for each cell, or leave n_cells out."
        )
        raise ValueError(msg)
    if n_cells < 2:
        msg = f"{n_cells} cells have no variance; without a reference, at least 2 are needed."
        raise ValueError(msg)
    return _drawn(rng, n_genes, numbered("Cell", n_cells) if cells is None else cells.index)


def _estimated(adata: ad.AnnData) -> Reference:
    """Take the moments and library sizes of the counts in `adata.X`."""
    if not isinstance(adata, ad.AnnData):
        msg = f"reference must be an AnnData with raw counts in X, not a {type(adata).__name__}."
        raise TypeError(msg)
    if adata.X is None:
        msg = "reference.X is None. Put raw counts there, e.g. reference.X = reference.layers['counts']."
        raise ValueError(msg)
    check_real("reference.X", whole(adata.X))
    n_cells, n_genes = adata.shape
    if n_cells < 2 or n_genes < 1:
        msg = f"reference has {n_cells} cells and {n_genes} genes; it needs at least 2 cells and 1 gene."
        raise ValueError(msg)
    libsize, total, squares = np.zeros(n_cells), np.zeros(n_genes), np.zeros(n_genes)
    for block in blocks(adata.X):
        counts = block.values.astype(np.float64)  # noqa: PD011
        _check_counts(counts.data)
        here = slice(block.start, block.start + counts.shape[0 if block.by_rows else 1])
        cells, genes = (here, slice(None)) if block.by_rows else (slice(None), here)
        libsize[cells] += counts.sum(axis=1)
        total[genes] += counts.sum(axis=0)
        squares[genes] += counts.power(2).sum(axis=0)
    mean = total / n_cells
    return Reference(adata.var_names, adata.obs_names, mean, (squares - n_cells * mean**2) / (n_cells - 1), libsize)


def _check_counts(values: np.ndarray) -> None:
    if not (np.isfinite(values) & (values >= 0) & (values == np.floor(values))).all():
        msg = (
            "reference.X holds values that are not counts (negative, fractional or not finite). "
            "Give raw counts, e.g. reference.X = reference.layers['counts']."
        )
        raise ValueError(msg)


def _drawn(rng: np.random.Generator, n_genes: int, cells: pd.Index) -> Reference:
    """Draw moments and library sizes of a reference of NB genes with mean and size 1 + Poisson(1), without its counts.

    FLASHMM draws the matrix. Here, how often a gene takes each value is multinomial, which gives its moments; and a
    sum of NB numbers with the same mean/size is NB, which gives the library sizes. Both have the distribution they
    have in FLASHMM, but are independent of each other.
    """
    from scipy import stats  # slow to import

    n_cells = len(cells)
    mu, size = 1 + rng.poisson(1, n_genes), 1 + rng.poisson(1, n_genes)
    mean, var = np.empty(n_genes), np.empty(n_genes)
    pairs, pair_of = np.unique(np.column_stack([mu, size]), axis=0, return_inverse=True)
    for k, (m, r) in enumerate(pairs):  # a few dozen pairs, however many genes
        genes = np.flatnonzero(pair_of.ravel() == k)
        nb = stats.nbinom(r, r / (r + m))
        values = np.arange(nb.isf(1e-16) + 1)
        times = rng.multinomial(n_cells, nb.pmf(values), size=len(genes))
        mean[genes] = times @ values / n_cells
        var[genes] = (times @ values**2 - n_cells * mean[genes] ** 2) / (n_cells - 1)
    libsize = np.zeros(n_cells)
    for ratio in np.unique(mu / size):
        libsize += rng.negative_binomial(size[mu / size == ratio].sum(), 1 / (1 + ratio), n_cells)
    # with a handful of genes a cell can be empty; its logarithm must stay finite
    return Reference(numbered("Gene", n_genes), cells, mean, var, np.maximum(libsize, 1))
