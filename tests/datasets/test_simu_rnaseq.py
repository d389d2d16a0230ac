from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from pandas.testing import assert_frame_equal
from scipy import stats

from flashmm_sc.datasets import _simu_counts, simu_rnaseq


def counts_adata(mean, dispersion, n_cells=400, seed=0) -> ad.AnnData:
    mean, dispersion = np.asarray(mean, float), np.asarray(dispersion, float)
    counts = np.random.default_rng(seed).negative_binomial(
        dispersion, dispersion / (dispersion + mean), (n_cells, len(mean))
    )
    return ad.AnnData(sp.csr_matrix(counts, dtype=np.float32))


@pytest.fixture(scope="module")
def deep() -> ad.AnnData:
    """120 genes of high counts: little noise beside effects."""
    return counts_adata(np.linspace(20, 80, 120), np.full(120, 10.0), n_cells=500)


def metadata_for(n: int, index=None) -> pd.DataFrame:
    i = np.arange(n)
    columns = {"sam": i % 6, "cls": np.array(["NK", "CD4/CD8", "B"])[i % 3], "trt": np.array(["ctrl", "stim"])[i % 2]}
    return pd.DataFrame(columns, index=index)


def assert_same(a: ad.AnnData, b: ad.AnnData) -> None:
    assert_frame_equal(a.obs, b.obs)
    assert_frame_equal(a.var, b.var)
    assert a.X.dtype == b.X.dtype
    assert (sp.csr_matrix(a.X[:]) != sp.csr_matrix(b.X[:])).nnz == 0
    left, right = a.uns["simu_rnaseq"], b.uns["simu_rnaseq"]
    assert left.keys() == right.keys()
    assert dict(left["params"]) == dict(right["params"])
    assert left["treatment"] == right["treatment"]
    for key in ("clusters", "n_de_genes_per_cluster"):
        assert left[key].tolist() == right[key].tolist()


# The distribution of the counts


def test_counts_follow_the_negative_binomial_of_var():
    mean, dispersion = np.meshgrid([0.05, 0.5, 3, 9, 11, 60], [0.05, 0.3, 1, 2.5, 20])
    reference = counts_adata(mean.ravel(), dispersion.ravel(), n_cells=2000)
    adata = simu_rnaseq(
        reference, n_cells=20_000, n_de_genes=0, adjust_library_size=False, var_random_effects=0, seed=1
    )
    counts = adata.X.toarray().astype(int)
    p_values = []
    for g, (m, r) in enumerate(zip(adata.var["mean"], adata.var["dispersion"], strict=True)):
        nb = stats.nbinom(r, r / (r + m))
        edges = np.unique(nb.ppf(np.linspace(0.02, 0.98, 25)))  # bins (-inf, e0], (e0, e1], ..., (last, inf)
        expected = np.diff(nb.cdf(edges), prepend=0, append=1) * len(counts)
        observed = np.bincount(np.searchsorted(edges, counts[:, g]), minlength=len(expected))
        keep = expected > 5
        if keep.sum() > 1:
            p_values.append(
                stats.chisquare(observed[keep], expected[keep] * observed[keep].sum() / expected[keep].sum()).pvalue
            )
    assert len(p_values) > 20
    assert min(p_values) > 1e-3 / len(p_values)
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3


def test_moments_with_library_sizes():
    reference = counts_adata(np.tile([0.3, 2, 8, 30], 50), np.tile([0.5, 1, 4, 10, 2], 40), n_cells=1000)
    reference.X = sp.csr_matrix(reference.X.multiply(np.random.default_rng(0).integers(1, 4, (1000, 1))))
    adata = simu_rnaseq(
        reference, n_cells=40_000, n_samples=1, n_treatments=1, n_de_genes=0, var_random_effects=0, seed=2
    )
    scale = np.exp(np.log(adata.obs["libsize"]) - np.log(adata.obs["libsize"]).mean()).to_numpy()
    m, r = adata.var["mean"].to_numpy(), adata.var["dispersion"].to_numpy()
    mean = m * scale.mean()
    var = mean + m**2 * (scale**2).mean() / r + m**2 * scale.var()
    X = adata.X.toarray().astype(float)
    z = (X.mean(0) - mean) / np.sqrt((var - m**2 * scale.var()) / len(X))
    assert np.abs(z).max() < 4.5
    assert 0.8 < z.std() < 1.2
    fourth = ((X - X.mean(0)) ** 4).mean(0)
    assert np.abs((X.var(0) - var) / np.sqrt((fourth - var**2) / len(X))).max() < 5
    zero = ((1 + np.outer(scale, m / r)) ** -r).mean(0)
    assert np.abs(((X == 0).mean(0) - zero) / np.sqrt(zero * (1 - zero) / len(X) + 1e-12)).max() < 4.5
    # every cell's total is in proportion to its library size
    assert np.corrcoef(np.log(X.sum(1)), np.log(scale))[0, 1] > 0.9


