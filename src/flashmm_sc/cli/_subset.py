"""The cells that `--subset` chooses: those with given values of columns of obs. Nothing of it is code."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from flashmm_sc._base.errors import did_you_mean, named

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


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


def subset_values(sources: Sequence[Path], subset: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """The values of each column that are chosen, as `mask_obs` takes them.

    Raises
    ------
    KeyError, ValueError
        For a column or value that isn't in any of the files, and where choices of a column exclude each other.
    """
    from flashmm_sc._design.columns import check_columns
    from flashmm_sc._results.chosen import levels_of
    from flashmm_sc._results.files import streamed

    known: dict[str, list[str]] = {column: [] for column, _ in subset}
    for source in sources:
        with streamed(source) as cells, named(repr(str(source)) if len(sources) > 1 else ""):
            for column, levels in known.items():
                check_columns([column], cells.obs.columns, f"--subset {column}=")
                levels += levels_of(cells.obs[column])[1]
    chosen = {column: list(dict.fromkeys(levels)) for column, levels in known.items()}
    for column, values in subset:
        wanted = _wanted(column, values, known[column])
        chosen[column] = [level for level in chosen[column] if level in wanted]
        if not chosen[column]:
            msg = f"--subset {' '.join('='.join(one) for one in subset)!r} leaves no cell."
            raise ValueError(msg)
    return chosen


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
