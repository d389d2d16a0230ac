"""How long does the fit take from ready statistics, beside the authors' Python package FLASH-MM?

The study of the FLASH-MM paper: 500,000 cells, 259 donors, 63 fixed columns, 11,596 genes. FLASH-MM fits a few genes,
since it takes as long for each. Times are the best of several repeats, in one process and run.

    python benchmarks/fit.py [--genes 11596] [--batches 46] [--peer-genes 20] [--repeats 5]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from study import study

import flashmm_sc as fsc


def best(call: Callable[[], object], repeats: int) -> float:
    """Shortest wall time of a call in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def peer(stats: fsc.SummaryStats, genes: int) -> tuple[float, float] | None:
    """Seconds a gene of FLASH-MM (PyPI), and its largest difference from our coefficients; None if not installed."""
    try:
        import flash_mm
    except ImportError:
        return None
    few = (stats.XX, stats.XY[:, :genes], stats.ZX, stats.ZY[:, :genes], stats.ZZ.toarray(), stats.yy[:genes])
    run = lambda: flash_mm.lmm(*few, n=stats.n, d=list(stats.d), epsilon=1e-8)
    seconds = best(run, 1) / genes
    ours = fsc.lmm(stats).coef.to_numpy()[:genes]
    theirs = np.asarray(run()["coef"])
    theirs = theirs.T if theirs.shape != ours.shape else theirs
    return seconds, float(np.abs(theirs - ours).max())


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--genes", type=int, default=11_596)
    parser.add_argument("--batches", type=int, default=0)
    parser.add_argument("--peer-genes", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    stats = study(genes=arguments.genes, batches=arguments.batches)
    print(stats)
    fsc.lmm(stats)  # compile
    print(f"{'fit':<42}{'seconds':>10}{'µs a gene':>12}")
    ours = {}
    for label, options in {
        "flashmm-sc, n - p df": {},
        "flashmm-sc, Satterthwaite": {"ddf": "satterthwaite"},
        "flashmm-sc, Satterthwaite, variances >= 0": {"ddf": "satterthwaite", "nonnegative": True},
    }.items():
        ours[label] = best(lambda o=options: fsc.lmm(stats, **o), arguments.repeats)
        print(f"{label:<42}{ours[label]:>10.2f}{ours[label] / arguments.genes * 1e6:>12.1f}")
    found = peer(stats, arguments.peer_genes)
    if found is None:
        print("FLASH-MM is not installed (pip install FLASH-MM): no comparison.")
        return
    seconds, difference = found
    print(
        f"{f'FLASH-MM (PyPI), {arguments.peer_genes} genes':<42}{seconds * arguments.peer_genes:>10.2f}{seconds * 1e6:>12.1f}"
    )
    ratio = seconds * arguments.genes / ours["flashmm-sc, n - p df"]
    print(f"FLASH-MM takes {ratio:.0f} times as long; largest difference of a coefficient {difference:.1e}.")


if __name__ == "__main__":
    main()
