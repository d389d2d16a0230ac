"""lme4's textbook data, on arrays and in AnnData: the numbers of lme4, lmerTest and pbkrtest.

Where a component is estimated as zero, all but degrees of freedom are theirs too. Those are bounded by containment here
(docs/mathematics.md), which `bounded` says again from the definitions; an F test's by the least of its columns'.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from textbook_data import MODELS, containment_df

import flashmm_sc as fsc
from flashmm_sc._results.models import Model
from flashmm_sc._stats.correlated import covariance_names

pytestmark = pytest.mark.filterwarnings("ignore:log_fc is NaN")  # these are no logarithms of counts

METHODS = ["REML", "ML"]
TESTED = [("REML", "satterthwaite"), ("REML", "kenward-roger"), ("ML", "satterthwaite")]
WITH_TERMS = [name for name, book in MODELS.items() if book.fixed != "~ 1"]


@cache
def designs(name):
    """The model, its fixed columns, and its random ones by component."""
    book = MODELS[name]
    model, rows = Model.of("", book.obs, book.fixed, book.random, sparse=True)
    W, p = rows.cut(0, rows.n)[0], len(model.design.fixed.names)
    starts = np.cumsum([p, *model.design.random.d])
    parts = [W[:, a:b] for a, b in pairwise(starts)]
    return model, pd.DataFrame(W[:, :p].toarray(), columns=model.design.fixed.names), parts


@cache
def arrays_fit(name, method, ddf):
    book, (model, X, parts) = MODELS[name], designs(name)
    Z, random = np.hstack([part.toarray() for part in parts]), model.design.random
    weights = None if book.weights is None else book.obs[book.weights]
    options = {"correlated": random.correlated, "weights": weights, "method": method, "ddf": ddf, "nonnegative": True}
    return fsc.lmmfit(book.Y, X, Z, random.d, **options)


@cache
def fitted_adata(name, method, ddf):
    book = MODELS[name]
    adata = ad.AnnData(book.Y.to_numpy(), book.obs, pd.DataFrame(index=book.genes))
    fsc.tl.lmm_de(adata, book.fixed, book.random, weights=book.weights, method=method, ddf=ddf, ranef=True)
    return adata


def bounded(df, name, method, contrasts):
    """R's degrees of freedom (genes × tests), bounded where components are zero; columns of `contrasts` are tested."""
    model, X, parts = designs(name)
    zero = (MODELS[name].variances(method)[list(model.design.random.names)] == 0).to_numpy()
    caps = np.full((len(parts), len(contrasts)), np.inf)
    for k in np.flatnonzero(zero.any(axis=0)):
        caps[k] = [min(containment_df(X.to_numpy(), parts[k].toarray(), c) for c in L.T) for L in contrasts]
    return np.minimum(df, np.where(zero[:, :, None], caps, np.inf).min(axis=1))


def bounded_f(theirs, name, method, hypotheses):
    """df and p of F tests with degrees of freedom bounded likewise."""
    df = bounded(theirs["df"], name, method, hypotheses)
    return df, np.where(df < theirs["df"], stats.f.sf(theirs["F"], theirs["df_num"], df), theirs["p"])


def close(ours, theirs, rtol=1e-6):
    """To a millionth of each number, or of the largest of its kind in that gene, for some are zero but for rounding."""
    scale = np.abs(np.asarray(theirs)).max(axis=-1, keepdims=True, initial=1e-12)
    np.testing.assert_array_less(np.abs(ours - theirs), rtol * np.maximum(np.abs(theirs), 1e-3 * scale))


def wide(table, name, columns, values):
    """The values of a tidy table of tests, each genes × columns."""
    by_gene = table.pivot_table(values, "variable", "contrast").loc[MODELS[name].genes]
    return {value: by_gene[value][columns].to_numpy() for value in values}


def check_t_tests(ours, name, method, ddf, tested, L):
    """Of `tested`, combinations of the coefficients in the columns of L."""
    rows = MODELS[name].lmer("ttests", method, ddf=ddf)
    rows = rows.rename(columns={"name": "contrast", "gene": "variable"})
    theirs = wide(rows, name, tested, ["coef", "se", "t", "df", "p"])
    for value in ("coef", "se", "t"):
        np.testing.assert_allclose(ours[value], theirs[value], rtol=1e-6)
    df = bounded(theirs["df"], name, method, [c[:, None] for c in L.T])
    np.testing.assert_allclose(ours["df"], df, rtol=1e-4)
    p = np.where(df < theirs["df"], 2 * stats.t.sf(np.abs(theirs["t"]), df), theirs["p"])
    np.testing.assert_allclose(ours["p"], p, rtol=1e-4)


def check_t_table(table, name, method, ddf, tested, L):
    ours = wide(table.rename(columns={"t_value": "t", "p_value": "p"}), name, tested, ["coef", "se", "t", "df", "p"])
    check_t_tests(ours, name, method, ddf, tested, L)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", MODELS)
