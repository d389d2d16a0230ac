"""How long does the fit take with thousands of levels, and in how much memory?

500,000 cells, 259 donors and 7,511 cell types in donors, 63 fixed columns, 11,596 genes: REML, variances >= 0,
Satterthwaite's degrees of freedom of all coefficients. Compiled code is in the cache. The statistics are drawn in another
process, so that the peak is that of holding and fitting them.

    python benchmarks/fit_sparse.py [--genes 11596] [--batches 46]

With batches, in which donors are nested, there are three components.
"""

from __future__ import annotations

import argparse
import pickle
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import study

import flashmm_sc as fsc

OPTIONS = {"ddf": "satterthwaite", "nonnegative": True}


def peak() -> float:
    """Most memory this process has had, in GB (getrusage would count its parent's); Linux."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text()).group(1)) / 2**20


def fit(path: str) -> None:
    """Fit the statistics of a file and print what it took."""
    with Path(path).open("rb") as file:
        stats = pickle.load(file)
    loaded = peak()
    fsc.lmm(stats.select(genes=np.arange(8)), **OPTIONS)  # compile
    wall, cpu = time.perf_counter(), time.process_time()
    result = fsc.lmm(stats, **OPTIONS)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(result)
    print(f"{wall:.1f} s, {cpu:.1f} s of CPU, peak {peak():.2f} GB, {loaded:.2f} GB before")


def main() -> None:
    """Draw, then fit in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--genes", type=int, default=11_596)
    parser.add_argument("--batches", type=int, default=0)
    parser.add_argument("--stats", help="statistics to fit, instead of those drawn")
    arguments = parser.parse_args()
    if arguments.stats:
        fit(arguments.stats)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stats"
        path.write_bytes(pickle.dumps(study.many_levels(500_000, 259, 29, arguments.genes, arguments.batches)))
        subprocess.run([sys.executable, __file__, "--stats", str(path)], check=True)


if __name__ == "__main__":
    main()
