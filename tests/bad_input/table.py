"""Rows of the table of bad input, and the small data that they share."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

import flashmm_sc as fsc

N, M = 60, 12


def cells() -> ad.AnnData:
    """6 samples of 10 cells, half of them treated, and columns of many kinds."""
    rng = np.random.default_rng(0)
    sample = np.arange(N) % 6
    obs = pd.DataFrame(
        {
            "sam": pd.Categorical([f"s{k}" for k in sample]),
            "trt": pd.Categorical(np.where(sample % 2 == 0, "A", "B")),
            "cls": pd.Categorical(rng.choice(["x", "y"], N)),
            "score": rng.normal(size=N),
            "size": rng.uniform(0.5, 2, N),
            "ok": np.arange(N) % 5 > 0,
        },
        index=[f"c{i}" for i in range(N)],
    )
    var = pd.DataFrame({"use": np.arange(M) % 3 > 0, "symbol": "S"}, index=[f"g{j}" for j in range(M)])
    adata = ad.AnnData(sp.csr_matrix(rng.poisson(3, (N, M)).astype(np.float32)), obs, var)
    adata.layers["counts"], adata.obsm["X_pca"], adata.uns["mine"] = adata.X.copy(), np.ones((N, 2)), {"a": 1}
    return adata


@cache
def _fitted() -> ad.AnnData:
    adata = cells()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fsc.FlashmmWarning)
        own = {"transform": "log1p", "n_jobs": 1}
        fsc.tl.lmm_de(adata, "~ trt + score", "sam", size_factors="total", ranef=True, **own)
        fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", key_added="grp", **own)
        fsc.tl.lmm_de(adata, "~ trt", ["sam", "cls"], key_added="two", **own)
        fsc.tl.nbmm_de(adata, "~ trt", "sam", key_added="nb", n_jobs=1)
        fsc.tl.lmm_test(adata, "trt[T.B]", key="lmm_de", n_jobs=1)
        fsc.tl.lmm_anova(adata, key="lmm_de", n_jobs=1)
        fsc.tl.shrink(adata, key="lmm_de")
        fsc.tl.lmm_variance_test(adata)
    return adata


def fitted() -> ad.AnnData:
    """The cells with results of every kind."""
    return _fitted().copy()


@dataclass(frozen=True)
class Row:
    """One bad input: a call, what it raises and the words that this must contain."""

    name: str
    call: Callable[[Any], Any]
    error: type[Exception] | tuple[type[Exception], ...]
    words: tuple[str, ...]
    make: Callable[[], Any] = cells


def rows(where: str, table: Iterable[tuple[Any, ...]], make: Callable[[], Any] = cells) -> list[Row]:
    """Rows of calls, errors and words, named by where they are and the words."""
    return [
        Row(f"{where}-{i}: {words[0][:40]}", call, error, words, make) for i, (call, error, *words) in _numbered(table)
    ]


def _numbered(table: Iterable[tuple[Any, ...]]) -> Iterable[tuple[int, tuple[Any, ...]]]:
    return ((i, (call, error, *map(str, words))) for i, (call, error, *words) in enumerate(table))


def options(
    where: str, call: Callable[..., Any], table: dict[str, tuple[Any, Iterable[Any]]], make: Callable[[], Any] = cells
) -> list[Row]:
    """Rows of one option each: by its name what it raises, and values. Messages name it."""
    return [
        Row(f"{where}: {name}={str(value)[:20]!r}", _with(call, name, value), error, (name,), make)
        for name, (error, values) in table.items()
        for value in values
    ]


def _with(call: Callable[..., Any], name: str, value: Any) -> Callable[[Any], Any]:
    return lambda given: call(given, **{name: value})


ANY = (TypeError, ValueError)
FLAGS = ["False", 0, None, 2.5, np.zeros(3), [], b"1"]
NUMBERS = ["0.1", None, [0.1], np.nan, np.inf, -1, True, 1j, {}, np.ones(2), 10**400]
WHOLE = [2.5, "3", [1], np.nan, True, {}, 1j]
TEXTS = [3, True, 1.5, ["a"], {}, b"a", np.array(["a"]), pd.NA]
KEYS = ["", ".", "..", "a/b", "a\0b", None, 3, "\ud800", "x" * 300, b"key", ["key"]]
JOBS = [2.5, "3", [1], 0, 10**11, True, np.nan, None.__class__]
