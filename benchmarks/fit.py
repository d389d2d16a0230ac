"""How long does the fit take from ready statistics, beside FLASHMM (R), FLASH-MM (PyPI), lmerTest and statsmodels?

Four studies; every row of a study's table is from one run. Peers that take the same time for every gene fit a few.

    donors      500,000 cells, 259 donors, 63 fixed columns, 11,596 genes: the study of the FLASH-MM paper
    batches     the same with 46 batches as a second component
    types       50,000 cells, 25 samples and 250 cell types in samples, 21 fixed columns, 6,000 genes
    by type     one model for each of 29 cell types of the first, 6 fixed columns
    cells       20,000 cells, 40 samples, 6 fixed columns, 500 genes: peers that need the cells

Times are the shortest of several repeats. Peers that aren't installed are left out.

    python benchmarks/fit.py [--studies donors batches] [--repeats 5]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import study

import flashmm_sc as fsc

T = TypeVar("T")
HERE = Path(__file__).parent
OURS = {
    "flashmm-sc, n - p df": {},
    "flashmm-sc, Satterthwaite": {"ddf": "satterthwaite"},
    "flashmm-sc, Satterthwaite, variances >= 0": {"ddf": "satterthwaite", "nonnegative": True},
}
MAIN = "flashmm-sc, Satterthwaite"
STUDIES: dict[str, Callable[[], list[fsc.SummaryStats]]] = {
    "donors": lambda: [study.statistics(study.donors_and_batches(500_000, 259, 29), 11_596)],
    "batches": lambda: [study.statistics(study.donors_and_batches(500_000, 259, 29, 46), 11_596)],
    "types": lambda: [study.statistics(study.samples_and_types(50_000, 25, 10), 6_000)],
    "by type": lambda: [study.statistics(study.one_type(17_000, 259, seed), 11_596, seed) for seed in range(29)],
}


Timed = tuple[str, float, np.ndarray]  # method, seconds, coefficients (genes × p)


def seconds(call: Callable[[], T], repeats: int = 3) -> tuple[float, T]:
    """Shortest wall time of a call, and its result."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return min(times), result


def in_r(**matrices: np.ndarray) -> Iterator[Timed]:
    """The peers in R, from statistics or cells."""
    if shutil.which("Rscript") is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        columns = {name: np.asarray(x, float).reshape(len(np.atleast_1d(x)), -1) for name, x in matrices.items()}
        for name, x in columns.items():
            x.ravel(order="F").tofile(at / f"{name}.bin")
        sizes = [(name, *x.shape) for name, x in columns.items()]
        pd.DataFrame(sizes, columns=["name", "rows", "columns"]).to_csv(at / "sizes.csv", index=False)
        subprocess.run(["Rscript", HERE / "fit_peers.R", folder], check=True, capture_output=True)
        for file in sorted(at.glob("*.seconds")):
            coef = pd.read_csv(file.with_suffix(".csv")).to_numpy()
            yield f"{file.stem} (R)", float(file.read_text()), coef.T


def from_statistics(stats: fsc.SummaryStats) -> Iterator[Timed]:
    """Peers that fit the statistics of all genes given."""
    ZZ = stats.ZZ.toarray()
    parts = {"XX": stats.XX, "XY": stats.XY, "ZX": stats.ZX, "ZY": stats.ZY, "ZZ": ZZ, "yy": stats.yy}
    yield from in_r(**parts, n=stats.n, d=stats.d)
    try:
        import flash_mm
    except ImportError:
        return
    took, fit = seconds(lambda: flash_mm.lmm(*parts.values(), n=stats.n, d=list(stats.d)))
    yield "FLASH-MM (PyPI)", took, fit["coef"].to_numpy().T


def from_cells(Y: np.ndarray, X: np.ndarray, sample: np.ndarray) -> Iterator[Timed]:
    """Peers that fit cells with a random intercept of the sample."""
    yield from in_r(Y=Y, X=X, Z=sample)
    try:
        import statsmodels.api as sm
    except ImportError:
        return
    with warnings.catch_warnings(action="ignore"):  # of its convergence
        took, coef = seconds(lambda: [sm.MixedLM(y, X, groups=sample).fit(reml=True).fe_params for y in Y.T])
    yield "statsmodels MixedLM", took, np.array(coef)


def row(name: str, method: str, genes: int, took: float, difference: float = np.nan) -> dict[str, object]:
    """A row of the table."""
    return {
        "study": name,
        "method": method,
        "genes": genes,
        "seconds": took,
        "us_per_gene": took / genes * 1e6,
        "largest_difference": difference,
    }


def compare(name: str, peer_genes: int, repeats: int) -> list[dict[str, object]]:
    """Our times for all genes, and the peers' for a few of the first model."""
    models = STUDIES[name]()
    genes = sum(model.n_genes for model in models)
    rows = [
        row(name, label, genes, seconds(lambda o=options: [fsc.lmm(model, **o) for model in models], repeats)[0])
        for label, options in OURS.items()
    ]
    few = models[0].select(genes=np.arange(peer_genes))
    ours = fsc.lmm(few).coef.to_numpy()
    return rows + [
        row(name, label, peer_genes, took, np.abs(coef - ours).max()) for label, took, coef in from_statistics(few)
    ]


def compare_cells(
    repeats: int, n: int = 20_000, samples: int = 40, genes: int = 500, few: int = 5
) -> list[dict[str, object]]:
    """Everyone from the same cells, our statistics included in the time; peers fit a few of the genes."""
    rng = np.random.default_rng(0)
    X, (Z,) = study.one_type(n, samples)
    X, Z = X.toarray(), Z.toarray()
    sample = Z.argmax(axis=1)
    Y = X @ rng.normal(size=(X.shape[1], genes)) + 0.3 * rng.normal(size=(samples, genes))[sample]
    Y += rng.normal(size=Y.shape)
    took, fit = seconds(lambda: fsc.lmmfit(Y, X, Z, ddf="satterthwaite", nonnegative=True), repeats)
    ours = fit.coef.to_numpy()[:few]
    return [row("cells", MAIN, genes, took)] + [
        row("cells", label, few, took, np.abs(coef - ours).max())
        for label, took, coef in from_cells(Y[:, :few], X, sample)
    ]


def main() -> None:
    """Run and print, and write results/fit.csv."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", nargs="+", default=[*STUDIES, "cells"], choices=[*STUDIES, "cells"])
    parser.add_argument("--peer-genes", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    fsc.lmm(STUDIES["types"]()[0].select(genes=np.arange(10)), ddf="satterthwaite")  # compile
    tables = []
    for name in arguments.studies:
        cells = name == "cells"
        rows = compare_cells(arguments.repeats) if cells else compare(name, arguments.peer_genes, arguments.repeats)
        table = pd.DataFrame(rows)
        table["ratio"] = table["us_per_gene"] / table["us_per_gene"][table["method"] == MAIN].iloc[0]
        print(table.to_string(index=False, float_format="{:.3g}".format), flush=True)
        tables.append(table)
    (HERE / "results").mkdir(exist_ok=True)
    pd.concat(tables).to_csv(HERE / "results" / "fit.csv", index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
