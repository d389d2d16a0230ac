"""Eigenvalues, with as many threads of BLAS as serve."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np

from flashmm_sc._base.threads import one_blas_thread

_LARGE = 1000
"""Columns from which on several threads of BLAS are faster than one."""


def blas_threads(columns: int) -> AbstractContextManager[object]:
    """Keep BLAS to one thread for matrices of few columns: the others go on waiting for work when ours have begun."""
    return one_blas_thread() if columns < _LARGE else nullcontext()


def diagonalised(S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, ascending, and -vectors of a symmetric matrix."""
    with blas_threads(len(S)):
        lam, U = np.linalg.eigh(S)
    return lam, U


def diagonalised_each(S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same of many small matrices (m × K × K), which costs nothing where K = 1."""
    if S.shape[-1] == 1:
        return S[..., 0], np.ones(S.shape)
    lam, U = np.linalg.eigh(S)
    return lam, U
