"""How long does the first result take, in a Python just started, and what of it is importing?

2,000 cells × 500 genes of 12 samples, scanpy imported before. Each round is a fresh process; the table has the shortest
time of each step. "Cold" is the very first call after installation, when numba compiles what "warm" finds on disk.

    python benchmarks/first_result.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

RESULT = Path(__file__).parent / "results" / "first_result.csv"
SCRIPT = """
import json, time

times = {}
def timed(step, call):
    start = time.perf_counter()
    result = call()
    times[step] = time.perf_counter() - start
    return result

timed("import scanpy", lambda: __import__("scanpy"))
import anndata as ad, numpy as np, pandas as pd, scipy.sparse as sp

rng = np.random.default_rng(1)
sam = rng.integers(0, 12, 2000)
obs = pd.DataFrame({"sam": sam, "cls": rng.choice(list("ABC"), 2000), "trt": np.where(sam % 2, "A", "B")}, dtype="category")
counts = sp.csr_matrix(rng.poisson(rng.gamma(1, 1, 500), (2000, 500)).astype(np.float32))
adata = ad.AnnData(counts, obs.set_index(obs.index.astype(str)))

fsc = timed("import flashmm_sc", lambda: __import__("flashmm_sc"))
timed("fsc.tl, fsc.get", lambda: (fsc.tl, fsc.get))
fit = lambda: fsc.tl.lmm_de(adata, "~ 0 + cls + cls:trt", "sam", transform="log1p")
timed("first lmm_de", fit)
timed("first lmm_de_df", lambda: fsc.get.lmm_de_df(adata))
timed("second lmm_de", fit)
print(json.dumps(times))
"""
RESULT_STEPS = ["import flashmm_sc", "fsc.tl, fsc.get", "first lmm_de", "first lmm_de_df"]


def steps(numba_cache: str) -> dict[str, float]:
    """Seconds of each step in a fresh process."""
    environment = os.environ | {"NUMBA_CACHE_DIR": numba_cache}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def process(*arguments: str) -> float:
    """Seconds of a whole Python process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def with_sum(rounds: pd.DataFrame) -> pd.DataFrame:
    """Add the time of each round from `import flashmm_sc` to the first table of results."""
    return rounds.assign(**{"first result, beyond scanpy": rounds[RESULT_STEPS].sum(axis=1)})


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = range(parser.parse_args().rounds)
    cold, warm = [], []
    for _ in rounds:
        with TemporaryDirectory() as cache:
            cold.append(steps(cache))
            warm.append(steps(cache))
    table = pd.DataFrame({"warm": with_sum(pd.DataFrame(warm)).min(), "cold": with_sum(pd.DataFrame(cold)).min()})
    for command, arguments in {
        "python -c pass": ["-c", "pass"],
        "python -c 'import flashmm_sc'": ["-c", "import flashmm_sc"],
        "flashmm-sc --help": ["-m", "flashmm_sc.cli._main", "--help"],
        "flashmm-sc de --help": ["-m", "flashmm_sc.cli._main", "de", "--help"],
    }.items():
        table.loc[command, "warm"] = min(process(*arguments) for _ in rounds)
    table = table.rename_axis("step").round(3)
    print(table.to_string(na_rep=""))
    table.to_csv(RESULT)


if __name__ == "__main__":
    main()
