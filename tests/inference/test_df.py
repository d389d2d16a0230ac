from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import reference_data as rd

import flashmm_sc as fsc
from flashmm_sc._gaussian.estimate import STATUS
from flashmm_sc._gaussian.information import inverse_on
from flashmm_sc._inference import t_tests
from flashmm_sc._inference.df import Combinations, capped, satterthwaite, with_df

DESIGNS = ["sam", "sam_batch", "sam_samcls"]


def fit(design: str, ddf: str, genes: int = 15, **options: object) -> fsc.LMMFit:
    """Fit the genes that lmerTest was run on, bounded as in lme4."""
    model, X, Z = rd.designs(rd.FIXED, rd.random_of[design])
    Y = rd.log_counts().iloc[:, :genes]
    return fsc.lmmfit(Y, X, Z, model.design.random.d, **{"ddf": ddf, "nonnegative": True, **options})


def aligned(frame: pd.DataFrame, table: pd.DataFrame) -> np.ndarray:
    return np.array([frame.loc[gene, name] for gene, name in zip(table["gene"], table["name"], strict=True)])


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize(
    ("ddf", "suffix", "rtol"), [("satterthwaite", "satterthwaite", 1e-3), ("kenward-roger", "kr", 1e-4)]
)
def test_df_and_se_of_lmertest_and_pbkrtest(design, ddf, suffix, rtol):
    table = rd.lmertest(design).query("singular == False")
    assert len(table)
    ours = fit(design, ddf)
    np.testing.assert_allclose(aligned(ours.df, table), table[f"df_{suffix}"], rtol=rtol)
    np.testing.assert_allclose(aligned(ours.se, table), table["se_kr" if suffix == "kr" else "se"], rtol=1e-4)
    np.testing.assert_allclose(aligned(ours.p, table), table[f"p_{suffix}"], rtol=1e-3)


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
@pytest.mark.parametrize("design", ["sam_batch", "sam_samcls"])
def test_at_the_boundary_df_are_those_of_lmertest_bounded_by_containment(design, ddf):
    table = rd.lmertest(design).query("singular == True")
    assert len(table)
    ours = fit(design, ddf)
    theirs = table["df_satterthwaite" if ddf == "satterthwaite" else "df_kr"].to_numpy()
    cap = Combinations.of(ours.projection, np.eye(7)).cap.min(axis=0)
    zero = ours.theta.iloc[:, :-1] == 0
    position = {name: j for j, name in enumerate(ours.coef.columns)}
    bound = []
    for gene, name in zip(table["gene"], table["name"], strict=True):
        caps = Combinations.of(ours.projection, np.eye(7)[:, [position[name]]]).cap[zero.loc[gene].to_numpy(), 0]
        bound.append(caps.min(initial=np.inf))
    assert np.isfinite(cap).any()
    np.testing.assert_allclose(aligned(ours.df, table), np.minimum(theirs, bound), rtol=1e-3)


def test_containment_counts_levels_minus_columns_constant_within_them():
    rng = np.random.default_rng(0)
    sample = np.repeat(np.arange(8), 20)
    within, treated, age = rng.normal(size=160), (sample % 2).astype(float), rng.normal(size=8)[sample]
    X = np.column_stack([np.ones(160), treated, age, within])
    ours = fsc.lmmfit(rng.normal(size=(160, 3)), X, np.eye(8)[sample], nonnegative=True)
    cap = ours.projection.containment(np.column_stack([np.eye(4), [0, 1, 0, 1]]))
    np.testing.assert_array_equal(cap, [[5, 5, 5, np.inf, 5]])


def test_zero_component_gets_containment_df_where_satterthwaite_would_jump_to_the_cells():
    rng = np.random.default_rng(1)
    sample = np.repeat(np.arange(6), 50)
    X = pd.DataFrame({"one": np.ones(300), "trt": (sample % 2).astype(float), "x": rng.normal(size=300)})
    ours = fsc.lmmfit(rng.normal(size=(300, 40)), X, np.eye(6)[sample], nonnegative=True, ddf="satterthwaite")
    zero = (ours.status == "boundary").to_numpy()
    assert zero.any()
    assert not zero.all()
    np.testing.assert_array_equal(ours.df.loc[zero, "trt"], 4)
    np.testing.assert_allclose(ours.df.loc[zero, "x"], 297)


def test_without_the_bound_df_at_zero_are_those_of_the_cells(monkeypatch):
    monkeypatch.setattr(t_tests, "capped", lambda df, theta, cap: df)
    rng = np.random.default_rng(1)
    sample = np.repeat(np.arange(6), 50)
    X = np.column_stack([np.ones(300), sample % 2])
    ours = fsc.lmmfit(rng.normal(size=(300, 40)), X, np.eye(6)[sample], nonnegative=True, ddf="satterthwaite")
    np.testing.assert_allclose(ours.df[ours.status == "boundary"], 298)


def test_kenward_roger_needs_reml():
    with pytest.raises(ValueError, match="REML"):
        fit("sam", "kenward-roger", genes=2, method="ML")
    for ddf in ("residual", "satterthwaite"):
        assert fit("sam", ddf, genes=2, method="ML").df.notna().all(axis=None)


def test_kenward_roger_widens_standard_errors():
    wide, plain = fit("sam_batch", "kenward-roger"), fit("sam_batch", "satterthwaite")
    assert (wide.se.to_numpy() >= plain.se.to_numpy() * (1 - 1e-12)).all()


