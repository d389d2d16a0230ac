"""Results in words, as the command line prints them."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import numpy as np

from flashmm_sc._design.cell_design import in_memory
from flashmm_sc._results.result import Result, joined
from flashmm_sc._results.summary import summarised
from flashmm_sc.get import lmm_de_df

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData

FDR = 0.05
SHOWN = 5
_BOUNDARY = "boundary: a variance is zero, or a correlation ±1; the tests are valid"
NEXT = """
planted and estimate are log2 fold changes, of the mean count and of 1 + count; the latter are smaller for low counts.

The data and all results are in {path}: arrays in varm['lmm_de_*'], their names in uns['lmm_de'].
Next, in Python:
  import anndata as ad, flashmm_sc as fsc
  adata = ad.read_h5ad({path!r})
  fsc.get.lmm_de_df(adata, 'trt[T.B]', groups='1').sort_values('p_value')
or in the shell, the same to a table:
  flashmm-sc de {quoted} --fixed '~ trt' --random sam --groupby cls --moderate \\
    --transform log1p --size-factors total --table {table}"""


def summary(adata: AnnData) -> Iterator[str]:
    """Lines that say what was fitted and how much was found."""
    results = Result.all(adata)
    fit = results[0]
    names, codes = np.array(fit.names("status_names")), fit["status"].astype(int)
    seen = np.unique(codes)
    rows = [["", "cells", *(["samples"] if fit.of_counts else []), *names[seen]]]
    for group, described, its in zip(fit.groups, fit.models, codes.T, strict=True):
        samples = [len(described["samples"])] if fit.of_counts else []
        counts = [int(described["n"]), *samples, *((its == code).sum() for code in seen)]
        rows.append([group or "all", *(f"{count:,}" for count in counts)])
    words = "filtered: too few counts or cells" if fit.of_counts else _BOUNDARY
    yield from ("", f"Genes by status ({words})", *_aligned(rows))
    yield from findings(results)


def findings(results: Sequence[Result]) -> Iterator[str]:
    """Lines that say how much was found."""
    tables = [summarised(result, FDR) for result in results]
    rows = [[name, f"{count:,}"] for table in tables for name, count in zip(_names(table), table["found"], strict=True)]
    if rows:
        yield from ("", f"Genes with an adjusted p-value below {FDR}", *_aligned(rows))


def _names(table: pd.DataFrame) -> list[str]:
    group = table["group"] if "group" in table else [""] * len(table)
    return [joined(*pair)[0] for pair in zip(group, ([name] for name in table["contrast"]), strict=True)]


def simulated(adata: AnnData) -> Iterator[str]:
    """Lines on what was simulated and fitted."""
    obs = in_memory(adata.obs, ["sam", "trt", "cls"])
    samples = obs.groupby("trt", observed=True)["sam"].nunique()
    n_types = obs["cls"].nunique()
    n_planted = (adata.var["beta"] != 0).sum() // n_types
    fit = adata.uns["lmm_de"]["params"]
    yield (
        f"Simulated {adata.n_obs:,} cells of {n_types} types from {samples.sum()} samples: "
        f"{samples['A']} controls (A), {samples['B']} treated (B)."
    )
    yield f"Treatment changes {n_planted} of the {adata.n_vars} genes in each type (planted), the others in none."
    yield (
        f"Fitted {fit['fixed']}, random {', '.join(fit['random'])}, in each type, to the logarithm of 1 + count over the "
        "cell's size factor."
    )


def compared(adata: AnnData, name: str) -> Iterator[str]:
    """Lines on one cell type: how much was found, and the genes with the smallest p-values beside the truth."""
    table = lmm_de_df(adata, "trt[T.B]", groups=name).set_index("variable")
    truth = in_memory(adata.var, ["beta", "de_cluster"])
    table["planted"] = truth["beta"].where(truth["de_cluster"] == name, 0) / np.log(2)
    found, planted = table["adj_p_value"] < FDR, table["planted"] != 0
    yield (
        f"Cell type {name}, trt[T.B]: {(found & planted).sum()} of {planted.sum()} planted genes found "
        f"at FDR {FDR}, {(found & ~planted).sum()} false"
    )
    rows = [["gene", "planted", "estimate", "se", "df", "p", "FDR"]]
    best: Any = table.nsmallest(SHOWN, "p_value").itertuples()
    for row in best:
        effects = [f"{row.planted:+.2f}" if row.planted else "none", f"{row.log_fc:+.2f}", f"{row.se:.2f}"]
        rows.append([row.Index, *effects, f"{row.df:.1f}", f"{row.p_value:.1e}", f"{row.adj_p_value:.1e}"])
    yield from _aligned(rows)


def next_steps(path: Path) -> str:
    """Where the results lie, and what to type next."""
    quoted, table = (shlex.quote(str(name)) for name in (path, path.with_suffix(".csv")))
    return NEXT.format(path=str(path), quoted=quoted, table=table)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of a table as lines: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(["", row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
