"""What a change of units, of coding or of parameters does to results: what it must, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from strategies import RANDOM, arrays, examples, numbers, seeds, studies

import flashmm_sc as fsc

METHODS = st.sampled_from(["REML", "ML"])
DDF = st.sampled_from(["satterthwaite", "kenward-roger"])
SCALES = st.floats(-3, 3).map(lambda x: 10.0**x)
ONE_EACH = tuple(name for name in RANDOM if name in {"donor", "crossed", "nested", "slope", "correlated"})


def same(a, b, rtol=1e-6, least=0.0):
    """Where both are known, to the digits that Newton's last step leaves of a value, of others beside it, or of `least`."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
    unit = np.nanmax(np.abs(np.nan_to_num(b)), axis=-1, keepdims=True) if b.ndim > 1 else 0.0
    wrong = np.abs(a - b) > rtol * np.maximum(np.maximum(np.abs(b), unit), least)
    assert not wrong.any(), (a[wrong], b[wrong])


def fitted(made, method, ddf):
    return made.fit(method=method, ddf="satterthwaite" if method == "ML" else ddf, nonnegative=True)


@given(arrays(), METHODS, DDF, SCALES, st.sampled_from([-1.0, 1.0]))
@examples(6)
def test_units_of_expression(made, method, ddf, scale, sign):
    """c y has coefficients c β and variances c² θ; tests and degrees of freedom stay."""
    one, other = fitted(made, method, ddf), fitted(made.with_genes(made.Y * scale * sign), method, ddf)
    assert list(other.status) == list(one.status)
    same(other.coef / (scale * sign), one.coef)
    same(other.se / scale, one.se)
    same(other.theta / scale**2, one.theta)
    same(other.df, one.df)
    same(other.p, one.p)
    nu = len(made.Y) - (made.X.shape[1] if method == "REML" else 0)
    same(other.loglik + nu * np.log(scale), one.loglik, 1e-9)


@given(arrays(), METHODS, DDF, seeds)
@examples(6)
def test_what_the_fixed_columns_say_changes_coefficients_only(made, method, ddf, seed):
    shift = np.random.default_rng(seed).normal(size=(made.X.shape[1], made.Y.shape[1]))
    one, other = fitted(made, method, ddf), fitted(made.with_genes(made.Y + made.X @ shift), method, ddf)
    varied = one.status != "constant"  # a gene of zeros varies then, by rounding
    assert list(other.status[varied]) == list(one.status[varied])
    same(other.coef[varied] - shift.T[varied], one.coef[varied])
    for name in ("se", "theta", "df", "loglik"):
        same(getattr(other, name)[varied], getattr(one, name)[varied])


@given(arrays(), METHODS, DDF, seeds)
@examples(6)
def test_other_parameters_for_the_same_means(made, method, ddf, seed):
    """X T for X: contrasts, their joint tests and ML likelihoods stay, REML ones lose log |det T|."""
    rng, p = np.random.default_rng(seed), made.X.shape[1]
    T = np.linalg.qr(rng.normal(size=(p, p)))[0] @ np.diag(rng.uniform(0.3, 3, p))
    one, other = fitted(made, method, ddf), fitted(replace(made, X=made.X @ T), method, ddf)
    assert list(other.status) == list(one.status)
    same(other.theta, one.theta)
    lost = np.linalg.slogdet(T)[1] if method == "REML" else 0.0
    same(other.loglik + lost, one.loglik, 1e-9)
    L = rng.normal(size=(p, 2))
    contrasts = [{"a": M[:, 0], "b": M[:, 1]} for M in (L, T.T @ L)]
    a, b = (fsc.lmmtest(fit, own) for fit, own in zip((one, other), contrasts, strict=True))
    for part in ("coef", "t", "p"):
        same(b.filter(regex=f"_{part}$"), a.filter(regex=f"_{part}$"))
    if p > 1:
        a, b = (fsc.lmmtest(fit, M, joint=True) for fit, M in ((one, L), (other, T.T @ L)))
        same(b[["F", "p"]], a[["F", "p"]])


