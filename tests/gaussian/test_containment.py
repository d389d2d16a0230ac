"""Containment degrees of freedom where designs are exactly balanced, covariates far from zero, or Z is anything."""

from __future__ import annotations

from itertools import product

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import flashmm_sc as fsc
from flashmm_sc._arrays.sslmm import sslmm
from flashmm_sc._gaussian import projection as room
from flashmm_sc._gaussian.projection import Projection
from flashmm_sc._gaussian.sparse.covariance import SparseCovariance
from flashmm_sc._inference.prior import grid

ROOMS = [False, True]


def project(X, parts, sparse=False) -> Projection:
    """With dense matrices, or in the room for thousands of levels."""
    stats = sslmm(X, np.ones(len(X)), np.hstack(parts), [Z.shape[1] for Z in parts])
    names = stats.coef_names, stats.component_names
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "MOST_DENSE", (0, 0))
        patch.setattr(room, "FILLED", 1.0)
        projection = Projection.of(stats.cross, stats.n, stats.d, *names, sparse=sparse)
        assert isinstance(projection.S, SparseCovariance) == sparse
    return projection


def reference(X, parts, L) -> np.ndarray:
    """Ranks of X, centred and scaled, and Z_k: rank [X Z_k] - p where c isn't in the row space of X within levels."""
    rank = lambda matrix: np.linalg.matrix_rank(matrix, tol=1e-7)
    out = []
    for Z in parts:
        within = X - Z @ (np.linalg.pinv(Z) @ X)
        estimable = [rank(np.vstack([within, c])) == rank(within) for c in L.T]
        out.append(np.where(estimable, np.inf, rank(np.hstack([X, Z])) - X.shape[1]))
    return np.array(out)


def dummies(*codes) -> np.ndarray:
    """Indicators of the levels of a factor, or of combinations."""
    return pd.get_dummies(pd.Series(list(zip(*codes, strict=True))).astype(str)).to_numpy(float)


def treatment(*codes) -> np.ndarray:
    """Indicators of all levels but the first."""
    return dummies(*codes)[:, 1:]


# ----- designs that are exactly balanced

SHAPES = list(product((4, 6, 8, 10, 12), (2, 3, 4), (5, 10, 25)))


@pytest.mark.parametrize("second", [False, True], ids=["one factor", "a second factor"])
@pytest.mark.parametrize("sparse", ROOMS)
def test_balanced_designs(sparse, second):
    """Donors × treatments × cells, the second factor halving the donors; 45 shapes."""
    for donors, treatments, cells in SHAPES:
        donor, trt, _ = np.indices((donors, treatments, cells)).reshape(3, -1)
        X = np.column_stack([np.ones(donor.size), treatment(trt), *([donor % 2] if second else [])])
        parts = [dummies(donor), *([dummies(donor, trt)] if second else [])]
        L = np.column_stack([np.eye(X.shape[1]), np.ones(X.shape[1])])
        ours = project(X, parts, sparse).containment(L)
        np.testing.assert_array_equal(ours, reference(X, parts, L))


def simulated(X, seed=0, m=60) -> np.ndarray:
    """Responses without any random effect: components are zero in half of the genes."""
    return np.random.default_rng(seed).normal(size=(len(X), m))


def balanced() -> tuple[np.ndarray, np.ndarray]:
    """8 donors × 2 treatments × 25 cells."""
    donor, trt, _ = np.indices((8, 2, 25)).reshape(3, -1)
    return donor, trt


@pytest.mark.parametrize("duplicated", [0, 1])
@pytest.mark.parametrize("sparse", ROOMS)
def test_boundary_genes_of_a_balanced_design_have_the_df_of_the_cells(sparse, duplicated, monkeypatch):
    """... in effects within donors, and those of the donors in effects between."""
    donor, trt = (np.append(code, code[:duplicated]) for code in balanced())
    X = pd.DataFrame({"one": 1.0, "trt": trt, "age": donor % 2})
    if sparse:
        monkeypatch.setattr(room, "MOST_DENSE", (0, 0))
        monkeypatch.setattr(room, "FILLED", 1.0)
    fit = fsc.lmmfit(simulated(X), X, dummies(donor), nonnegative=True, ddf="satterthwaite")
    assert isinstance(fit.projection.S, SparseCovariance) == sparse
    zero = fit.df[fit.status == "boundary"]
    assert len(zero) > 10
    np.testing.assert_allclose(zero["trt"], 397 + duplicated, rtol=1e-8)
    np.testing.assert_array_equal(zero[["one", "age"]], 6)
    joint = fsc.lmmtest(fit, np.eye(3)[:, [1]], joint=True)
    np.testing.assert_allclose(joint["df"][(fit.status == "boundary").to_numpy()], 397 + duplicated, rtol=1e-8)


