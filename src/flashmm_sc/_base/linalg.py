"""Eigenvalues, with as many threads of BLAS as serve."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np

from flashmm_sc._base.threads import one_blas_thread

_LARGE = 1000
"""Columns from which on several threads diagonalise a matrix faster than one."""


def diagonalised(S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, ascending, and -vectors of a symmetric matrix."""
    with one_blas_thread() if len(S) < _LARGE else nullcontext():
        lam, U = np.linalg.eigh(S)
    return lam, U
