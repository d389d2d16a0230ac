"""The cells of a call: of one AnnData, or of several with one joint design."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
from anndata import AnnData

from flashmm_sc._base.errors import listed, named
from flashmm_sc._base.files import as_path
from flashmm_sc._design.cell_design import in_memory
from flashmm_sc._results.cells_file import ChosenCells
from flashmm_sc._results.checks import Expression, check_anndata, check_shape, find_expression, gene_mask
from flashmm_sc._results.chosen import chosen_cells
from flashmm_sc._results.files import streamed
from flashmm_sc._results.joint_obs import joint_obs
from flashmm_sc._results.result import hint_instead_of
from flashmm_sc._results.scale import Scale
from flashmm_sc._results.shared_rows import add_strata, shared_rows
from flashmm_sc._stream.accumulate import accumulate
from flashmm_sc._stream.sums import CellMatrix, Sums, Tally, Zeros

if TYPE_CHECKING:
    from flashmm_sc._design.rows import Rows, StratumRows
    from flashmm_sc._results.cells_file import Cells, StoredCells
    from flashmm_sc._results.values import Values
    from flashmm_sc._stats.weights import Weights
    from flashmm_sc._stream.kernel import Transform

Needed: TypeAlias = Callable[[Any, str], list[str]]
Source: TypeAlias = AnnData | str | PathLike[str]


@dataclass(frozen=True, eq=False)
class Study:
    """All cells, whatever they come from.

    Attributes
    ----------
    target
        Where results go: the AnnData itself or, for several, a new one with their genes and no cells.
    obs
        Columns that the model needs, one row a cell.
    matrices
        With the cells.
    kept
        Positions in `target.var` of the genes to fit.
    sources
        For each of them the AnnData or file, and the matrix that it is.
    names
        For each of them its name in messages, and the names of its columns.
    fitted
        Which values are fitted.
    weights
        Precision weights of the cells; None where all count alike.
    """

    target: AnnData
    obs: pd.DataFrame
    matrices: list[CellMatrix]
    kept: np.ndarray
    sources: list[tuple[Cells, Expression]]
    names: list[tuple[str, pd.Index]]
    fitted: Values
    weights: Weights | None = None

    @property
    def genes(self) -> list[str]:
        """Names of the genes to fit."""
        return list(self.target.var_names[self.kept])

    @property
    def shape(self) -> dict[str, Any]:
        """How many cells there are, and how many genes the matrices have, which cells' totals are over."""
        return {"n_obs": len(self.obs), "n_vars": np.unique([part.X.shape[1] for part in self.matrices])}

    @property
    def divided(self) -> bool:
        """Whether size factors are known to the matrices already."""
        return any(part.size is not None for part in self.matrices)

    @property
    def of_strata(self) -> bool:
        """Whether sums of strata stand for their cells."""
        return False

    @property
    def scales(self) -> list[Scale]:
        """What the values of each matrix seem to be."""
        found = []
        for part, source in zip(self.matrices, self.sources, strict=True):
            with named(part.name):
                found.append(Scale.of(*source))
        return found

    def sums(
        self,
        rows: Rows | StratumRows,
        *,
        transform: Transform,
        tally: Tally | None = None,
        n_jobs: int | None,
        show_progress: bool | None,
        new: Zeros = np.zeros,
    ) -> Sums:
        """One pass over all cells, whose design rows these are; `new` makes arrays."""
        over = lambda its, what: accumulate(
            self.matrices,
            its,
            transform=transform,
            tally=what,
            n_jobs=n_jobs,
            show_progress=show_progress,
            describe=self.describe,
            new=new,
        )
        tally = tally or Tally()
        shared = shared_rows(rows, len(self.kept), tally, sized=self.divided)
        if shared is None:
            return over(rows, tally)
        strata, each, what = shared
        sums = over(strata, what)
        return add_strata(lambda name, W: W.T @ getattr(sums, name), each, tally)

    def describe(self, i: int, j: int) -> str:
        """Words for cell i and column j of the part that it is in, or for the cell alone if j < 0."""
        k = int(np.searchsorted([part.start for part in self.matrices], i, side="right")) - 1
        where, genes = self.names[k]
        gene = "" if j < 0 else f", gene {genes[j]!r}"
        return f"cell {self.sources[k][0].obs_names[i - self.matrices[k].start]!r}{gene}{where}"


@contextmanager
def opened(
    adata: AnnData | Sequence[Source], mask_obs: Any = None, *, copy: bool
) -> Iterator[tuple[Sequence[Cells], list[str]]]:
    """Open and check what there is of an AnnData, or of several, and name it in words; one AnnData has no name.

    With `mask_obs`, what it leaves of them. Files are open as long as the context lasts.
    """
    chosen = lambda several, names: (several, names) if mask_obs is None else chosen_cells(several, names, mask_obs)
    if isinstance(adata, AnnData):
        check_anndata(adata, copy=copy)
        check_shape(adata)
        yield chosen([adata], [""])
        return
    if copy:
        msg = "copy=True is for one AnnData; for several, a new AnnData is returned in any case."
        raise ValueError(msg)
    with _opened(adata) as (several, names):
        yield chosen(several, names)