def test_boundary_genes_of_a_balanced_design_of_anndata():
    donor, trt = balanced()
    obs = pd.DataFrame({"donor": donor.astype(str), "trt": trt.astype(str)}, index=np.arange(400).astype(str))
    adata = ad.AnnData(simulated(obs), obs=obs.astype("category"))
    fsc.tl.lmm_de(adata, "~ trt", "donor", nonnegative=True, moderate=False, ddf="satterthwaite", transform=None)
    zero = adata.varm["lmm_de_theta"][:, 0] == 0
    assert zero.sum() > 10
    np.testing.assert_allclose(adata.varm["lmm_de_df"][zero], np.tile([7, 398], (zero.sum(), 1)), rtol=1e-8)


def sleepstudy():
    """Reaction ~ Days + (Days || Subject)."""
    subject, day = np.indices((18, 10)).reshape(2, -1)
    X = np.column_stack([np.ones(180), day])
    return X, [dummies(subject), dummies(subject) * day[:, None]], [[17, np.inf], [np.inf, 17]]


def cake():
    """angle ~ recipe * temperature + (1 | replicate) + (1 | recipe:replicate)."""
    replicate, recipe, temperature = np.indices((15, 3, 6)).reshape(3, -1)
    R, T = treatment(recipe), treatment(temperature)
    X = np.column_stack([np.ones(270), R, T, *(r * t for r, t in product(R.T, T.T))])
    none = [np.inf] * 15
    return X, [dummies(replicate), dummies(recipe, replicate)], [[14, np.inf, np.inf, *none], [42, 42, 42, *none]]


def oats():
    """yield ~ variety + nitro + (1 | block / variety)."""
    block, variety, nitro = np.indices((6, 3, 4)).reshape(3, -1)
    X = np.column_stack([np.ones(72), treatment(variety), 0.2 * nitro])
    return X, [dummies(block), dummies(block, variety)], [[5, np.inf, np.inf, np.inf], [15, 15, 15, np.inf]]


def ergo_stool():
    """effort ~ Type + (1 | Subject)."""
    subject, stool = np.indices((9, 4)).reshape(2, -1)
    return np.column_stack([np.ones(36), treatment(stool)]), [dummies(subject)], [[8, np.inf, np.inf, np.inf]]


def assay():
    """logDens ~ sample * dilut + (1 | Block) + (1 | Block:sample) + (1 | Block:dilut)."""
    block, sample, dilut = np.indices((2, 6, 5)).reshape(3, -1)
    S, D = treatment(sample), treatment(dilut)
    X = np.column_stack([np.ones(60), S, D, *(s * d for s, d in product(S.T, D.T))])
    none = lambda size: [np.inf] * size
    caps = [[1, *none(29)], [6] * 6 + none(24), [5, *none(5)] + [5] * 4 + none(20)]
    return X, [dummies(block), dummies(block, sample), dummies(block, dilut)], caps


@pytest.mark.parametrize("sparse", ROOMS)
@pytest.mark.parametrize("design", [sleepstudy, cake, oats, ergo_stool, assay])
def test_textbook_designs(design, sparse, monkeypatch):
    X, parts, caps = design()
    np.testing.assert_array_equal(reference(X, parts, np.eye(X.shape[1])), caps)
    np.testing.assert_array_equal(project(X, parts, sparse).containment(np.eye(X.shape[1])), caps)
    if sparse:
        monkeypatch.setattr(room, "MOST_DENSE", (0, 0))
        monkeypatch.setattr(room, "FILLED", 1.0)
    d = [Z.shape[1] for Z in parts]
    fit = fsc.lmmfit(simulated(X), X, np.hstack(parts), d, nonnegative=True, ddf="satterthwaite")
    every = (fit.theta.iloc[:, :-1] == 0).all(axis=1)
    assert every.any()
    expected = np.minimum(np.min(caps, axis=0), len(X) - X.shape[1])
    np.testing.assert_allclose(fit.df[every], np.tile(expected, (every.sum(), 1)), rtol=1e-6)


# ----- covariates far from zero

COVARIATES = {
    "year": lambda rng, size: rng.integers(2019, 2024, size),
    "month": lambda rng, size: rng.integers(2019, 2024, size) * 100 + rng.integers(1, 13, size),
    "unix time": lambda rng, size: np.floor(rng.uniform(1.650e9, 1.652e9, size)),
    "date": lambda rng, size: 2000 + rng.uniform(0, 0.1, size),
}


def far(kind, between, seed):
    """A design with a covariate as it is and centred; columns of L for the one and the other."""
    rng = np.random.default_rng(seed)
    donor = np.append(np.arange(8), rng.integers(0, 8, 592))
    raw = COVARIATES[kind](rng, 8)[donor] if between else COVARIATES[kind](rng, 600)
    mean, sd = raw.mean(), raw.std()
    X, centred = (np.column_stack([np.ones(600), donor % 2, x]) for x in (raw, (raw - mean) / sd))
    L = np.column_stack([np.eye(3), [0, 1, 1]])
    back = np.array([[1, 0, 0], [0, 1, 0], [-mean / sd, 0, 1 / sd]])  # β of the covariate as it is, from that centred
    return X, centred, [dummies(donor)], L, back @ L


