"""The command `flashmm-sc test`: further tests of a fit in a file, whose cells are not read."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from flashmm_sc.cli._options import given, named
from flashmm_sc.cli._targets import add_targets, check_targets, contrasts_of, write_table, written

if TYPE_CHECKING:
    from collections.abc import Sequence

EXAMPLE = """
examples:
  flashmm-sc test de.h5ad --contrast 'B vs C=trt[T.B] - trt[T.C]' --conf-level 0.95 --table b_c.csv
  flashmm-sc test de.h5ad --anova --table terms.tsv
  flashmm-sc test de.h5ad --plot volcano.png"""
_OF_TESTS = {"key_added", "ddf", "corr_method", "corr_scope", "n_jobs"}
_OF_CONTRASTS = {"alternative": "--alternative", "lfc": "--lfc", "joint": "--joint", "conf_level": "--conf-level"}


def add(commands: Any, argv: Sequence[str]) -> None:
    """Add the command to those of the parser; its options, which take time to import, if it is asked for."""
    words = "test more of a fit that is in a file, without its cells"
    description = f"{words.capitalize()}: contrasts, or each term of the fixed formula."
    layout = argparse.RawDescriptionHelpFormatter
    test = commands.add_parser("test", help=words, description=description, epilog=EXAMPLE, formatter_class=layout)
    if "test" in argv:
        _add_options(test)


def _add_options(test: argparse.ArgumentParser) -> None:
    """Options are the arguments of `tl.lmm_test` and `tl.lmm_anova`; one that isn't given has its default there."""
    from flashmm_sc._inference.adjustment import Correction, Scope
    from flashmm_sc._inference.df import Ddf
    from flashmm_sc._inference.t_tests import Alternative

    test.set_defaults(run=_run)
    test.argument_default = argparse.SUPPRESS
    add = test.add_argument
    add("source", type=Path, metavar="RESULT.h5ad", help="file with a fit (h5ad, zarr), as 'de' writes it; only read")
    what = test.add_mutually_exclusive_group()
    what.add_argument(
        "--contrast", dest="contrasts", action="append", type=named, metavar="NAME=EXPR", help="repeatable"
    )
    what.add_argument("--anova", action="store_true", help="each term of the fixed formula: F tests")
    add_targets(test, "write a copy of RESULT with the tests")
    add("--key", help="key of the fit, where there are several")
    add("--key-added", metavar="KEY", help="key of the tests [lmm_test; --anova: lmm_anova]")
    add("--alternative", choices=get_args(Alternative), help="of a contrast [two-sided]")
    add("--lfc", type=float, metavar="LOG2FC", help="test contrasts against this log2 fold change [0]")
    add("--joint", action="store_true", help="all contrasts in one F test")
    add("--conf-level", type=float, metavar="LEVEL", help="also confidence intervals, as 0.95")
    add("--ddf", choices=get_args(Ddf), help="degrees of freedom [as in the fit]")
    add("--corr-method", choices=get_args(Correction), help="correction of p-values for the number of genes")
    add("--corr-scope", choices=get_args(Scope), help="over the genes of each column of tests, or of all together")
    add("--n-jobs", type=int, metavar="N", help="threads [all cores]")


def _run(args: argparse.Namespace) -> None:

    from flashmm_sc._base.files import appearing_together
    from flashmm_sc._results.files import check_room, copied, read_results, write_results
    from flashmm_sc._results.finding import found_fit
    from flashmm_sc._results.result import Result
    from flashmm_sc.cli._plot import check_choice, draw, effect
    from flashmm_sc.cli._report import findings
    from flashmm_sc.get import lmm_de_df

    options = given(args)
    source, out, table, plot = (options.pop(name) for name in ("source", "out", "table", "plot"))
    coef = options.pop("plot_coef", None)
    check_targets([source], out, table, plot, coef)
    _check(options, out)
    if "contrasts" in options:
        options["contrasts"] = contrasts_of(options["contrasts"])
    if plot:
        check_choice(options.get("contrasts"), coef)
    if "contrasts" in options or "anova" in options:
        options.setdefault("key_added", "lmm_test" if "contrasts" in options else "lmm_anova")
        if out:
            check_room(source, options["key_added"])
    adata = read_results(source)
    fit = found_fit(adata, options.get("key"))
    key = _tested(adata, options)
    results = [Result.read(adata, key), fit] if key != fit.key else [fit]
    drawn = effect(results, coef) if plot else None
    print(f"{source}: {fit.key}, {adata.n_vars:,} genes", *findings(results[:1]), sep="\n")
    with appearing_together(out, table) as (new, new_table):
        if new:
            copied(source, new)
            write_results(new, adata, key)
        if new_table:
            write_table(lmm_de_df(adata, key=key), new_table)
    if drawn:
        draw(adata, *drawn, plot)
    print(written(out, table, plot))


def _check(options: dict[str, Any], out: Path | None) -> None:
    """Refuse options that have nothing to be of."""
    tests = "contrasts" in options or "anova" in options
    if not tests and (out or _OF_TESTS & options.keys()):
        msg = "There is nothing to test; give --contrast NAME=EXPR or --anova."
        raise ValueError(msg)
    if "contrasts" not in options and (alone := [option for name, option in _OF_CONTRASTS.items() if name in options]):
        msg = f"{', '.join(alone)}: for contrasts only; give --contrast NAME=EXPR as well."
        raise ValueError(msg)


def _tested(adata: Any, options: dict[str, Any]) -> str:
    """Carry out the tests; give their key, or without any that of the fit."""
    from flashmm_sc import tl
    from flashmm_sc._results.finding import found_fit

    if "contrasts" in options:
        tl.lmm_test(adata, **options)
    elif options.pop("anova", False):
        tl.lmm_anova(adata, **options)
    else:
        return found_fit(adata, options.get("key")).key
    return str(options["key_added"])
