"""An h5ad file or zarr store as a call needs it: matrices stay there, and the columns of obs until they are asked for.

An AnnData would have a text for each cell as its index, 640 MB of ten million cells, and all columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import h5py
import pandas as pd
from anndata import AnnData
from anndata.io import read_elem, sparse_dataset

from flashmm_sc._base.files import reading
from flashmm_sc._design.cell_design import in_memory
from flashmm_sc._stream.blocks import ChosenRows

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy as np

read: Any = read_elem  # what it returns is up to the file


@dataclass(frozen=True, eq=False)
class StoredTable:
    """A table in a file, whose columns are read when they are asked for; rows are numbered, and have names for messages.

    Attributes
    ----------
    group
        Where it lies.
    path
        The file.
    """

    group: Any
    path: Path

    @cached_property
    def columns(self) -> pd.Index:
        """Names of the columns."""
        with reading(self.path):
            return pd.Index([str(name) for name in self.group.attrs["column-order"]])

    @cached_property
    def names(self) -> pd.Index:
        """Names of the rows, which take long and much memory to read."""
        with reading(self.path):
            return pd.Index(read(self._index))

    @property
    def _index(self) -> Any:
        return self.group[self.group.attrs["_index"]]

    def __len__(self) -> int:
        index = self._index
        while hasattr(index, "keys"):  # of texts that may be missing, or categories
            index = index["values" if "values" in index else "codes"]
        return int(index.shape[0])

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __getitem__(self, names: Any) -> Any:
        """A column, or a table of several."""
        if isinstance(names, str):
            return self[[names]][names]
        with reading(self.path):
            if self.group.attrs["encoding-version"] == "0.1.0":  # whose columns say in their own way what is a category
                return read(self.group)[names].reset_index(drop=True)
            columns = {name: read(self.group[name]) for name in names}
            return pd.DataFrame(columns, index=pd.RangeIndex(len(self)), copy=False)


@dataclass(frozen=True, eq=False)
class StoredGenes:
    """A matrix in a file, and the genes that are its columns."""

    X: Any
    var: pd.DataFrame

    @property
    def var_names(self) -> pd.Index:
        """Names of the genes."""
        return self.var.index

    @property
    def n_vars(self) -> int:
        """How many genes there are."""
        return len(self.var)


@dataclass(frozen=True, eq=False)
class StoredCells(StoredGenes):
    """What an AnnData in a file offers to a call, by the names that it has there."""

    obs: StoredTable
    layers: dict[str, Any]
    raw: StoredGenes | None
    uns: dict[str, Any]

    @classmethod
    def of(cls, file: Any, path: Path, notes: Iterable[str]) -> StoredCells:
        """Read the genes, and what of uns is called for by name."""
        genes: Any = lambda var: AnnData(var=read(var)).var
        found = cls(
            X=_matrix(file.get("X")),
            var=genes(file["var"]),
            obs=StoredTable(file["obs"], path),
            layers={name: _matrix(file["layers"][name]) for name in file["layers"]} if "layers" in file else {},
            raw=StoredGenes(_matrix(file["raw/X"]), genes(file["raw/var"])) if "raw/X" in file else None,
            uns={name: read(file["uns"][name]) for name in notes if "uns" in file and name in file["uns"]},
        )
        found._check_shapes()
        return found

    def _check_shapes(self) -> None:
        """Refuse matrices that have not the cells and genes of obs and var."""
        each = {"X": (self.X, self.n_vars)} | {name: (layer, self.n_vars) for name, layer in self.layers.items()}
        if self.raw is not None:
            each["raw.X"] = self.raw.X, self.raw.n_vars
        for name, (matrix, n_genes) in each.items():
            if matrix is not None and matrix.shape != (self.n_obs, n_genes):
                n, m = matrix.shape
                msg = f"{name} is of {n} cells and {m} genes, obs and var of {self.n_obs} and {n_genes}"
                raise ValueError(msg)

    @cached_property
    def n_obs(self) -> int:
        """How many cells there are."""
        return len(self.obs)

    @property
    def obs_names(self) -> pd.Index:
        """Names of the cells, which are read where a message names one."""
        return self.obs.names

    @property
    def shape(self) -> tuple[int, int]:
        """Cells × genes."""
        return self.n_obs, self.n_vars


@dataclass(frozen=True, eq=False)
class ChosenTable:
    """Some rows of a table, columns of which are read when they are asked for."""

    table: Any
    rows: np.ndarray

    @property
    def columns(self) -> pd.Index:
        """Names of the columns."""
        return self.table.columns

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, name: object) -> bool:
        return name in self.table.columns

    def __getitem__(self, names: Any) -> Any:
        """A column, or a table of several."""
        if isinstance(names, str):
            return self[[names]][names]
        return in_memory(self.table, names).iloc[self.rows]


@dataclass(frozen=True, eq=False)
class ChosenCells:
    """Some cells of an AnnData or file, of which what is asked for is taken.

    Attributes
    ----------
    whole
        The AnnData or file.
    rows
        Positions of the cells in it, ascending.
    first, n_given
        Number of its first cell among those that the call was given, and how many these are.
    """

    whole: AnnData | StoredCells
    rows: np.ndarray
    first: int
    n_given: int

    @property
    def X(self) -> Any:
        """Their matrix."""
        return ChosenRows.of(self.whole.X, self.rows)

    @cached_property
    def layers(self) -> dict[str, Any]:
        """Their layers."""
        return {name: ChosenRows.of(layer, self.rows) for name, layer in self.whole.layers.items()}

    @cached_property
    def raw(self) -> StoredGenes | None:
        """Their raw values."""
        raw: Any = self.whole.raw
        return None if raw is None else StoredGenes(ChosenRows.of(raw.X, self.rows), raw.var)

    @cached_property
    def obs(self) -> ChosenTable:
        """What is known of them."""
        return ChosenTable(self.whole.obs, self.rows)

    @property
    def obs_names(self) -> pd.Index:
        """Their names."""
        return self.whole.obs_names[self.rows]

    @property
    def n_obs(self) -> int:
        """How many they are."""
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int]:
        """Cells × genes."""
        return self.n_obs, self.n_vars

    var = property(lambda self: self.whole.var)
    var_names = property(lambda self: self.whole.var_names)
    n_vars = property(lambda self: self.whole.n_vars)
    uns = property(lambda self: self.whole.uns)


Cells: TypeAlias = AnnData | StoredCells | ChosenCells
"""Cells × genes, or strata × genes."""


def _matrix(stored: Any) -> Any:
    if stored is None or isinstance(stored, h5py.Dataset) or hasattr(stored, "chunks"):
        return None if stored is None or not stored.shape else stored
    return sparse_dataset(stored)
