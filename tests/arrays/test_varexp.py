from __future__ import annotations

import dataclasses

import anndata as ad
import dense_reference as dense
import numpy as np
import pandas as pd
import pytest
import reference_data as rd

import flashmm_sc as fsc
from flashmm_sc._inference.moderated import mean_expression

RANDOM = {name: rd.random_of[name] for name in ("sam", "sam_batch", "sam_slope")} | {"intercept": "sam"}


@pytest.mark.parametrize("design", RANDOM)
def test_varexp_of_the_paper(design):
    theirs = pd.read_csv(rd.HERE / "varexp.csv.gz").query("design == @design")
    theirs = theirs.pivot_table(index="gene", columns="part", values="fraction")
    fixed = rd.ANOVA_FIXED if design == "intercept" else rd.FIXED
    model, X, Z = rd.designs(fixed, RANDOM[design])
    stats = fsc.sslmm(X, rd.log_counts()[theirs.index], Z, model.design.random.d)
    ours = fsc.variance_explained(fsc.lmm(stats)).rename(
        columns=dict(zip(stats.component_names, model.design.random.names, strict=True))
    )
    names = {name: rd.formulaic_name(name) for name in theirs}
    if design == "intercept":
        names = {name: new.replace("cls[", "cls[T.") for name, new in names.items()}
    theirs = theirs.rename(columns=names)
    assert set(ours) == set(theirs)
    np.testing.assert_allclose(ours[theirs.columns], theirs, rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(ours.sum(axis=1), 1)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
@pytest.mark.parametrize("nonnegative", [True, False])
def test_definition_from_the_cells(order, nonnegative):
    X, Z, d = dense.design("slope")
    parts = np.split(Z, [d[0]], axis=1)
    Z, d = np.hstack([parts[k] for k in order]), [d[k] for k in order]
    theta = np.tile([0.0, 0.3, 1.0], (8, 1))[:, [*order, 2]]
    fit = fsc.lmmfit(dense.simulate(X, Z, tuple(d), theta), X, Z, d, nonnegative=nonnegative)
    assert nonnegative or (fit.theta.to_numpy() < 0).any()
    terms = {"cell type": ["x1", "x2"], "treatment": [2, 3]}
    ours = fsc.variance_explained(fit, terms)
    assert list(ours) == ["cell type", "treatment", "x5", "var1", "var2", "residual"]

    n, beta, s = len(X), fit.coef.to_numpy().T, fit.theta.to_numpy().clip(min=0)
    total = np.var(X @ beta, axis=0, ddof=1)
    each = np.array([np.var(X[:, j] @ beta[j], axis=0, ddof=1) for j in ([0, 1], [2, 3], [4])])
    centred = Z - Z.mean(axis=0)
    sizes = [(part**2).sum() / (n - 1) for part in np.split(centred, [d[0]], axis=1)]
    expected = np.vstack([each / each.sum(axis=0) * total, s[:, 0] * sizes[0], s[:, 1] * sizes[1], s[:, 2]])
    np.testing.assert_allclose(ours.T, expected / expected.sum(axis=0), rtol=1e-9)


def simple(columns=("x1", "x2"), m=3, **random):
    """An intercept, a treatment, and random components of 60 cells in 6 samples."""
    rng = np.random.default_rng(0)
    sample = np.arange(60) % 6
    X = pd.DataFrame(np.column_stack([np.ones(60), sample % 2])[:, : len(columns)], columns=columns)
    sam = np.eye(6)[sample]
    random = random or {"sam": sam}
    Y = rng.normal(size=(60, m)) + sam @ rng.normal(size=(6, m))
    stats = fsc.sslmm(X, Y, np.hstack(list(random.values())), [Z.shape[1] for Z in random.values()])
    arrays = {name: getattr(stats, name) for name in ("XX", "XY", "ZX", "ZY", "ZZ", "yy", "n", "d", "coef_names")}
    return fsc.lmm(fsc.SummaryStats(**arrays, component_names=list(random)), nonnegative=True)


def test_intercept_alone_explains_nothing():
    table = fsc.variance_explained(simple(columns=("x1",)))
    assert list(table) == ["sam", "residual"]
    np.testing.assert_allclose(table.sum(axis=1), 1)
    assert (fsc.variance_explained(simple(columns=("x1",)), {"constant": "x1"})["constant"] == 0).all()


def test_genes_that_were_not_fitted_are_nan():
    fit = simple()
    fit.coef.iloc[1] = np.nan
    fit.theta.iloc[1] = np.nan
    assert fsc.variance_explained(fit).isna().all(axis=1).tolist() == [False, True, False]


SAMPLE = np.eye(6)[np.arange(60) % 6]
SIGN = np.where(np.arange(60) % 5 < 2, 1.0, -1.0)[:, None]
WEIGHT = np.random.default_rng(1).normal(size=(60, 1))


def test_a_standardised_slope_is_no_random_intercept():
    slope = SAMPLE * (WEIGHT / np.sqrt(np.mean(WEIGHT**2)))  # trace Z'Z is n here as well
    with pytest.raises(ValueError, match="none of 'slope' is one"):
        fsc.variance_explained(simple(slope=slope))
    both = fsc.variance_explained(simple(slope=slope, sam=SAMPLE))
    np.testing.assert_allclose(both.sum(axis=1), 1)


def test_a_slope_of_signs_is_told_from_the_intercept():
    """Its columns look the same in Z'Z; the sums of X over the cells are those of the intercept."""
    both = fsc.variance_explained(simple(sign=SAMPLE * SIGN, sam=SAMPLE))
    other = fsc.variance_explained(simple(sam=SAMPLE, sign=SAMPLE * SIGN))
    np.testing.assert_allclose(both[other.columns], other, rtol=1e-6)


@pytest.mark.parametrize("first", ["sign", "sam"])
def test_a_slope_of_signs_that_is_a_covariate_too(first):
    """Arrays alone can't tell which component is the intercept; who made the statistics can say so."""
    rng = np.random.default_rng(0)
    parts = {"sign": SAMPLE * SIGN, "sam": SAMPLE}
    names = sorted(parts, key=lambda name: name != first)
    X, Z = np.column_stack([np.ones(60), SIGN]), np.hstack([parts[name] for name in names])
    stats = fsc.sslmm(X, rng.normal(size=(60, 3)) + SAMPLE @ rng.normal(size=(6, 3)), Z, [6, 6])
    with pytest.raises(ValueError, match="Which of 'var1', 'var2' is a random intercept can't be told"):
        fsc.variance_explained(fsc.lmm(stats))
    fit = fsc.lmm(dataclasses.replace(stats, slopes=[name == "sign" for name in names]), nonnegative=True)
    # the sign varies within samples: its share comes from the spread of the cells about their mean
    coef, theta = fit.coef.to_numpy(), fit.theta.to_numpy()
    centred = np.hstack([np.ones((60, 1)), SIGN]) - [1.0, SIGN.mean()]
    fixed = np.var(centred @ coef.T, axis=0, ddof=1)
    sizes = [((part - part.mean(axis=0)) ** 2).sum() / 59 for part in np.split(Z, 2, axis=1)]
    expected = np.column_stack([fixed, theta[:, :2] * sizes, theta[:, 2]])
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(fsc.variance_explained(fit), expected, rtol=1e-9)


def test_the_design_knows_which_component_is_a_slope(cells):
    """A slope of values ±1 listed first; the covariate of moderated tests is the mean, whatever the treatment does."""
    cells = cells.assign(side=np.where(np.arange(len(cells)) % 3 < 2, 1.0, -1.0))
    Y = np.abs(np.random.default_rng(0).normal(size=(len(cells), 5)))
    design = fsc.Design.of(cells, "~ side", ["(0+side|sam)", "sam"])
    stats = fsc.summarize(ad.AnnData(Y, obs=cells), design)
    assert stats.slopes == (True, False)
    assert stats.select(components=["sam"]).slopes == (False,)
    assert (stats + stats).slopes == (True, False)
    np.testing.assert_allclose(mean_expression(stats), Y.mean(axis=0))
    assert fsc.variance_explained(fsc.lmm(stats)).notna().all(axis=None)


@pytest.mark.parametrize(
    ("random", "message"),
    [
        ({"half": SAMPLE * (np.arange(60) % 4 < 2)[:, None]}, "none of 'half' is one"),
        ({"overlapping": np.roll(SAMPLE, 1, axis=1) / 2 + SAMPLE / 2}, "none of 'overlapping' is one"),
    ],
)
def test_column_sums_that_can_not_be_had(random, message):
    with pytest.raises(ValueError, match=message):
        fsc.variance_explained(simple(**random))


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"treatment": "trt"}, r"terms\['treatment'\]: there is no 'trt'"),
        ({"a": "x2", "b": ["x1", "x2"]}, "'x2' in more than one term"),
        ({"sam": "x2"}, "'sam' would name two parts"),
        ({"x2": "x1"}, "'x2' would name two parts"),
        ({"residual": "x2"}, "'residual' would name two parts"),
    ],
)
def test_terms_that_can_not_be(terms, message):
    with pytest.raises(ValueError, match=message):
        fsc.variance_explained(simple(), terms)


def test_a_coefficient_called_like_a_component():
    fit = simple(columns=("x1", "sam"))
    with pytest.raises(ValueError, match="'sam' would name two parts"):
        fsc.variance_explained(fit)
    assert list(fsc.variance_explained(fit, {"fixed sam": "sam"})) == ["fixed sam", "sam", "residual"]
