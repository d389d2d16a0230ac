"""Statistics in files: what is loaded is what was saved, and a file appears whole or not at all."""

from __future__ import annotations

import errno
import resource
import signal

import anndata as ad
import h5py
import numpy as np
import pytest
from example_stats import DONORS, stats

import flashmm_sc as fsc

SUMS = ["XX", "XY", "ZX", "ZY", "yy"]
NAMES = ["coef_names", "gene_names", "component_names", "ranef_names", "d", "n", "slopes", "origin", "named_levels"]

CASES = {
    "odd names": {},
    "no origin": {"origin": ""},
    "a long origin": {"origin": "log1p, µ [é] / \\ 'x'"},
    "many cells": {"n": 2**40 + 1},
    "made-up names": {"coef_names": (), "component_names": (), "ranef_names": (), "gene_names": ()},
    "odd coefficients": {"coef_names": ["cls[CD4+/CD8]:trt[T.IFN-β 5%]", ""]},
    "odd levels": {"ranef_names": [f"donor[{'/' * k} ]" for k in range(5)] + ["batch[\n]", "batch[']", "batch[nan]"]},
    "a slope": {"slopes": (True, False)},
    "one gene": {"genes": ["g/1"]},
    "one donor": {"donors": ["only"], "batches": ["x"]},
    "genes that look like numbers": {"genes": ["1", "10", "2", "nan"]},
    "one component": {"component_names": ["donor"], "d": (8,)},
}


def assert_same(a, b):
    for name in SUMS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.ZZ != b.ZZ).nnz == 0
    for name in NAMES:
        ours, theirs = getattr(a, name), getattr(b, name)
        assert type(ours) is type(theirs)
        assert ours == theirs


@pytest.mark.parametrize("case", CASES)
def test_what_is_loaded_is_what_was_saved(tmp_path, case):
    saved = stats(0, **CASES[case])
    saved.save(tmp_path / "stats.h5ad")
    loaded = fsc.SummaryStats.load(str(tmp_path / "stats.h5ad"))
    assert_same(loaded, saved)
    loaded.save(tmp_path / "again.h5ad")
    assert_same(fsc.SummaryStats.load(tmp_path / "again.h5ad"), saved)
    if saved.named_levels:
        assert (loaded + saved).n == 2 * saved.n
    else:
        with pytest.raises(ValueError, match="names of random effects are made up"):
            loaded + saved


def test_loaded_statistics_are_fitted_alike(tmp_path):
    saved = stats(0) + stats(1, DONORS[::-1])
    saved.save(tmp_path / "stats.h5ad")
    a, b = fsc.lmm(saved), fsc.lmm(fsc.SummaryStats.load(tmp_path / "stats.h5ad"))
    for name in ("coef", "se", "p", "theta"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_the_file_is_an_anndata_of_the_genes(tmp_path):
    saved = stats(0)
    saved.save(tmp_path / "stats.h5ad")
    adata = ad.read_h5ad(tmp_path / "stats.h5ad")
    assert list(adata.var_names) == list(saved.gene_names)
    np.testing.assert_array_equal(adata.varm["XY"], saved.XY.T)


@pytest.mark.parametrize("before", [True, False], ids=["a file was there", "none was there"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_a_failed_save_leaves_things_as_they_were(tmp_path, monkeypatch, before, error):
    path = tmp_path / "stats.h5ad"
    if before:
        stats(0).save(path)
    content = path.read_bytes() if before else None

    def write_some(file, *_, **__):
        file["some"] = np.ones(1000)
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(ad.io, "write_elem", write_some)
        with pytest.raises(type(error)):
            stats(1).save(path)
    assert [found.name for found in tmp_path.iterdir()] == (["stats.h5ad"] if before else [])
    if before:
        assert path.read_bytes() == content
        stats(1).save(path)
        assert_same(fsc.SummaryStats.load(path), stats(1))


def test_a_full_disk(tmp_path):
    """A limit on the size of files fails as a full disk does: in the middle of writing."""
    path = tmp_path / "stats.h5ad"
    stats(0).save(path)
    content = path.read_bytes()
    large = stats(1, genes=[f"g{j}" for j in range(20_000)])
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**18, limits[1]))
    try:
        with pytest.raises(OSError, match=r"stats\.h5ad' can't be written: File too large"):
            large.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert [found.name for found in tmp_path.iterdir()] == ["stats.h5ad"]
    assert path.read_bytes() == content


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        stats(0).save(tmp_path / "nowhere" / "stats.h5ad")
    assert not list(tmp_path.iterdir())


def test_other_files_are_refused(tmp_path):
    other = tmp_path / "other.h5ad"
    ad.AnnData(np.eye(3)).write_h5ad(other)
    with pytest.raises(ValueError, match=r"other\.h5ad' holds no summary statistics of flashmm-sc"):
        fsc.SummaryStats.load(other)
    (tmp_path / "text.h5ad").write_text("gene,coef\n")
    with pytest.raises((OSError, ValueError)):
        fsc.SummaryStats.load(tmp_path / "text.h5ad")
    with pytest.raises(FileNotFoundError):
        fsc.SummaryStats.load(tmp_path / "nowhere.h5ad")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_off_is_refused(tmp_path, share):
    whole, part = tmp_path / "stats.h5ad", tmp_path / "part.h5ad"
    stats(0).save(whole)
    content = whole.read_bytes()
    part.write_bytes(content[: int(share * len(content))])
    with pytest.raises((OSError, ValueError)):
        fsc.SummaryStats.load(part)


@pytest.mark.parametrize(
    "name",
    ["varm/XY", "varm/ZY", "varm/yy", "uns/XX", "uns/ZX", "uns/ZZ", "uns/d", "uns/ranef_names", "uns/named_levels"],
)
def test_a_file_that_lacks_a_part_is_refused(tmp_path, name):
    stats(0).save(tmp_path / "stats.h5ad")
    with h5py.File(tmp_path / "stats.h5ad", "r+") as file:
        del file[name]
    with pytest.raises(ValueError, match=rf"stats\.h5ad' lacks '{name.split('/')[1]}'"):
        fsc.SummaryStats.load(tmp_path / "stats.h5ad")
