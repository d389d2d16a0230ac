"""Results as tables: columns, order, scale, adjustment and choice of rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import stats as sps
from statsmodels.stats.multitest import multipletests

import flashmm_sc as fsc
from flashmm_sc import FlashmmWarning

COLUMNS = ["variable", "contrast", "coef", "log_fc", "se", "t_value", "z", "df", "p_value", "adj_p_value", "status"]
GENES = [f"gene{j}" for j in range(12)]
EFFECTS = ["cls[B]", "cls[NK]", "cls[B]:trt[T.B]", "cls[NK]:trt[T.B]"]


@pytest.fixture
def fitted(adata):
    fsc.tl.lmm_de(adata, "~ 0 + cls + cls:trt", "sam", transform="log1p")
    return adata


@pytest.fixture
def grouped(adata):
    fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p")
    return adata


def test_columns_and_rows(fitted):
    table = fsc.get.lmm_de_df(fitted)
    assert table.columns.tolist() == COLUMNS
    assert table["variable"].tolist() == GENES * 4
    assert table["contrast"].tolist() == np.repeat(EFFECTS, 12).tolist()
    assert table.index.tolist() == list(range(48))
    assert all(pd.api.types.is_float_dtype(table[name]) for name in COLUMNS[2:-1])
    for name, suffix in zip(["coef", "se", "t_value", "df", "p_value"], ["coef", "se", "t", "df", "pval"], strict=True):
        np.testing.assert_array_equal(table[name].to_numpy().reshape(4, 12).T, fitted.varm[f"lmm_de_{suffix}"])
    assert set(table["status"]) == {"ok", "boundary"}
    np.testing.assert_array_equal(
        table["status"].eq("boundary").to_numpy().reshape(4, 12), [(fitted.varm["lmm_de_theta"] == 0).any(axis=1)] * 4
    )


def test_groups_have_a_column(grouped):
    table = fsc.get.lmm_de_df(grouped)
    assert table.columns.tolist() == [*COLUMNS[:2], "group", *COLUMNS[2:]]
    assert table["contrast"].tolist() == np.repeat(["Intercept", "trt[T.B]"] * 2, 12).tolist()
    assert table["group"].tolist() == np.repeat(["B", "NK"], 24).tolist()
    boundary = (grouped.varm["lmm_de_theta"][:, [0, 2]] == 0).T.repeat(2, axis=0)
    assert 0 < boundary.sum() < boundary.size
    np.testing.assert_array_equal(table["status"].eq("boundary").to_numpy().reshape(4, 12), boundary)


@pytest.mark.parametrize("corr_method", ["benjamini-hochberg", "bonferroni"])
def test_p_values_are_adjusted_over_the_genes_of_one_coefficient_and_group(adata, corr_method):
    adata.X = adata.X.toarray() * (np.arange(12) != 4)
    fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", corr_method=corr_method)
    table = fsc.get.lmm_de_df(adata)
    assert table["p_value"].isna().sum() == 4
    for _, part in table.dropna().groupby(["contrast", "group"]):
        assert len(part) == 11
        method = {"benjamini-hochberg": "fdr_bh", "bonferroni": "bonferroni"}[corr_method]
        np.testing.assert_allclose(part["adj_p_value"], multipletests(part["p_value"], method=method)[1], rtol=1e-12)


@pytest.mark.parametrize(
    ("coefs", "groups", "rows"),
    [
        (None, None, ["B|Intercept", "B|trt[T.B]", "NK|Intercept", "NK|trt[T.B]"]),
        ("trt[T.B]", None, ["B|trt[T.B]", "NK|trt[T.B]"]),
        ("NK|trt[T.B]", None, ["NK|trt[T.B]"]),
        (["Intercept", "B|trt[T.B]"], None, ["B|Intercept", "B|trt[T.B]", "NK|Intercept"]),
        (None, "NK", ["NK|Intercept", "NK|trt[T.B]"]),
        ("trt[T.B]", ["NK"], ["NK|trt[T.B]"]),
        ([], None, []),
    ],
)
def test_choosing_coefficients_and_groups(grouped, coefs, groups, rows):
    table = fsc.get.lmm_de_df(grouped, coefs, groups=groups)
    whole = fsc.get.lmm_de_df(grouped)
    expected = whole[(whole["group"] + "|" + whole["contrast"]).isin(rows)].reset_index(drop=True)
    pd.testing.assert_frame_equal(table, expected, check_dtype=bool(rows))


def test_tables_of_tests(grouped):
    fsc.tl.lmm_test(grouped, {"down": "-trt[T.B]"}, alternative="less")
    table = fsc.get.lmm_de_df(grouped, key="lmm_test")
    fit = fsc.get.lmm_de_df(grouped, "trt[T.B]")
    assert table.columns.tolist() == fit.columns.tolist()
    assert set(table["contrast"]) == {"down"}
    for name in ("coef", "log_fc", "t_value"):
        np.testing.assert_allclose(table[name], -fit[name], rtol=1e-12)
    for name in ("variable", "group", "status"):
        assert table[name].tolist() == fit[name].tolist()


# Normal deviates


def deviates(adata, contrast, **options):
    fsc.tl.lmm_test(adata, {"test": contrast}, **options)
    return fsc.get.lmm_de_df(adata, key="lmm_test")


@pytest.mark.parametrize("ddf", ["satterthwaite", "residual"])
def test_z_has_the_p_value_and_the_sign_of_t(fitted, ddf):
    for contrast in EFFECTS:
        table = deviates(fitted, f"`{contrast}`", ddf=ddf)
        np.testing.assert_allclose(2 * sps.norm.sf(table["z"].abs()), table["p_value"], rtol=1e-9)
        np.testing.assert_array_equal(np.sign(table["z"]), np.sign(table["t_value"]))
        assert table.sort_values("p_value")["z"].abs().is_monotonic_decreasing


@pytest.mark.parametrize(("alternative", "tail"), [("greater", sps.norm.sf), ("less", sps.norm.cdf)])
@pytest.mark.parametrize("lfc", [0.0, 0.3])
def test_z_of_a_one_sided_test_has_its_one_tail(fitted, alternative, tail, lfc):
    table = deviates(fitted, EFFECTS[2], alternative=alternative, lfc=lfc)
    np.testing.assert_allclose(tail(table["z"]), table["p_value"], rtol=1e-9)
    assert 0 < (table["z"] < 0).sum() < 12


def test_z_of_a_test_against_a_bound(fitted, monkeypatch):
    table = deviates(fitted, EFFECTS[2], lfc=0.3)
    np.testing.assert_allclose(2 * sps.norm.sf(table["z"].abs()), table["p_value"], rtol=1e-9)
    np.testing.assert_array_equal(np.sign(table["z"]), np.sign(table["coef"]))
    monkeypatch.setattr("flashmm_sc._results.deviates.SMALL", 2.0)  # all by logarithms of tails
    beyond = table["log_fc"].abs() > 0.3
    assert 3 < beyond.sum() < 12
    again = fsc.get.lmm_de_df(fitted, key="lmm_test")
    np.testing.assert_allclose(again["z"][beyond], table["z"][beyond], rtol=1e-9)


@pytest.mark.parametrize("lfc", [0.0, 0.3])
def test_z_goes_on_where_p_values_are_zero(fitted, lfc):
    deviates(fitted, EFFECTS[2], ddf="residual", lfc=lfc)
    t, p = (fitted.varm[f"lmm_test_{name}"] for name in ("t", "pval"))
    t[:3, 0], p[:3] = [1e4, -2e4, 3e4], 0
    fitted.varm["lmm_test_coef"][:3, 0] = [1, -1, 1]
    z = fsc.get.lmm_de_df(fitted, key="lmm_test")["z"][:3]
    np.testing.assert_array_equal(np.sign(z), [1, -1, 1])
    assert (np.diff(z.abs()) > 0).all()
    assert (z.abs() > 37).all()
    assert np.isfinite(z).all()


def test_z_of_a_moderated_fit_has_its_p_value():
    adata = fsc.datasets.simu_rnaseq(n_genes=120, n_cells=1000, n_samples=8, n_clusters=2, seed=3)
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p", moderate=True)
    both = lambda z: 2 * sps.norm.sf(np.abs(z))
    tests = {"two-sided": both, "greater": sps.norm.sf, "less": sps.norm.cdf}
    for alternative, tail in tests.items():
        for lfc in (0.0, 0.1):
            table = deviates(adata, "trt[T.B]", alternative=alternative, lfc=lfc)
            np.testing.assert_allclose(tail(table["z"]), table["p_value"], rtol=1e-8)
    table = fsc.get.lmm_de_df(adata, "trt[T.B]")
    np.testing.assert_allclose(both(table["z"]), table["p_value"], rtol=1e-8)


# Scales


@pytest.mark.parametrize(
    ("prepare", "transform", "unit"),
    [
        (lambda adata: None, "log1p", np.log(2)),
        (lambda adata: None, "log2p1", 1.0),
        (lambda adata: sc.pp.log1p(adata), None, np.log(2)),
        (lambda adata: sc.pp.log1p(adata, base=2), None, 1.0),
        (lambda adata: sc.pp.log1p(adata, base=10), None, np.log10(2)),
    ],
    ids=["log1p", "log2p1", "scanpy", "scanpy base 2", "scanpy base 10"],
)
def test_log_fc_is_in_log2_whatever_the_logarithm(adata, prepare, transform, unit):
    """A gene twice as high in treated cells, without noise: counts of 1023 and 2047 beside the pseudocount."""
    adata.X = adata.X.toarray()
    adata.X[:, 0] = np.where(adata.obs["trt"] == "B", 2047, 1023)
    adata.X[:10, 0] = 1535  # so that it is not constant
    prepare(adata)
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform=transform)
    table = fsc.get.lmm_de_df(adata, "trt[T.B]").set_index("variable")
    np.testing.assert_allclose(table["log_fc"] * unit, table["coef"], rtol=1e-12)
    assert table.loc["gene0", "log_fc"] == pytest.approx(1, abs=0.1)


def test_unknown_logarithm_gives_nan_and_one_warning(adata):
    adata.X = adata.X.log1p()
    fsc.tl.lmm_de(adata, "~ trt", "sam")
    with pytest.warns(FlashmmWarning, match=r"log_fc is NaN.*transform= in tl\.lmm_de, or sc\.pp\.log1p") as caught:
        table = fsc.get.lmm_de_df(adata)
    assert len([w for w in caught if w.category is FlashmmWarning]) == 1
    assert caught[0].filename == __file__
    assert table["log_fc"].isna().all()
    assert table["coef"].notna().all()


def test_a_scale_is_remembered_by_the_fit(adata):
    """What happens to uns afterwards plays no part."""
    sc.pp.log1p(adata, base=2)
    fsc.tl.lmm_de(adata, "~ trt", "sam")
    adata.uns["log1p"]["base"] = 10
    table = fsc.get.lmm_de_df(adata)
    np.testing.assert_array_equal(table["log_fc"], table["coef"])


def test_genes_of_a_view(fitted):
    table = fsc.get.lmm_de_df(fitted[:, ["gene7", "gene3"]], EFFECTS[2])
    whole = fsc.get.lmm_de_df(fitted, EFFECTS[2]).set_index("variable").loc[["gene7", "gene3"]].reset_index()
    pd.testing.assert_frame_equal(table, whole, check_dtype=False)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda adata: fsc.get.lmm_de_df(adata, "trt[T.b]"), ["coefs", "'trt[T.b]'", "Did you mean 'trt[T.B]'"]),
        (lambda adata: fsc.get.lmm_de_df(adata, ["Intercept", "x"]), ["no result has 'x'"]),
        (lambda adata: fsc.get.lmm_de_df(adata, groups="T"), ["groups", "'T'", "There are: 'B', 'NK'"]),
        (lambda adata: fsc.get.lmm_de_df(adata, key="lmm"), ["uns['lmm'] holds no result", "Did you mean 'lmm_de'"]),
        (lambda adata: fsc.get.variance_df(adata, key="lmm_test"), ["holds tests"]),
    ],
)
def test_what_is_not_there_is_named(grouped, call, words):
    fsc.tl.lmm_test(grouped, "trt[T.B]")
    with pytest.raises(KeyError) as caught:
        call(grouped)
    assert [word for word in words if word not in str(caught.value.args[0])] == []


def test_variances(adata):
    fsc.tl.lmm_de(adata, "~ trt", "sam + batch", transform="log1p")
    table = fsc.get.variance_df(adata)
    assert table.columns.tolist() == ["variable", "component", "variance", "se"]
    assert table["variable"].tolist() == GENES * 3
    assert table["component"].tolist() == np.repeat(["sam", "batch", "residual"], 12).tolist()
    np.testing.assert_array_equal(table["variance"].to_numpy().reshape(3, 12).T, adata.varm["lmm_de_theta"])
    np.testing.assert_array_equal(table["se"].to_numpy().reshape(3, 12).T, adata.varm["lmm_de_theta_se"])


def test_variances_of_groups(grouped):
    table = fsc.get.variance_df(grouped, groups="NK")
    assert set(table["group"]) == {"NK"}
    assert table["component"].tolist() == ["sam"] * 12 + ["residual"] * 12
    np.testing.assert_array_equal(table["variance"].to_numpy().reshape(2, 12).T, grouped.varm["lmm_de_theta"][:, 2:])