@pytest.mark.parametrize("variance", [0.1, 0.4])
def test_random_effects_are_normal_between_samples(deep, variance):
    adata = simu_rnaseq(
        deep, n_cells=6000, n_samples=40, n_de_genes=0, adjust_library_size=False, var_random_effects=variance, seed=3
    )
    sample_of = adata.obs["sam"].cat.codes.to_numpy()
    n = np.bincount(sample_of)
    sample_mean = np.stack([np.asarray(adata.X[sample_of == s].mean(axis=0)).ravel() for s in range(len(n))])
    effect = np.log(sample_mean / adata.var["mean"].to_numpy())
    noise = (1 / adata.var["mean"] + 1 / adata.var["dispersion"]).mean() * (1 / n).mean()
    se = (variance + noise) * np.sqrt(2 / effect.size)
    assert abs(effect.var() - variance - noise) < 4 * se
    assert abs(effect.mean() + noise / 2) < 4 * np.sqrt(variance / effect.size)
    assert stats.kstest(effect.ravel() / effect.std(), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(effect)[np.triu_indices(len(n), 1)].mean()) < 0.02  # independent between samples


def test_effects_are_planted_in_their_cluster_and_nowhere_else(deep):
    adata = simu_rnaseq(
        deep, n_cells=8000, n_clusters=4, n_de_genes=60, adjust_library_size=False, var_random_effects=0, seed=4
    )
    m, r = adata.var["mean"].to_numpy(), adata.var["dispersion"].to_numpy()
    treated = (adata.obs["trt"] == "B").to_numpy()
    for cluster in adata.obs["cls"].cat.categories:
        here = (adata.obs["cls"] == cluster).to_numpy()
        a, b = (np.asarray(adata.X[here & t].mean(axis=0)).ravel() for t in (~treated, treated))
        beta = np.where(adata.var["de_cluster"] == cluster, adata.var["beta"], 0)
        se = np.sqrt((1 / m + 1 / r) * 2 / (here.sum() / 2))
        z = (np.log(b / a) - beta) / se
        assert np.abs(z).max() < 4.5
        assert z.std() < 1.2


def test_truth_of_the_effects(deep):
    adata = simu_rnaseq(deep, n_clusters=4, n_de_genes=100, min_beta=0.5, max_beta=0.7, seed=5)
    de = (adata.var["de_cluster"] != "").to_numpy()
    assert de.tolist() == [False] * 20 + [True] * 100  # the last genes
    beta = adata.var["beta"]
    assert (beta[~de] == 0).all()
    assert beta[de].abs().between(0.5, 0.7).all()
    assert 30 < (beta > 0).sum() < 70
    uns = adata.uns["simu_rnaseq"]
    n_de = adata.var["de_cluster"].value_counts()[list(uns["clusters"])]
    np.testing.assert_array_equal(n_de, uns["n_de_genes_per_cluster"])
    assert adata.var["de_cluster"][de].cat.codes.is_monotonic_increasing


@pytest.mark.parametrize(("direction", "bounds"), [("up", (0.2, 0.4)), ("down", (-0.4, -0.2))])
def test_direction(deep, direction, bounds):
    adata = simu_rnaseq(deep, n_de_genes=50, direction=direction, min_beta=bounds[0], max_beta=bounds[1], seed=0)
    assert adata.var["beta"][-50:].between(*bounds).all()


