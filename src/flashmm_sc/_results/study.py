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
from pandas.api.types import union_categoricals

from flashmm_sc._base.errors import listed, named
from flashmm_sc._design.cell_design import in_memory
from flashmm_sc._results.checks import Expression, check_anndata, find_expression, gene_mask
from flashmm_sc._results.files import streamed
from flashmm_sc._results.scale import Scale
from flashmm_sc._results.shared_rows import add_strata, shared_rows
from flashmm_sc._stream.accumulate import accumulate
from flashmm_sc._stream.sums import CellMatrix, Sums, Tally, Zeros

if TYPE_CHECKING:
    from flashmm_sc._design.rows import Rows, StratumRows
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
        For each of them the AnnData and the matrix that it is.
    names
        For each of them its name in messages, and the names of its cells and columns.
    fitted
        Which values are fitted.
    weights
        Precision weights of the cells; None where all count alike.
    """

    target: AnnData
    obs: pd.DataFrame
    matrices: list[CellMatrix]
    kept: np.ndarray
    sources: list[tuple[AnnData, Expression]]
    names: list[tuple[str, pd.Index, pd.Index]]
    fitted: Values
    weights: Weights | None = None

    @property
    def genes(self) -> list[str]:
        """Names of the genes to fit."""
        return list(self.target.var_names[self.kept])

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
        where, cells, genes = self.names[k]
        gene = "" if j < 0 else f", gene {genes[j]!r}"
        return f"cell {cells[i - self.matrices[k].start]!r}{gene}{where}"


@contextmanager
def opened(adata: AnnData | Sequence[Source], *, copy: bool) -> Iterator[tuple[list[AnnData], list[str]]]:
    """Open and check what there is of an AnnData, or of several, and name it in words; one AnnData has no name.

    Files are open as long as the context lasts.
    """
    if isinstance(adata, AnnData):
        check_anndata(adata, copy=copy)
        yield [adata], [""]
        return
    if copy:
        msg = "copy=True is for one AnnData; for several, a new AnnData is returned in any case."
        raise ValueError(msg)
    with _opened(adata) as (several, names):
        yield several, names


def join(
    several: Sequence[AnnData], names: Sequence[str], needed: Needed, values: Values, *, every: bool = False
) -> Study:
    """The study of what was opened.

    `needed` tells which columns of obs are wanted, see `needed_columns`; `every` asks for those too that all have.
    """
    if names[0]:
        return _joint(several, names, needed, values, every=every)
    (adata,) = several
    found = find_expression(adata, values.layer, values.use_raw, values.mask_var)
    obs: Any = adata.obs
    if not isinstance(obs, pd.DataFrame):
        obs = in_memory(obs, list(obs.columns) if every else needed(obs, ""))
    where = [("", adata.obs_names, _columns(adata, values.use_raw))]
    return Study(adata, obs, [CellMatrix(found.X, found.gene)], found.kept, [(adata, found)], where, values)


def _joint(several: Sequence[AnnData], names: Sequence[str], needed: Needed, values: Values, *, every: bool) -> Study:
    """The cells of several AnnData, one after another, with the genes that all have."""
    shared = [gene for gene in several[0].var_names if all(gene in other.var_names for other in several[1:])]
    if not shared:
        msg = f"{listed(names)} have no gene in common; are their var_names of one kind?"
        raise ValueError(msg)
    target = AnnData(var=in_memory(several[0].var, list(several[0].var.columns)).loc[shared])
    kept = np.flatnonzero(gene_mask(target, values.mask_var))
    found = []
    for name, one in zip(names, several, strict=True):
        with named(name):
            found.append(find_expression(one, values.layer, values.use_raw, None))
    starts = np.cumsum([0, *(one.n_obs for one in several)]).tolist()
    parts = [
        CellMatrix(part.X, _renumbered(part, one.var_names, target.var_names[kept]), start, name)
        for part, one, start, name in zip(found, several, starts[:-1], names, strict=True)
    ]
    where = [
        (f" of {name}", one.obs_names, _columns(one, values.use_raw)) for name, one in zip(names, several, strict=True)
    ]
    sources = list(zip(several, found, strict=True))
    return Study(target, _joint_obs(several, names, needed, every=every), parts, kept, sources, where, values)


@contextmanager
def _opened(sources: Sequence[Source]) -> Iterator[tuple[list[AnnData], list[str]]]:
    """Open those of several sources that are files, their matrices left on disk; and name them all."""
    if isinstance(sources, str | PathLike) or not isinstance(sources, Sequence):
        msg = (
            f"adata must be an AnnData, not {type(sources).__name__}; a list of AnnData and files is analysed together."
        )
        raise TypeError(msg)
    if not sources:
        msg = "adata is an empty list; give an AnnData, or a list of AnnData and files."
        raise ValueError(msg)
    for i, source in enumerate(sources):
        if not isinstance(source, AnnData | str | PathLike):
            msg = f"adata[{i}] must be an AnnData or the path of a file, not {type(source).__name__}."
            raise TypeError(msg)
    keys = [id(source) if isinstance(source, AnnData) else Path(source).resolve() for source in sources]
    for i, key in enumerate(keys):
        if key in keys[:i]:
            msg = f"adata[{i}] is in the list before, as adata[{keys.index(key)}]: its cells would count twice."
            raise ValueError(msg)
    with ExitStack() as files:
        several, names = [], []
        for i, source in enumerate(sources):
            part = source if isinstance(source, AnnData) else files.enter_context(streamed(Path(source), results=False))
            names.append(f"adata[{i}]" if part is source else repr(str(source)))
            several.append(part)
            with named(names[-1]):
                check_anndata(part, copy=False)
        yield several, names


def _joint_obs(several: Sequence[AnnData], names: Sequence[str], needed: Needed, *, every: bool) -> pd.DataFrame:
    """Columns of all cells; categories are united in the order in which they come, or sorted if they are in each part.

    Sorted they are in most files, as strings become categories when they are written: the reference level should not
    depend on which file is first.
    """
    pairs = zip(several, names, strict=True)
    wanted = [needed(one.obs, f" for {name}") for one, name in pairs]
    shared = [name for name in several[0].obs.columns if all(name in one.obs for one in several)] if every else []
    tables = [in_memory(one.obs, list(dict.fromkeys(own + shared))) for one, own in zip(several, wanted, strict=True)]
    columns = {}
    for name in tables[0].columns:
        each = [table[name] for table in tables]
        try:
            _check_kinds(name, each, names)
        except ValueError:
            if name in wanted[0]:
                raise
            continue
        if all(isinstance(values.dtype, pd.CategoricalDtype) for values in each):
            kind = each[0].cat.categories.dtype  # words may be stored in several ways
            each = [_with_categories_of(values, kind) for values in each]
            in_order = all(values.cat.categories.is_monotonic_increasing for values in each)
            columns[name] = union_categoricals(each, ignore_order=True, sort_categories=in_order)
        else:
            columns[name] = pd.concat(each, ignore_index=True).array
    return pd.DataFrame(columns, copy=False)


def _with_categories_of(values: pd.Series, kind: Any) -> pd.Series:
    categories: Any = values.cat.categories.astype(kind)
    return values.cat.rename_categories(categories)


def _check_kinds(name: str, each: list[pd.Series], names: Sequence[str]) -> None:
    """Refuse a column that holds numbers in one part and words, or categories, in another."""
    kinds: dict[str, str] = {}
    for values, where in zip(each, names, strict=True):
        levels = values.cat.categories if isinstance(values.dtype, pd.CategoricalDtype) else None
        numeric = pd.api.types.is_numeric_dtype(values.dtype if levels is None else levels.dtype)
        kind = "words" if not numeric else "numbers" if levels is None else f"categories of type {levels.dtype}"
        kinds.setdefault(kind, where)
    if len(kinds) > 1:
        (a, one), (b, other) = list(kinds.items())[:2]
        msg = f"obs[{name!r}] holds {a} in {one} but {b} in {other}; bring it to one type first."
        raise ValueError(msg)


def _columns(adata: AnnData, use_raw: bool) -> pd.Index:
    return (adata.raw if use_raw else adata).var_names


def _renumbered(part: Expression, var_names: pd.Index, genes: pd.Index) -> np.ndarray:
    """Position of each column of a matrix among genes; the part counts them in its own var."""
    place = genes.get_indexer(var_names)
    return np.where(part.gene < 0, -1, place[part.gene])
