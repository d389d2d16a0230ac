"""The command line: `flashmm-sc demo` and `flashmm-sc de`."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import h5py
    from anndata import AnnData

# Packages that are slow to import are imported where they are used, so that --help and --version are not.

FDR = 0.05
DEMO_MODEL = {"fixed": "~ 0 + log(libsize) + cls + cls:trt", "random": "sam", "transform": "log2p1"}
DEMO_PLANTED, DEMO_SHOWN = 10, 5


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    args = _parser(argv).parse_args(argv)
    with warnings.catch_warnings():
        _plain_warnings()
        try:
            args.run(args)
        except KeyboardInterrupt:
            return 130
        except (KeyError, OSError, TypeError, ValueError) as error:
            if args.traceback:
                raise
            message = error.args[0] if isinstance(error, KeyError) and error.args else error
            print(f"flashmm-sc: error: {message}", file=sys.stderr)
            return 2
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        """Say what is wrong in one line, without the usage, which is long."""
        self.exit(2, f"flashmm-sc: error: {message} (see {self.prog} --help)\n")


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(prog="flashmm-sc", description="Differential expression of single cells with linear mixed models.")
    parser.add_argument("--version", action="version", version=f"flashmm-sc {version('flashmm-sc')}")
    parser.add_argument("--traceback", action="store_true", help="with an error, show where in the code it arose")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    words = "simulate a study with planted effects, analyse it, compare with the truth"
    demo = commands.add_parser("demo", help=words, description=words.capitalize() + ".")
    demo.add_argument("--out", type=Path, default=Path("flashmm_demo.h5ad"), help="file to write [flashmm_demo.h5ad]")
    demo.set_defaults(run=_demo)
    words = "test every gene of an h5ad file"
    de = commands.add_parser("de", help=words, description=words.capitalize() + "; X is streamed from disk.")
    if "de" in argv:
        _add_de_options(de)
    return parser


def _add_de_options(de: argparse.ArgumentParser) -> None:
    """Options are named like the arguments of `tl.lmm_de`; those not given keep its defaults."""
    from flashmm_sc._ddf import DDF
    from flashmm_sc._kernel import TRANSFORMS
    from flashmm_sc._lmm import METHODS
    from flashmm_sc._store import CORRECTIONS

    de.argument_default = argparse.SUPPRESS
    de.set_defaults(run=_de, key_added="lmm_de")
    de.add_argument("input", type=Path, metavar="IN.h5ad", help="is only read")
    de.add_argument(
        "--fixed", required=True, help="formula over columns of obs, e.g. '~ 0 + cls + cls:trt'; it is code"
    )
    de.add_argument(
        "--random", required=True, action="append", metavar="TERM", help="e.g. sam or '(1|sam/cls)'; repeatable"
    )
    de.add_argument("--out", type=Path, default=None, metavar="OUT.h5ad", help="IN with the results in varm and uns")
    de.add_argument("--table", type=Path, default=None, metavar="OUT.csv[.gz]", help="one row per gene and coefficient")
    de.add_argument("--transform", choices=[name or "none" for name in TRANSFORMS], help="of values as they are read")
    de.add_argument("--layer", help="layer to use instead of X")
    de.add_argument("--use-raw", action="store_true", help="use raw.X")
    de.add_argument("--mask-var", metavar="COLUMN", help="boolean column of var: genes to fit")
    de.add_argument("--groupby", metavar="COLUMN", help="column of obs: one model for each of its categories")
    de.add_argument("--method", choices=METHODS)
    de.add_argument("--ddf", choices=DDF, help="degrees of freedom of the tests")
    de.add_argument(
        "--free-variances", dest="nonnegative", action="store_false", help="allow negative variance components"
    )
    de.add_argument("--contrast", dest="contrasts", action="append", type=_named, metavar="NAME=EXPR",
                    help="combination of coefficients to test as well, e.g. 'd=cls[1]:trt[T.B] - cls[2]:trt[T.B]'; repeatable")  # fmt: skip
    de.add_argument("--corr-method", choices=CORRECTIONS, help="correction for the number of genes")
    de.add_argument("--key-added", metavar="KEY", help="key of the results [lmm_de]")
    de.add_argument("--n-jobs", type=int, metavar="N", help="threads [all cores]")


def _named(text: str) -> tuple[str, str]:
    name, equals, expression = (part.strip() for part in text.partition("="))
    if not (name and equals and expression):
        msg = f"{text!r} must be NAME=EXPR"
        raise argparse.ArgumentTypeError(msg)
    return name, expression


def _plain_warnings() -> None:
    """Show the package's own warnings in a line of plain text, others not at all; `catch_warnings` undoes it."""
    from flashmm_sc._errors import FlashmmWarning

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"flashmm-sc: warning: {message}", file=sys.stderr)

    warnings.simplefilter("ignore")
    warnings.simplefilter("default", FlashmmWarning)
    warnings.showwarning = show