def test_estimates_on_arrays(name, method):
    book, fit = MODELS[name], arrays_fit(name, method, "satterthwaite")
    model, _, _ = designs(name)
    fits = book.lmer("fits", method).set_index("gene").loc[book.genes]
    assert list(fit.status == "boundary") == list(fits["singular"])
    np.testing.assert_allclose(fit.loglik, fits["loglik"], rtol=1e-9)
    random = model.design.random
    theta = book.variances(method)[[*random.names, *covariance_names(random.names, random.correlated), "residual"]]
    np.testing.assert_allclose(fit.theta, theta, rtol=1e-6, atol=1e-12)
    ttests = book.wide("ttests", method, "coef", "name", ddf="satterthwaite")
    np.testing.assert_allclose(fit.coef, ttests[model.design.fixed.names], rtol=1e-6)
    cov = book.wide("vcov", method, "cov", ["row", "column"])
    pairs = pd.MultiIndex.from_product([model.design.fixed.names] * 2)
    close(fit.cov().reshape(len(cov), -1), cov[pairs].to_numpy())
    ranef = book.wide("ranef", method, "value", ["component", "level"])
    ranef.columns = [f"{component}[{level}]" for component, level in ranef]
    assert set(ranef) == set(model.design.random.ranef_names)
    close(fit.ranef().to_numpy(), ranef[model.design.random.ranef_names].to_numpy())


@pytest.mark.parametrize(("method", "ddf"), TESTED)
@pytest.mark.parametrize("name", MODELS)
def test_t_tests_on_arrays(name, method, ddf):
    fit = arrays_fit(name, method, ddf)
    ours = {value: getattr(fit, value) for value in ["coef", "se", "t", "df", "p"]}
    check_t_tests(ours, name, method, ddf, list(fit.coef), np.eye(fit.coef.shape[1]))


@pytest.mark.parametrize(("method", "ddf"), TESTED)
@pytest.mark.parametrize("name", MODELS)
def test_t_tests_in_anndata(name, method, ddf):
    adata, coefs = fitted_adata(name, method, ddf), list(designs(name)[1])
    check_t_table(fsc.get.lmm_de_df(adata, key="lmm_de"), name, method, ddf, coefs, np.eye(len(coefs)))
    contrast = {"contrast": MODELS[name].contrast}
    fsc.tl.lmm_test(adata, contrast)
    L = fsc.contrast_matrix(contrast, coefs).to_numpy()
    check_t_table(fsc.get.lmm_de_df(adata, key="lmm_test"), name, method, ddf, ["contrast"], L)


@pytest.mark.parametrize(("method", "ddf"), TESTED)
@pytest.mark.parametrize("name", WITH_TERMS)
def test_type3_f_tests_in_anndata(name, method, ddf):
    """But for Satterthwaite's df of several columns, which depend on the basis of the space that these span."""
    adata, terms = fitted_adata(name, method, ddf), designs(name)[0].terms
    fsc.tl.lmm_anova(adata)
    table = fsc.get.lmm_de_df(adata, key="lmm_anova").rename(columns={"f_value": "F", "p_value": "p"})
    ours = wide(table, name, list(terms), ["F", "df_num", "df", "p"])
    rows = MODELS[name].lmer("ftests", method, ddf=ddf).rename(columns={"term": "contrast", "gene": "variable"})
    theirs = wide(rows, name, list(terms), ["F", "df_num", "df", "p"])
    np.testing.assert_array_equal(ours["df_num"], theirs["df_num"])
    np.testing.assert_allclose(ours["F"], theirs["F"], rtol=1e-6)
    same = (ddf == "kenward-roger") | (theirs["df_num"] == 1)
    df, p = bounded_f(theirs, name, method, list(terms.values()))
    np.testing.assert_allclose(ours["df"][same], df[same], rtol=1e-4)
    np.testing.assert_allclose(ours["p"][same], p[same], rtol=1e-4)


@pytest.mark.parametrize(("method", "ddf"), TESTED)
@pytest.mark.parametrize("name", WITH_TERMS)
def test_joint_tests_of_the_combinations_of_lmertest_in_anndata(name, method, ddf):
    book, adata, coefs = MODELS[name], fitted_adata(name, method, ddf), list(designs(name)[1])
    for term, rows in book.lmer("hypotheses", "REML", gene=book.genes[0]).groupby("term"):
        L = rows.pivot_table("weight", "name", "number").loc[coefs].to_numpy()
        fsc.tl.lmm_test(adata, {f"c{j}": c for j, c in enumerate(L.T)}, joint=True)
        ours = fsc.get.lmm_de_df(adata, key="lmm_test").set_index("variable").loc[book.genes]
        rows = book.lmer("ftests", method, ddf=ddf, term=term).set_index("gene").loc[book.genes]
        theirs = {value: rows[[value]].to_numpy() for value in ["F", "df_num", "df", "p"]}
        df, p = bounded_f(theirs, name, method, [L])
        np.testing.assert_allclose(ours["f_value"], theirs["F"][:, 0], rtol=1e-6)
        np.testing.assert_allclose(ours["df"], df[:, 0], rtol=1e-4)
        np.testing.assert_allclose(ours["p_value"], p[:, 0], rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", MODELS)
def test_variances_and_random_effects_in_anndata(name, method):
    book, adata = MODELS[name], fitted_adata(name, method, "satterthwaite")
    variances = fsc.get.variance_df(adata).pivot_table("variance", "variable", "component")
    theirs = book.variances(method)
    np.testing.assert_allclose(variances.loc[book.genes, theirs.columns], theirs, rtol=1e-6, atol=1e-12)
    ranef = fsc.get.ranef_df(adata).pivot_table("value", "variable", ["component", "level"])
    theirs = book.wide("ranef", method, "value", ["component", "level"])
    close(ranef.loc[book.genes, theirs.columns].to_numpy(), theirs.to_numpy())
    np.testing.assert_allclose(adata.varm["lmm_de_loglik"][:, 0], book.lmer("fits", method)["loglik"], rtol=1e-9)
