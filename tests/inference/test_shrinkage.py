"""Adaptive shrinkage: against R's ashr, and against what the definitions say."""

from __future__ import annotations

import numpy as np
import pytest
import reference_data
from scipy import stats as sps
from scipy.integrate import quad

from flashmm_sc._inference.shrinkage import NULL_WEIGHT, NormalMixture, learn, normal_errors, shrink

ASH = reference_data.ash()


@pytest.fixture(params=sorted(set(ASH["study"])))
def study(request):
    return ASH[ASH["study"] == request.param]


def data(study):
    return study["betahat"].to_numpy(), study["s"].to_numpy()


def test_posteriors_are_those_of_ashr(study):
    coef, s = data(study)
    prior = learn(coef, s)
    ours = shrink(prior, coef, s)
    names = {"coef": "PosteriorMean", "sd": "PosteriorSD", "lfsr": "lfsr", "svalue": "svalue"}
    for name, theirs in names.items():
        np.testing.assert_allclose(getattr(ours, name), study[theirs], rtol=1e-8, atol=1e-9, err_msg=name)
    assert prior.weights[0] == pytest.approx(study["pi0"].iloc[0], abs=1e-9)
    assert prior.sd[-1] == pytest.approx(study["largest"].iloc[0], rel=1e-9)
    assert len(prior.sd) == study["k"].iloc[0]


def penalised(prior, coef, s):
    density = sps.norm.pdf(coef[:, None], scale=np.sqrt(s[:, None] ** 2 + prior.sd**2)) @ prior.weights
    return np.log(density).sum() + (NULL_WEIGHT - 1) * np.log(prior.weights[0])


def test_weights_are_the_best_there_are(study):
    """No step towards another mixture raises the concave penalised likelihood."""
    coef, s = data(study)
    best = learn(coef, s)
    assert best.weights.sum() == pytest.approx(1, abs=1e-12)
    assert (best.weights >= 0).all()
    rng = np.random.default_rng(1)
    for k in range(len(best.sd)):
        for other in (np.eye(len(best.sd))[k], rng.dirichlet(np.ones(len(best.sd)))):
            near = NormalMixture(best.sd, 0.999 * best.weights + 0.001 * other)
            assert penalised(near, coef, s) <= penalised(best, coef, s) + 1e-7


HARD = {
    "errors of all sizes": lambda rng, m: (rng.normal(size=m), 10 ** rng.normal(0, 3, m)),
    "heavy tails": lambda rng, m: (rng.standard_cauchy(m), rng.gamma(0.3, 0.1, m) + 1e-12),
    "one effect": lambda rng, m: (rng.normal(0, 0.1, m) + 1e8 * (np.arange(m) == 0), rng.gamma(5, 0.1, m)),
    "no null": lambda rng, m: (rng.normal(0, 100, m), rng.gamma(100, 0.1, m)),
    "all zero": lambda rng, m: (np.zeros(m), rng.gamma(5, 0.1, m)),
}


@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("m", [10, 200, 3000])
def test_the_optimum_is_reached_however_hard_it_is(case, m):
    """At the optimum no component has a mean likelihood ratio to the mixture above 1."""
    coef, s = HARD[case](np.random.default_rng(m), m)
    prior = learn(coef, s)
    sd = np.sqrt(s[:, None] ** 2 + prior.sd**2)
    log_density = sps.norm.logpdf(coef[:, None], scale=sd)
    density = np.exp(log_density - log_density.max(axis=1, keepdims=True))
    ratios = (density / (density @ prior.weights)[:, None]).sum(axis=0)
    ratios[0] += (NULL_WEIGHT - 1) / prior.weights[0]
    assert ratios.max() / (m + NULL_WEIGHT - 1) < 1 + 2e-9
    found = shrink(prior, coef, s)
    assert all(np.isfinite(array).all() for array in vars(found).values())
    assert (np.abs(found.coef) <= np.abs(coef) * (1 + 1e-12)).all()


def test_posteriors_by_quadrature():
    prior = NormalMixture(np.array([0.0, 0.3, 2.0]), np.array([0.5, 0.3, 0.2]))
    coef, s = np.array([0.0, 0.4, -3.0, 9.0]), np.array([0.5, 0.2, 1.0, 1.5])
    ours = shrink(prior, coef, s)
    for j in range(4):
        likelihood = lambda beta, j=j: sps.norm.pdf(coef[j], beta, s[j])
        density = lambda beta, f=likelihood: f(beta) * prior.weights[1:] @ sps.norm.pdf(beta, scale=prior.sd[1:])
        moment = lambda power, low, high, f=density: quad(
            lambda beta: beta**power * f(beta), low, high, epsabs=1e-14, limit=500
        )[0]
        below, above = [[moment(power, *part) for power in range(3)] for part in ((-20, 0), (0, 20))]
        zero = prior.weights[0] * likelihood(0.0)
        total = zero + below[0] + above[0]
        mean = (below[1] + above[1]) / total
        assert ours.coef[j] == pytest.approx(mean, abs=1e-9)
        assert ours.sd[j] == pytest.approx(np.sqrt((below[2] + above[2]) / total - mean**2), abs=1e-8)
        assert ours.lfsr[j] == pytest.approx((zero + min(below[0], above[0])) / total, abs=1e-9)
    np.testing.assert_allclose(np.sort(ours.svalue), np.cumsum(np.sort(ours.lfsr)) / np.arange(1, 5))