def _de(args: argparse.Namespace) -> None:
    import pandas as pd

    from flashmm_sc.get import lmm_de_df

    options = {name: value for name, value in vars(args).items() if name not in ("run", "traceback")}
    source, out, table = (options.pop(name) for name in ("input", "out", "table"))
    _check_files(source, out, table)
    if options.get("transform") == "none":
        del options["transform"]
    options["contrasts"] = _contrasts(options.pop("contrasts", []))
    with ExitStack() as targets:
        new, new_table = (targets.enter_context(_whole(path)) if path else None for path in (out, table))
        adata = _fit(source, **options)
        print("\n".join(_summary(adata, source)))
        if new:
            shutil.copyfile(source, new)
            _write_results(new, adata)
        if new_table:
            pd.concat([lmm_de_df(adata, key=key) for key in adata.uns]).to_csv(new_table, index=False)
    for path in filter(None, (out, table)):
        print(f"wrote {path}")


def _contrasts(named: list[tuple[str, str]]) -> dict[str, str] | None:
    if len(dict(named)) < len(named):
        msg = "Two contrasts have the same name."
        raise ValueError(msg)
    return dict(named) or None


def _check_files(source: Path, out: Path | None, table: Path | None) -> None:
    """Refuse files that can't be read or written, before anything is computed."""
    if not source.is_file():
        msg = f"There is no file {str(source)!r}."
        raise FileNotFoundError(msg)
    if out is None and table is None:
        msg = "The results go nowhere; give --out OUT.h5ad, --table OUT.csv or both."
        raise ValueError(msg)
    for option, path, endings in (("--out", out, (".h5ad",)), ("--table", table, (".csv", ".csv.gz"))):
        if path:
            _check_target(option, path, endings)
            if path.exists() and path.samefile(source):
                msg = f"{option} {str(path)!r} is the input, which is only read; give another name."
                raise ValueError(msg)


