"""Sums of strata: equal to a plain groupby, whatever the container, the order of cells, threads and scheduler."""

from __future__ import annotations

import anndata as ad
import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from flashmm_sc._results.strata import strata_of
from flashmm_sc._results.strata_study import cells_or_strata
from flashmm_sc._results.values import Values


def summed(adata, codes, n_strata, values, **options):
    with cells_or_strata(adata, lambda obs, where: list(values.columns.values()), values, copy=False) as study:
        return strata_of(study, codes, n_strata, values, **options)


def reference(counts, codes, n_strata, transform=None, size=None):
    """Each array by its definition, cell by cell."""
    v = {None: lambda x: x, "log1p": np.log1p, "log2p1": lambda x: np.log2(1 + x)}[transform](
        counts if size is None or transform is None else counts / size[:, None]
    )
    s = np.ones(len(counts)) if size is None else size
    by = lambda array: np.array([array[codes == i].sum(axis=0) for i in range(n_strata)])
    return {
        "n": by(np.ones(len(counts))),
        "sums": by(v),
        "squares": by(v**2),
        "expressed": by(counts != 0),
        "counts": by(counts),
        "size": by(s),
        "size_sq": by(s**2),
        "size_sum": by(s[:, None] * counts),
        "ratios": by(counts / np.where(s > 0, s, 1)[:, None]),
    }


def assert_equal_to(strata, expected, names):
    for name in ("n", "sums", "squares", "expressed", "counts", "size", "size_sq", "size_sum", "ratios"):
        found = getattr(strata, name)
        assert (found is None) == (name not in names)
        if found is not None:
            np.testing.assert_allclose(found, expected[name], rtol=1e-12, atol=1e-12, err_msg=name)


PLAIN = ["n", "sums", "squares", "expressed", "counts"]


@pytest.fixture(scope="session")
def codes():
    return np.random.default_rng(8).integers(-1, 6, 160)


def test_sums_of_raw_counts_and_totals(container, counts, codes):
    counts = counts.copy()
    counts[11] = 0
    adata = container(counts)
    for n_jobs in (1, 3):
        strata = summed(adata, codes, 7, Values(size_factors="total", weigh=True), n_jobs=n_jobs)
        expected = reference(counts.astype(float), codes, 7, size=counts.sum(axis=1).astype(float))
        assert_equal_to(strata, expected, [*PLAIN, "size", "size_sq", "size_sum"])
        np.testing.assert_array_equal(strata.sums, expected["sums"])  # counts add up exactly
        np.testing.assert_array_equal(strata.size_sum, expected["size_sum"])
        assert strata.counts is strata.sums


@pytest.mark.parametrize("transform", ["log1p", "log2p1"])
def test_sums_of_logarithms(container, counts, codes, transform):
    counts = counts.copy()
    counts[11] = 0
    total = counts.sum(axis=1)
    size = np.where(total > 0, total, 30) / 30
    strata = summed(container(counts), codes, 7, Values(transform=transform, size_factors="total", target_sum=30))
    assert_equal_to(strata, reference(counts, codes, 7, transform, size), [*PLAIN, "size", "size_sq", "ratios"])
    strata = summed(container(counts), codes, 7, Values(transform=transform))
    assert_equal_to(strata, reference(counts, codes, 7, transform), PLAIN)


def test_several_parts_in_any_order(counts, codes):
    size = np.random.default_rng(2).lognormal(size=160)
    values = Values(size_factors="s", weigh=True)
    adata = ad.AnnData(sp.csr_matrix(counts), pd.DataFrame({"s": size}, index=[f"c{i}" for i in range(160)]))
    expected = reference(counts.astype(float), codes, 7, size=size)
    raw = [*PLAIN, "size", "size_sq", "size_sum"]
    order = np.random.default_rng(3).permutation(160)
    parts = [adata[:50].copy(), ad.AnnData(adata[50:].X.tocsc(), adata[50:].obs)]
    assert_equal_to(summed(parts, codes, 7, values), expected, raw)
    assert_equal_to(summed(adata[order].copy(), codes[order], 7, values), expected, raw)
    strata = summed(adata, codes, 7, values)
    part = strata.select([2, 0], np.array([3, 1]))
    np.testing.assert_array_equal(part.sums, strata.sums[[2, 0]][:, [3, 1]])
    np.testing.assert_array_equal(part.size, strata.size[[2, 0]])


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_matrix])
@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_dask_chunks(kind, scheduler, counts, codes):
    chunks = (160, 5) if kind is sp.csc_matrix else (23, 12)
    X = da.from_array(counts, chunks=chunks).map_blocks(kind, dtype=counts.dtype, meta=kind(np.zeros((0, 0))))
    with dask.config.set(scheduler=scheduler):
        strata = summed(ad.AnnData(X), codes, 7, Values(size_factors="total", weigh=True))
    expected = reference(counts.astype(float), codes, 7, size=counts.sum(axis=1).astype(float))
    assert_equal_to(strata, expected, [*PLAIN, "size", "size_sq", "size_sum"])