@given(arrays(random=("slope", "correlated")), METHODS, DDF, SCALES, st.floats(-2, 2))
@examples(6)
def test_units_and_origin_of_a_slope(made, method, ddf, scale, origin):
    """Slopes of c x have variances over c²; correlated with intercepts they also don't mind where x is zero."""
    d, origin = made.d, origin if made.correlated else 0.0
    intercepts, slopes = made.Z[:, : d[0]], made.Z[:, d[0] :]
    changed = replace(made, Z=np.hstack([intercepts, scale * (slopes + origin * intercepts)]))
    one, other = fitted(made, method, ddf), fitted(changed, method, ddf)
    theta = other.theta.to_numpy().copy()
    A = np.array([[1.0, scale * origin], [0.0, scale]])  # effects of 1 and x from those of 1 and c (x + o)
    if made.correlated:
        Gamma = np.array([[theta[:, 0], theta[:, 2]], [theta[:, 2], theta[:, 1]]])
        Gamma = np.einsum("ik,klg,jl->ijg", A, Gamma, A)
        theta[:, 0], theta[:, 1], theta[:, 2] = Gamma[0, 0], Gamma[1, 1], Gamma[0, 1]
    else:
        theta[:, 1] *= scale**2
    same(theta, one.theta, 1e-5)
    same(other.loglik, one.loglik, 1e-8)
    for name in ("coef", "se"):
        same(getattr(other, name), getattr(one, name), 1e-5)


@given(arrays(random=("crossed", "nested", "slope", "three")), METHODS, DDF, seeds)
@examples(5)
def test_order_of_components_and_of_columns(made, method, ddf, seed):
    rng, K, p = np.random.default_rng(seed), len(made.d), made.X.shape[1]
    order, columns = rng.permutation(K), rng.permutation(p)
    parts = np.split(made.Z, np.cumsum(made.d)[:-1], axis=1)
    parts = [parts[k][:, rng.permutation(made.d[k])] for k in order]
    changed = replace(made, X=made.X[:, columns], Z=np.hstack(parts), d=tuple(made.d[k] for k in order))
    one, other = fitted(made, method, ddf), fitted(changed, method, ddf)
    assert list(other.status) == list(one.status)
    same(other.theta, one.theta.iloc[:, [*order, K]])
    for name in ("coef", "se", "df", "p"):
        same(getattr(other, name), getattr(one, name).iloc[:, columns])


@given(studies(("types", "three"), genes=4), st.booleans())
@examples(6)
def test_coding_of_a_factor(made, turned):
    """Means of levels and differences from whichever is the first say the same."""
    study, means = made
    coded = replace(study, fixed=study.fixed.replace("0 + cls", "cls"))
    first, second = sorted(study.obs["cls"].unique())[:2]
    adata = study.adata()
    levels = sorted(study.obs["cls"].unique(), reverse=turned)
    if turned:
        levels = [second, *(name for name in levels if name != second)]
    adata.obs["cls"] = pd.Categorical(adata.obs["cls"], levels)
    differences = coded.run(adata)
    fsc.tl.lmm_test(means, {"d": f"`cls[{second}]` - `cls[{first}]`"})
    fsc.tl.lmm_test(differences, {"d": f"-`cls[T.{first}]`" if turned else f"`cls[T.{second}]`"})
    a, b = numbers(means, "lmm_test"), numbers(differences, "lmm_test")
    size = numbers(means)["coef"].abs().max(axis=1).to_numpy()[:, None]
    least = {"coef": np.nan_to_num(size), "t": 1.0}  # of what is subtracted; a difference may be zero
    for name in ("coef", "se", "t", "df", "pval"):
        same(b[name], a[name], least=least.get(name, 0.0))
    pd.testing.assert_frame_equal(numbers(differences)["status"], numbers(means)["status"])