def _check_target(option: str, path: Path, endings: tuple[str, ...]) -> None:
    if not path.name.endswith(endings) or path.is_dir():
        msg = f"{option} {str(path)!r} must be the name of a file that ends in {' or '.join(endings)}."
        raise ValueError(msg)
    if not path.absolute().parent.is_dir():
        msg = f"{option} {str(path)!r}: there is no such folder. Create it first."
        raise FileNotFoundError(msg)


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Give a file beside `path` to write to; it takes the name `path` only once it is complete."""
    with TemporaryDirectory(prefix=".flashmm-sc-", dir=path.parent) as folder:
        part = Path(folder) / path.name  # the same name, since its ending says how to write
        yield part
        part.replace(path)


def _fit(path: Path, **options: Any) -> AnnData:
    """Fit the cells of an h5ad file; give its genes with the results in varm and uns."""
    import h5py

    from flashmm_sc.tl import lmm_de

    if not h5py.is_hdf5(path):
        msg = f"{str(path)!r} is no h5ad file."
        raise ValueError(msg)
    with h5py.File(path) as file:
        adata = _streamed(file)
        lmm_de(adata, **options)
    adata.uns.pop("log1p", None)
    return adata


def _streamed(file: h5py.File) -> AnnData:
    """An AnnData whose X, layers and raw stay on disk; `read_h5ad(backed="r")` would load all layers."""
    import anndata as ad

    missing = {"obs", "var"} - set(file)
    if missing:
        msg = f"{file.filename!r} holds no AnnData: it lacks {' and '.join(sorted(missing))}."
        raise ValueError(msg)
    read = lambda name: ad.io.read_elem(file[name]) if name in file else {}
    adata = ad.AnnData(
        X=_matrix(file.get("X")),
        obs=read("obs"),
        var=read("var"),
        varm=read("varm"),  # so that lmm_de removes what an earlier call left there
        uns={"log1p": read("uns/log1p")} if "uns/log1p" in file else {},
        layers={name: _matrix(node) for name, node in file.get("layers", {}).items()},
        raw={"X": _matrix(file["raw/X"]), "var": read("raw/var")} if "raw/X" in file else None,
    )
    return adata


def _matrix(node: Any) -> Any:
    from anndata.io import sparse_dataset

    if node is None or node.attrs.get("encoding-type") == "null":
        return None
    return sparse_dataset(node) if hasattr(node, "keys") else node


def _write_results(path: Path, adata: AnnData) -> None:
    """Bring varm and uns of a file up to date; the rest of it is neither read nor written."""
    import h5py
    from anndata.io import write_elem

    with h5py.File(path, "r+") as file:
        for section in ("varm", "uns"):
            if section not in file:
                write_elem(file, section, {})
        for name in set(file["varm"]) - set(adata.varm):
            del file["varm"][name]
        for section, results in (("varm", adata.varm), ("uns", adata.uns)):
            for name, value in results.items():
                if name.startswith(tuple(adata.uns)):
                    write_elem(file[section], name, value)


def _summary(adata: AnnData, source: Path) -> Iterator[str]:
    """Lines that say what was fitted and how much was found."""
    import numpy as np

    fit = next(iter(adata.uns.values()))
    key = next(iter(adata.uns))
    yield f"{source}: {adata.n_obs:,} cells, {adata.n_vars:,} genes"
    names, groups = list(fit["status_names"]), list(fit["groups"])
    codes = np.asarray(adata.varm[f"{key}_status"]).astype(int)
    counts = [np.bincount(column, minlength=len(names)) for column in codes.T]
    seen = np.flatnonzero(np.sum(counts, axis=0))
    rows = [["", "cells", *(names[i] for i in seen)]]
    rows += [
        [group or "genes", f"{fit['models'][str(i)]['n']:,}", *(f"{count[j]:,}" for j in seen)]
        for i, (group, count) in enumerate(zip(groups, counts, strict=True))
    ]
    yield from ("", "Genes by outcome of the fit", *_aligned(rows))
    yield from ("", f"Genes with an adjusted p-value below {FDR}")
    found = {}
    for key, result in adata.uns.items():
        below = (np.asarray(adata.varm[f"{key}_pval_adj"]) < FDR).sum(axis=0)
        found |= dict(zip(result["coef_names"], below, strict=True))
    yield from _aligned([[name, f"{count:,}"] for name, count in found.items()])


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of a table as lines: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]


def _demo(args: argparse.Namespace) -> None:
    from flashmm_sc.datasets import simu_rnaseq

    _check_target("--out", args.out, (".h5ad",))
    with _whole(args.out) as part:
        simu_rnaseq(
            n_cells=4000,
            n_genes=300,
            n_samples=12,
            n_clusters=3,
            n_de_genes=3 * DEMO_PLANTED,
            n_de_genes_per_cluster=[DEMO_PLANTED] * 3,
            min_beta=0.5,
            max_beta=1.5,
            seed=1,
            filename=part,
        ).file.close()
        adata = _fit(part, **DEMO_MODEL, show_progress=False)
        _write_results(part, adata)
    print("\n".join(_demo_report(adata, args.out)))


def _demo_report(adata: AnnData, path: Path) -> Iterator[str]:
    """Lines that compare the results with the truth of the simulation."""
    types = list(adata.obs["cls"].cat.categories)
    samples = adata.obs.groupby("trt", observed=True)["sam"].nunique()
    treatments = " and ".join(f"{n} with treatment {trt}" for trt, n in samples.items())
    yield f"Simulated {adata.n_obs:,} cells of {len(types)} types from {samples.sum()} samples, {treatments};"
    yield f"{adata.n_vars} genes, of which B changes {DEMO_PLANTED} in each cell type (planted), the others in none."
    yield f"Fitted {DEMO_MODEL['fixed']}, random {DEMO_MODEL['random']}, to log2(1 + count) of every gene."
    for name in types:
        yield from _demo_type(adata, name)
    yield from (
        "",
        "planted, estimate: log2 fold changes; the estimate is of 1 + count, so smaller where counts are low.",
        "",
        f"All results are in {path}: arrays in varm['lmm_de_*'], their names in uns['lmm_de'].",
        "Next, in Python:",
        "  import anndata as ad, flashmm_sc as fsc",
        f"  adata = ad.read_h5ad({str(path)!r})",
        "  fsc.get.lmm_de_df(adata, 'cls[1]:trt[T.B]').sort_values('p_value')",
        "or in the shell, one model per cell type, all genes to a table:",
        f"  flashmm-sc de {shlex.quote(str(path))} --fixed '~ log(libsize) + trt' --random sam --groupby cls \\",
        "    --transform log2p1 --table flashmm_demo.csv",
    )


def _demo_type(adata: AnnData, name: str) -> Iterator[str]:
    """Lines for one cell type: what was found, and the genes with the smallest p-values beside what was planted."""
    import numpy as np

    from flashmm_sc.get import lmm_de_df

    coefficient = f"cls[{name}]:trt[T.B]"
    truth = adata.var["beta"].where(adata.var["de_cluster"] == name, 0.0)
    table = lmm_de_df(adata, coefficient).set_index("variable")
    table["planted"] = truth / np.log(2)
    found, planted = table["adj_p_value"] < FDR, table["planted"] != 0
    yield ""
    yield (
        f"Cell type {name}, {coefficient}: {(found & planted).sum()} of {planted.sum()} planted genes found "
        f"at FDR {FDR}, {(found & ~planted).sum()} false"
    )
    rows = [["gene", "planted", "estimate", "se", "df", "p", "FDR"]]
    for gene, row in table.nsmallest(DEMO_SHOWN, "p_value").iterrows():
        numbers = f"{row['planted']:+.2f}" if row["planted"] else "no", f"{row['log_fc']:+.2f}", f"{row['se']:.2f}"
        rows.append([str(gene), *numbers, f"{row['df']:.1f}", f"{row['p_value']:.1e}", f"{row['adj_p_value']:.1e}"])
    yield from _aligned(rows)


if __name__ == "__main__":
    sys.exit(main())
