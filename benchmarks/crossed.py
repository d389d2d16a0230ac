"""How long do large crossed factors take, beside lme4? Its InstEval: 73,421 ratings, 2,972 students × 1,128 instructors.

~ service * dept with a random student and instructor, REML, variances >= 0, Satterthwaite's degrees of freedom. The ratings
and 199 responses drawn with effects of both; lme4 fits the first few. Ours is timed from ratings to tests, compiled code in the
cache, in a process of its own for the memory.

    python benchmarks/crossed.py [--responses 200] [--peer-responses 3]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

import flashmm_sc as fsc

HERE = Path(__file__).parent


def peak() -> float:
    """Most memory this process has had, in GB; Linux."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text()).group(1)) / 2**20


def responses(obs: pd.DataFrame, m: int) -> np.ndarray:
    """The ratings, and responses drawn with effects of students and instructors of several sizes."""
    rng = np.random.default_rng(0)
    effect = lambda name: rng.normal(size=(obs[name].nunique(), m))[pd.factorize(obs[name])[0]]
    drawn = rng.normal(size=(len(obs), m))
    for name in ("s", "d"):
        drawn += rng.choice([0.0, 0.1, 0.3, 0.5], m) * effect(name)
    drawn[:, 0] = obs["y"]
    return drawn.round(6)


def fit(folder: Path, m: int) -> None:
    """Fit the responses and print what it took."""
    obs = pd.read_csv(folder / "InstEval.csv").astype({"s": str, "d": str, "dept": str, "service": str})
    obs.index = obs.index.astype(str)
    adata = ad.AnnData(responses(obs, m), obs)
    call = lambda part: fsc.tl.lmm_de(part, "~ service * dept", "(1|s) + (1|d)", show_progress=False)
    call(adata[:, :2].copy())  # compile
    loaded = peak()
    wall, cpu = time.perf_counter(), time.process_time()
    call(adata)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    result = np.column_stack([adata.varm["lmm_de_theta"], adata.varm["lmm_de_loglik"]])
    pd.DataFrame(result, columns=["s", "d", "residual", "loglik"]).to_csv(folder / "ours.csv", index=False)
    print(f"{m} responses: {wall:.2f} s, {cpu:.2f} s of CPU, peak {peak():.2f} GB, {loaded:.2f} GB before", flush=True)


def main() -> None:
    """Ours in fresh processes, then lme4."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--responses", type=int, default=200)
    parser.add_argument("--peer-responses", type=int, default=3)
    parser.add_argument("--folder", help="fit what is there")
    arguments = parser.parse_args()
    if arguments.folder:
        fit(Path(arguments.folder), arguments.responses)
        return
    with tempfile.TemporaryDirectory() as name:
        folder, peer = Path(name), ["Rscript", HERE / "crossed_peers.R"]
        subprocess.run([*peer, "data", name], check=True)
        for m in (1, arguments.responses):
            subprocess.run([sys.executable, __file__, "--folder", name, "--responses", str(m)], check=True)
        Y = responses(pd.read_csv(folder / "InstEval.csv"), arguments.responses)[:, : arguments.peer_responses]
        pd.DataFrame(Y).to_csv(folder / "Y.csv", index=False)
        subprocess.run([*peer, "fit", name], check=True)
        theirs, ours = pd.read_csv(folder / "lme4.csv"), pd.read_csv(folder / "ours.csv")
        print(theirs[["seconds", "again", "s", "d", "residual", "loglik"]].to_string())
        print(ours[: len(theirs)].to_string())


if __name__ == "__main__":
    main()