def test_grid_where_no_estimate_exceeds_its_error():
    """From a tenth of the smallest error to eight times that, by √2, as ashr has it."""
    s = np.array([0.5, 2.0, 3.0])
    expected = np.append(0.0, 0.05 * np.sqrt(2) ** np.arange(7))
    np.testing.assert_allclose(learn(np.array([0.4, -2.0, 1.0]), s).sd, expected, rtol=1e-12)
    barely = np.array([0.5 + 1e-9, 0.0, 0.0])  # by less than a tenth of the smallest error
    np.testing.assert_allclose(learn(barely, s).sd, [0, 2 * np.sqrt(barely[0] ** 2 - 0.25)], rtol=1e-6)


def test_effects_far_out_keep_their_size_and_their_tiny_error_rates():
    rng = np.random.default_rng(2)
    coef, s = np.append(rng.normal(0, 0.1, 200), [50.0, -80.0]), np.full(202, 0.1)
    ours = shrink(learn(coef, s), coef, s)
    np.testing.assert_allclose(
        ours.coef[-2:], coef[-2:], rtol=(0.1 / 50) ** 2
    )  # (s / σ)², for σ as large as the effect
    assert (ours.lfsr[-2:] < 1e-300).all()
    assert (np.abs(ours.coef) <= np.abs(coef)).all()


def test_no_signal_gives_effects_of_zero():
    rng = np.random.default_rng(3)
    s = rng.gamma(5, 0.1, 500)
    coef = rng.normal(0, 0.5 * s)  # all below their errors
    prior = learn(coef, s)
    assert prior.weights[0] > 0.99
    np.testing.assert_allclose(shrink(prior, coef, s).coef, 0, atol=1e-9)


@pytest.mark.parametrize("df", [2.5, 8, 60, 1e6])
def test_errors_give_a_normal_deviate_the_p_value_of_t(df):
    t = np.array([-30.0, -2.0, -1e-5, 1e-7, 0.3, 5.0])
    se = np.array([1.0, 0.2, 3.0, 2.0, 0.1, 4.0])
    s = normal_errors(t * se, se, t, np.full(6, df))
    np.testing.assert_allclose(sps.norm.sf(np.abs(t * se / s)), sps.t.sf(np.abs(t), df), rtol=1e-6)
    assert (s >= se * (1 - 1e-9)).all()


def test_errors_at_zero_and_where_p_underflows():
    df = np.full(3, 5.0)
    at_zero, near, nearer = normal_errors(*np.array([[0.0, 2e-3, 2e-6], [2.0] * 3, [0.0, 1e-3, 1e-6]]), df)
    assert at_zero == pytest.approx(near, rel=1e-5)
    assert at_zero == pytest.approx(nearer, rel=1e-8)
    s = normal_errors(np.array([100.0, 1.0]), np.ones(2), np.array([100.0, np.nan]), np.array([1e6, 3.0]))
    assert s[0] == pytest.approx(1.0025, rel=1e-5)  # p is below 1e-2000
    assert np.isnan(s[1])


def test_signs_are_as_sure_as_said_with_few_degrees_of_freedom():
    """8,000 effects, most of them zero, half of them with an error estimated with 6 df; errors as estimated won't do."""
    rng = np.random.default_rng(1)
    df, sigma = rng.choice([6.0, 60.0], 8000), rng.gamma(5, 0.05, 8000)
    effect = rng.normal(size=8000) * (rng.random(8000) < 0.3)
    se, coef = sigma * np.sqrt(rng.chisquare(df) / df), effect + sigma * rng.normal(size=8000)
    wrong, said = {}, {}
    for name, s in {"ours": normal_errors(coef, se, coef / se, df), "as estimated": se}.items():
        found = shrink(learn(coef, s), coef, s)
        sure = (found.lfsr < 0.05) & (df == 6)
        assert sure.sum() > 200
        wrong[name], said[name] = (np.sign(coef) != np.sign(effect))[sure].mean(), found.lfsr[sure].mean()
    assert wrong["ours"] < 1.5 * said["ours"]
    assert wrong["as estimated"] > 10 * said["as estimated"]
