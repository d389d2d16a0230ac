"""Sub-models from statistics: the same as fitting the reduced designs to the cells."""

from __future__ import annotations

import dense_reference as dense
import numpy as np
import pytest

import flashmm_sc as fsc

OPTIONS = {"method": "ML", "nonnegative": True, "ddf": "satterthwaite"}
THETA = np.tile([0.5, 0.4, 0.3, 1.0], (6, 1))


@pytest.fixture(scope="module")
def data():
    X, Z, d = dense.design("three", n=90)
    return X, Z, d, dense.simulate(X, Z, d, THETA)


@pytest.fixture(scope="module")
def fit(data):
    X, Z, d, Y = data
    return fsc.lmmfit(Y, X, Z, d, **OPTIONS)


def assert_same(one, other):
    for name in ("coef", "se", "df", "theta", "theta_se", "theta_cov", "loglik"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-10, atol=1e-10, err_msg=name)


def columns_of(d, components):
    stops = np.cumsum(d)
    return np.concatenate([np.arange(stops[k] - d[k], stops[k]) for k in components])


@pytest.mark.parametrize("components", [[0], [1], [2], [0, 2], [2, 1], [0, 1, 2]])
@pytest.mark.parametrize("coefs", [[0, 1, 2, 3, 4], [4, 0, 1], [1]])
def test_selected_statistics_are_those_of_the_reduced_designs(data, coefs, components):
    X, Z, d, Y = data
    genes, columns = [4, 0, 2], columns_of(d, components)
    ours = fsc.sslmm(X, Y, Z, d).select(coefs=coefs, components=components, genes=genes)
    theirs = fsc.sslmm(X[:, coefs], Y[:, genes], Z[:, columns], [d[k] for k in components])
    for name in ("XX", "XY", "ZX", "ZY", "yy", "d", "n"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), err_msg=name)
    np.testing.assert_allclose(ours.ZZ.toarray(), theirs.ZZ.toarray())
    assert ours.coef_names == [f"x{j + 1}" for j in coefs]
    assert ours.component_names == [f"var{k + 1}" for k in components]
    assert ours.ranef_names == [f"z{j + 1}" for j in columns]
    assert ours.gene_names == ["gene5", "gene1", "gene3"]


def test_what_is_kept_whole_is_not_copied(data):
    X, Z, d, Y = data
    stats = fsc.sslmm(X, Y, Z, d)
    assert stats.select(coefs=[0]).ZY is stats.ZY


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"coefs": []}, "No coefficient is left"),
        ({"components": []}, "No component is left"),
        ({"genes": np.zeros(6, bool)}, "No gene is left"),
        ({"components": ["var"]}, "components: there is no 'var'. Did you mean 'var"),
        ({"genes": ["gene1", "gene1"]}, "'gene1' chosen more than once"),
    ],
)
def test_nothing_to_select(data, chosen, message):
    X, Z, d, Y = data
    with pytest.raises(ValueError, match=message):
        fsc.sslmm(X, Y, Z, d).select(**chosen)


@pytest.mark.parametrize(
    ("dropped", "coefs", "components"),
    [
        ({}, [0, 1, 2, 3, 4], [0, 1, 2]),
        ({"drop_coefs": ["x3", "x4"]}, [0, 1, 4], [0, 1, 2]),
        ({"drop_components": "var2"}, [0, 1, 2, 3, 4], [0, 2]),
        ({"drop_coefs": -1, "drop_components": [0, 1]}, [0, 1, 2, 3], [2]),
        ({"drop_coefs": []}, [0, 1, 2, 3, 4], [0, 1, 2]),
    ],
)
def test_refit_is_the_fit_of_the_reduced_designs(data, fit, dropped, coefs, components):
    X, Z, d, Y = data
    reduced = fsc.lmmfit(Y, X[:, coefs], Z[:, columns_of(d, components)], [d[k] for k in components], **OPTIONS)
    assert_same(fit.refit(**dropped), reduced)


def test_options_can_be_overridden(data, fit):
    X, Z, d, Y = data
    refitted = fit.refit(method="REML", ddf="kenward-roger")
    assert (refitted.method, refitted.ddf, refitted.nonnegative) == ("REML", "kenward-roger", True)
    assert_same(refitted, fsc.lmmfit(Y, X, Z, d, method="REML", nonnegative=True, ddf="kenward-roger"))


def test_refit_errors(fit):
    with pytest.raises(ValueError, match="drop_coefs: there is no 'x9'"):
        fit.refit(drop_coefs="x9")
    with pytest.raises(ValueError, match="No component is left"):
        fit.refit(drop_components=["var1", "var2", "var3"])
    with pytest.raises(ValueError, match="method='MLE' is unknown"):
        fit.refit(method="MLE")
