"""Threads over blocks of genes."""

from __future__ import annotations

import numbers
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import scipy.linalg  # noqa: F401, so that its BLAS is found too
from threadpoolctl import ThreadpoolController

from flashmm_sc._base.signals import uninterrupted

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor, Future
    from contextlib import AbstractContextManager

P = ParamSpec("P")
R = TypeVar("R")

BLOCK_BYTES = 2**24
_MOST = 4096


class Pool(ThreadPoolExecutor):
    """A pool in which Ctrl-C waits while a thread starts, which would run on otherwise, unknown to `shutdown`."""

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Let a thread call a function."""
        with uninterrupted():
            return super().submit(fn, *args, **kwargs)


def n_threads(n_jobs: int | None) -> int:
    """Number of threads: `n_jobs`, by default all cores this process may use; negative as in joblib."""
    if n_jobs is not None and (not isinstance(n_jobs, numbers.Integral) or isinstance(n_jobs, bool)):
        msg = f"n_jobs={n_jobs!r} must be a whole number of threads, or None for all cores."
        raise TypeError(msg)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if n_jobs is None:
        return cores
    if n_jobs == 0 or n_jobs > _MOST:
        msg = f"n_jobs={n_jobs} is no number of threads; give one from 1 to {_MOST}, or None for all cores."
        raise ValueError(msg)
    return int(n_jobs) if n_jobs > 0 else max(1, cores + 1 + int(n_jobs))


def together(work: Callable[[], None], pool: Executor, threads: int) -> None:
    """Call `work`, which takes what there is to do from one list, here and in up to `threads` - 1 of the pool."""
    helpers: list[Future[None]] = []
    try:
        for _ in range(threads - 1):
            helpers.append(pool.submit(work))  # noqa: PERF401, so that those before an interrupt are known
        work()
    finally:
        for helper in helpers:
            helper.cancel() or helper.result()  # not begun if the pool is busy, and nothing is left to do


def one_blas_thread() -> AbstractContextManager[object]:
    """Keep BLAS to one thread: its own wait for each other, which takes long where cores are busy and matrices small."""
    return _blas().limit(limits=1, user_api="blas")


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def for_gene_blocks(
    work: Callable[[slice], None],
    n_genes: int,
    gene_bytes: int,
    n_jobs: int | None,
    done: Callable[[int], object] | None = None,
) -> None:
    """Call `work` for slices of genes that need about 16 MB each, BLAS on one thread so that threads don't compete.

    `done` is told of how many genes it is.
    """
    threads = n_threads(n_jobs)
    size = max(1, min(BLOCK_BYTES // gene_bytes, -(-n_genes // threads)))
    slices = [slice(start, min(start + size, n_genes)) for start in range(0, n_genes, size)]
    with one_blas_thread(), Pool(threads) as pool:
        try:
            for part, result in [(part, pool.submit(work, part)) for part in slices]:
                result.result()
                if done is not None:
                    done(part.stop - part.start)
        except BaseException:  # Ctrl-C: what has not begun is left
            pool.shutdown(wait=False, cancel_futures=True)
            raise