def test_kenward_roger_leaves_alone_what_no_component_touches():
    """What differs within samples only, and is balanced there: nothing is added but rounding, which takes nothing away."""
    rng = np.random.default_rng(0)
    sample = np.repeat(np.arange(8), [4, 6, 10, 12, 20, 8, 14, 2])
    X = np.column_stack([np.ones(76), sample % 2, np.tile([-1.0, 1.0], 38)])
    Y = rng.normal(size=(76, 20)) + np.eye(8)[sample] @ rng.normal(size=(8, 20))
    wide, plain = (fsc.lmmfit(Y, X, np.eye(8)[sample], ddf=ddf).se for ddf in ("kenward-roger", "satterthwaite"))
    np.testing.assert_allclose(wide["x3"], plain["x3"], rtol=1e-12)
    assert (wide["x2"] > plain["x2"]).all()


def test_missing_df_stay_missing_beside_genes_at_the_boundary():
    theta = np.array([[0.0, 1.0], [0.5, 1.0], [0.5, 1.0], [0.0, 1.0]])
    df = np.array([[100.0], [np.nan], [30.0], [np.nan]])
    np.testing.assert_array_equal(capped(df, theta, np.array([[6.0]])), [[6], [np.nan], [30], [6]])
    np.testing.assert_array_equal(capped(df, theta, np.array([[np.inf]])), df)


def test_what_has_no_standard_error_has_no_df_and_its_status_says_so():
    """Effects of single cells, next to which nothing is left for the residual: rounding takes Kenward and Roger's term."""
    rng = np.random.default_rng(0)
    sample = np.repeat(np.arange(12), 10)
    samples, cells = np.eye(12)[sample], np.eye(120) * (1 + 0.01 * rng.normal(size=120))
    X = np.column_stack([np.ones(120), sample % 2, rng.normal(size=120)])
    Y = rng.normal(size=(120, 60)) + samples @ rng.normal(size=(12, 60)) * 0.2
    stats = fsc.sslmm(X, Y, np.hstack([samples, cells]), [12, 120])
    fit = fsc.lmm(stats, ddf="kenward-roger", nonnegative=True)
    lost = fit.se.isna().to_numpy()
    tested = fit.status.isin(["ok", "boundary"]).to_numpy()
    assert (fit.status[lost.any(axis=1)].isin(["no df", "no residual", "not converged"])).all()
    assert np.isfinite(fit.p[tested]).all(axis=None)
    plain = fsc.lmm(stats, ddf="satterthwaite", nonnegative=True)
    assert (fit.se[tested] >= plain.se[tested] * (1 - 1e-6)).all(axis=None)
    np.testing.assert_array_equal(np.isnan(fit.df), lost)
    joint = fit.inference.f_tests([np.eye(3)[:, 1:]], ddf="kenward-roger")
    np.testing.assert_array_equal(np.isnan(joint.df), np.isnan(joint.F))


def test_what_rounding_takes_from_kenward_and_rogers_variance_is_missing(monkeypatch):
    """The term that is added can't be negative; a gene where it is has no se, no df and a status."""
    real = t_tests.kenward_roger_variance

    class Rounded:
        """A factorisation whose products have the wrong sign."""

        def __init__(self, factor):
            self.factor = factor

        def __getattr__(self, name):
            return getattr(self.factor, name)

        def products(self, v):
            return -self.factor.products(v)

    before = fit("sam", "kenward-roger")
    rounded = lambda projection, theta, factor, *others: real(projection, theta, Rounded(factor), *others)
    monkeypatch.setattr(t_tests, "kenward_roger_variance", rounded)
    after = fit("sam", "kenward-roger")
    tested = (before.status == "ok").to_numpy()
    assert tested.any()
    assert before.se[tested].notna().all(axis=None)
    assert set(after.status[tested]) == {"no df"}
    assert after.se[tested].isna().any(axis=1).all()
    np.testing.assert_array_equal(after.se.isna(), after.df.isna())


def test_df_of_a_covariance_of_theta_that_gives_no_answer_are_missing():
    f, gradient = np.full((3, 1), 2.0), np.tile([1.0, 0.5], (3, 1, 1))
    theta_cov = np.array([[[4.0, 0.0], [0.0, 4.0]], [[-4.0, 0.0], [0.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    np.testing.assert_allclose(satterthwaite(f, gradient, theta_cov), [[8 / 5], [np.nan], [np.nan]])


def test_status_of_genes_without_some_df():
    """Of those that were fitted only; with all df they are ok again."""
    n = len(STATUS)
    df = np.array([[1.0, np.nan]] * n + [[1.0, 2.0]] * n)
    became = [STATUS[code] for code in with_df(np.tile(np.arange(n), 2).astype(np.int8), df)]
    fitted = {"ok", "boundary", "indefinite", "no df"}
    assert became[:n] == ["no df" if name in fitted else name for name in STATUS]
    assert became[n:] == ["ok" if name == "no df" else name for name in STATUS]


def test_inverse_of_information_on_any_scale():
    """Of what is kept; NaN where that is singular."""
    M, scale = np.array([[2.0, -1.0, 0.5], [-1.0, 3.0, 0.2], [0.5, 0.2, 1.0]]), np.array([1e-9, 1.0, 1e6])
    scaled = M * np.outer(scale, scale)
    keep = np.array([[True, True, True], [True, False, True], [True, True, False]])
    found = inverse_on(np.array([scaled, scaled, np.ones((3, 3))]), keep) * np.outer(scale, scale)
    np.testing.assert_allclose(found[0], np.linalg.inv(M), rtol=1e-10)
    part = np.ix_([0, 2], [0, 2])
    np.testing.assert_allclose(found[1][part], np.linalg.inv(M[part]), rtol=1e-10)
    assert (found[1, 1] == 0).all()
    assert np.isnan(found[2, :2, :2]).all()
