"""h5ad files of any size: opened with their matrices left on disk, given results without copying them through memory."""

from __future__ import annotations

import os
import shutil
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
from anndata import AnnData
from anndata.io import write_elem

from flashmm_sc._base.files import as_path, check_folder, reading, taken
from flashmm_sc._base.signals import uninterrupted
from flashmm_sc._results.aggregated import KEY
from flashmm_sc._results.cells_file import StoredCells, read
from flashmm_sc._results.result import check_key
from flashmm_sc._results.write import places
from flashmm_sc._stats.file import write_h5ad
from flashmm_sc._stream.h5write import writable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from os import PathLike

_ROOTS = ("zarr.json", ".zgroup")
"""What the folder of a zarr store has, of format 3 or 2."""
_NOTES = ("log1p", KEY)
"""What of uns says how values were made."""


@contextmanager
def streamed(path: Path) -> Iterator[StoredCells]:
    """Open the cells and genes of an h5ad file or zarr store, of which nothing is read yet that grows with the cells.

    Raises
    ------
    OSError, ValueError
        When it can't be opened or read, or holds no AnnData.
    """
    with _store(path) as file:
        with reading(path):
            missing = [name for name in ("obs", "var") if name not in file]
            cells = None if missing else StoredCells.of(file, path, _NOTES)
        if cells is None:
            msg = f"{str(path)!r} holds no AnnData: it has no {' and no '.join(missing)}."
            raise ValueError(msg)
        yield cells


def check_new_file(path: str | PathLike[str], adata: Any) -> Path:
    """Refuse the name of a file or store that can't be written, or that is read meanwhile."""
    new = as_path("out", path)
    if new.suffix not in (".h5ad", ".zarr"):
        msg = f"out={str(path)!r} must be the name of a file that ends in .h5ad or .zarr."
        raise ValueError(msg)
    check_folder(new, f"out={str(path)!r}")
    if new.is_dir() or (new.suffix == ".zarr" and os.path.lexists(new)):
        raise taken(new)
    several = [adata] if isinstance(adata, AnnData) else adata
    read = [one.filename if isinstance(one, AnnData) else one for one in several]
    if new.exists() and any(one is not None and Path(one).exists() and new.samefile(one) for one in read):
        msg = f"out={str(path)!r} is an input, which is only read; give another name."
        raise ValueError(msg)
    return new


def opened_lazily(path: Path) -> AnnData:
    """The AnnData of a file, its matrices left there; it is open as long as they are in use."""
    if path.is_dir():
        with _store(path) as store:
            return _lazily(store, path)
    return _lazily(h5py.File(path, "r"), path)


def _lazily(file: Any, path: Path) -> AnnData:
    found = StoredCells.of(file, path, _NOTES)
    return AnnData(found.X, read(file["obs"]), found.var, uns=found.uns, layers=found.layers)


@contextmanager
def _store(path: Path) -> Iterator[Any]:
    if path.is_dir():
        import zarr  # optional

        if not any((path / name).exists() for name in _ROOTS):
            msg = f"{str(path)!r} is a folder that can't be read as a zarr store: it has no {' or '.join(_ROOTS)}."
            raise ValueError(msg)
        with reading(path):
            store = zarr.open_group(str(path), mode="r")
        yield store
        return
    if not path.exists():
        msg = f"There is no file {str(path)!r}."
        raise FileNotFoundError(msg)
    if not h5py.is_hdf5(path):
        msg = f"{str(path)!r} is not an h5ad file."
        raise ValueError(msg)
    try:
        file = h5py.File(path)
    except OSError as error:
        msg = f"{str(path)!r} can't be opened: {error}. It may be truncated, or in use by another process."
        raise OSError(msg) from error
    with file:
        yield file


@contextmanager
def _changed(path: Path) -> Iterator[Any]:
    """A file or store to write to."""
    if not path.is_dir():
        with writable(path, "r+") as (file, _):
            yield file
        return
    import zarr  # optional

    with uninterrupted():  # as below
        yield zarr.open_group(str(path), mode="r+", use_consolidated=False)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Consolidated metadata", UserWarning)  # anndata wrote it before
            zarr.consolidate_metadata(str(path))  # readers believe what it says


def write_as_named(adata: AnnData, path: Path) -> None:
    """Write a new h5ad file or zarr store, as the ending says."""
    if path.suffix != ".zarr":
        write_h5ad(adata, path)
        return
    with uninterrupted():  # zarr's own threads would write on
        adata.write_zarr(path)


def copied(path: Path, new: Path) -> None:
    """Copy a file or store as it is."""
    if not path.is_dir():
        shutil.copyfile(path, new)
        return
    for folder, _, names in os.walk(path, onerror=_raise, followlinks=True):
        here = new / Path(folder).relative_to(path)
        here.mkdir()
        for name in names:
            shutil.copyfile(Path(folder) / name, here / name)


def _raise(error: OSError) -> None:
    raise error


def read_results(path: Path) -> AnnData:
    """The genes and results of a file or store; nothing that grows with the cells is read.

    Raises
    ------
    OSError, ValueError
        When it can't be opened or read, or holds no results.
    """
    with _store(path) as file:
        if "var" not in file or "uns" not in file:
            msg = f"{str(path)!r} holds no results: it has no {'var' if 'var' not in file else 'uns'}."
            raise ValueError(msg)
        with reading(path):
            entries: Any = lambda name: getattr(file["uns"][name], "keys", tuple)()
            results = [name for name in file["uns"] if "column_groups" in entries(name)]
            uns = {name: read(file["uns"][name]) for name in results}
            varm = {name: read(file["varm"][name]) for name in places(results) if name in file["varm"]}
            return AnnData(var=read(file["var"]), varm=varm, uns=uns)


def check_room(path: Path, key: str) -> None:
    """Refuse a key under which a file or store holds something else than results, as `check_key` does."""
    tests = f"{key}_contrasts"
    with _store(path) as file, reading(path):
        there = [name for name in (key, tests) if "uns" in file and name in file["uns"]]
        uns = {name: read(file["uns"][name]) for name in there}
    check_key(AnnData(uns=uns), key)
    check_key(AnnData(uns=uns), tests, tests=True)


def write_results(path: Path, adata: AnnData, key: str) -> None:
    """Bring what a file or store holds under a key, and the contrasts with it, to the state of `adata`."""
    keys = [key, f"{key}_contrasts"]
    with _changed(path) as file:
        for section in ("varm", "uns"):
            if section not in file:
                write_elem(file, section, {})
        for name in places(keys):
            _put(file["varm"], name, adata.varm)
        for name in keys:
            _put(file["uns"], name, adata.uns)


def _put(group: Any, name: str, values: Mapping[str, Any]) -> None:
    """Write a value; one that is no longer there, left in the file by an earlier call, is removed."""
    if name in values:
        write_elem(group, name, values[name])
    elif name in group:
        del group[name]
