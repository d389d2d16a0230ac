from __future__ import annotations

import dense_reference as dense
import numpy as np
import pandas as pd
import pytest
import reference_data as rd
from scipy.stats import chi2

import flashmm_sc as fsc


@pytest.fixture(scope="module")
def reference():
    """Fits of lme4's models by method, and lme4's log-likelihoods."""
    theirs = pd.read_csv(rd.HERE / "lrt.csv.gz", index_col=["method", "gene"])
    genes = theirs.loc["REML"].index
    model, X, Z = rd.designs(rd.FIXED, ["sam", "batch"])
    stats = fsc.sslmm(X, rd.log_counts()[genes], Z, model.design.random.d)
    return {method: fsc.lmm(stats, method=method, nonnegative=True) for method in ("REML", "ML")}, theirs


def assert_parity(ours, larger, smaller):
    expected = (2 * (larger - smaller)).clip(lower=0)
    np.testing.assert_allclose(ours["stat"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["REML", "ML"])
def test_random_components_of_lme4(reference, method):
    fits, theirs = reference
    fit, theirs = fits[method], theirs.loc[method]
    sam = fit.refit(drop_components="var2")
    assert_parity(fsc.lrt(fit, sam), theirs["sam_batch"], theirs["sam"])
    assert_parity(fsc.lrt(sam), theirs["sam"], theirs["none"])
    assert_parity(fsc.lrt(fit), theirs["sam_batch"], theirs["none"])


def test_fixed_columns_of_lme4(reference):
    fits, theirs = reference
    fit = fits["ML"].refit(drop_components="var2")
    table = fsc.lrt(fit, fit.refit(drop_coefs=[4, 5, 6]))
    assert_parity(table, theirs.loc["ML", "sam"], theirs.loc["ML", "sam_untreated"])
    assert (table["df"] == 3).all()
    np.testing.assert_allclose(table["p"], chi2.sf(table["stat"], 3))


@pytest.mark.parametrize("method", ["REML", "ML"])
def test_without_random_effects_from_the_cells(method):
    X, Z, d = dense.design("sam")
    Y = dense.simulate(X, Z, d, np.array([[0.5, 1.0], [0.0, 1.0]]))
    fit = fsc.lmmfit(Y, X, Z, d, method=method, nonnegative=True)
    for y, loglik, stat in zip(Y.T, fit.loglik, fsc.lrt(fit)["stat"], strict=True):
        model = dense.DenseModel(y, X, Z, d, method)
        np.testing.assert_allclose(stat, 2 * (loglik - model.profile(np.zeros(1))), rtol=1e-8, atol=1e-8)


def null_genes(m=4000, samples=40, per_sample=6):
    rng = np.random.default_rng(3)
    sample = np.repeat(np.arange(samples), per_sample)
    X = np.column_stack([np.ones(len(sample)), sample % 2])
    return X, np.eye(samples)[sample], rng.normal(size=(len(sample), m)), rng


@pytest.mark.parametrize("method", ["REML", "ML"])
def test_level_for_a_component(method):
    X, Z, Y, _ = null_genes()
    p = fsc.lrt(fsc.lmmfit(Y, X, Z, method=method, nonnegative=True))["p"]
    assert (0.035 if method == "REML" else 0.02) < (p < 0.05).mean() < 0.06  # ML's variances are too small
    assert 0.45 < (p == 1).mean() < 0.65


def test_level_for_two_components_is_kept():
    X, Z, Y, _ = null_genes()
    rng = np.random.default_rng(4)
    Z2 = np.eye(20)[rng.permutation(np.arange(len(Y)) % 20)]
    p = fsc.lrt(fsc.lmmfit(Y, X, np.hstack([Z, Z2]), [40, 20], nonnegative=True))["p"]
    assert 0.005 < (p < 0.05).mean() < 0.05


def test_level_for_a_fixed_column():
    X, Z, Y, rng = null_genes()
    Y += 0.5 * Z @ rng.normal(size=(Z.shape[1], Y.shape[1]))
    fit = fsc.lmmfit(Y, X, Z, method="ML")
    p = fsc.lrt(fit, fit.refit(drop_coefs="x2"))["p"]
    assert 0.04 < (p < 0.05).mean() < 0.075


def test_genes_that_were_not_fitted_are_nan():
    X, Z, Y, _ = null_genes(m=3)
    Y[:, 1] = 7.0
    fit = fsc.lmmfit(Y, X, Z, method="ML", nonnegative=True)
    for table in (fsc.lrt(fit), fsc.lrt(fit, fit.refit(drop_coefs=1))):
        assert table.loc["gene2"].isna().all()
        assert table.drop(index="gene2").notna().all(axis=None)


class TestErrors:
    X, Z, Y, _ = null_genes(m=3)
    Z2 = np.eye(5)[np.arange(len(Y)) % 5]
    fit = fsc.lmmfit(Y, X, np.hstack([Z, Z2]), [40, 5])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"drop_coefs": "x2"}, r"REML likelihoods .* \('x2'\) can't be compared; refit both .*method='ML'"),
            ({"drop_components": "var2", "method": "ML"}, "method='REML' and method='ML'"),
            ({"drop_components": "var2", "nonnegative": True}, "nonnegative=False and nonnegative=True"),
            ({}, "same model"),
        ],
    )
    def test_fits_that_do_not_compare(self, change, message):
        with pytest.raises(ValueError, match=message):
            fsc.lrt(self.fit, self.fit.refit(**change))

    def test_not_nested(self):
        small = self.fit.refit(drop_components="var2")
        with pytest.raises(ValueError, match=r"isn't nested .* has no random components 'var2'"):
            fsc.lrt(small, self.fit)

    def test_other_cells_or_genes(self):
        for Y in (self.Y + 1, self.Y[:, :2]):
            with pytest.raises(ValueError, match="different cells, genes or values"):
                fsc.lrt(self.fit, fsc.lmmfit(Y, self.X, self.Z))

    @pytest.mark.parametrize("Z", [np.roll(Z2, 1, axis=1)[:-1], Z[:, :20] + Z[:, 20:]])
    def test_other_columns_of_the_same_name(self, Z):
        Z = np.vstack([Z, np.eye(Z.shape[1])[:1]]) if len(Z) < len(self.Y) else Z
        with pytest.raises(ValueError, match="Columns of the same name differ"):
            fsc.lrt(self.fit, fsc.lmmfit(self.Y, self.X, Z))
