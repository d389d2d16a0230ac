"""How long do intervals of moderated tests take, beside the tests?

4,307 genes in each of eight cell types of 1,600 cells and 16 donors, one contrast; one component (41 grid points) or two
(169), the fits at hand. Prints the shortest of some rounds, tests and tests with intervals in turn.

    python benchmarks/intervals.py [--rounds 5] [--genes 4307]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd

import flashmm_sc as fsc

TYPES, DONORS, CELLS, BATCHES = 8, 16, 100, 6


def main() -> None:
    """Fit, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--genes", type=int, default=4307)
    options = parser.parse_args()
    L = np.array([[0.0], [1.0]])
    for components in (1, 2):
        fits = [fitted(options.genes, components, seed) for seed in range(TYPES)]
        times: dict[float | None, list[float]] = {None: [], 0.95: []}
        for _ in range(options.rounds):
            for level, taken in times.items():
                start = time.perf_counter()
                for fit in fits:
                    fit.inference.t_tests(L, conf_level=level)
                taken.append(time.perf_counter() - start)
        tests, both = (min(taken) for taken in times.values())
        print(
            f"{components} component(s): tests {tests:.2f} s, tests and intervals {both:.2f} s; "
            f"the intervals take {(both - tests) / tests:.1f} times as long as the tests"
        )


def fitted(genes: int, components: int, seed: int) -> fsc.LMMFit:
    """A moderated fit of one cell type."""
    rng = np.random.default_rng(seed)
    donor = np.repeat(np.arange(DONORS), CELLS)
    X = pd.DataFrame({"one": 1.0, "trt": (donor % 2).astype(float)})
    Z, ratio = (
        [np.eye(DONORS)[donor], np.eye(BATCHES)[rng.integers(BATCHES, size=donor.size)]],
        rng.gamma(0.5, 0.1, genes),
    )
    Z = Z[:components]
    Y = rng.normal(size=(donor.size, genes)) + rng.gamma(1, 2, genes)
    for part in Z:
        Y += part @ (rng.normal(size=(part.shape[1], genes)) * np.sqrt(ratio))
    return fsc.lmmfit(Y, X, np.hstack(Z), [part.shape[1] for part in Z], moderate=True, nonnegative=True)


if __name__ == "__main__":
    main()
