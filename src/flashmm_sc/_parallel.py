"""Threads over blocks of genes."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from threadpoolctl import threadpool_limits

_BLOCK_BYTES = 2**24


def n_threads(n_jobs: int | None) -> int:
    """Number of threads: `n_jobs`, by default all cores this process may use; negative as in joblib."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if n_jobs is None:
        return cores
    if n_jobs == 0:
        msg = "n_jobs=0 is no number of threads; give a positive number, or None for all cores."
        raise ValueError(msg)
    return n_jobs if n_jobs > 0 else max(1, cores + 1 + n_jobs)


def for_gene_blocks(work: Callable[[slice], None], n_genes: int, gene_bytes: int, n_jobs: int | None) -> None:
    """Call `work` for slices of genes that need about 16 MB each, BLAS on one thread so that threads don't compete."""
    threads = n_threads(n_jobs)
    size = max(1, min(_BLOCK_BYTES // gene_bytes, -(-n_genes // threads)))
    slices = [slice(start, min(start + size, n_genes)) for start in range(0, n_genes, size)]
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, part) for part in slices]:
            done.result()
