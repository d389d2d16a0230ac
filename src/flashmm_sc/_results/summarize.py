"""Sums over the cells of a part of a study, with a design that all parts share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flashmm_sc._arrays.refined import refined
from flashmm_sc._base.log import detail, told
from flashmm_sc._base.options import check_optional_flags
from flashmm_sc._base.threads import n_threads
from flashmm_sc._design.cell_design import CellDesign, needed_columns
from flashmm_sc._design.random import RandomDesign
from flashmm_sc._design.shared import Design, check_levels
from flashmm_sc._results.advice import advice_on_values
from flashmm_sc._results.sizes import with_sizes
from flashmm_sc._results.strata_study import cells_or_strata
from flashmm_sc._results.values import PerCell, SizeFactors, Values
from flashmm_sc._stats.cross import CrossProducts
from flashmm_sc._stats.summary import SummaryStats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from flashmm_sc._results.chosen import CellMask
    from flashmm_sc._results.study import Source
    from flashmm_sc._stream.kernel import Transform


@told("summing over cells")
def summarize(
    adata: AnnData | Sequence[Source],
    design: Design,
    *,
    layer: str | None = None,
    use_raw: bool = False,
    mask_var: Any = None,
    mask_obs: CellMask = None,
    transform: Transform = None,
    size_factors: SizeFactors = None,
    target_sum: float | None = None,
    weights: PerCell = None,
    n_jobs: int | None = None,
    show_progress: bool | None = None,
) -> SummaryStats:
    """Sum over the cells of a part of a study, with a design that all parts share.

    The statistics of parts add up (``a + b``), can be saved and loaded, and `flashmm_sc.lmm` fits them.

    Parameters
    ----------
    adata
        Cells × genes, or a list of AnnData and files, or strata in the place of cells, as in `flashmm_sc.tl.lmm_de`.
    design
        The design.
    layer, use_raw, mask_var, mask_obs, transform, n_jobs, show_progress
        As in `flashmm_sc.tl.lmm_de`.
    weights
        As in `flashmm_sc.tl.lmm_de`. The statistics of parts add up if all have weights of one name, or none has any.
    size_factors, target_sum
        As in `flashmm_sc.tl.lmm_de`; a `target_sum` is needed, as means and medians of the parts differ.

    Returns
    -------
    The statistics of these cells. They are sums over cells, but sums over few cells reveal these cells: of a donor with
    one cell, Z'Y is that cell's expression.

    Raises
    ------
    KeyError
        For a column, layer or mask that `adata` lacks.
    OSError, RuntimeError, TypeError
        As `flashmm_sc.tl.lmm_de`.
    ValueError
        For missing values, levels that the design doesn't know, and values that the transform can't take.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=30, n_cells=1500, n_samples=8, n_clusters=2, seed=1)
    >>> design = fsc.Design.of(adata.obs, "~ cls + trt", "sam + sam:cls")
    >>> fsc.summarize(adata, design, transform="log1p", size_factors="total", target_sum=1e4)
    SummaryStats of 1500 cells × 30 genes: 3 fixed columns, 24 random columns in (8, 16)
    """
    if not isinstance(design, Design):
        msg = f"design must be a Design, of Design.of or Design.load, not {type(design).__name__}."
        raise TypeError(msg)
    values = Values(layer, use_raw, mask_var, transform, size_factors, target_sum, weights=weights, mask_obs=mask_obs)
    if values.sized and target_sum is None:
        msg = "size_factors need target_sum=, the same for all parts: the means or medians of the parts differ."
        raise ValueError(msg)
    check_optional_flags(show_progress=show_progress)
    n_threads(n_jobs)
    formula, columns = design.fixed.encoding.text, values.columns
    needed = lambda obs, where: needed_columns(obs, formula, design.random, where, **columns)
    with cells_or_strata(adata, needed, values, copy=False) as study:
        values = study.fitted
        check_levels(design.fixed, study.obs)
        cells = CellDesign(design.fixed, RandomDesign.of(design.random, study.obs))
        rows = cells.all_rows(cells.table(study.obs))
        own = study.weights
        cross = CrossProducts.of(rows.gram(None if own is None else own.each), len(design.names))
        advice_on_values(study.scales, values)
        study = with_sizes(study, values, rows, n_jobs, show_progress)
        how: dict[str, Any] = {"transform": values.transform, "n_jobs": n_jobs, "show_progress": show_progress}
        sums = study.sums(rows, **how)
        names = cells.labels | {"gene_names": study.genes, "origin": design.origin(values.words)}
        names |= {} if own is None else own.sums
        stats = SummaryStats.of(cross, sums.WY, sums.yy[0], rows.n, **names)
        if not study.of_strata:
            stats = refined(stats, study.matrices, rows, describe=study.describe, **how)
    detail(repr(stats))
    return stats
