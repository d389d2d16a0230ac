"""Simulate multi-sample, multi-cell-type counts with known differential expression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np

from flashmm_sc._base.errors import did_you_mean, listed
from flashmm_sc._base.log import info
from flashmm_sc._base.options import check_flags
from flashmm_sc.datasets._simu_checks import Direction, check_effects, check_sizes, generator, h5ad_path
from flashmm_sc.datasets._simu_counts import count_model, counts_in_memory, counts_on_disk
from flashmm_sc.datasets._simu_design import de_genes_per_cluster, given_cells, random_cells, resampled, with_effects
from flashmm_sc.datasets._simu_reference import reference_for

if TYPE_CHECKING:
    from os import PathLike

    import pandas as pd

    from flashmm_sc.datasets._simu_design import PerCluster


def simu_rnaseq(
    reference: ad.AnnData | None = None,
    *,
    n_genes: int | None = None,
    n_cells: int | None = None,
    metadata: pd.DataFrame | None = None,
    samples_nested: bool = True,
    n_samples: int = 25,
    n_clusters: int = 10,
    n_treatments: int = 2,
    treatment: str | None = None,
    n_de_genes: int | None = None,
    n_de_genes_per_cluster: PerCluster | None = None,
    p_de_genes_per_cluster: PerCluster | None = None,
    adjust_library_size: bool = True,
    direction: Direction = "both",
    min_beta: float = 0.25,
    max_beta: float = 1.0,
    var_random_effects: float = 0.1,
    seed: int | np.random.Generator | None = None,
    filename: str | PathLike[str] | None = None,
    show_progress: bool = False,
) -> ad.AnnData:
    r"""Simulate counts of many samples, clusters (cell types) and treatments, with known effects.

    The count of gene :math:`g` in cell :math:`i` of sample :math:`s` is negative binomial with size :math:`r_g`
    (variance :math:`\mu + \mu^2/r_g`) and mean :math:`\mu_{ig}`, on the natural log scale

    .. math:: \log\mu_{ig} = \log m_g + (\log L_i - \overline{\log L}) + b_{sg} + \beta_g t_{ig}

    where :math:`m_g` and :math:`r_g = m_g^2 / (v_g - m_g)` come from the mean and variance of the gene in the
    reference, :math:`L_i` is the cell's library size there, :math:`b_{sg} \sim N(0, \sigma^2)` is drawn once for each
    gene and sample, and :math:`t_{ig}` is 1 if the gene is differentially expressed (DE) in the cell's cluster and the
    cell is treated, otherwise 0. Each DE gene is so in one cluster. Reference genes without counts, or with
    :math:`v_g \le m_g`, can't be simulated and are dropped (logged at level INFO).

    Parameters
    ----------
    reference
        Raw counts in `X` (cells × genes), in memory or backed. By default one is made up: negative binomial genes
        with mean and size each 1 + Poisson(1). Its counts are never drawn: the moments of genes and the library sizes
        of cells come straight from the distributions that such counts give them.
    n_genes
        Number of genes, by default all usable ones of the reference, which keep their order. Otherwise they are
        drawn at random, with replacement if there are too few. Needed without a reference.
    n_cells
        Number of cells, drawn from `metadata` like genes; by default as many as in the reference or `metadata`.
    metadata
        Columns `sam`, `cls` and `trt` for each cell of the reference, with its `obs_names` as index. By default
        drawn at random; for the reference's own, give `reference.obs`.
    samples_nested
        If `metadata` is drawn: each sample is in one treatment (labels `A1`, `B1`, ...), or else in all (`S1`, ...).
    n_samples, n_clusters, n_treatments
        If `metadata` is drawn: numbers of samples, clusters (labels `1`, `2`, ...) and treatments (`A`, `B`, ...).
    treatment
        The treatment with effects; all others are controls. By default the last in sorted order.
    n_de_genes
        Number of DE genes, by default as many as clusters; 0 for none. They are the last genes, ordered by cluster.
    n_de_genes_per_cluster
        Number of DE genes of each cluster: a dict (other clusters have none), or a sequence in sorted order of
        clusters. By default `n_de_genes` are spread at random.
    p_de_genes_per_cluster
        Proportions to spread them by, given in the same way; by default equal.
    adjust_library_size
        Whether cells keep the library sizes of the reference, or all get the mean of these.
    direction
        Sign of the effects: `"up"`, `"down"`, or `"both"` at random.
    min_beta, max_beta
        Bounds of the effects (natural log fold changes), drawn from a uniform distribution. Both negative for
        `direction="down"`.
    var_random_effects
        Variance :math:`\sigma^2` of the random effects of samples (natural log scale).
    seed
        Seed or generator. The same seed gives the same data, in memory or in a file, with any number of threads.
    filename
        Write the data to this `.h5ad` file, with only some blocks of cells in memory at a time.
    show_progress
        Whether to show a progress bar.

    Returns
    -------
    Cells × genes; with `filename`, backed by the file (mode `"r"`).

    `X`
        Counts, CSR of float32.
    `obs["sam"]`, `obs["cls"]`, `obs["trt"]`, `obs["libsize"]`
        Sample, cluster and treatment (categorical), and the reference library size :math:`L_i` (float).
    `var["mean"]`, `var["dispersion"]`
        :math:`m_g` and the negative binomial size :math:`r_g`.
    `var["de_cluster"]`, `var["beta"]`
        The cluster in which the gene is DE (categorical, `""` if in none) and its effect :math:`\beta_g` (0 if none).
    `uns["simu_rnaseq"]`
        `treatment`, the `clusters`, their `n_de_genes_per_cluster`, and `params`.

    Raises
    ------
    ValueError
        If arguments contradict each other, `reference` doesn't hold counts, or `metadata` doesn't fit it.
    TypeError
        If `reference` isn't an AnnData or `metadata` isn't a DataFrame, and for other arguments of a wrong type.
    OSError
        When the file can't be written.

    References
    ----------
    `simuRNAseq` of the R package FLASHMM; Xu et al. (2026), *Nature Communications*,
    `doi:10.1038/s41467-026-69063-2 <https://doi.org/10.1038/s41467-026-69063-2>`_.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=1000, n_clusters=4, n_de_genes=6, seed=0)
    >>> adata.shape
    (1000, 50)
    >>> int((adata.var["beta"] != 0).sum())
    6
    """
    sizes = {"n_samples": n_samples, "n_clusters": n_clusters, "n_treatments": n_treatments}
    check_sizes(n_genes=n_genes, n_cells=n_cells, **sizes)
    check_flags(samples_nested=samples_nested, adjust_library_size=adjust_library_size, show_progress=show_progress)
    check_effects(direction, min_beta, max_beta, var_random_effects, n_de_genes)
    path = None if filename is None else h5ad_path(filename)
    rng = generator(seed)

    cells = None if metadata is None else given_cells(metadata)
    source = reference_for(rng, reference, n_genes, n_cells, cells)
    genes = resampled(rng, source.gene_table(), n_genes)
    if cells is None:
        cells = random_cells(rng, source.cells, nested=samples_nested, **sizes)
    cells = resampled(rng, cells.assign(libsize=source.library_sizes(adjust=adjust_library_size)), n_cells)
    treatment = _treated(cells["trt"], treatment)
    clusters = cells["cls"].cat.categories
    n_de = de_genes_per_cluster(rng, clusters, n_de_genes, n_de_genes_per_cluster, p_de_genes_per_cluster)
    genes = with_effects(rng, genes, clusters, n_de, direction, (min_beta, max_beta))
    model = count_model(rng, genes, cells, treatment, var_random_effects)

    params: dict[str, Any] = {
        "from_reference": reference is not None,
        "from_metadata": metadata is not None,
        "n_genes": len(genes),
        "n_cells": len(cells),
        "adjust_library_size": bool(adjust_library_size),
        "direction": direction,
        "min_beta": float(min_beta),
        "max_beta": float(max_beta),
        "var_random_effects": float(var_random_effects),
    }
    if metadata is None:
        params |= {"samples_nested": bool(samples_nested), **{name: int(size) for name, size in sizes.items()}}
    if isinstance(seed, (int, np.integer)) and seed <= np.iinfo(np.int64).max:
        params["seed"] = int(seed)
    truth = {"treatment": treatment, "clusters": np.array(clusters, str), "n_de_genes_per_cluster": n_de}
    adata = ad.AnnData(obs=cells, var=genes, uns={"simu_rnaseq": {**truth, "params": params}})
    if path is None:
        adata.X = counts_in_memory(model, rng, show_progress=show_progress)  # type: ignore[misc]
        return adata
    counts_on_disk(path, adata, model, rng, show_progress=show_progress)
    return ad.read_h5ad(path, backed="r")


def _treated(trt: pd.Series, treatment: str | None) -> str:
    """Find the treatment with effects: by default the last."""
    labels = list(trt.cat.categories)
    if treatment is None:
        treatment = labels[-1]
    elif str(treatment) not in labels:
        msg = f"treatment={treatment!r} is the treatment of no cell. {did_you_mean(str(treatment), labels)}"
        raise ValueError(msg)
    if len(labels) == 1:
        info(f"All cells have treatment {labels[0]}, so its effects have no control to be compared with.")
    else:
        info(f"Treatment {treatment} has effects; controls are {listed(t for t in labels if t != treatment)}.")
    return str(treatment)