@pytest.mark.parametrize(
    "given", [{"3": 4, 1: 2}, [2, 0, 4], np.array([2, 0, 4]), pd.Series({"1": 2, "3": 4})], ids=type
)
def test_number_of_de_genes_of_each_cluster(deep, given):
    adata = simu_rnaseq(deep, n_clusters=3, n_de_genes_per_cluster=given, seed=0)
    assert adata.var["de_cluster"].tolist() == [""] * 114 + ["1"] * 2 + ["3"] * 4


@pytest.mark.parametrize("given", [{"2": 3, "3": 1}, [0, 0.3, 0.1]], ids=type)
def test_proportion_of_de_genes_of_each_cluster(deep, given):
    adata = simu_rnaseq(deep, n_clusters=3, n_de_genes=100, p_de_genes_per_cluster=given, seed=0)
    n_de = adata.uns["simu_rnaseq"]["n_de_genes_per_cluster"]
    assert n_de[0] == 0
    assert n_de.sum() == 100
    assert 60 < n_de[1] < 90


# Without a reference


def test_made_up_reference_has_the_moments_of_drawn_counts():
    adata = simu_rnaseq(n_genes=3000, n_cells=20_000, n_de_genes=0, seed=6)
    mean, dispersion = adata.var["mean"].to_numpy(), adata.var["dispersion"].to_numpy()
    n = adata.n_obs
    m = mean.round()
    r = dispersion.round()
    sharp = (m <= 4) & (r <= 3)  # where rounding finds the true parameters
    assert sharp.mean() > 0.75
    assert abs((m == 1).mean() - np.exp(-1)) < 4 * np.sqrt(0.23 / 3000)
    assert abs((r == 1).mean() - np.exp(-1)) < 4 * np.sqrt(0.23 / 3000)
    m, r, mean, dispersion = m[sharp], r[sharp], mean[sharp], dispersion[sharp]
    variance, kurtosis = stats.nbinom.stats(r, r / (r + m), moments="vk")
    z = (mean - m) / np.sqrt(variance / n)
    assert 0.93 < z.std() < 1.07
    z = (mean + mean**2 / dispersion - variance) / (variance * np.sqrt((kurtosis + 2) / n))
    assert abs(z.mean()) < 4 / np.sqrt(len(z))
    assert 0.9 < z.std() < 1.1


def test_made_up_library_sizes_are_sums_over_genes():
    adata = simu_rnaseq(n_genes=40, n_cells=50_000, n_de_genes=0, seed=7)
    libsize, m, r = adata.obs["libsize"], adata.var["mean"], adata.var["dispersion"]
    variance = (m + m**2 / r).sum()
    assert abs(libsize.mean() - m.sum()) < 5 * np.sqrt(2 * variance / len(libsize))
    assert abs(libsize.var() / variance - 1) < 0.06
    assert (libsize == libsize.round()).all()
    assert len(simu_rnaseq(n_genes=1, n_cells=200, n_de_genes=0, seed=0).obs) == 200  # empty cells do no harm


def test_result_without_reference():
    adata = simu_rnaseq(n_genes=50, n_cells=1000, seed=0)
    assert adata.shape == (1000, 50)
    assert isinstance(adata.X, sp.csr_matrix)
    assert adata.X.dtype == np.float32
    assert adata.X.has_canonical_format
    assert (adata.X.data > 0).all()
    assert adata.obs_names[0] == "Cell1"
    assert adata.var_names[-1] == "Gene50"
    assert adata.obs.columns.tolist() == ["sam", "cls", "trt", "libsize"]
    assert adata.var.columns.tolist() == ["mean", "dispersion", "de_cluster", "beta"]
    assert (adata.var["beta"] != 0).sum() == 10
    assert adata.obs["cls"].cat.categories.tolist() == [str(i) for i in range(1, 11)]
    assert adata.uns["simu_rnaseq"]["treatment"] == "B"


