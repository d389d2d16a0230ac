"""What numba's intrinsics do, for kernels that run as plain Python (``NUMBA_DISABLE_JIT=1``), so that coverage sees them."""

from __future__ import annotations

import numpy as np


def _add_product(y, i, f, k, x, j):
    y[i] += (f if np.ndim(f) == 0 else f[k]) * x[j]


def stand_in() -> None:
    """Put functions of Python in the intrinsics' places."""
    from flashmm_sc._counts import elementary  # not in runs that don't need it
    from flashmm_sc._gaussian.sparse import kernel as sparse

    elementary._bits = lambda x: np.float64(x).view(np.int64)
    elementary._float = lambda bits: np.int64(bits).view(np.float64)
    sparse._add_product = _add_product
