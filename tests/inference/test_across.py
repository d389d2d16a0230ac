from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from moderated_reference import study
from scipy import stats as sps

import flashmm_sc as fsc
from flashmm_sc._inference import across
from flashmm_sc._inference.across import across_tests
from flashmm_sc._inference.mixture import Mixture
from flashmm_sc._inference.moderated import grid_points

C = np.array([0.0, 1.0, 0.0])


def inferences(moderate: bool = True, sizes=(8, 6, 10), effect: float = 1.0):
    """Fits of different donors, cells and variances, the same 120 genes."""
    out = []
    for i, donors in enumerate(sizes):
        Y, X, Z, d = study(donors=donors, genes=120, cells=12 + 5 * i, seed=i, effect=effect * (i != 1))
        out.append(fsc.lmmfit(Y, X, Z, d, moderate=moderate, nonnegative=True, ddf="satterthwaite").inference)
    return out


def grid_t(inference, c: np.ndarray, gene: int):
    """ω, c'β̂ and se of one gene at every grid point."""
    genes = inference.moderated.genes[np.array([gene])]
    points = grid_points(inference.projection, inference.moderated, c[:, None])
    beta, s0 = zip(*(point.estimates(genes) for point in points), strict=True)
    se = np.sqrt([s[0, 0] * point.cov[0, 0] for s, point in zip(s0, points, strict=True)])
    return inference.moderated.weights[gene], np.array(beta)[:, 0, 0], se


@pytest.mark.parametrize("options", [{}, {"alternative": "greater", "effect": 0.2}, {"effect": 0.2}])
def test_moderated_against_all_pairs_of_grid_points(options):
    one, other, _ = inferences()
    ours = across_tests([(one, C), (other, -2 * C)], conf_level=0.9, **options)
    for gene in (0, 50, 100):
        (w1, b1, s1), (w2, b2, s2) = grid_t(one, C, gene), grid_t(other, -2 * C, gene)
        w, beta = np.outer(w1, w2), b1[:, None] + b2
        v1, v2 = (s1**2)[:, None], s2**2
        nu = [i.projection.n - i.projection.p for i in (one, other)]
        df, se, effect = (v1 + v2) ** 2 / (v1**2 / nu[0] + v2**2 / nu[1]), np.sqrt(v1 + v2), options.get("effect", 0)
        p = sps.t.sf((beta - effect) / se, df)
        if "alternative" not in options:
            p = sps.t.sf((abs(beta) - effect) / se, df) + sps.t.sf((abs(beta) + effect) / se, df)
        np.testing.assert_allclose(ours.p[gene, 0], (w * p).sum(), rtol=1e-7)
        np.testing.assert_allclose(ours.coef[gene, 0], (w * beta).sum(), rtol=1e-9)
        for end, level in ((ours.ci_low, 0.95), (ours.ci_high, 0.05)):
            np.testing.assert_allclose((w * sps.t.sf((end[gene, 0] - beta) / se, df)).sum(), level, rtol=1e-6)
    if not options:
        np.testing.assert_allclose(2 * sps.t.sf(abs(ours.t), ours.df)[ours.p < 0.5], ours.p[ours.p < 0.5], rtol=1e-8)
        np.testing.assert_allclose(ours.t, ours.coef / ours.se)


@pytest.mark.parametrize("moderate", [True, False])
def test_one_group_is_its_own_test(moderate):
    one = inferences(moderate)[0]
    alone, within = across_tests([(one, C)], conf_level=0.9), one.t_tests(C[:, None], conf_level=0.9)
    for name, values in vars(within).items():
        np.testing.assert_allclose(getattr(alone, name), values, rtol=1e-9)


@pytest.mark.parametrize("ddf", [None, "kenward-roger", "residual"])
def test_unmoderated_by_welch_and_satterthwaite(ddf):
    one, other, _ = inferences(moderate=False)
    ours = across_tests([(one, C), (other, -C)], alternative="less", effect=0.1, conf_level=0.9, ddf=ddf)
    a, b = (inference.t_tests(C[:, None], ddf=ddf) for inference in (one, other))
    se = np.hypot(a.se, b.se)
    df = se**4 / (a.se**4 / a.df + b.se**4 / b.df)
    np.testing.assert_allclose(ours.df, df)
    np.testing.assert_allclose(ours.p, sps.t.cdf((a.coef - b.coef + 0.1) / se, df))
    np.testing.assert_allclose(ours.ci_high, a.coef - b.coef + sps.t.ppf(0.95, df) * se)


