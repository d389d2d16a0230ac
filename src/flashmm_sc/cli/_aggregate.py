"""The command `flashmm-sc aggregate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashmm_sc.cli._options import add_value_options, check_sources, given, take_subset

if TYPE_CHECKING:
    from collections.abc import Sequence

EXAMPLE = """
examples, of counts for negative binomial and of logarithms for linear mixed models:
  flashmm-sc aggregate counts.h5ad --by donor --by cell_type --out sums.h5ad --size-factors total
  flashmm-sc de sums.h5ad --model nb --fixed '~ trt' --sample donor --groupby cell_type --table de.csv

  flashmm-sc aggregate counts.h5ad --by donor --by cell_type --out sums.h5ad \\
    --transform log1p --size-factors total --target-sum 1e4
  flashmm-sc de sums.h5ad --fixed '~ trt' --random donor --groupby cell_type --table de.csv"""


def add(commands: Any, argv: Sequence[str]) -> None:
    """Add the command to those of the parser; its options, which take time to import, if it is asked for."""
    words = "sum up the cells of each stratum, such as those of a donor and cell type"
    description = (
        f"{words.capitalize()}: the sums are an h5ad file or zarr store, which 'de' takes in the place of the cells."
    )
    layout = argparse.RawDescriptionHelpFormatter
    strata = commands.add_parser(
        "aggregate", help=words, description=description, epilog=EXAMPLE, formatter_class=layout
    )
    if "aggregate" in argv:
        _add_options(strata)


def _add_options(strata: argparse.ArgumentParser) -> None:
    """Options are the arguments of `pp.aggregate`; one that isn't given has its default there."""
    strata.set_defaults(run=_run)
    strata.argument_default = argparse.SUPPRESS
    option = strata.add_argument
    option("sources", type=Path, nargs="+", metavar="IN.h5ad", help="file, or several (h5ad, zarr); only read")
    option("--by", required=True, action="append", metavar="COLUMN", help="of obs, tells strata apart; repeatable")
    option("--out", type=Path, required=True, metavar="SUMS.h5ad", help="file (h5ad) or store (zarr) to write")
    add_value_options(strata, " (without --transform: weigh counts by them)")


def _run(args: argparse.Namespace) -> None:
    from flashmm_sc.pp import aggregate

    options = given(args)
    sources = options.pop("sources")
    check_sources(sources)
    take_subset(options, sources)
    strata = aggregate(sources, **options)
    cells = int(strata.obs["n_cells"].sum())
    print(f"{', '.join(map(str, sources))}: {cells:,} cells of {strata.n_obs:,} strata, {strata.n_vars:,} genes")
    print("", f"Written: {args.out}", sep="\n")
