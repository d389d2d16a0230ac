"""Small data that the tests of the AnnData face share."""

from __future__ import annotations

import gc
import os

import anndata as ad
import numba
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from containers import CONTAINERS, stored
from hypothesis import settings
from plain_python import stand_in
from threadpoolctl import threadpool_limits

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores, and BLAS's threads would wait for each other
    threadpool_limits(limits=1, user_api="blas")


gc.set_threshold(500_000, 10, 10)


def pytest_collection_finish():
    """Everything imported is here to stay; the garbage collector, which looked at it again and again, took a quarter of the time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Neighbours run in one process, and share what their module sets up."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getoption("dist") == "load" else None


settings.register_profile("no deadline", deadline=None)  # the first example may compile, and machines are busy
settings.load_profile("no deadline")

if numba.config.DISABLE_JIT:
    stand_in()

N_CELLS, N_GENES = 160, 12


@pytest.fixture(scope="session")
def cells():
    """8 samples, half of them treated (trt), of two cell types (cls), in three batches that cross them."""
    rng = np.random.default_rng(1)
    sample = np.arange(N_CELLS) % 8
    columns = {
        "sam": np.array([f"s{k}" for k in sample], dtype=object),
        "trt": np.where(sample % 2 == 0, "A", "B").astype(object),
        "cls": rng.choice(np.array(["B", "NK"], dtype=object), N_CELLS),
        "batch": rng.choice(np.array(["x", "y", "z"], dtype=object), N_CELLS),
        "score": rng.normal(size=N_CELLS),
    }
    return pd.DataFrame(columns, index=[f"cell{i}" for i in range(N_CELLS)])


@pytest.fixture(scope="session")
def genes():
    return pd.DataFrame({"use": np.arange(N_GENES) % 3 > 0}, index=[f"gene{j}" for j in range(N_GENES)])


@pytest.fixture(scope="session")
def counts(cells):
    """Whole numbers, up to 200 so that their squares overflow 8 bits; more in treated cells for odd genes."""
    rng = np.random.default_rng(2)
    sample = cells["sam"].str[1:].to_numpy(int)
    treated = (cells["trt"] == "B").to_numpy()
    log_mean = rng.normal(0.5, 0.5, N_GENES) + rng.normal(0, 0.5, (8, N_GENES))[sample]
    log_mean[:, 1::2] += 0.8 * treated[:, None]
    values = np.minimum(rng.negative_binomial(2, 2 / (2 + np.exp(log_mean))), 200)
    values[3, 5] = 200
    return values.astype(float)


@pytest.fixture
def adata(counts, cells, genes):
    """Counts as CSR float32, as most people have them."""
    return ad.AnnData(sp.csr_matrix(counts, dtype=np.float32), cells.copy(), genes.copy())


@pytest.fixture(params=CONTAINERS)
def container(request, tmp_path):
    """A function that puts values into an AnnData whose X is in one of all the containers."""
    made = []

    def put(values, obs=None, var=None):
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(stored(request.param, values, folder, obs, var))
        return made[-1]

    yield put
    for adata in made:
        if adata.isbacked:
            adata.file.close()