def test_nested_and_crossed_samples():
    nested = simu_rnaseq(n_genes=5, n_cells=2000, n_de_genes=0, n_samples=12, n_treatments=3, seed=0)
    assert nested.obs["sam"].nunique() == 12
    assert (nested.obs["sam"].str[0] == nested.obs["trt"].astype(str)).all()
    crossed = simu_rnaseq(n_genes=5, n_cells=2000, n_de_genes=0, n_samples=12, samples_nested=False, seed=0)
    assert sorted(crossed.obs["sam"].unique()) == sorted(f"S{i}" for i in range(1, 13))
    assert (pd.crosstab(crossed.obs["sam"], crossed.obs["trt"]) > 0).all(axis=None)
    for n_samples in (2, 3):  # each treatment has a sample, however few
        obs = simu_rnaseq(n_genes=5, n_cells=100, n_de_genes=0, n_samples=n_samples, seed=n_samples).obs
        assert obs["sam"].nunique() == n_samples
        assert obs["trt"].nunique() == 2


# From a reference


@pytest.mark.parametrize("container", [sp.csr_matrix, sp.csc_matrix, sp.csr_array, np.asarray, "backed", "int"])
def test_containers_of_the_reference_give_the_same(deep, container, tmp_path):
    expected = simu_rnaseq(deep, seed=0)
    dense = deep.X.toarray()
    if container == "backed":
        deep.write_h5ad(tmp_path / "reference.h5ad")
        reference = ad.read_h5ad(tmp_path / "reference.h5ad", backed="r")
    else:
        X = dense.astype(np.uint8) if container == "int" else container(dense)
        reference = ad.AnnData(X, obs=deep.obs, var=deep.var)
    assert_same(simu_rnaseq(reference, seed=0), expected)
    np.testing.assert_allclose(expected.var["mean"], dense.mean(0))
    variance = dense.astype(float).var(0, ddof=1)
    np.testing.assert_allclose(expected.var["dispersion"], dense.mean(0) ** 2 / (variance - dense.mean(0)), rtol=1e-4)
    np.testing.assert_array_equal(expected.obs["libsize"], dense.sum(1))


def test_names_are_kept_or_made_unique(deep):
    same = simu_rnaseq(deep, seed=0)
    assert same.obs_names.equals(deep.obs_names)
    assert same.var_names.equals(deep.var_names)
    fewer = simu_rnaseq(deep, n_genes=30, n_cells=100, seed=0)
    assert fewer.var_names.is_unique
    assert fewer.var_names.isin(deep.var_names).all()
    more = simu_rnaseq(deep, n_genes=300, n_cells=2000, seed=0)
    assert more.shape == (2000, 300)
    assert more.var_names.is_unique
    assert more.obs_names.is_unique
    assert more.obs_names.str.split("-").str[0].isin(deep.obs_names).all()


def test_genes_that_cannot_be_simulated_are_dropped(caplog):
    reference = counts_adata(np.full(10, 5.0), np.full(10, 1.0))
    X = reference.X.toarray()
    X[:, 2], X[:, 5] = 0, 3  # no counts; no variance
    reference = ad.AnnData(X)
    with caplog.at_level(logging.INFO, logger="flashmm_sc"):
        adata = simu_rnaseq(reference, n_de_genes=0, seed=0)
    assert "Dropped 2 of 10 reference genes: 1 without counts, 1 with variance <= mean." in caplog.text
    assert adata.var_names.tolist() == [str(g) for g in range(10) if g not in (2, 5)]
    np.testing.assert_array_equal(adata.obs["libsize"], X.sum(1))  # of all genes, as in FLASHMM
    assert simu_rnaseq(reference, n_genes=10, n_de_genes=0, seed=0).n_vars == 10


def test_library_sizes_can_be_levelled(deep):
    levelled = simu_rnaseq(deep, adjust_library_size=False, seed=0)
    np.testing.assert_allclose(levelled.obs["libsize"], deep.X.sum() / deep.n_obs)


