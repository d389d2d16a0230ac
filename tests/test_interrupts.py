"""Ctrl-C at points all over a call: nothing half-written, nothing left, and the next call gives the same numbers.

FLASHMM_INTERRUPTS=300 tries as many points of each call, more of them in what others wrote.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import anndata as ad
import numpy as np
import pytest
from containers import assert_same

import flashmm_sc as fsc

N = int(os.environ.get("FLASHMM_INTERRUPTS", "6"))


def lmm_de(adata, path):
    fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", size_factors="total", n_jobs=2)


def nbmm_de(adata, path):
    fsc.tl.nbmm_de(adata, "~ trt", "sam", n_jobs=2)


def aggregate(adata, path):
    fsc.pp.aggregate(adata, ["sam", "cls"], out=path, n_jobs=2)


def assert_same_results(one, other):
    assert {*one.uns} == {*other.uns}
    assert {*one.varm} == {*other.varm}
    for name in one.varm:
        np.testing.assert_allclose(one.varm[name], other.varm[name], rtol=1e-10, atol=1e-10, err_msg=name)


class Struck:
    """Counts calls of our functions, or of all if `everywhere`; interrupts the `at`-th."""

    def __init__(self, at=0, *, everywhere=False):
        self.at, self.everywhere, self.n = at, everywhere, 0

    def __call__(self, frame, event, arg):
        if event == "call" and (self.everywhere or "flashmm_sc" in frame.f_code.co_filename):
            self.n += 1
            if self.n == self.at:
                signal.raise_signal(signal.SIGINT)

    def run(self, call, *args):
        sys.setprofile(self)
        try:
            call(*args)
        except KeyboardInterrupt:
            return True
        finally:
            sys.setprofile(None)
        return False


@pytest.mark.filterwarnings("ignore:Only 12 genes are fitted")
@pytest.mark.parametrize("call", [lmm_de, nbmm_de, aggregate])
@pytest.mark.parametrize("everywhere", [False, True])
def test_interrupts(adata, tmp_path, monkeypatch, call, everywhere):
    def opened():
        return ad.read_h5ad(tmp_path / "x.h5ad", backed="r")

    adata.write_h5ad(tmp_path / "x.h5ad", compression="gzip")
    path, whole = tmp_path / "sums.h5ad", opened()
    call(whole, path)
    sums = ad.read_h5ad(path) if path.exists() else None
    counter = Struck(everywhere=everywhere)
    counter.run(call, opened(), path)
    threads, ended = threading.active_count(), []
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)  # what Python swallows doesn't end the call
    for at in np.linspace(1, 0.9 * counter.n, N).astype(int):
        one = opened()
        path.write_text("old")
        ended.append(Struck(at, everywhere=everywhere).run(call, one, path))
        if one.uns or one.varm:
            assert_same_results(one, whole)
        if path.read_bytes() != b"old":
            assert_same(ad.read_h5ad(path).X, sums.X)
        assert {found.name for found in tmp_path.iterdir()} == {"x.h5ad", "sums.h5ad"}
        for _ in range(500):
            if threading.active_count() <= threads:
                break
            time.sleep(0.01)
        assert threading.active_count() <= threads
        one.file.close()
    assert any(ended)
    again = opened()
    call(again, path)
    assert_same_results(again, whole)
