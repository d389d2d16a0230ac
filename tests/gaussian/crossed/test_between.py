"""Values between shared points against factorisations of each gene, and the fits that come of them."""

from __future__ import annotations

from dataclasses import replace

import dense_reference as dense
import numpy as np
import pytest
from same_fits import FITS, check_fits

from flashmm_sc._arrays.sslmm import sslmm
from flashmm_sc._gaussian import projection
from flashmm_sc._gaussian.crossed import covariance
from flashmm_sc._gaussian.crossed.between import interpolates
from flashmm_sc._gaussian.crossed.covariance import CrossedCovariance
from flashmm_sc._gaussian.gram import Gram
from flashmm_sc._gaussian.projection import Projection
from flashmm_sc._gaussian.sparse.covariance import SparseCovariance
from flashmm_sc._gaussian.sparse.pattern import Pattern

M = 60
DESIGNS = ("crossed", "nested", "slope")


@pytest.fixture(params=[(name, method) for name in DESIGNS for method in ("REML", "ML")], ids=str)
def rooms(request):
    """Z'RZ or Z'Z with and without points, and the columns of A."""
    name, method = request.param
    X, Z, d, Y = dense.example(name)
    stats = sslmm(X, Y, Z, d)
    whole = Projection.of(stats.cross, stats.n, stats.d, stats.coef_names, stats.component_names)
    cross = stats.cross if method == "REML" else stats.cross.without_fixed()
    rank = whole.ranks if method == "REML" else [component.levels for component in whole.within]
    S = CrossedCovariance.of(Gram.of(cross, d), rank).prepared(10**6, 1)
    return S, replace(S, between=None), whole.A if method == "REML" else np.empty((len(whole.A), 0))


def ratios(S):
    """Over the whole range, some zero."""
    rng, first = np.random.default_rng(1), S.largest
    gamma = np.empty((M, 2))
    gamma[:, first] = np.expm1(rng.uniform(0, 8.4, M)) / S.size[-1]
    gamma[:, 1 - first] = 10 ** rng.uniform(-4, 2, M)
    gamma[:5], gamma[5:10, 0], gamma[10:15, 1] = 0, 0, 0
    assert S.between.knows(gamma).all()
    return gamma


def close(ours, theirs, rtol=1e-8):
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=1e-9 * np.abs(theirs).max())


def test_determinants(rooms):
    S, exact, _ = rooms
    gamma = ratios(S)
    logdet, trace, norm = S.between.determinant(gamma)
    factor = exact.factor(gamma)
    close(logdet, factor.logdet)
    close(trace, factor.traces()[0])
    close(norm, factor.traces()[1], rtol=1e-6)
    close(S.factor(gamma).traces()[0], trace)


def test_forms_of_genes(rooms):
    S, exact, _ = rooms
    gamma = ratios(S)
    r = S.split(S.restore(S.times(S.split(np.random.default_rng(2).normal(size=(S.order.size, M))))).T)
    factor, forms = exact.factor(gamma), S.between.forms(r)
    v, form = factor.solve(r)
    value, v_sq, quad = forms(gamma)
    close(value, form)
    close(v_sq, v.squares())
    close(quad, factor.products(v), rtol=1e-6)
    close(forms.shared(gamma), factor.shared_forms(r))
    some = np.array([3, 1, 40])
    np.testing.assert_allclose(forms[some](gamma[some])[1], v_sq[some], rtol=1e-12)


def test_vectors_that_genes_share(rooms):
    S, exact, A = rooms
    gamma, L = ratios(S), np.random.default_rng(3).normal(size=(A.shape[1], 4))
    gamma[-3:, S.largest] = 1e6  # out of range
    if not A.shape[1]:
        return
    x, theirs = S.shared(A, L), exact.factor(gamma)
    for one, other in zip(
        S.factor(gamma).shared_quadratics(x), theirs.shared_quadratics(exact.shared(A, L)), strict=True
    ):
        close(one, other)
    gamma = gamma[:-3]
    r = S.split(S.restore(S.times(S.split(np.random.default_rng(4).normal(size=(S.order.size, len(gamma)))))).T)
    v, _ = exact.factor(gamma).solve(r)
    close(S.between.forms(r).dot(x.forms, gamma), v.scaled(gamma).dot(x.vectors))


def test_two_components_or_three_of_which_one_is_a_factor():
    assert interpolates(gram("crossed"))
    assert interpolates(gram("three"))
    assert not interpolates(gram("sam"))


def gram(name):
    X, Z, d, Y = dense.example(name)
    return Gram.of(sslmm(X, Y, Z, d).cross, d)


@pytest.mark.parametrize("name", [*DESIGNS, "three"])
@FITS
def test_fits_are_those_of_factorisations(name, options, monkeypatch):
    def enter():
        monkeypatch.setattr(projection, "MOST_DENSE", (0, 0))
        monkeypatch.setattr(projection, "FILLED", 2.0)
        for module in (projection, covariance):
            monkeypatch.setattr(module, "MANY", 1)
        monkeypatch.setattr(Pattern, "pairs", 10**9)

    check_fits(name, options, enter, CrossedCovariance)


def test_few_genes_are_factorised_sparsely(monkeypatch):
    monkeypatch.setattr(projection, "MOST_DENSE", (0, 0))
    monkeypatch.setattr(projection, "FILLED", 2.0)
    X, Z, d, Y = dense.example("nested")
    stats = sslmm(X, Y, Z, d)
    whole = Projection.of(stats.cross, stats.n, d, stats.coef_names, stats.component_names, sparse=True)
    kinds = [{type(S.S), type(S.prepared_Z(n, 1))} for n in (99, 10_000) for S in [whole.prepared(n, 1, traces=False)]]
    assert kinds == [{SparseCovariance}, {CrossedCovariance}]
    monkeypatch.setattr(Pattern, "pairs", -(10**9))  # factorised in no time
    assert isinstance(whole.prepared(10_000, 1, traces=False).S, SparseCovariance)