def test_a_moderated_and_an_unmoderated_fit():
    one, other = inferences()[0], inferences(moderate=False)[1]
    ours, plain = across_tests([(one, C), (other, -C)]), other.t_tests(C[:, None])
    w, beta, se = grid_t(one, C, 5)
    total = np.hypot(se, plain.se[5, 0])
    df = total**4 / (se**4 / (one.projection.n - 3) + plain.se[5, 0] ** 4 / plain.df[5, 0])
    np.testing.assert_allclose(ours.p[5, 0], w @ (2 * sps.t.sf(abs(beta - plain.coef[5, 0]) / total, df)), rtol=1e-7)


def test_components_taken_together_change_little(monkeypatch):
    groups = inferences()
    parts = list(zip(groups, (C, -C, 0.5 * C), strict=True))
    monkeypatch.setattr(across, "_ENOUGH", 1_000_000)
    full = across_tests(parts).p
    monkeypatch.setattr(across, "_ENOUGH", 50)
    near = across_tests(parts).p
    moderate = (full > 1e-3) & (full < 0.8)
    error = abs(near / full - 1)
    assert np.median(error[moderate]) < 1e-6
    assert error[moderate].max() < 1e-4
    assert error[full > 1e-9].max() < 0.01


def test_merging_a_gene_does_not_depend_on_the_others():
    rng = np.random.default_rng(0)
    gene = np.repeat([0, 1], [1000, 3])
    weight = np.concatenate([np.full(1000, 1e-3), np.full(3, 1 / 3)])
    beta, se = rng.normal(0, 0.2, (1003, 1)), rng.lognormal(0, 0.2, (1003, 1))
    both = across.merged(Mixture(2, gene, weight, beta, se, 9.0, 9.0))
    alone = across.merged(Mixture(1, gene[:1000], weight[:1000], beta[:1000], se[:1000], 9.0, 9.0))
    assert len(alone.gene) < 1000
    for name in ("weight", "beta", "se"):
        np.testing.assert_array_equal(getattr(both, name)[both.gene == 0], getattr(alone, name))
        np.testing.assert_array_equal(
            getattr(both, name)[both.gene == 1], {"weight": weight, "beta": beta, "se": se}[name][1000:]
        )


@pytest.mark.parametrize("df", [50.0, np.inf])
def test_merging_keeps_mean_and_variance(df):
    rng = np.random.default_rng(0)
    gene = np.repeat([0, 1], 2000)
    se = np.exp(0.3 * rng.normal(size=(4000, 1)))
    some = Mixture(2, gene, rng.dirichlet(np.ones(2000), 2).ravel(), 0.2 * rng.normal(size=(4000, 1)), se, df, df)
    small = across.merged(some)
    np.testing.assert_allclose(small.nu, df)
    assert len(small.gene) < len(gene) / 2
    for values in (lambda x: x.beta, lambda x: x.beta**2 + x.se**2):
        np.testing.assert_allclose(small._sums @ values(small), some._sums @ values(some), rtol=1e-10)


@pytest.mark.parametrize("level", [0, 60, -100])
def test_components_merge_within_a_tenth_of_a_standard_error_on_any_scale(level):
    unit = np.exp(0.05 * level)
    beta, se = unit * (np.arange(1000)[:, None] + 0.5) / 100, np.full((1000, 1), unit * np.exp(0.02))
    small = across.merged(Mixture(1, np.zeros(1000, int), np.full(1000, 1e-3), beta, se, 9.0, 9.0))
    centres = unit * (np.arange(100) / 10 + 0.05)
    np.testing.assert_allclose(np.sort(small.beta[:, 0]), np.repeat(centres, 2), rtol=1e-12)


@pytest.fixture(scope="module")
def fitted() -> ad.AnnData:
    adata = fsc.datasets.simu_rnaseq(n_genes=150, n_cells=3000, n_samples=8, n_clusters=3, n_de_genes=20, seed=3)
    adata.obs["cls"] = adata.obs["cls"].cat.rename_categories({"1": "B cells", "2": "CD4+/a-b", "3": "NK"})
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p", groupby="cls")
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p", groupby="cls", moderate=True, key_added="m")
    return adata


