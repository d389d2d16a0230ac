"""Refuse arguments of a simulation that make no sense."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from flashmm_sc._base.options import one_of

if TYPE_CHECKING:
    from os import PathLike


Direction: TypeAlias = Literal["both", "up", "down"]


def check_sizes(**sizes: int | None) -> None:
    """Refuse numbers of things that are not whole or below 1."""
    for name, size in sizes.items():
        if size is not None and (not isinstance(size, (int, np.integer)) or size < 1):
            msg = f"{name}={size!r} must be a whole number of at least 1."
            raise ValueError(msg)


def check_effects(direction: Direction, low: float, high: float, variance: float, n_de_genes: int | None) -> None:
    """Refuse bounds that don't fit the direction of the effects, and impossible numbers."""
    one_of("direction", direction, Direction)
    bounds = f"min_beta={low} and max_beta={high}"
    if not -np.inf < low < high < np.inf:
        msg = f"{bounds} bound no interval; give finite numbers with min_beta < max_beta."
        raise ValueError(msg)
    if direction == "up" and low <= 0:
        msg = f"{bounds} don't fit direction='up'; give positive bounds."
        raise ValueError(msg)
    if direction == "down" and high >= 0:
        msg = f"{bounds} don't fit direction='down'; give negative bounds, e.g. min_beta=-1, max_beta=-0.25."
        raise ValueError(msg)
    if low * high <= 0:
        msg = f"{bounds} include effects of zero; give bounds of the same sign (direction='both' draws the sign)."
        raise ValueError(msg)
    if not 0 <= variance < np.inf:
        msg = f"var_random_effects={variance} must be a finite number of 0 or more."
        raise ValueError(msg)
    if n_de_genes is not None and (not isinstance(n_de_genes, (int, np.integer)) or n_de_genes < 0):
        msg = f"n_de_genes={n_de_genes!r} must be a whole number of 0 or more."
        raise ValueError(msg)


def h5ad_path(filename: str | PathLike[str]) -> Path:
    """Refuse a file that can't be written, before anything is drawn."""
    path = Path(filename)
    if path.suffix != ".h5ad":
        msg = f"filename={str(path)!r} must end in .h5ad."
        raise ValueError(msg)
    if not path.absolute().parent.is_dir():
        msg = f"filename={str(path)!r}: there is no such folder. Create it first."
        raise ValueError(msg)
    return path
