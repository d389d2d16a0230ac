"""Refuse arguments of a simulation that make no sense."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from flashmm_sc._base.files import as_path, check_file, check_folder
from flashmm_sc._base.options import check_number, one_of

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path


Direction: TypeAlias = Literal["both", "up", "down"]


_MOST = np.iinfo(np.int32).max
_STEEPEST = 20.0
"""Largest effect, and variance of random effects, whose exponential still makes counts."""


def check_sizes(least: int = 1, **sizes: int | None) -> None:
    """Refuse numbers of things that are not whole, too small or out of all bounds; None is a default."""
    for name, size in sizes.items():
        whole = isinstance(size, int | np.integer) and not isinstance(size, bool)
        if size is not None and not (whole and least <= size <= _MOST):
            msg = f"{name}={size!r} must be a whole number of at least {least}, and at most {_MOST:,}."
            raise ValueError(msg)


def generator(seed: object) -> np.random.Generator:
    """The generator of a seed."""
    try:
        if not isinstance(seed, bool):
            return np.random.default_rng(seed)  # type: ignore[arg-type]
        reason = "True and False are none"
    except (AttributeError, TypeError, ValueError) as error:
        reason = str(error)
    msg = f"seed={seed!r} must be a whole number of 0 or more, a generator of numpy or None ({reason})."
    raise ValueError(msg)


def check_effects(direction: Direction, low: float, high: float, variance: float, n_de_genes: int | None) -> None:
    """Refuse bounds that don't fit the direction of the effects, and impossible numbers."""
    one_of("direction", direction, Direction)
    check_number("min_beta", low, -_STEEPEST, _STEEPEST, "It is a natural log fold change.")
    check_number("max_beta", high, -_STEEPEST, _STEEPEST, "It is a natural log fold change.")
    check_number("var_random_effects", variance, 0.0, _STEEPEST, "It is a variance on the natural log scale.")
    check_sizes(0, n_de_genes=n_de_genes)
    bounds = f"min_beta={low} and max_beta={high}"
    if not low < high:
        msg = f"{bounds} bound no interval; give numbers with min_beta < max_beta."
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


def h5ad_path(filename: str | PathLike[str]) -> Path:
    """Refuse a file that can't be written, before anything is drawn."""
    path = as_path("filename", filename)
    if path.suffix != ".h5ad":
        msg = f"filename={str(path)!r} must end in .h5ad."
        raise ValueError(msg)
    check_folder(path, f"filename={str(path)!r}", ValueError)
    check_file(path)
    return path
