"""Sums of strata of cells."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.utils import make_index_unique

from flashmm_sc._base.errors import listed, named
from flashmm_sc._base.files import appearing_whole, temporary_zeros
from flashmm_sc._base.log import detail, info, told
from flashmm_sc._base.options import check_optional_flags, names_given
from flashmm_sc._base.threads import n_threads
from flashmm_sc._design.cell_design import in_memory
from flashmm_sc._design.columns import check_columns, repeated
from flashmm_sc._design.rows import StratumRows
from flashmm_sc._results.advice import advice_on_values
from flashmm_sc._results.aggregated import COLUMNS, KEY, LAYERS, Made, added, made
from flashmm_sc._results.files import check_new_file, opened_lazily, write_as_named
from flashmm_sc._results.joint_obs import shared_columns
from flashmm_sc._results.scale import base_of
from flashmm_sc._results.sizes import with_sizes
from flashmm_sc._results.strata import constant, numbered, strata_of
from flashmm_sc._results.study import Source, join, opened
from flashmm_sc._results.values import PerCell, SizeFactors, Values
from flashmm_sc._results.weights import with_weights

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from flashmm_sc._results.cells_file import Cells
    from flashmm_sc._results.chosen import CellMask
    from flashmm_sc._results.study import Study
    from flashmm_sc._stats.strata import Strata
    from flashmm_sc._stream.kernel import Transform


@told("summing up strata of cells")
def aggregate(
    adata: AnnData | Sequence[Source],
    by: str | Sequence[str],
    *,
    layer: str | None = None,
    use_raw: bool = False,
    mask_var: Any = None,
    mask_obs: CellMask = None,
    transform: Transform = None,
    size_factors: SizeFactors = None,
    target_sum: float | None = None,
    weights: PerCell = None,
    out: str | PathLike[str] | None = None,
    n_jobs: int | None = None,
    show_progress: bool | None = None,
) -> AnnData:
    """Sum up the cells of each stratum, such as those of one donor and cell type.

    A stratum is what the cells have in common that are alike in the columns `by`. Any model whose columns are constant
    within strata can be fitted from their sums, with the same numbers as from the cells: `flashmm_sc.tl.lmm_de` takes the
    AnnData that this returns. Formulas, groups and contrasts may change, rows be left out, relabelled or concatenated with
    those of other sites, without the cells.

    Parameters
    ----------
    adata
        Cells × genes, or a list of AnnData and files, as in `flashmm_sc.tl.lmm_de`.
    by
        Columns of obs that tell strata apart, each combination of their values that occurs being a stratum.
    layer, use_raw, mask_var, mask_obs
        As in `flashmm_sc.tl.lmm_de`.
    transform
        As in `flashmm_sc.tl.lmm_de`. Sums of logarithms are for linear mixed models, those of raw counts (None) for models
        of counts.
    size_factors
        With `transform`, as in `flashmm_sc.tl.lmm_de`. Without, counts are summed as they are, and beside them times the size
        factor of their cell: "total" for its total, or a column of obs or one number a cell, as they are.
    target_sum
        As in `flashmm_sc.tl.lmm_de`, with `transform` only. Give it where strata of several sites are to be concatenated: the
        median that is the default differs between sites.
    weights
        Precision weights of cells, as in `flashmm_sc.tl.lmm_de`, for linear mixed models: Σ v, Σ v² and Σ u / s are weighted.
    out
        An h5ad file or zarr store to write the strata to. Sums are then kept in a temporary file beside it, not in memory,
        as for strata × genes that are too many for it; what is returned leaves its matrices in `out`.
    n_jobs, show_progress
        As in `flashmm_sc.tl.lmm_de`.

    Returns
    -------
    Strata × genes, float64, in the order of the levels of `by`, named as in ``"donor1|B cells"``; v is a value or its
    transform, u the value as it is read, s the size factor of its cell:

    `.X`, `.layers['sum_sq' | 'n_expressed']`
        Σ v, Σ v² and the number of cells with u ≠ 0.
    `.layers['size_sum']`
        Σ s u, with size factors and no transform.
    `.layers['counts' | 'counts_over_size']`
        Σ u, with a transform or weights; and Σ u / s, if there are size factors too.
    `.obs`
        Columns `by`, and all others that are constant within strata; the number of cells ``n_cells``; with size factors
        Σ s and Σ s², ``size`` and ``size_sq``; with weights w Σ w and Σ log w, ``weight_sum`` and ``log_weight_sum``.
    `.uns['aggregate']`
        How they were made. `ad.concat` keeps it with ``uns_merge="same"``, and its ``values`` only of strata that go
        together.

    Raises
    ------
    KeyError
        For a column, layer or mask that `adata` lacks.
    OSError
        For a file that can't be read or written.
    RuntimeError, TypeError
        As `flashmm_sc.tl.lmm_de`.
    ValueError
        For missing values in `by`, columns of obs named as those that are added, values that can't be summed, and unknown
        options.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> strata = fsc.pp.aggregate(adata, by=["sam", "cls"], transform="log1p", size_factors="total", target_sum=1e4)
    >>> strata.shape, int(strata.obs["n_cells"].sum()), strata.obs_names[0]
    ((16, 50), 2000, 'A1|1')
    >>> fsc.tl.lmm_de(strata, fixed="~ trt", random="sam", groupby="cls")
    """
    own: dict[str, Any] = {"weights": weights, "mask_obs": mask_obs, "weigh": transform is None}
    values = Values(layer, use_raw, mask_var, transform, size_factors, target_sum, **own)
    columns = _columns(by)
    check_optional_flags(show_progress=show_progress)
    n_threads(n_jobs)
    path = None if out is None else check_new_file(out, adata)
    with opened(adata, mask_obs, copy=False) as (several, names):
        study = _joined(several, names, columns, values)
        _check_names(several, values)
        codes, first, labels = numbered(study.obs, columns)
        table, dropped = constant(shared_columns(several, names), codes, first)
        base = base_of(scales := study.scales, transform, None)
        advice_on_values(scales, values)
        study = with_sizes(with_weights(study), values, StratumRows(codes, len(first)), n_jobs, show_progress)
        how = Made.of(study.fitted, base, columns, dropped)
        if dropped:
            info(f"    {listed(dropped)} vary within strata and are left out of obs")
        detail(f"{len(first):,} strata × {len(study.kept):,} genes")
        table, var = table.set_axis(make_index_unique(pd.Index(labels))), _genes(study)
        options: dict[str, Any] = {"n_jobs": n_jobs, "show_progress": show_progress}
        if path is None:
            return _anndata(strata_of(study, codes, len(first), values, **options), table, var, how)
        with appearing_whole(path) as part, temporary_zeros(part.parent) as new:
            sums = _anndata(strata_of(study, codes, len(first), values, new=new, **options), table, var, how)
            write_as_named(sums, part)
    return opened_lazily(path)


def _columns(by: str | Sequence[str]) -> list[str]:
    """Columns that tell strata apart, as a list."""
    columns = names_given("by", by)
    if not columns:
        msg = f"by={by!r} must be a column of obs, or a list of columns."
        raise TypeError(msg)
    if twice := repeated(columns):
        msg = f"by={by!r} names {listed(twice)} more than once."
        raise ValueError(msg)
    return columns


def _joined(several: Sequence[Cells], names: Sequence[str], columns: list[str], values: Values) -> Study:
    """The study of these cells."""

    def needed(obs: Any, where: str) -> list[str]:
        check_columns(columns, obs.columns, f"by={columns}{where}")
        for argument, name in values.columns.items():
            check_columns([name], obs.columns, f"{argument}={name!r}{where}")
        return list(dict.fromkeys([*columns, *values.columns.values()]))

    for name, one in zip(names, several, strict=True):
        with named(name):
            if made(one) is not None:
                msg = "adata holds strata already, not cells; give the cells, or use these strata as they are."
                raise ValueError(msg)
            needed(one.obs, "")
    return join(several, names, needed, values)


def _check_names(several: Sequence[Cells], values: Values) -> None:
    """Refuse columns whose names are those of what is added."""
    new = added(sized=values.sized, weighted=values.weights is not None)
    if taken := [name for name in new if all(name in one.obs for one in several)]:
        msg = (
            f"obs has a column {listed(taken)}, the name of what is added for strata ({', '.join(new)}): rename it, as in adata.obs = "
            f"adata.obs.rename(columns={{{taken[0]!r}: {taken[0] + '_of_cells'!r}}}), or remove it."
        )
        raise ValueError(msg)


def _genes(study: Study) -> pd.DataFrame:
    """The table of the genes that are summed."""
    var = study.target.var
    return in_memory(var, list(var.columns)).iloc[study.kept]


def _anndata(strata: Strata, obs: pd.DataFrame, var: pd.DataFrame, how: Made) -> AnnData:
    """Strata as an AnnData."""
    numbers = {name: getattr(strata, ours) for ours, name in COLUMNS.items() if name in how.columns}
    layers = {name: getattr(strata, ours) for ours, name in LAYERS.items() if name in how.layers}
    return AnnData(
        strata.sums,
        obs.assign(**numbers | {COLUMNS["n"]: strata.n.astype(np.int64)}),
        var,
        layers=layers,
        uns={KEY: how.entry | {"version": version("flashmm-sc")}},
    )