def test_metadata(deep, caplog):
    metadata = metadata_for(deep.n_obs, deep.obs_names)
    with caplog.at_level(logging.INFO, logger="flashmm_sc"):
        adata = simu_rnaseq(deep, metadata=metadata.assign(extra=1), n_de_genes_per_cluster={"CD4/CD8": 5}, seed=0)
    assert "Treatment stim has effects; controls are 'ctrl'." in caplog.text
    for name in ("sam", "cls", "trt"):
        assert adata.obs[name].tolist() == metadata[name].astype(str).tolist()
    assert "extra" not in adata.obs
    assert adata.var["de_cluster"].tolist() == [""] * 115 + ["CD4/CD8"] * 5
    assert simu_rnaseq(deep, metadata=metadata, treatment="ctrl", seed=0).uns["simu_rnaseq"]["treatment"] == "ctrl"
    ordered = metadata.assign(trt=pd.Categorical(metadata["trt"], ["none", "stim", "ctrl"]))
    assert simu_rnaseq(deep, metadata=ordered, seed=0).uns["simu_rnaseq"]["treatment"] == "ctrl"
    alone = simu_rnaseq(metadata=metadata, n_genes=20, seed=0)
    assert alone.obs_names.equals(deep.obs_names)


# Reproducibility and files


def test_reproducible_with_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(_simu_counts, "BLOCK_VALUES", 2000)
    expected = simu_rnaseq(n_genes=50, n_cells=1000, seed=8)
    assert_same(simu_rnaseq(n_genes=50, n_cells=1000, seed=8), expected)
    monkeypatch.setattr(_simu_counts, "n_threads", lambda n_jobs: 1)
    assert_same(simu_rnaseq(n_genes=50, n_cells=1000, seed=8), expected)
    generated = simu_rnaseq(n_genes=50, n_cells=1000, seed=np.random.default_rng(8))
    assert (generated.X != expected.X).nnz == 0
    assert (simu_rnaseq(n_genes=50, n_cells=1000, seed=9).X != expected.X).nnz > 0


@pytest.mark.parametrize("index_dtype", [np.int32, np.int64])
def test_file_holds_the_same(tmp_path, monkeypatch, capsys, index_dtype):
    monkeypatch.setattr(_simu_counts, "BLOCK_VALUES", 7000)
    monkeypatch.setattr(_simu_counts, "_index_dtype", lambda n_values: index_dtype)
    arguments = {"n_genes": 50, "n_cells": 1000, "seed": 8, "show_progress": True}
    expected = simu_rnaseq(**arguments)
    path = tmp_path / "simulated.h5ad"
    backed = simu_rnaseq(**arguments, filename=str(path))
    assert backed.isbacked
    assert backed.raw is None
    assert_same(backed, expected)
    backed.file.close()
    read = ad.read_h5ad(path)
    assert_same(read, expected)
    np.testing.assert_array_equal(read.X @ np.ones(50), expected.X @ np.ones(50))
    assert list(tmp_path.iterdir()) == [path]
    assert "1.00k/1.00k" in capsys.readouterr().err


