"""h5ad files of any size: opened with their matrices left on disk, given results without copying them through memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
from anndata import AnnData
from anndata.io import read_elem, sparse_dataset, write_elem


@contextmanager
def streamed(path: Path) -> Iterator[AnnData]:
    """Open the cells, genes and matrices of an h5ad file; X, layers and raw stay on disk.

    `anndata.read_h5ad(path, backed="r")` would load all layers, obsm and obsp.
    """
    if not h5py.is_hdf5(path):
        msg = f"{str(path)!r} is not an h5ad file."
        raise ValueError(msg)
    with h5py.File(path) as file:
        if missing := [name for name in ("obs", "var") if name not in file]:
            msg = f"{str(path)!r} holds no AnnData: it has no {' and no '.join(missing)}."
            raise ValueError(msg)
        raw = {"X": _matrix(file["raw/X"]), "var": read_elem(file["raw/var"])} if "raw/X" in file else None
        yield AnnData(
            X=_matrix(file.get("X")),
            obs=read_elem(file["obs"]),
            var=read_elem(file["var"]),
            varm=read_elem(file["varm"]) if "varm" in file else None,
            uns={"log1p": read_elem(file["uns/log1p"])} if "uns/log1p" in file else None,
            layers={name: _matrix(layer) for name, layer in file.get("layers", {}).items()},
            raw=raw,
        )


def _matrix(stored: h5py.Group | h5py.Dataset | None) -> Any:
    if isinstance(stored, h5py.Group):
        return sparse_dataset(stored)
    return None if stored is None or stored.shape is None else stored


def write_results(path: Path, adata: AnnData, key: str) -> None:
    """Bring what a file holds under a key, and the contrasts with it, to the state of `adata`, which has all its varm."""
    with h5py.File(path, "r+") as file:
        for section in ("varm", "uns"):
            if section not in file:
                write_elem(file, section, {})
        for name in {*file["varm"], *adata.varm}:
            if name.startswith(f"{key}_"):
                _put(file["varm"], name, adata.varm)
        for name in (key, f"{key}_contrasts"):
            _put(file["uns"], name, adata.uns)


def _put(group: h5py.Group, name: str, values: Mapping[str, Any]) -> None:
    """Write a value; one that is no longer there, left in the file by an earlier call, is removed."""
    if name in values:
        write_elem(group, name, values[name])
    elif name in group:
        del group[name]


@contextmanager
def appearing_whole(path: Path) -> Iterator[Path]:
    """Give a file beside `path` to write to; it takes the name `path` only once it is complete."""
    with TemporaryDirectory(prefix=".flashmm-sc-", dir=path.parent) as folder:
        part = Path(folder) / path.name  # the same name, since its ending may say how to write
        yield part
        part.replace(path)
