"""The command line: `flashmm-sc demo`, `flashmm-sc de`, `flashmm-sc test` and `flashmm-sc aggregate`.

Packages that are slow to import are imported where they are used, so that --help and --version don't wait for them.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from flashmm_sc._base.signals import ending_cleanly
from flashmm_sc.cli import _aggregate, _tests
from flashmm_sc.cli._options import add_value_options, given, named, take_subset
from flashmm_sc.cli._targets import add_targets, check_targets, contrasts_of, write_table, written

if TYPE_CHECKING:
    from collections.abc import Sequence

DEMO_STUDY: dict[str, Any] = {"n_cells": 4000, "n_genes": 300, "n_samples": 12, "n_clusters": 3, "seed": 27}
DEMO_EFFECTS: dict[str, Any] = {"n_de_genes_per_cluster": [10, 10, 10], "min_beta": 0.5, "max_beta": 1.5}
DEMO_MODEL: dict[str, Any] = {"fixed": "~ trt", "random": "sam", "groupby": "cls", "moderate": True}
DEMO_VALUES: dict[str, Any] = {"transform": "log1p", "size_factors": "total"}
EXAMPLE = """
examples:
  flashmm-sc de counts.h5ad --fixed '~ trt' --random donor --groupby cell_type --moderate \\
    --transform log1p --size-factors total --table de.csv
  flashmm-sc de counts.h5ad --model nb --fixed '~ trt' --sample donor --groupby cell_type --table de.csv"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    try:
        with ending_cleanly():
            return _run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        return 130


def _run(argv: Sequence[str]) -> int:
    args = _parser(argv).parse_args(argv)
    try:
        with warnings.catch_warnings():
            _plain_warnings()
            args.run(args)
    except (KeyError, OSError, TypeError, ValueError) as error:
        if args.traceback:
            raise
        from flashmm_sc.cli._models import in_options

        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"flashmm-sc: error: {in_options(str(message))}", file=sys.stderr)
        return 2
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, without the usage, which is long."""
        self.exit(2, f"flashmm-sc: error: {message} (see {self.prog} --help)\n")


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(prog="flashmm-sc", description="Differential expression of single cells with mixed models.")
    parser.add_argument("--version", action="version", version=f"flashmm-sc {version('flashmm-sc')}")
    parser.add_argument("--traceback", action="store_true", help="with an error, show where in the code it arose")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    words = "simulate a study with known effects, analyse it, compare with the truth"
    demo = commands.add_parser("demo", help=words, description=f"{words.capitalize()}.")
    demo.add_argument("--out", type=Path, default=Path("flashmm_demo.h5ad"), help="file to write [%(default)s]")
    demo.set_defaults(run=_demo)
    words = "test every gene of an h5ad file"
    description = f"{words.capitalize()}. Matrices are streamed from disk."
    layout = argparse.RawDescriptionHelpFormatter
    de = commands.add_parser("de", help=words, description=description, epilog=EXAMPLE, formatter_class=layout)
    if "de" in argv:
        _add_de_options(de)
    _tests.add(commands, argv)
    _aggregate.add(commands, argv)
    return parser


def _add_de_options(de: argparse.ArgumentParser) -> None:
    """Options are the arguments of `tl.lmm_de` and `tl.nbmm_de`; one that isn't given has its default there."""
    from flashmm_sc._gaussian.profile import Method
    from flashmm_sc._inference.adjustment import Correction, Scope
    from flashmm_sc._inference.df import Ddf
    from flashmm_sc.cli._models import add_model_options

    de.set_defaults(run=_de)
    de.argument_default = argparse.SUPPRESS
    add = de.add_argument
    several = "file to analyse, or several, analysed together (h5ad, zarr); only read"
    add("sources", type=Path, nargs="+", metavar="IN.h5ad", help=several)
    add(
        "--fixed",
        required=True,
        metavar="FORMULA",
        help="of columns of obs, as '~ trt'; a formula is code",
    )
    add_model_options(de)
    add_targets(de, "write a copy of IN (of a zarr store, OUT.zarr), of several inputs their genes, with the results")
    add_value_options(de)
    add("--log-base", type=float, metavar="BASE", help="of values that are logarithms already, if nothing notes it")
    add("--min-cells", type=int, metavar="N", help="leave groups of fewer cells out [10]")
    add("--min-fraction", type=float, metavar="SHARE", help="leave genes out that fewer of a group's cells express [0]")
    add("--min-counts", type=float, metavar="SUM", help="leave genes out whose counts in a group are fewer [0; nb: 10]")
    add("--groupby", metavar="COLUMN", help="column of obs: fit one model for each of its categories")
    add("--residual-by", metavar="COLUMN", help="column of obs: a residual variance for each of its levels")
    add("--method", choices=get_args(Method), help="restricted or plain maximum likelihood")
    add("--ddf", choices=get_args(Ddf), help="degrees of freedom of the tests")
    add("--free-variances", dest="nonnegative", action="store_false", help="let variance components be negative")
    add("--moderate", action="store_true", help="learn from all genes how variances are distributed")
    add(
        "--contrast",
        dest="contrasts",
        action="append",
        type=named,
        metavar="NAME=EXPR",
        help="also test this; repeatable",
    )
    add("--corr-method", choices=get_args(Correction), help="correction of p-values for the number of genes")
    add("--corr-scope", choices=get_args(Scope), help="over the genes of each column of tests, or of all together")
    add("--key-added", metavar="KEY", help="key of the results [lmm_de; nb: nbmm_de]")


