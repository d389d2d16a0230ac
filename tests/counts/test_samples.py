"""What cells tell of the sums of their samples."""

from __future__ import annotations

import numpy as np
import pytest
from counts_reference import cells_dispersion

from flashmm_sc._counts.samples import Samples, dispersion, ratio_factors
from flashmm_sc._stats.strata import Strata


def cells(phi, *, n_samples=6, n=400, m=8, seed=0):
    """Counts of cells (n × m), their size factors and samples."""
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.integers(0, n_samples, n))
    s = rng.lognormal(0, 0.5, n)
    mu = s[:, None] * rng.uniform(0.5, 5, (n_samples, m))[sample]
    heat = rng.gamma(1 / phi, phi, (n, m)) if phi else 1.0
    return rng.poisson(mu * heat).astype(float), s, sample


def strata(x, s, sample):
    sums = lambda values: np.stack([values[sample == i].sum(axis=0) for i in np.unique(sample)])
    return Strata(
        n=np.unique(sample, return_counts=True)[1].astype(float),
        sums=sums(x),
        squares=sums(x**2),
        expressed=sums((x > 0).astype(float)),
        counts=sums(x),
        size=sums(s),
        size_sq=sums(s**2),
        size_sum=sums(s[:, None] * x),
    )


def test_sizes_and_numbers_of_cells():
    """A sample counts as (Σ s)² / Σ s² cells, with size factors s over their mean."""
    x, s, sample = cells(0.4)
    found = Samples.of(strata(x, s, sample), np.arange(8), normalize=False)
    s /= s.mean()
    np.testing.assert_allclose(found.size, [s[sample == i].sum() for i in range(6)], rtol=1e-12)
    expected = [(s[sample == i] ** 2).sum() / s[sample == i].sum() ** 2 for i in range(6)]
    np.testing.assert_allclose(found.inverse_cells, expected, rtol=1e-12)
    np.testing.assert_allclose(found.inflated(3.0).inverse_cells, np.multiply(3, expected), rtol=1e-12)


@pytest.mark.parametrize("phi", [0.0, 0.7])
def test_dispersion_is_that_of_the_cells(phi):
    x, s, sample = cells(phi)
    x[:, 0] = 0
    found = Samples.of(strata(x, s, sample), np.arange(8), normalize=False)
    expected = [0.0] + [cells_dispersion(x[:, j], s / s.mean(), sample) for j in range(1, 8)]
    np.testing.assert_allclose(found.phi, expected, rtol=1e-9, atol=1e-9)


def test_dispersion_of_many_cells_is_the_true_one():
    x, s, sample = cells(0.7, n=20_000, m=20)
    phi = Samples.of(strata(x, s, sample), np.arange(20), normalize=False).phi
    np.testing.assert_allclose(phi.mean(), 0.7, rtol=0.02)
    x, s, sample = cells(0.0, n=20_000, m=20)
    assert Samples.of(strata(x, s, sample), np.arange(20), normalize=False).phi.max() < 0.03


def test_samples_of_one_cell_tell_nothing():
    x, s, sample = cells(0.7)
    alone = np.append(sample, [6, 7])
    more = Samples.of(
        strata(np.vstack([x, [[90.0] * 8, [3.0] * 8]]), np.append(s, [1.0, 2.0]), alone), np.arange(8), normalize=False
    )
    sums = strata(x, s, sample)
    np.testing.assert_allclose(more.phi, Samples.of(sums, np.arange(8), normalize=False).phi, rtol=1e-9)
    single = strata(x[:6], s[:6], np.arange(6))
    assert not Samples.of(single, np.arange(8), normalize=False).phi.any()


def test_a_unit_of_the_size_factors_plays_no_part():
    x, s, sample = cells(0.4)
    one, other = (Samples.of(strata(x, unit * s, sample), np.arange(8), normalize=True) for unit in (1, 5e3))
    for name, values in vars(one).items():
        np.testing.assert_allclose(values, getattr(other, name), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(one.size.sum(), len(x), rtol=1e-12)


def test_rates_and_the_choice_of_genes():
    x, s, sample = cells(0.4)
    sums = strata(x, s, sample)
    whole, part = Samples.of(sums, np.arange(8), normalize=False), Samples.of(sums, np.array([5, 2]), normalize=False)
    np.testing.assert_allclose(whole.rate, x.sum(axis=0) / len(x), rtol=1e-12)
    for name in ("counts", "phi"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[[5, 2]])
        np.testing.assert_array_equal(getattr(whole.of_genes(np.array([5, 2])), name), getattr(part, name))
    np.testing.assert_array_equal(part.size, whole.size)


def test_ratio_factors():
    """The median over genes of a sample's rate over its geometric mean; genes that are absent or rare don't count."""
    rng = np.random.default_rng(1)
    T, S = rng.poisson(rng.uniform(8, 90, 61), (5, 61)).astype(float) + 1, np.array([1.0, 2.0, 0.5, 1.0, 3.0])
    T[0] *= 3
    rates = T / S[:, None]
    factor = np.array([np.median([rates[i, j] / np.prod(rates[:, j]) ** 0.2 for j in range(61)]) for i in range(5)])
    expected = factor / np.prod(factor) ** 0.2
    np.testing.assert_allclose(ratio_factors(T, S), expected, rtol=1e-12)
    others = np.column_stack([T, [0, 900, 900, 900, 900], [1, 2, 3, 4, 5]])
    np.testing.assert_allclose(ratio_factors(others, S), expected, rtol=1e-12)
    assert (ratio_factors(T[:, :49], S) == 1).all()  # too few


def test_sums_without_size_factors():
    x, s, sample = cells(0.4)
    sums = strata(x, s, sample)
    with pytest.raises(ValueError, match="size_factors='total'"):
        Samples.of(Strata(sums.n, sums.sums, sums.squares, sums.expressed, sums.counts), np.arange(8), normalize=True)


def test_no_counts_no_dispersion():
    none = np.zeros((3, 2))
    n = np.full(3, 9.0)
    assert not dispersion(none, none, none, n, n, n).any()


def test_a_sample_of_which_one_cell_has_counts_tells_nothing_of_dispersion():
    """Size factors are totals: those of its empty cells are zero, and its only other cell is its mean."""
    x, s, sample = cells(0.5, n=60)
    alone = np.flatnonzero(sample == 2)
    s[alone[1:]] = x[alone[1:]] = 0
    parts = strata(x, s, sample)
    arguments = parts.counts, parts.size_sum, parts.squares, parts.size, parts.size_sq, parts.n
    expected = [cells_dispersion(x[:, j], s, sample) for j in range(x.shape[1])]
    np.testing.assert_allclose(dispersion(*arguments), expected, rtol=1e-10)
