"""What a call works on: the matrix and the genes of an AnnData, checked before any pass over the data."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flashmm_sc._base.errors import did_you_mean, listed
from flashmm_sc._base.files import reading
from flashmm_sc._base.options import check_real
from flashmm_sc._design.columns import repeated
from flashmm_sc._results.result import uns_of
from flashmm_sc._stream.blocks import first_block, whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData

    from flashmm_sc._results.cells_file import Cells


@dataclass(frozen=True, eq=False)
class Expression:
    """A matrix of an AnnData and the genes to use.

    Attributes
    ----------
    X
        Cells × columns, in whatever container.
    kept
        Positions in var of the genes to fit.
    gene
        For each column of X its position among them, or -1.
    source
        Words for the matrix in messages.
    """

    X: Any
    kept: np.ndarray
    gene: np.ndarray
    source: str

    @cached_property
    def first_values(self) -> np.ndarray:
        """Finite stored values of the first rows or columns, which tell much of all."""
        return first_values(self.X)


def first_values(X: Any) -> np.ndarray:
    """Finite stored values of the first rows or columns of a matrix."""
    first = first_block(X)
    stored = first.values.data if first is not None else np.empty(0)
    return stored[np.isfinite(stored)]


def check_anndata(adata: AnnData, *, copy: bool) -> None:
    """Refuse what results can't be written to."""
    uns_of(adata)
    if adata.isbacked and copy:
        msg = "copy=True would copy a backed AnnData; use copy=False, or read the file into memory first."
        raise ValueError(msg)
    if adata.isbacked and adata.is_view:
        msg = (
            "adata is a view of backed data, which would be read anew for every block; choose cells of the whole with "
            "mask_obs=, or call .to_memory() on the view first."
        )
        raise ValueError(msg)


def check_shape(adata: Cells) -> None:
    """Refuse what has nothing to fit, and genes that can't be told apart."""
    if 0 in adata.shape:
        msg = f"adata has {adata.n_obs} cells and {adata.n_vars} genes: there is nothing to fit."
        raise ValueError(msg)
    if isinstance(first := adata.var_names[0], bytes):
        msg = (
            f"var_names are bytes, as {first!r}, not texts. If anndata.experimental.read_lazy gave them, the file is by a newer "
            "anndata: update anndata, or give the path of the file in a list."
        )
        raise ValueError(msg)
    if twice := repeated(adata.var_names):
        msg = f"var_names are not unique: {listed(twice)}. Call adata.var_names_make_unique() first."
        raise ValueError(msg)


def find_expression(adata: Cells, layer: str | None, use_raw: bool, mask_var: Any) -> Expression:
    """Find the matrix and the genes that the arguments name."""
    kept = np.flatnonzero(gene_mask(adata, mask_var))
    if layer is not None and use_raw:
        msg = "layer and use_raw=True name two matrices; give one of them."
        raise ValueError(msg)
    if use_raw:
        return _raw(adata, kept)
    if layer is not None and (not isinstance(layer, str) or layer not in adata.layers):
        msg = f"layer={layer!r} is not in adata.layers. {did_you_mean(layer, [k for k in adata.layers if k])}"
        raise KeyError(msg)
    source = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
    X = _matrix(adata, source, lambda: adata.X if layer is None else adata.layers[layer], adata.n_vars)
    if X is None:
        msg = f"adata.X is None; name a layer with layer=. {did_you_mean('X', [k for k in adata.layers if k])}"
        raise ValueError(msg)
    gene = np.full(adata.n_vars, -1)
    gene[kept] = np.arange(kept.size)
    _check_values(source, X)
    return Expression(X, kept, gene, source)


def reading_of(adata: Cells) -> AbstractContextManager[None]:
    """While a matrix is asked for: names the file that it should come from, if it does."""
    path = getattr(adata, "filename", None)
    return nullcontext() if path is None else reading(Path(path))


def _matrix(adata: Cells, source: str, get: Callable[[], Any], n_vars: int) -> Any:
    """A matrix, which a file may have that isn't what it was; refuses one that has other cells or genes than adata."""
    with reading_of(adata):
        X = get()
    if X is not None and tuple(X.shape) != (adata.n_obs, n_vars):
        n, m = X.shape
        path = getattr(adata, "filename", None)
        where = "" if path is None else f" The file {str(path)!r}, which backs adata, was replaced: open it again."
        msg = f"{source} is of {n} cells and {m} genes, obs and var of {adata.n_obs} and {n_vars}.{where}"
        raise ValueError(msg)
    return X


def _check_values(source: str, X: Any) -> None:
    """Refuse what is no matrix of real numbers."""
    check_real(source, whole(X))
    if getattr(getattr(whole(X), "dtype", None), "kind", "") == "O":
        msg = f"{source} must hold real numbers, not objects; if they are numbers, use .astype(float)."
        raise ValueError(msg)


def _raw(adata: Cells, kept: np.ndarray) -> Expression:
    if adata.raw is None:
        msg = "use_raw=True, but adata.raw is None; use adata.X or a layer."
        raise ValueError(msg)
    if twice := repeated(adata.raw.var_names):
        msg = f"adata.raw.var_names are not unique: {listed(twice)}; make them unique before setting adata.raw."
        raise ValueError(msg)
    raw = adata.raw
    X = _matrix(adata, "adata.raw.X", lambda: raw.X, raw.n_vars)
    place = raw.var_names.get_indexer(adata.var_names[kept])
    if (place < 0).any():
        msg = f"adata.raw lacks genes of adata: {listed(adata.var_names[kept][place < 0])}; mask them with mask_var."
        raise ValueError(msg)
    gene = np.full(raw.n_vars, -1)
    gene[place] = np.arange(kept.size)
    _check_values("adata.raw.X", X)
    return Expression(X, kept, gene, "adata.raw.X")


def gene_mask(adata: Cells, mask_var: Any) -> np.ndarray:
    """Which genes to fit, from a boolean column of var or one boolean a gene."""
    if mask_var is None:
        return np.ones(adata.n_vars, bool)
    if isinstance(mask_var, str):
        if mask_var not in adata.var.columns:
            msg = f"mask_var={mask_var!r} is not a column of adata.var. {did_you_mean(mask_var, adata.var.columns)}"
            raise KeyError(msg)
        values, words = adata.var[mask_var].to_numpy(), f"adata.var[{mask_var!r}]"
    else:
        values, words = np.asarray(mask_var), "mask_var"
    if values.shape != (adata.n_vars,) or values.dtype != bool:
        msg = (
            f"{words} must hold one True or False a gene ({adata.n_vars}), not {values.dtype} of shape {values.shape}."
        )
        raise ValueError(msg)
    if not values.any():
        msg = f"{words} leaves no gene to fit."
        raise ValueError(msg)
    return values
