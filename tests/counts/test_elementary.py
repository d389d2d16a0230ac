import numpy as np
import pytest

from flashmm_sc._counts.elementary import exp_of, log1p_of

EPS = np.finfo(float).eps


@pytest.mark.parametrize("scale", [1e-300, 1e-12, 1e-3, 1.0, 30.0, 699.0])
def test_exponentials_are_those_of_numpy(scale):
    x = np.concatenate([np.linspace(-scale, scale, 10_001), np.random.default_rng(0).uniform(-scale, scale, 10_000)])
    out = np.empty_like(x)
    exp_of(x, out)
    np.testing.assert_allclose(out, np.exp(x), rtol=2 * EPS, atol=0)


def test_exponentials_stay_numbers_however_far():
    out = np.empty(4)
    exp_of(np.array([-np.inf, -1e4, 1e4, np.inf]), out)
    np.testing.assert_allclose(out, np.exp([-700.0, -700.0, 700.0, 700.0]), rtol=2 * EPS)


@pytest.mark.parametrize("exponents", [(-300, -20), (-20, -1), (-1, 1), (1, 20), (20, 300)])
def test_logarithms_are_those_of_numpy(exponents):
    x = 10 ** np.random.default_rng(1).uniform(*exponents, 20_000)
    for values in (x, -x[x < 0.9]):
        out = np.empty_like(values)
        log1p_of(values, out)
        np.testing.assert_allclose(out, np.log1p(values), rtol=4 * EPS, atol=0)