def test_nothing_half_written(tmp_path, monkeypatch):
    monkeypatch.setattr(_simu_counts, "BLOCK_VALUES", 5000)
    path = tmp_path / "simulated.h5ad"
    path.write_text("precious")
    draw = _simu_counts.CountModel.draw

    def failing(self, rng, start, stop):
        if start > 500:
            raise MemoryError
        return draw(self, rng, start, stop)

    monkeypatch.setattr(_simu_counts.CountModel, "draw", failing)
    with pytest.raises(MemoryError):
        simu_rnaseq(n_genes=50, n_cells=1000, filename=path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "precious"


@pytest.mark.parametrize("form", ["h5ad", "zarr"])
@pytest.mark.parametrize("source", ["made up", "reference"])
def test_round_trip(deep, tmp_path, form, source):
    if source == "reference":
        metadata = metadata_for(deep.n_obs, deep.obs_names)
        given = {"n_de_genes_per_cluster": {"CD4/CD8": 5}, "treatment": "ctrl", "metadata": metadata}
        adata = simu_rnaseq(deep, **given, seed=np.random.default_rng(0))
    else:
        adata = simu_rnaseq(n_genes=20, n_cells=300, p_de_genes_per_cluster=np.ones(10), seed=2**80)
    getattr(adata, f"write_{form}")(tmp_path / f"x.{form}")
    read = getattr(ad, f"read_{form}")(tmp_path / f"x.{form}")
    assert_same(read, adata)


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_beta": 1, "max_beta": 0.5}, "min_beta < max_beta"),
        ({"min_beta": -1, "max_beta": 1}, "same sign"),
        ({"direction": "up", "min_beta": -1, "max_beta": -0.5}, "give positive bounds"),
        ({"direction": "down"}, "give negative bounds"),
        ({"direction": "sideways"}, "choose one of"),
        ({"var_random_effects": -0.1}, "var_random_effects=-0.1"),
        ({"var_random_effects": np.nan}, "var_random_effects=nan"),
        ({"n_de_genes": 31}, "31 DE genes .* 30 genes"),
        ({"n_de_genes": -1}, "n_de_genes=-1"),
        ({"n_genes": 0}, "n_genes=0"),
        ({"n_cells": 10.5}, "n_cells=10.5"),
        ({"n_cells": 1}, "at least 2"),
        ({"n_cells": None}, "n_genes and n_cells"),
        ({"n_samples": 1}, "can't be nested"),
        ({"n_treatments": 27}, "A to Z"),
        ({"treatment": "C"}, "treatment='C'"),
        ({"n_de_genes_per_cluster": [1, 2]}, "10 clusters"),
        ({"n_de_genes_per_cluster": {"11": 1}}, "cluster '11'.*Did you mean '1'"),
        ({"n_de_genes_per_cluster": [0.5] * 10}, "whole numbers"),
        ({"n_de_genes_per_cluster": [-1] * 10}, "0 or more"),
        ({"n_de_genes_per_cluster": [1] * 10, "n_de_genes": 5}, "sums to 10"),
        ({"n_de_genes_per_cluster": [1] * 10, "p_de_genes_per_cluster": [1] * 10}, "Both"),
        ({"p_de_genes_per_cluster": [0] * 10}, "only zeros"),
        ({"filename": "counts.zarr"}, "must end in .h5ad"),
        ({"filename": "no/such/folder/counts.h5ad"}, "no such folder"),
        ({"metadata": metadata_for(99)}, "99 rows, but n_cells=100"),
        ({"metadata": metadata_for(100).rename(columns={"trt": "trmt"})}, "no column 'trt'. Did you mean 'trmt'"),
        ({"metadata": metadata_for(100).replace({"cls": {"B": None}})}, r"metadata\['cls'\] has 33 missing"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        simu_rnaseq(**{"n_genes": 30, "n_cells": 100, "seed": 0, **arguments})


@pytest.mark.parametrize(
    ("X", "arguments", "message"),
    [
        (None, {}, "reference.X is None"),
        (np.full((5, 3), 0.5), {}, "not counts"),
        (np.full((5, 3), -1.0), {}, "not counts"),
        (np.full((5, 3), np.nan), {}, "not counts"),
        (np.full((5, 3), np.inf), {}, "not counts"),
        (np.ones((5, 3)), {}, "No gene"),
        (np.ones((1, 3)), {}, "at least 2 cells"),
        (np.diag([0, 9.0, 9, 9, 9]), {"n_de_genes": 0}, r"cells without counts \(1\)"),
        (np.eye(5) * 9, {"metadata": metadata_for(4)}, "metadata has 4 rows, but reference has 5 cells"),
        (np.eye(5) * 9, {"metadata": metadata_for(5)[::-1]}, "row 0 of metadata is '4', cell 0 of reference is '0'"),
    ],
)
def test_bad_reference(X, arguments, message):
    reference = (
        ad.AnnData(X)
        if X is not None
        else ad.AnnData(obs=metadata_for(5, list("01234")), var=pd.DataFrame(index=["g"]))
    )
    with pytest.raises(ValueError, match=message):
        simu_rnaseq(reference, **arguments)


def test_wrong_types(deep):
    with pytest.raises(TypeError, match="reference must be an AnnData"):
        simu_rnaseq(deep.X)
    with pytest.raises(TypeError, match="metadata must be a DataFrame"):
        simu_rnaseq(deep, metadata={"sam": []})
