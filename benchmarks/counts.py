"""Negative binomial mixed models beside pseudobulk peers: stand-in."""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from _counts_data import write
from _moderation_data import NULL, THINNED, data_sets, real
from _moderation_methods import run_r
from threadpoolctl import threadpool_limits

HERE = Path(__file__).resolve().parent
SIDES = [2, 3, 4, 6, 10]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=16)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    tasks = list(real(options.data, SIDES, options.splits))
    rounds = [[task for task in tasks if task.repeat == repeat] for repeat in range(options.splits)]
    with ProcessPoolExecutor(options.jobs) as pool:
        list(pool.map(partial(round_of, work=options.work), rounds))


def round_of(tasks: list, work: Path) -> None:
    start = time.perf_counter()
    with threadpool_limits(1):
        for task in tasks:
            for data in data_sets(task):
                for kind in (NULL, THINNED):
                    write(data.with_effect(kind), work)
    prepared = time.perf_counter() - start
    run_r(work / f"{tasks[0].repeat:02d}")
    print(
        f"round {tasks[0].repeat:02d}: prepared in {prepared:.0f} s, all in {time.perf_counter() - start:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
