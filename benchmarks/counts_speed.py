"""How long does `nbmm_de` take from strata, and beside NEBULA on the cells and PyDESeq2 on the same sums?

Strata are drawn as such (their sums, not their cells): 10,000 genes of 40 samples with two groups, and a study of 259
donors, 29 cell types and 11,596 genes with six fixed columns. PyDESeq2 and NEBULA get a part of the genes, NEBULA cells;
`aggregate` and `nbmm_de` the same cells with all genes. Shortest of some rounds; comparisons on one core. Prints a table
and writes results/counts_speed.csv.

    python benchmarks/counts_speed.py [--rounds 3] [--quick]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.io
import scipy.sparse as sp
from _counts_methods import run_mixed_r
from _moderation_methods import HAS_DESEQ, deseq

import flashmm_sc as fsc

RESULTS = Path(__file__).resolve().parent / "results"
SIZE = "depth"
GENES = 10_000, 11_596
DONORS, TYPES = 259, 29
CELLS, NEBULA_GENES = 250, 60  # cells of a sample, and genes that NEBULA is given
COVARIATES = ("age", "sex", "pc1", "pc2")


def main() -> None:
    """Time, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tenth of the genes, three cell types")
    options = parser.parse_args()
    few, many = (genes // 10 if options.quick else genes for genes in GENES)
    types = 3 if options.quick else TYPES
    warnings.simplefilter("ignore", fsc.FlashmmWarning)
    fsc.tl.nbmm_de(strata(8, 1, 200), "~ trt", "donor")  # compile

    sums = strata(40, 1, few)
    rows = [
        row("strata, 40 samples, p = 2", few, best(lambda: nbmm(sums, "~ trt"), options.rounds)),
        row("the same on one core", few, best(lambda: nbmm(sums, "~ trt", n_jobs=1), options.rounds)),
    ]
    if HAS_DESEQ:
        part = sums.X[:, : few // 10]
        rows.append(
            row("PyDESeq2 on these sums, one core", few // 10, best(lambda: deseq(part, sums.obs[["trt"]]), 1), rows[1])
        )
    cells = drawn_cells(40, few // 5)
    rows.append(row("cells to results, one core", few // 5, best(lambda: from_cells(cells), options.rounds)))
    seconds = nebula(cells)
    if seconds is not None:
        rows.append(row("NEBULA on these cells, one core", NEBULA_GENES, (seconds, np.nan), rows[-1]))
    study = strata(DONORS, types, many)
    fixed = " + ".join(("~ trt", *COVARIATES))
    times = best(lambda: nbmm(study, fixed, groupby="cell_type"), 1)
    rows.append(row(f"strata, {DONORS} donors × {types} types, p = 6", many, times))

    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format=lambda x: f"{x:.3g}"))
    print(f"{os.cpu_count()} cores")
    if not options.quick:
        table.to_csv(RESULTS / "counts_speed.csv", index=False, float_format="%.4g")


def row(what: str, genes: int, times: tuple[float, float], other: dict | None = None) -> dict:
    """Of the table; how many times as long as another row a gene."""
    seconds, cpu = times
    us = seconds / genes * 1e6
    ratio = us / other["us a gene"] if other else np.nan
    return {"what": what, "genes": genes, "s": seconds, "cpu s": cpu, "us a gene": us, "ratio": ratio}


def best(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Shortest time of some rounds, and of processors: on a busy machine the latter tells more."""
    times = []
    for _ in range(rounds):
        start, cpu = time.perf_counter(), time.process_time()
        work()
        times.append((time.perf_counter() - start, time.process_time() - cpu))
    return min(times)


def nbmm(sums: ad.AnnData, fixed: str, **options: object) -> None:
    """From strata, `sums` otherwise as it was."""
    fsc.tl.nbmm_de(sums, fixed, "donor", show_progress=False, **options)


def from_cells(cells: ad.AnnData) -> None:
    """One pass over the cells, then the tests."""
    sums = fsc.pp.aggregate(cells, by="donor", size_factors=SIZE, n_jobs=1, show_progress=False)
    nbmm(sums, "~ trt", n_jobs=1)


def drawn_cells(donors: int, genes: int) -> ad.AnnData:
    """Negative binomial counts of cells with random effects of donors."""
    rng = np.random.default_rng(1)
    donor = np.repeat(np.arange(donors), CELLS)
    depth = np.exp(rng.normal(0, 0.5, donor.size))
    rate = np.exp(rng.normal(-1.5, 1, genes)) * np.exp(rng.normal(0, 0.25, (donors, genes)))
    blocks = []
    for i in range(donors):
        here = donor == i
        blocks.append(sp.csr_matrix(rng.poisson(depth[here, None] * rate[i] * rng.gamma(2.0, 0.5, (CELLS, genes)))))
    obs = pd.DataFrame({"donor": donor.astype(str), "trt": donor % 2, SIZE: depth}).rename(index=str)
    return ad.AnnData(sp.vstack(blocks).astype(np.float32).tocsr(), obs=obs)


def strata(donors: int, types: int, genes: int) -> ad.AnnData:
    """What `pp.aggregate` gives, drawn without the cells; `uns` from it."""
    rng = np.random.default_rng(2)
    small = fsc.pp.aggregate(drawn_cells(2, 3), by="donor", size_factors=SIZE, show_progress=False)
    n = donors * types
    donor = pd.DataFrame({name: rng.normal(size=donors) for name in COVARIATES}).assign(trt=np.arange(donors) % 2)
    obs = donor.loc[np.tile(np.arange(donors), types)].assign(
        donor=np.tile(np.arange(donors), types).astype(str),
        cell_type=[f"type{t}" for t in np.repeat(np.arange(types), donors)],
        n_cells=rng.integers(20, 400, n),
    )
    obs = obs.assign(size=obs["n_cells"] * rng.uniform(0.8, 1.2, n)).assign(size_sq=lambda x: 1.3 * x["size"])
    S, Q, phi = obs[["size"]].to_numpy(), obs[["size_sq"]].to_numpy(), np.exp(rng.normal(-1, 1, genes))
    X = np.repeat(np.exp(rng.normal(-1.5, 1, (types, genes))), donors, axis=0)  # rates, then sums
    X *= rng.gamma(15, 1 / 15, X.shape)
    X = rng.poisson(S * X).astype(float)
    layers = {"size_sum": X / S * Q, "sum_sq": np.round(X + (X / S) ** 2 * Q * (1 + phi))}
    layers["n_expressed"] = np.minimum(X, obs[["n_cells"]].to_numpy())
    layers = {name: layers[name] for name in small.layers}
    return ad.AnnData(X, obs=obs.set_axis(np.arange(n).astype(str)), layers=layers, uns=small.uns)


def nebula(cells: ad.AnnData) -> float | None:
    """Seconds, cells grouped already; None where it is not installed."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "cells"
        folder.mkdir()
        cells.obs.rename(columns={"donor": "sam"}).to_csv(folder / "cells.csv", index=False)
        pd.DataFrame({"trt": [0, 1]}).to_csv(folder / "samples.csv", index=False)
        scipy.io.mmwrite(folder / "counts.mtx", cells.X[:, :NEBULA_GENES].T)
        run_mixed_r(Path(work), [], dream=False)
        found = folder / "nebula.csv"
        return pd.read_csv(found)["seconds"].iloc[0] if found.exists() else None


if __name__ == "__main__":
    main()
