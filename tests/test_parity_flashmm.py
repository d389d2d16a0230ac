"""The numbers of FLASHMM 1.3.0, of lme4 under lmerTest, and of the Python package FLASH-MM.

Degrees of freedom of lmerTest and pbkrtest are in inference/test_df.py and test_f_tests.py, contrasts in
arrays/test_lmmtest.py.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import anndata as ad
import dense_reference as dense
import flash_mm
import numpy as np
import pandas as pd
import pytest
import reference_data as rd

import flashmm_sc as fsc
from flashmm_sc._gaussian.genes import Genes
from flashmm_sc._gaussian.profile import Objective
from flashmm_sc._gaussian.solver import optimise

METHODS = ["REML", "ML"]
PAIRS = list(product(rd.random_of, METHODS))


designs_of = cache(lambda design: rd.designs(rd.FIXED, rd.random_of[design]))
log_counts = cache(rd.log_counts)


@cache
def fit_of(design: str, method: str, nonnegative: bool = False) -> fsc.LMMFit:
    model, X, Z = designs_of(design)
    return fsc.lmmfit(log_counts(), X, Z, model.design.random.d, method=method, nonnegative=nonnegative)


# ---- FLASHMM ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("design", "method"), PAIRS)
def test_arrays_give_the_numbers_of_flashmm(design, method):
    theirs, ours = rd.load(design, method), fit_of(design, method)
    use = rd.converged(theirs)
    assert use.sum() >= 77
    assert (ours.status[use] == "ok").all()
    for name in ("coef", "se", "t", "p", "theta", "theta_se"):
        frame = getattr(ours, name)
        assert list(frame.index) == list(theirs[name].index)
        np.testing.assert_allclose(frame[use], theirs[name][use], rtol=1e-6)
    shift = ours.loglik[use] - theirs["loglik"]["loglik"][use]
    np.testing.assert_allclose(shift, shift.mean(), atol=1e-7)
    if method == "REML":
        np.testing.assert_allclose(ours.ranef()[use], theirs["ranef"][use], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("design", "method"), PAIRS)
def test_adata_give_the_numbers_of_flashmm(design, method):
    theirs = rd.load(design, method)
    use = rd.converged(theirs).to_numpy()
    obs, genes = rd.obs(), rd.genes()
    adata = ad.AnnData(rd.counts(), obs, pd.DataFrame(index=genes))
    with pytest.warns(fsc.FlashmmWarning, match="residual"):
        fsc.tl.lmm_de(
            adata,
            rd.FIXED,
            rd.random_of[design],
            transform="log2p1",
            method=method,
            ddf="residual",
            nonnegative=False,
            ranef=method == "REML",
        )
    names = {"coef": "coef", "se": "se", "t": "t", "p": "pval", "theta": "theta", "theta_se": "theta_se"}
    for theirs_name, ours_name in names.items():
        table = theirs[theirs_name]
        axis = "theta_names" if theirs_name.startswith("theta") else "coef_names"
        assert list(adata.uns["lmm_de"][axis]) == list(table.columns)
        np.testing.assert_allclose(adata.varm[f"lmm_de_{ours_name}"][use], table[use], rtol=1e-6)
    if method == "REML":
        levels = list(adata.uns["lmm_de"]["ranef_names"])
        assert sorted(levels) == sorted(theirs["ranef"].columns)
        np.testing.assert_allclose(adata.varm["lmm_de_ranef"][use], theirs["ranef"][levels][use], rtol=1e-6, atol=1e-8)


LEFT = {(design, method): rd.load(design, method)["grad"].abs().max(axis=1) > 1e-6 for design, method in PAIRS}
LEFT = [(design, method, gene) for (design, method), left in LEFT.items() for gene in left.index[left]]


def test_genes_that_flashmm_left():
    """What becomes of them here: an optimum, one where V is indefinite, or no optimum at all."""
    status = [fit_of(design, method).status[gene] for design, method, gene in LEFT]
    assert pd.Series(status).value_counts().to_dict() == {"not converged": 6, "ok": 4, "indefinite": 1}


@pytest.mark.parametrize(("design", "method", "gene"), LEFT)
def test_genes_that_flashmm_left_have_an_optimum_here_or_none_at_all(design, method, gene):
    fit, (model, _, _) = fit_of(design, method), designs_of(design)
    objective = Objective.of(model.projection, method)
    data = Genes.of(model.projection, fit.stats, slice(*(fit.coef.index.get_loc(gene) + np.array([0, 1]))))
    if fit.status[gene] != "not converged":
        theta = fit.theta.loc[gene].to_numpy()
        assert (fit.grad.loc[gene].abs() * fit.theta_se.loc[gene]).max() < 1e-6
        rng, gamma = np.random.default_rng(0), theta[:-1] / theta[-1]
        spread = fit.theta_se.loc[gene].to_numpy()[:-1] / theta[-1]
        near = gamma + rng.normal(size=(300, len(gamma))) * spread * 10 ** rng.uniform(-3, -1, (300, 1))
        assert (objective(data[np.zeros(300, int)], near).f >= objective(data, gamma[None]).f - 1e-9).all()
        return
    # On the last steps to where the optimiser gave up, f falls by log 10 with each tenth of the distance left.
    end = optimise(objective, data, nonnegative=False, max_iter=100, tol=1e-16).point.gamma
    left = 10.0 ** -np.arange(5, 10)
    f = objective(data[np.zeros(len(left), int)], (1 - left)[:, None] * end).f
    assert (np.diff(f) < -0.9 * np.log(10)).all()
    bounded = optimise(objective, data, nonnegative=True, max_iter=100, tol=1e-16).point.f
    assert f[-1] < bounded - 10
    S = model.cross.ZZ.toarray()
    S = S - model.projection.A @ model.cross.ZX.T if method == "REML" else S
    eigenvalues = np.linalg.eigvals(np.eye(len(S)) + S * np.repeat(end[0], fit.stats.d)).real
    assert np.abs(eigenvalues).min() < 1e-9


# ---- lme4 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("design", "singular"),
    [("sam", False), ("sam_batch", False), ("sam_batch", True), ("sam_samcls", False), ("sam_samcls", True)],
)
def test_bounded_components_are_those_of_lme4(design, singular):
    """Its optimiser uses no derivatives, so its theta is good to 1e-4 or so; ours must not have the lower likelihood."""
    table = rd.lmertest(design).query("singular == @singular")
    assert len(table)
    fit = fit_of(design, "REML", nonnegative=True)
    genes = table.drop_duplicates("gene").set_index("gene")
    assert (fit.status[genes.index] == ("boundary" if singular else "ok")).all()
    np.testing.assert_allclose(fit.loglik[genes.index], genes["reml"], rtol=1e-9)
    assert (fit.loglik[genes.index] >= genes["reml"] - 1e-9).all()
    theta = genes.filter(like="theta|").rename(columns=lambda name: name.removeprefix("theta|"))
    np.testing.assert_allclose(fit.theta.loc[genes.index], theta, rtol=1e-4, atol=1e-7)
    for name in ("coef", "se"):
        ours = [getattr(fit, name).loc[gene, coef] for gene, coef in zip(table["gene"], table["name"], strict=True)]
        np.testing.assert_allclose(ours, table[name], rtol=1e-4, atol=1e-6)


# ---- the Python package FLASH-MM -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "method"), list(product(dense.DESIGNS, METHODS)))
@pytest.mark.filterwarnings("ignore::RuntimeWarning:flash_mm")  # where its V is not positive definite
def test_numbers_of_the_python_package(name, method):
    """Where it converges to a positive definite V.

    Left out: its p-values, which are twice what they should be, and the standard errors of theta with several components
    (it takes Σ M_ij² for tr M², but M is not symmetric).
    """
    X, Z, d, Y = dense.example(name, m=20, n=150)
    theirs = flash_mm.lmmfit(Y.T, X, Z, d=list(d), method=method, max_iter=200, epsilon=1e-9, output_RE=True)
    ours = fsc.lmmfit(Y, X, Z, d, method=method)
    ratios = theirs["theta"].to_numpy()[:-1] / theirs["theta"].to_numpy()[-1]
    definite = [np.linalg.eigvals(np.eye(sum(d)) + Z.T @ Z * np.repeat(g, d)).real.min() > 0 for g in ratios.T]
    use = (theirs["dlogL"].abs().max() < 1e-6).to_numpy() & definite
    assert use.sum() >= 10
    assert (ours.status[use] == "ok").all()
    keys = {"coef": "coef", "se": "se", "t": "t", "theta": "theta"} | ({"theta_se": "se_theta"} if len(d) == 1 else {})
    for field, key in keys.items():
        np.testing.assert_allclose(getattr(ours, field)[use], theirs[key].T[use], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(ours.ranef()[use], theirs["RE"].T[use], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(ours.cov()[use], np.moveaxis(theirs["cov"], 2, 0)[use], rtol=1e-6, atol=1e-9)
