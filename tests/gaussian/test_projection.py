"""The projected sums against R = I - X (X'X)⁻¹ X' written out, and what is refused."""

from __future__ import annotations

import dense_reference as dense
import numpy as np
import pytest

from flashmm_sc._arrays.sslmm import sslmm
from flashmm_sc._gaussian import projection as room
from flashmm_sc._gaussian.crossed.covariance import CrossedCovariance
from flashmm_sc._gaussian.dense.covariance import DenseCovariance
from flashmm_sc._gaussian.genes import Genes
from flashmm_sc._gaussian.projection import Projection
from flashmm_sc._gaussian.sparse.covariance import SparseCovariance
from flashmm_sc._stats.summary import SummaryStats


def project(stats: SummaryStats, **options: object) -> Projection:
    return Projection.of(stats.cross, stats.n, stats.d, stats.coef_names, stats.component_names, **options)


def refused(X, Z, d=None, Y=None) -> str:
    with pytest.raises(ValueError, match=r"\.$") as caught:
        project(sslmm(X, np.ones(len(X)) if Y is None else Y, Z, d))
    return str(caught.value)


@pytest.mark.parametrize("name", dense.DESIGNS)
def test_projection_is_that_of_the_definitions(name):
    X, Z, d, Y = dense.example(name)
    stats = sslmm(X, Y, Z, d)
    projection, XXi = project(stats), np.linalg.inv(X.T @ X)
    R = np.eye(len(X)) - X @ XXi @ X.T
    np.testing.assert_allclose(projection.XXi, XXi, rtol=1e-10)
    np.testing.assert_allclose(projection.logdet_XX, np.linalg.slogdet(X.T @ X)[1], rtol=1e-12)
    np.testing.assert_allclose(projection.A, Z.T @ X @ XXi, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(projection.cross.ZZ.toarray(), Z.T @ Z, atol=1e-12)
    for S, matrix in [(projection.S, Z.T @ R @ Z), (projection.Z, Z.T @ Z)]:
        unit = np.eye(Z.shape[1])
        np.testing.assert_allclose(S.restore(S.times(S.split(unit))), matrix, atol=1e-10)

    genes = Genes.of(projection, stats)
    np.testing.assert_allclose(genes.b, np.linalg.lstsq(X, Y, rcond=None)[0].T, rtol=1e-9)
    np.testing.assert_allclose(projection.S.restore(genes.r), (Z.T @ R @ Y).T, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(genes.yRy, np.einsum("ig,ij,jg->g", Y, R, Y), rtol=1e-10)
    np.testing.assert_allclose(genes.yy, (Y**2).sum(axis=0))


@pytest.mark.parametrize("name", dense.DESIGNS)
def test_positive_eigenvalues_of_each_component(name):
    X, Z, d, Y = dense.example(name)
    R = np.eye(len(X)) - X @ np.linalg.inv(X.T @ X) @ X.T
    spectra = project(sslmm(X, Y, Z, d)).spectra
    assert len(spectra) == len(d)
    for k, values in enumerate(spectra):
        own = Z[:, sum(d[:k]) : sum(d[: k + 1])]
        every = np.linalg.eigvalsh(own.T @ R @ own)
        np.testing.assert_allclose(values, every[every > 1e-9 * every[-1]], rtol=1e-8)


GROUP = np.arange(120) % 13
LEVELS, OUTER = np.eye(13)[GROUP], np.eye(5)[GROUP % 5]
CROSSED = np.eye(4)[np.random.default_rng(0).integers(0, 4, 120)]


@pytest.mark.parametrize(
    ("parts", "sparse", "expected"),
    [
        ([LEVELS], True, SparseCovariance),
        ([LEVELS], False, DenseCovariance),
        ([np.eye(12)[np.arange(120) % 12]], True, DenseCovariance),
        ([np.eye(6)[np.arange(120) % 6], CROSSED[:, :3]], True, DenseCovariance),
        ([np.eye(6)[np.arange(120) % 6], CROSSED], True, CrossedCovariance),
        ([LEVELS, OUTER], True, SparseCovariance),  # its levels lie in one of the others each
        ([LEVELS + np.roll(LEVELS, 1, axis=1), CROSSED], True, SparseCovariance),  # no factor
        ([LEVELS, CROSSED, np.eye(3)[np.arange(120) // 7 % 3]], True, SparseCovariance),  # more than 6 are left
    ],
)
def test_which_matrices_serve_a_design(parts, sparse, expected, monkeypatch):
    monkeypatch.setattr(room, "MOST_DENSE", (12, 3))
    monkeypatch.setattr(room, "FILLED", 0.3)
    monkeypatch.setattr(room, "MOST_LEFT", 6)
    stats = sslmm(np.ones((120, 1)), np.ones(120), np.hstack(parts), [part.shape[1] for part in parts])
    assert type(project(stats, sparse=sparse).S) is expected


def test_covariances_that_no_cell_tells_of():
    """Effects of two arms, which no level has both of; and more effects than levels to tell them from."""
    arm = GROUP % 2
    X, Z = np.column_stack([np.ones(120), arm]), np.hstack([LEVELS * arm[:, None], LEVELS * (1 - arm)[:, None]])
    with pytest.raises(ValueError, match="can't be estimated: no cells tell of it"):
        project(sslmm(X, np.ones(120), Z, [13, 13]), correlated=[(0, 1)])
    few = np.eye(2)[np.arange(120) % 2]
    x = np.random.default_rng(1).normal(size=(120, 1))
    with pytest.raises(ValueError, match="make them independent"):
        project(sslmm(X[:, :1], np.ones(120), np.hstack([few, few * x]), [2, 2]), correlated=[(0, 1)])


def test_containment_is_bounded_by_components_only():
    """Of correlated effects by their variances, not by their covariance."""
    x = np.random.default_rng(1).normal(size=120)
    Z = np.hstack([LEVELS, LEVELS * x[:, None]])
    X = np.column_stack([np.ones(120), x, GROUP % 2])
    cap = project(sslmm(X, np.ones(120), Z, [13, 13]), correlated=[(0, 1)]).containment(np.eye(3)[:, 1:])
    assert cap.shape == (3, 2)
    np.testing.assert_array_equal(cap[:, 1], [11, np.inf, np.inf])
    np.testing.assert_array_equal(cap[:, 0], [np.inf, 12, np.inf])


def test_some_of_the_genes():
    X, Z, d, Y = dense.example("nested")
    stats = sslmm(X, Y, Z, d)
    projection = project(stats)
    every, part = Genes.of(projection, stats), Genes.of(projection, stats, slice(1, 4))
    np.testing.assert_allclose(part.r.squares(), every.r.squares()[1:4], rtol=1e-12)
    for name in ("b", "yRy", "yy"):
        np.testing.assert_allclose(getattr(part, name), getattr(every, name)[1:4], rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(getattr(every[np.array([4, 0])], name), getattr(every, name)[[4, 0]])


@pytest.mark.parametrize(("small", "large"), [(1e-5, 1e6), (1e-100, 1e100)])
def test_scale_of_columns_makes_no_difference(small, large):
    X, Z, d, Y = dense.example("sam")
    scale = np.array([1, small, large, 1, small])
    plain, scaled = project(sslmm(X, Y, Z, d)), project(sslmm(X * scale, Y, Z, d))
    np.testing.assert_allclose(scaled.XXi * np.outer(scale, scale), plain.XXi, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(scaled.logdet_XX, plain.logdet_XX + 2 * np.log(scale).sum(), rtol=1e-12)
    np.testing.assert_allclose(scaled.S.lam, plain.S.lam, rtol=1e-9, atol=1e-12)


def test_genes_that_vary_no_more_than_rounding():
    X, Z, d, Y = dense.example("sam")
    Y = Y[:, :4]
    Y[:, 0], Y[:, 1], Y[:, 2] = 0, 3.7, X @ np.arange(1, 6)
    stats = sslmm(X, Y, Z, d)
    np.testing.assert_array_equal(
        Genes.of(project(stats), stats).vary(project(stats).rounding), [False, False, False, True]
    )


@pytest.mark.parametrize("mean", [1e4, 1e5])
def test_gene_in_the_span_of_a_covariate_far_from_zero(mean):
    """A covariate with a mean of 10,000 sd, as a year or a depth in cells of one batch may be."""
    rng = np.random.default_rng(0)
    X = np.column_stack([np.ones(60), mean + rng.normal(size=60)])
    stats = sslmm(X, X @ [1.0, 2.0], np.eye(6)[np.arange(60) % 6])
    assert not Genes.of(project(stats), stats).vary(project(stats).rounding).any()


def test_dependent_columns_are_named():
    X, Z, d, _ = dense.example("sam")
    X = np.column_stack([X[:, :3], X[:, 0] - X[:, 1], X[:, 3:], X.sum(axis=1), np.zeros(len(X))])
    message = refused(X, Z, d)
    assert "rank deficient" in message
    assert [name for name in ("x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8") if f"'{name}'" in message] == [
        "x4",
        "x7",
        "x8",
    ]


def test_no_residual_degrees_of_freedom():
    rng = np.random.default_rng(0)
    X, Z = rng.normal(size=(6, 6)), np.eye(2)[np.arange(6) % 2]
    assert "6 cells leave no residual degrees of freedom for 6 fixed columns" in refused(X, Z)
    assert project(sslmm(X[:, :4], np.ones(6), Z)).p == 4


@pytest.mark.parametrize("k", [0, 1])
def test_component_within_the_fixed_columns_is_named(k):
    """Fixed effects of the batches, and the same batches at random."""
    X, Z, d, _ = dense.example("crossed")
    within = Z[:, sum(d[:k]) : sum(d[: k + 1])]
    stats = sslmm(np.column_stack([within, np.arange(len(X)) % 3 == 0]), np.ones(len(X)), Z, d)
    stats = SummaryStats(**{**vars(stats), "component_names": ["sam", "batch"]})
    with pytest.raises(ValueError, match=f"component '{['sam', 'batch'][k]}' lies within the fixed columns"):
        project(stats)


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (lambda Z: [Z, Z], ["var1", "var2"]),
        (lambda Z: [Z[:, ::-1] * 2.5, Z], ["var1", "var2"]),
        (lambda Z: [Z, np.eye(len(Z))], ["var2", "residual"]),
    ],
    ids=["the same component twice", "the same levels, scaled", "a level per cell"],
)
def test_variances_that_cannot_be_told_apart(build, names):
    X, sam, _, Y = dense.example("sam")
    parts = build(sam)
    message = refused(X, np.hstack(parts), [part.shape[1] for part in parts], Y)
    assert "told apart" in message
    assert [name for name in ("var1", "var2", "residual") if f"'{name}'" in message] == names
