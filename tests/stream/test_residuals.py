"""Sums of y - W b, against their definition, from cells and genes at a time."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp

from flashmm_sc._design.rows import Rows
from flashmm_sc._stream import residuals
from flashmm_sc._stream.accumulate import residual_sums
from flashmm_sc._stream.kernel import Transform
from flashmm_sc._stream.sums import CellMatrix

N, GENES = 40, np.array([1, 2, 4])
SCALES: dict[Transform, object] = {None: np.asarray, "log1p": np.log1p, "log2p1": lambda u: np.log1p(u) / np.log(2)}


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    X = rng.poisson(3, (N, 6)).astype(float)
    W = np.column_stack([np.ones(N), rng.normal(size=N), np.eye(3)[rng.integers(0, 3, N)]])
    return X, W, rng.normal(size=(5, len(GENES)))


def sums(X, W, coef, **options):
    each = {name: options.pop(name) for name in ("size", "precision") if name in options}
    start, parts = 0, []
    for part in X if isinstance(X, list) else [X]:
        own = {name: value[start : start + part.shape[0]] for name, value in each.items()}
        parts.append(CellMatrix(part, np.arange(part.shape[1]), start, **own))
        start += part.shape[0]
    return residual_sums(parts, Rows.of(sp.csr_array(W)), GENES, coef, **options)


@pytest.mark.parametrize(
    "container", [np.asarray, sp.csr_matrix, sp.csc_matrix, lambda X: [sp.csr_matrix(X[:7]), X[7:]]]
)
@pytest.mark.parametrize("transform", SCALES)
def test_sums_of_what_is_left(cells, container, transform, monkeypatch):
    monkeypatch.setattr(residuals, "_BYTES", 8 * 3 * 4)  # pieces of a few cells, or of one gene
    (X, W, coef), rng = cells, np.random.default_rng(1)
    size, weight = rng.uniform(0.5, 2, N), rng.uniform(0.5, 2, N)
    found = sums(container(X), W, coef, transform=transform, size=size, precision=weight)
    y = SCALES[transform](X[:, GENES] / size[:, None]) - W @ coef
    np.testing.assert_allclose(found.WY, W.T @ (weight[:, None] * y), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.yy[0], weight @ y**2, rtol=1e-12)


def test_of_the_cells_of_a_dask_array(cells):
    X, W, coef = cells
    for chunks in ((9, 6), (N, 2)):
        found = sums(da.from_array(X, chunks), W, coef)
        y = X[:, GENES] - W @ coef
        np.testing.assert_allclose(found.WY, W.T @ y, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found.yy[0], (y**2).sum(axis=0), rtol=1e-12)
