"""The cells that `--subset` chooses: those with given values of columns of obs. Nothing of it is code."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from flashmm_sc._base.errors import did_you_mean, named

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np


def add_subset(command: argparse.ArgumentParser) -> None:
    """The option."""
    words = "use only cells with one of these values in a column of obs; repeatable, and all must hold"
    command.add_argument(
        "--subset", action="append", type=column_and_values, metavar="COLUMN=VALUE[,VALUE]", help=words
    )


def column_and_values(text: str) -> tuple[str, str]:
    """A column of obs, and values of it as they were written."""
    column, _, values = (part.strip() for part in text.partition("="))
    if not (column and values.strip(" ,")):
        msg = f"{text!r} is not of the form COLUMN=VALUE or COLUMN=VALUE,VALUE"
        raise argparse.ArgumentTypeError(msg)
    return column, values


def subset_mask(sources: Sequence[Path], subset: Sequence[tuple[str, str]]) -> np.ndarray:
    """Which of the cells of all files are chosen.

    Raises
    ------
    KeyError, ValueError
        For a column or value that isn't there, and where no cell is left.
    """
    import numpy as np

    from flashmm_sc._results.files import streamed

    columns: dict[str, list[Any]] = {column: [] for column, _ in subset}
    for source in sources:
        with streamed(source) as cells, named(repr(str(source)) if len(sources) > 1 else ""):
            for column, of in columns.items():
                of.append(_levels(cells.obs, column))
    mask = np.ones(sum(len(codes) for codes, _ in next(iter(columns.values()))), bool)
    for column, values in subset:
        known = list(dict.fromkeys(name for _, names in columns[column] for name in names))
        wanted = _wanted(column, values, known)
        parts = [
            np.isin(codes, [i for i, name in enumerate(names) if name in wanted]) for codes, names in columns[column]
        ]
        mask &= np.concatenate(parts)
    if not mask.any():
        msg = f"--subset {' '.join('='.join(one) for one in subset)!r} leaves no cell."
        raise ValueError(msg)
    return mask


def _levels(obs: Any, column: str) -> tuple[np.ndarray, list[str]]:
    """Codes of the cells and names of the levels of a column; a missing value has none."""
    from flashmm_sc._design.columns import as_factor, check_columns

    check_columns([column], obs.columns, f"--subset {column}=")
    factor = as_factor(obs[column])
    whole = lambda level: int(level) if isinstance(level, float) and level.is_integer() else level
    return factor.codes, [str(whole(level)) for level in factor.categories]


def _wanted(column: str, values: str, known: list[str]) -> set[str]:
    """Values that were asked for: one that holds commas, or several."""
    if values in known:
        return {values}
    wanted = [value.strip() for value in values.split(",") if value.strip()]
    for value in wanted:
        if value not in known:
            msg = f"--subset: obs[{column!r}] has no {value!r}. {did_you_mean(value, known)}"
            raise ValueError(msg)
    return set(wanted)