def _plain_warnings() -> None:
    """Show the package's own warnings as plain text, others not at all."""
    from flashmm_sc._base.errors import FlashmmWarning

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"flashmm-sc: warning: {message}", file=sys.stderr)

    warnings.simplefilter("ignore")
    warnings.simplefilter("default", FlashmmWarning)
    warnings.showwarning = show


def _de(args: argparse.Namespace) -> None:
    import pandas as pd

    from flashmm_sc._base.files import appearing_together
    from flashmm_sc._results.files import check_room, copied, write_results
    from flashmm_sc._results.result import Result
    from flashmm_sc._stats.file import write_h5ad
    from flashmm_sc.cli._models import of_model
    from flashmm_sc.cli._plot import check_choice, check_effect, draw, effect
    from flashmm_sc.cli._report import summary
    from flashmm_sc.get import lmm_de_df

    options = given(args)
    sources, out, table, plot = (options.pop(name) for name in ("sources", "out", "table", "plot"))
    coef = options.pop("plot_coef", None)
    check_targets(sources, out, table, plot, coef)
    fit, options = of_model(options)
    if "contrasts" in options:
        options["contrasts"] = contrasts_of(options["contrasts"])
    if plot:
        check_choice(options.get("contrasts"), coef)
    with appearing_together(out, table) as (new, new_table):
        key, single = options["key_added"], len(sources) == 1
        if new and single:
            check_room(sources[0], key)
        take_subset(options, sources)
        if plot:
            check_effect(sources, options, coef)
        adata = fit(sources, **options)
        n_obs = adata.uns[key]["params"]["n_obs"]
        print(f"{', '.join(map(str, sources))}: {n_obs:,} cells, {adata.n_vars:,} genes", *summary(adata), sep="\n")
        if new and single:
            copied(sources[0], new)
            write_results(new, adata, key)
        elif new:
            write_h5ad(adata, new)
        if new_table:
            write_table(pd.concat([lmm_de_df(adata, key=key) for key in adata.uns]), new_table)
    print(written(out, table))
    if plot:  # after the results are safe
        draw(adata, *effect(Result.all(adata)[::-1], coef), plot)
        print(f"Written: {plot}")


def _demo(args: argparse.Namespace) -> None:
    from flashmm_sc._base.files import appearing_whole
    from flashmm_sc._stats.file import write_h5ad
    from flashmm_sc.cli._report import compared, next_steps, simulated
    from flashmm_sc.datasets import simu_rnaseq
    from flashmm_sc.tl import lmm_de

    check_targets([], args.out)
    with appearing_whole(args.out) as part:
        adata = simu_rnaseq(**DEMO_STUDY, **DEMO_EFFECTS)
        lmm_de(adata, **DEMO_MODEL, **DEMO_VALUES, show_progress=False)
        write_h5ad(adata, part)
    print(*simulated(adata), sep="\n")
    for name in adata.obs["cls"].cat.categories:
        print("", *compared(adata, name), sep="\n")
    print(next_steps(args.out))


if __name__ == "__main__":
    sys.exit(main())