@pytest.mark.parametrize("sparse", ROOMS)
@pytest.mark.parametrize("between", [True, False], ids=["between donors", "within donors"])
@pytest.mark.parametrize("kind", COVARIATES)
def test_covariate_far_from_zero(kind, between, sparse):
    for seed in range(20):
        X, centred, parts, L, L_centred = far(kind, between, seed)
        theirs = project(centred, parts, sparse)
        ours = project(X, parts, sparse)
        np.testing.assert_array_equal(ours.containment(L), reference(centred, parts, L_centred))
        np.testing.assert_array_equal(ours.containment(L), theirs.containment(L_centred))
        assert ours.ranks == theirs.ranks == [5 if between else 6]
        if not sparse:
            np.testing.assert_array_equal(ours.S.lam == 0, np.arange(8) < 8 - ours.ranks[0])
            np.testing.assert_allclose(grid(ours), grid(theirs), rtol=1e-6)


def test_boundary_genes_with_a_year():
    X, centred, parts, *_ = far("year", True, 0)
    Y = simulated(X, m=40)
    fits = [fsc.lmmfit(Y, x, parts[0], nonnegative=True, ddf="satterthwaite") for x in (X, centred)]
    assert (fits[0].status == "boundary").sum() > 5
    np.testing.assert_array_equal(fits[0].status, fits[1].status)
    np.testing.assert_array_equal(fits[0].df[fits[0].status == "boundary"], 5)
    np.testing.assert_allclose(fits[0].df[["x2", "x3"]], fits[1].df[["x2", "x3"]], rtol=1e-6)


@pytest.mark.parametrize("sparse", ROOMS)
def test_random_slope_of_a_covariate_far_from_zero(sparse):
    """The year itself is constant within its slopes; what is constant within donors isn't."""
    donor, year = np.random.default_rng(0).integers(0, 8, 600), np.tile(np.arange(2019, 2024), 120)
    X = np.column_stack([np.ones(600), donor % 2, year])
    ours = project(X, [dummies(donor), dummies(donor) * year[:, None]], sparse)
    np.testing.assert_array_equal(ours.containment(np.eye(3)), [[6, 6, np.inf], [np.inf, np.inf, 7]])


@pytest.mark.parametrize("sparse", ROOMS)
def test_component_without_cells(sparse):
    X, _, parts, *_ = far("year", True, 0)
    with pytest.raises(ValueError, match="'var2' lies within the fixed columns"):
        project(X, [*parts, np.zeros((600, 2))], sparse)


@pytest.mark.parametrize("sparse", ROOMS)
def test_component_within_columns_far_from_zero(sparse):
    """Three donors, an intercept and two dates of these."""
    donor = np.arange(300) % 3
    X = np.column_stack([np.ones(300), np.array([20220101, 20220304, 20220511])[donor], (donor == 2) + 2020.0])
    with pytest.raises(ValueError, match="lies within the fixed columns"):
        project(X, [dummies(donor), dummies(np.arange(300) % 7)], sparse)


# ----- Z may be anything


@pytest.mark.parametrize("sparse", ROOMS)
def test_random_columns_that_are_empty_overlap_or_depend_on_each_other(sparse):
    rng = np.random.default_rng(0)
    donor, cls = rng.integers(0, 9, 500), rng.integers(0, 3, 500)
    X = np.column_stack([np.ones(500), donor % 2, cls == 0, donor == 0, rng.normal(size=500)])
    D = dummies(donor)
    spread = np.hstack([D @ rng.normal(size=(9, 12)), np.zeros((500, 2))])
    pairs = np.hstack([D, D * (cls == 1)[:, None], D[:, :3] + D[:, 3:6], np.zeros((500, 1))])
    L = np.column_stack([np.eye(5), rng.normal(size=(5, 2))])
    for Z in (np.hstack([np.zeros((500, 1)), D]), spread, pairs):
        np.testing.assert_array_equal(project(X, [Z], sparse).containment(L), reference(X, [Z], L))


def test_sums_over_cells_are_exact_where_cells_share_values():
    """All roundings of a running sum go one way there."""
    rng = np.random.default_rng(0)
    donor = rng.integers(0, 8, 300_000)
    x = rng.uniform(2000, 2001, 8)
    Z = sp.csr_array((np.ones(donor.size), (np.arange(donor.size), donor)))
    stats = sslmm(np.column_stack([np.ones(donor.size), x[donor]]), np.ones(donor.size), Z)
    size, wide = np.bincount(donor).astype(np.longdouble), x.astype(np.longdouble)
    np.testing.assert_allclose(stats.XX[1], [float(size @ wide), float(size @ wide**2)], rtol=1e-15)
    np.testing.assert_allclose(stats.ZX[:, 1], (size * wide).astype(float), rtol=1e-15)
