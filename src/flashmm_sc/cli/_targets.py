"""Where results go: files, tables and figures, refused before anything is computed and written as their names say."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashmm_sc.cli._options import check_sources

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    import pandas as pd

TABLE = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
FIGURE = (".png", ".pdf", ".svg")


def add_targets(command: argparse.ArgumentParser, out: str) -> None:
    """Options of what is written; `out` says what a file of results holds."""
    add = command.add_argument
    add("--out", type=Path, default=None, metavar="OUT.h5ad", help=out)
    add("--table", type=Path, default=None, metavar="OUT.csv", help=f"write the results as a table: {', '.join(TABLE)}")
    figures = ", ".join(FIGURE)
    add("--plot", type=Path, default=None, metavar="VOLCANO.png", help=f"draw a volcano of each group: {figures}")
    add("--plot-coef", metavar="NAME", help="coefficient or contrast to draw, where there are several")


def check_targets(
    sources: Sequence[Path],
    out: Path | None,
    table: Path | None = None,
    plot: Path | None = None,
    plot_coef: str | None = None,
) -> None:
    """Refuse files that can't be read or written, and an effect to draw nowhere, before anything is computed."""
    from flashmm_sc._base.files import check_folder, taken

    if plot_coef and not plot:
        msg = "--plot-coef is for --plot; give --plot OUT.png as well."
        raise ValueError(msg)
    check_sources(sources)
    if not (out or table or plot):
        msg = "The results would go nowhere; give --out OUT.h5ad, --table OUT.csv or --plot OUT.png."
        raise ValueError(msg)
    store = len(sources) == 1 and sources[0].is_dir()
    endings = {"--out": (".zarr" if store else ".h5ad",), "--table": TABLE, "--plot": FIGURE}
    for (option, ends), path in zip(endings.items(), (out, table, plot), strict=True):
        if path is None:
            continue
        check_folder(path, f"{option} {str(path)!r}")
        if not path.name.endswith(ends) or (path.is_dir() and not store):
            why = " (it is a copy of the input, in its format)" if option == "--out" and len(sources) == 1 else ""
            msg = f"{option} {str(path)!r} must be the name of a file that ends in {' or '.join(ends)}{why}."
            raise ValueError(msg)
        if path.exists() and any(path.samefile(source) for source in sources):
            msg = f"{option} {str(path)!r} is an input, which is only read; give another name."
            raise ValueError(msg)
        if path.is_dir() or (option == "--out" and store and os.path.lexists(path)):
            raise taken(path)
    if table and table.suffix == ".parquet" and find_spec("pyarrow") is None:
        msg = f"--table {str(table)!r}: parquet needs the package pyarrow; install it (pip install pyarrow), or give a .csv."
        raise ValueError(msg)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table in the format that the name says."""
    if path.suffix == ".parquet":
        table.to_parquet(path, engine="pyarrow", index=False)
    else:
        table.to_csv(path, sep="\t" if ".tsv" in path.suffixes else ",", index=False)


def written(*paths: Path | None) -> str:
    """Lines that say what was written."""
    return "\n".join(["", *(f"Written: {path}" for path in paths if path)])


def contrasts_of(named: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Contrasts by name."""
    if len(dict(named)) < len(named):
        msg = "--contrast: two contrasts have the same name."
        raise ValueError(msg)
    return dict(named)
