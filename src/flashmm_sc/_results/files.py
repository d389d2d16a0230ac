"""h5ad files of any size: opened with their matrices left on disk, given results without copying them through memory."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import h5py
from anndata import AnnData
from anndata.io import read_elem, sparse_dataset, write_elem

from flashmm_sc._results.aggregated import KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from os import PathLike


@contextmanager
def streamed(path: Path, *, results: bool = True) -> Iterator[AnnData]:
    """Open the cells, genes and matrices of an h5ad file or zarr store; X, layers and raw stay on disk.

    `anndata.read_h5ad(path, backed="r")` would load all layers, obsm and obsp. `results` tells whether varm is wanted.

    Raises
    ------
    OSError, ValueError
        When it can't be opened or read, or holds no AnnData.
    """
    with _store(path) as file:
        try:
            missing = [name for name in ("obs", "var") if name not in file]
            adata = None if missing else _lazily(file, results)
        except Exception as error:  # a damaged file may raise anything
            msg = f"{str(path)!r} can't be read: {error}. It may be truncated or corrupt; copy it again."
            raise OSError(msg) from error
        if adata is None:
            msg = f"{str(path)!r} holds no AnnData: it has no {' and no '.join(missing)}."
            raise ValueError(msg)
        yield adata


def check_new_file(path: str | PathLike[str], adata: Any) -> Path:
    """Refuse the name of a file or store that can't be written, or that is read meanwhile."""
    new = Path(path)
    if new.suffix not in (".h5ad", ".zarr"):
        msg = f"out={str(path)!r} must be the name of a file that ends in .h5ad or .zarr."
        raise ValueError(msg)
    if not new.absolute().parent.is_dir():
        msg = f"out={str(path)!r}: there is no such folder. Create it first."
        raise FileNotFoundError(msg)
    if new.is_dir():
        msg = f"out={str(path)!r} is there already; remove it first, or give another name."
        raise FileExistsError(msg)
    several = [adata] if isinstance(adata, AnnData) else adata
    read = [one.filename if isinstance(one, AnnData) else one for one in several]
    if new.exists() and any(one is not None and Path(one).exists() and new.samefile(one) for one in read):
        msg = f"out={str(path)!r} is an input, which is only read; give another name."
        raise ValueError(msg)
    return new


def opened_lazily(path: Path) -> AnnData:
    """The AnnData of a file, as `streamed` gives it; the file is open as long as its matrices are in use."""
    if path.is_dir():
        with streamed(path) as adata:
            return adata
    return _lazily(h5py.File(path, "r"), results=True)


def _lazily(file: Any, results: bool) -> AnnData:
    """The AnnData of a file, its matrices left there."""
    read: Any = read_elem  # what it returns is up to the file
    return AnnData(
        X=_matrix(file.get("X")),
        obs=read(file["obs"]),
        var=read(file["var"]),
        varm=read(file["varm"]) if results and "varm" in file else None,
        uns={name: read(file["uns"][name]) for name in ("log1p", KEY) if "uns" in file and name in file["uns"]},
        layers={name: _matrix(file["layers"][name]) for name in file["layers"]} if "layers" in file else None,
        raw={"X": _matrix(file["raw/X"]), "var": read_elem(file["raw/var"])} if "raw/X" in file else None,
    )


@contextmanager
def _store(path: Path, mode: Literal["r", "r+"] = "r") -> Iterator[Any]:
    if path.is_dir():
        import zarr  # optional

        yield zarr.open_group(str(path), mode=mode, use_consolidated=False if mode == "r+" else None)
        if mode == "r+":
            zarr.consolidate_metadata(str(path))  # readers believe what it says
        return
    if not path.exists():
        msg = f"There is no file {str(path)!r}."
        raise FileNotFoundError(msg)
    if not h5py.is_hdf5(path):
        msg = f"{str(path)!r} is not an h5ad file."
        raise ValueError(msg)
    try:
        file = h5py.File(path, mode)
    except OSError as error:
        msg = f"{str(path)!r} can't be opened: {error}. It may be truncated, or in use by another process."
        raise OSError(msg) from error
    with file:
        yield file


def _matrix(stored: Any) -> Any:
    if stored is None or isinstance(stored, h5py.Dataset) or hasattr(stored, "chunks"):
        return None if stored is None or not stored.shape else stored
    return sparse_dataset(stored)


def write_results(path: Path, adata: AnnData, key: str) -> None:
    """Bring what a file or store holds under a key, and the contrasts with it, to the state of `adata`, with all its varm."""
    with _store(path, "r+") as file:
        for section in ("varm", "uns"):
            if section not in file:
                write_elem(file, section, {})
        for name in {*file["varm"], *adata.varm}:
            if name.startswith(f"{key}_"):
                _put(file["varm"], name, adata.varm)
        for name in (key, f"{key}_contrasts"):
            _put(file["uns"], name, adata.uns)


def _put(group: Any, name: str, values: Mapping[str, Any]) -> None:
    """Write a value; one that is no longer there, left in the file by an earlier call, is removed."""
    if name in values:
        write_elem(group, name, values[name])
    elif name in group:
        del group[name]