@pytest.mark.parametrize("key", ["lmm_de", "m"])
@pytest.mark.parametrize("quote", ["`", ""])
def test_within_and_across_side_by_side(fitted, key, quote):
    adata = fitted.copy()
    name = lambda group: f"{quote}{group}|trt[T.B]{quote}"
    contrasts = {"trt": "trt[T.B]", "B vs NK": f"{name('B cells')} - {name('NK')}", "CD4": f"2*{name('CD4+/a-b')}"}
    fsc.tl.lmm_test(adata, contrasts, key=key)
    assert list(adata.uns["lmm_test"]["coef_names"]) == [
        *(f"{group}|trt" for group in ("B cells", "CD4+/a-b", "NK")),
        "B vs NK",
        "CD4",
    ]
    table = fsc.get.lmm_de_df(adata, key="lmm_test")
    assert set(table["group"]) == {"B cells", "CD4+/a-b", "NK", ""}
    part = {group: table[(table["group"] == group) & (table["contrast"] == "trt")] for group in ("B cells", "NK")}
    difference = table[table["contrast"] == "B vs NK"]
    np.testing.assert_allclose(
        difference["coef"], part["B cells"]["coef"].to_numpy() - part["NK"]["coef"].to_numpy(), rtol=1e-6, atol=1e-10
    )
    single = fsc.get.lmm_de_df(adata, "CD4", key="lmm_test", groups="")
    own = table[(table["group"] == "CD4+/a-b")]
    np.testing.assert_allclose(single["p_value"], own["p_value"], rtol=1e-9)
    np.testing.assert_allclose(single["se"], 2 * own["se"].to_numpy(), rtol=1e-6)


def test_genes_that_a_group_lacks_have_no_test_and_say_why(fitted):
    adata = fitted.copy()
    X = adata.X.toarray()
    X[(adata.obs["cls"] == "B cells").to_numpy(), 0] = 0
    adata.X = sp.csr_matrix(X)
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p", groupby="cls")
    fsc.tl.lmm_test(adata, {"d": "B cells|trt[T.B] - NK|trt[T.B]", "e": "`CD4+/a-b|trt[T.B]` - NK|trt[T.B]"})
    first = fsc.get.lmm_de_df(adata, key="lmm_test").groupby("contrast").first()
    assert first.loc["d", "status"] == "constant"
    assert first.loc["e", "status"] in ("ok", "boundary")
    table = fsc.get.lmm_de_df(adata, key="lmm_test")
    assert table[(table["contrast"] == "d")]["p_value"].isna().sum() == 1


def test_mistakes_are_told_before_anything(fitted):
    adata = fitted.copy()
    with pytest.raises(ValueError, match=r"unknown coefficient 'B cell\|trt\[T.B\]'.*B cells\|trt"):
        fsc.tl.lmm_test(adata, "B cell|trt[T.B] - NK|trt[T.B]")
    with pytest.raises(ValueError, match="across groups"):
        fsc.tl.lmm_test(adata, ["B cells|trt[T.B] - NK|trt[T.B]"], joint=True)
    with pytest.raises(ValueError, match="unknown coefficient"):
        fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", contrasts={"x": "NK|trt[T.B] - B cells|trt"}, key_added="n")
    assert "lmm_test" not in adata.uns
    assert "n" not in adata.uns


def test_contrasts_across_groups_of_the_call_that_fits(fitted):
    adata, text = fitted.copy(), "B cells|trt[T.B] - NK|trt[T.B]"
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p", groupby="cls", contrasts={"d": text}, corr_scope="all")
    fsc.tl.lmm_test(adata, {"d": text})
    np.testing.assert_allclose(adata.varm["lmm_de_contrasts_pval"], adata.varm["lmm_test_pval"])
    assert fsc.get.lmm_de_df(adata, key="lmm_test").columns[2] == "coef"


def test_adjusted_over_all_groups_together(fitted):
    adata = fitted.copy()
    fsc.tl.lmm_test(adata, "trt[T.B]", corr_scope="all")
    p = adata.varm["lmm_test_pval"]
    np.testing.assert_allclose(adata.varm["lmm_test_pval_adj"], sps.false_discovery_control(p.ravel()).reshape(p.shape))
    assert adata.uns["lmm_test"]["params"]["corr_scope"] == "all"


def test_effects_are_adjusted_apart_from_intercepts(fitted):
    adata = fitted.copy()
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p", groupby="cls", corr_scope="all")
    table = fsc.get.lmm_de_df(adata, key="lmm_de")
    for _, part in table.groupby(table["contrast"] == "Intercept"):
        np.testing.assert_allclose(part["adj_p_value"], sps.false_discovery_control(part["p_value"]))
    fsc.tl.lmm_test(adata, fsc.contrasts.each("trt"), corr_scope="all")
    effects = table.loc[table["contrast"] == "trt[T.B]", "adj_p_value"]
    np.testing.assert_allclose(adata.varm["lmm_test_pval_adj"].T.ravel(), effects)