def join(several: Sequence[Cells], names: Sequence[str], needed: Needed, values: Values) -> Study:
    """The study of what was opened; `needed` tells which columns of obs are wanted, see `needed_columns`."""
    if names[0]:
        return _joint(several, names, needed, values)
    adata: Any = several[0]
    found = find_expression(adata, values.layer, values.use_raw, values.mask_var)
    obs: Any = adata.obs
    if not isinstance(obs, pd.DataFrame):
        obs = in_memory(obs, needed(obs, ""))
    where = [("", _columns(adata, values.use_raw))]
    target: Any = adata.whole if isinstance(adata, ChosenCells) else adata
    return Study(target, obs, [CellMatrix(found.X, found.gene)], found.kept, [(adata, found)], where, values)


def _joint(several: Sequence[Cells], names: Sequence[str], needed: Needed, values: Values) -> Study:
    """The cells of several AnnData, one after another, with the genes that all have."""
    shared = [gene for gene in several[0].var_names if all(gene in other.var_names for other in several[1:])]
    if not shared:
        msg = f"{listed(names)} have no gene in common; are their var_names of one kind?"
        raise ValueError(msg)
    target = AnnData(var=in_memory(several[0].var, list(several[0].var.columns)).loc[shared])
    kept = np.flatnonzero(gene_mask(target, values.mask_var))
    fitted, found = target.var_names[kept], []
    for name, one in zip(names, several, strict=True):
        with named(name):
            found.append(find_expression(one, values.layer, values.use_raw, one.var_names.isin(fitted)))
    starts = np.cumsum([0, *(one.n_obs for one in several)]).tolist()
    parts = [
        CellMatrix(part.X, _renumbered(part, one.var_names, fitted), start, name)
        for part, one, start, name in zip(found, several, starts[:-1], names, strict=True)
    ]
    where = [(f" of {name}", _columns(one, values.use_raw)) for name, one in zip(names, several, strict=True)]
    sources = list(zip(several, found, strict=True))
    wanted = [needed(one.obs, f" for {name}") for one, name in zip(several, names, strict=True)]
    return Study(target, joint_obs(several, names, wanted[0]), parts, kept, sources, where, values)


@contextmanager
def _opened(sources: Sequence[Source]) -> Iterator[tuple[list[AnnData | StoredCells], list[str]]]:
    """Open those of several sources that are files, their matrices left on disk; and name them all."""
    if isinstance(sources, str | PathLike) or not isinstance(sources, Sequence):
        hint = hint_instead_of(sources)
        msg = f"adata must be an AnnData, not {type(sources).__name__}; a list of AnnData and files is analysed together.{hint}"
        raise TypeError(msg)
    if not sources:
        msg = "adata is an empty list; give an AnnData, or a list of AnnData and files."
        raise ValueError(msg)
    for i, source in enumerate(sources):
        if not isinstance(source, AnnData | str | PathLike):
            hint = hint_instead_of(source)
            msg = f"adata[{i}] must be an AnnData or the path of a file, not {type(source).__name__}.{hint}"
            raise TypeError(msg)
        if not isinstance(source, AnnData) and as_path(f"adata[{i}]", source).suffix == ".h5mu":
            msg = (
                f"{str(source)!r} holds MuData; give a modality, mudata.read_h5mu({str(source)!r}, backed=True)['rna']."
            )
            raise ValueError(msg)
    keys = [id(source) if isinstance(source, AnnData) else Path(source).resolve() for source in sources]
    for i, key in enumerate(keys):
        if key in keys[:i]:
            msg = f"adata[{i}] is in the list before, as adata[{keys.index(key)}]: its cells would count twice."
            raise ValueError(msg)
    with ExitStack() as files:
        several: list[AnnData | StoredCells] = []
        names = []
        for i, source in enumerate(sources):
            names.append(f"adata[{i}]" if isinstance(source, AnnData) else repr(str(source)))
            several.append(source if isinstance(source, AnnData) else files.enter_context(streamed(Path(source))))
            with named(names[-1]):
                if isinstance(source, AnnData):
                    check_anndata(source, copy=False)
                check_shape(several[-1])
        yield several, names


def _columns(adata: Any, use_raw: bool) -> pd.Index:
    return (adata.raw if use_raw else adata).var_names


def _renumbered(part: Expression, var_names: pd.Index, genes: pd.Index) -> np.ndarray:
    """Position of each column of a matrix among genes; the part counts those of its own var that are kept."""
    place = genes.get_indexer(var_names[part.kept])
    return np.where(part.gene < 0, -1, place[part.gene])
