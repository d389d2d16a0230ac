"""What the commands share: options of what is read, and how they become arguments."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, get_args

from flashmm_sc.cli._subset import add_subset, subset_values

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def add_value_options(command: argparse.ArgumentParser, sizes: str = "") -> None:
    """Options of what is read, and how; `sizes` are more words on size factors."""
    from flashmm_sc._stream.kernel import Transform

    add = command.add_argument
    add("--transform", choices=[name or "none" for name in get_args(Transform)], help="of the values as they are read")
    words = f"divide by these before the logarithm{sizes}: 'total', or a column of obs"
    add("--size-factors", metavar="COLUMN", help=words)
    add("--target-sum", type=float, metavar="SUM", help="total that size factors bring cells to [median, or mean]")
    add("--weights", metavar="COLUMN", help="column of obs: precision weights of cells, as lmer's")
    add("--layer", help="use this layer instead of X")
    add("--use-raw", action="store_true", help="use raw instead of X")
    add("--mask-var", metavar="COLUMN", help="boolean column of var: genes to use")
    add_subset(command)
    add("--n-jobs", type=int, metavar="N", help="threads [all cores]")


def named(text: str) -> tuple[str, str]:
    """A contrast and its name."""
    name, _, expression = (part.strip() for part in text.partition("="))
    if not (name and expression):
        msg = f"{text!r} is not of the form NAME=EXPR"
        raise argparse.ArgumentTypeError(msg)
    return name, expression


def take_subset(options: dict[str, Any], sources: Sequence[Path]) -> None:
    """Put the cells that are chosen in the place of the option that chooses them."""
    if "subset" in options:
        options["mask_obs"] = subset_values(sources, options.pop("subset"))


def given(args: argparse.Namespace) -> dict[str, Any]:
    """What was given, by the names of the arguments of functions."""
    options = {name: value for name, value in vars(args).items() if name not in ("run", "traceback")}
    if options.get("transform") == "none":
        options["transform"] = None
    return options


def check_sources(sources: Sequence[Path]) -> None:
    """Refuse files that are not there."""
    for source in sources:
        if not source.exists():
            msg = f"There is no file {str(source)!r}."
            raise FileNotFoundError(msg)
