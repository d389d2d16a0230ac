"""Generated studies: designs, values and containers, small enough for the definitions, odd enough to find what breaks.

FLASHMM_EXAMPLES=500 draws so many examples of each property, others at every run; by default a few that stay the same.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import scipy.sparse as sp
from containers import stored
from dense_reference import DenseModel
from hypothesis import HealthCheck, Phase, assume, settings
from hypothesis import strategies as st

import flashmm_sc as fsc

MANY = int(os.environ.get("FLASHMM_EXAMPLES", "0"))


def examples(few: int) -> Callable[[Any], Any]:
    """So many examples of a property, or those of the long profile."""
    slow = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    phases = [Phase.generate]  # what is drawn is small already, and most of it follows from a seed
    profile = {"derandomize": not MANY, "deadline": None, "database": None, "phases": phases}
    return settings(max_examples=MANY or few, suppress_health_check=slow, **profile)


seeds = st.integers(0, 2**32 - 1)


@dataclass(frozen=True)
class Shape:
    """Cells of each donor, and what else is drawn."""

    sizes: tuple[int, ...]
    types: int
    batches: int
    seed: int

    @cached_property
    def obs(self) -> pd.DataFrame:
        """Donors (few cells, or one only), an arm of donors, cell types, crossed batches and covariates."""
        rng, donor = np.random.default_rng(self.seed), np.repeat(np.arange(len(self.sizes)), self.sizes)
        n = donor.size
        donor = rng.permutation(donor)
        age = rng.normal(size=len(self.sizes))
        table = {
            "donor": [f"d{k}" for k in donor],
            "arm": np.where(donor % 2, "treated", "control"),
            "cls": [f"t{k}" for k in rng.integers(self.types, size=n)],
            "batch": [f"b{k}" for k in rng.integers(self.batches, size=n)],
            "age": age[donor],
            "x": rng.normal(0.5, 1, n),
            "z": rng.uniform(-1, 1, n),
        }
        return pd.DataFrame(table, index=[f"cell{i}" for i in range(n)])


def shapes(donors: tuple[int, int] = (4, 8), cells: int = 9) -> st.SearchStrategy[Shape]:
    """Unbalanced: 1 to `cells` cells a donor."""
    sizes = st.lists(st.integers(1, cells), min_size=donors[0], max_size=donors[1]).map(tuple)
    return st.builds(Shape, sizes, st.integers(2, 3), st.integers(2, 5), seeds)


# Models of arrays

FIXED = {
    "intercept": ("1",),
    "arm": ("1", "arm"),
    "covariates": ("1", "arm", "x", "age"),
    "types": ("cls",),
    "types and covariate": ("cls", "x", "arm"),
}
RANDOM: dict[str, tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]] = {
    "donor": (("donor",), ()),
    "crossed": (("donor", "batch"), ()),
    "nested": (("donor", "donor cls"), ()),
    "slope": (("donor", "x donor"), ()),
    "correlated": (("donor", "x donor"), ((0, 1),)),
    "correlated three": (("donor", "x donor", "z donor"), ((0, 1, 2),)),
    "correlated and crossed": (("donor", "x donor", "batch"), ((0, 1),)),
    "three": (("donor", "donor cls", "batch"), ()),
    "slope of batch": (("donor", "z batch", "batch"), ()),
}


@dataclass(frozen=True, eq=False)
class Arrays:
    """A model of arrays: cells × columns, cells × genes."""

    X: np.ndarray
    Z: np.ndarray
    d: tuple[int, ...]
    Y: np.ndarray
    correlated: tuple[tuple[int, ...], ...] = ()
    weights: np.ndarray | None = None

    def fit(self, **options: Any) -> fsc.LMMFit:
        """By the package."""
        own = {"correlated": self.correlated, "weights": self.weights, "n_jobs": 1}
        return fsc.lmmfit(self.Y, self.X, self.Z, list(self.d), **own | options)

    def model(self, gene: int, method: str) -> DenseModel:
        """By the definitions: the residual variance of a cell of weight w is s_0 / w, as that of √w y."""
        root = np.ones((len(self.X), 1)) if self.weights is None else np.sqrt(self.weights)[:, None]
        return DenseModel(self.Y[:, gene] * root[:, 0], self.X * root, self.Z * root, self.d, method, self.correlated)

    @property
    def log_weights(self) -> float:
        """What weights add to the log-likelihood."""
        return 0.0 if self.weights is None else float(np.log(self.weights).sum() / 2)

    def with_genes(self, Y: np.ndarray) -> Arrays:
        """The same design."""
        return replace(self, Y=Y)


def columns(obs: pd.DataFrame, name: str) -> np.ndarray:
    """Columns of a term: factors, products with numbers."""
    *numbers, last = name.split(" ")
    if last == "1":
        return np.ones((len(obs), 1))
    if last in {"x", "z", "age"}:
        return obs[[last]].to_numpy()
    if last == "arm":
        return (obs[["arm"]] == "treated").to_numpy(float)
    levels = obs[last] if not numbers or numbers[0] in {"x", "z"} else obs[numbers.pop()] + obs[last]
    return pd.get_dummies(levels).to_numpy(float) * (obs[numbers].to_numpy() if numbers else 1.0)


@st.composite
def arrays(
    draw: st.DrawFn, genes: int = 3, fixed: tuple[str, ...] = tuple(FIXED), random: tuple[str, ...] = tuple(RANDOM)
) -> Arrays:
    """Models that can be fitted, with genes whose variance components are zero, small or large."""
    shape = draw(shapes())
    obs, rng = shape.obs, np.random.default_rng(shape.seed + 1)
    terms, correlated = RANDOM[draw(st.sampled_from(random))]
    X = np.hstack([columns(obs, name) for name in FIXED[draw(st.sampled_from(fixed))]])
    parts = [columns(obs, name) for name in terms]
    weights = draw(st.none() | st.just(rng.uniform(0.3, 3, len(obs))))
    Z, d = np.hstack(parts), tuple(part.shape[1] for part in parts)
    b = [rng.normal(size=(size, genes)) for size in d]
    for group in correlated:
        root = np.tril(rng.normal(size=(len(group), len(group))))
        for k, mixed in zip(group, np.einsum("kl,lij->kij", root, [b[k] for k in group]), strict=True):
            b[k] = mixed
    sd = rng.choice([0.0, 0.1, 0.7, 2.0], (len(d), genes))
    effects = [size * own for size, own in zip(sd, b, strict=True)]
    Y = X @ rng.normal(size=(X.shape[1], genes)) + Z @ np.vstack(effects) + rng.normal(size=(len(obs), genes))
    if draw(st.booleans()):
        Y = np.round(np.maximum(Y, 0))
    made = Arrays(X, Z, d, Y, correlated, weights)
    assume(np.linalg.matrix_rank(X) == X.shape[1] and len(X) - X.shape[1] >= 5)
    assume(fits(made))
    return made


def fits(made: Arrays) -> bool:
    """Whether the package takes the design."""
    try:
        made.with_genes(made.Y[:, :0]).fit(nonnegative=True)
    except ValueError as error:
        if not told(error):
            raise
        return False
    return True


def told(error: ValueError, *others: str) -> bool:
    """Whether it tells of a design that is no good: components that residuals or fixed columns explain, too few levels."""
    known = "can't be told apart", "lies within the fixed columns", "level", "can't be estimated", "rank deficient"
    return any(word in str(error) for word in (*known, *others))


# Studies of cells

CALLS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "donor": ("~ arm", "donor", {}),
    "types": ("~ 0 + cls + cls:arm", "donor + donor:cls", {}),
    "crossed": ("~ arm + age", "donor + batch", {}),
    "each type": ("~ arm", "donor", {"groupby": "cls", "min_cells": 5}),
    "residuals": ("~ 0 + cls + cls:arm", ["donor", "(0 + cls || donor)"], {"residual_by": "cls"}),
    "covariate": ("~ arm + x", "donor + batch", {}),
    "slope": ("~ arm + x", "(1 + x || donor)", {}),
    "correlated": ("~ x", "(1 + x | donor)", {"nonnegative": True}),
    "three": ("~ 0 + cls + x", "donor + donor:cls + batch", {}),
}
OF_STRATA = "donor", "types", "crossed", "each type", "residuals"
"""Whose columns are constant within donors, types and batches."""


@dataclass(frozen=True, eq=False)
class Study:
    """Counts of cells, and a call that fits them."""

    obs: pd.DataFrame
    counts: np.ndarray
    fixed: str
    random: Any
    options: dict[str, Any]

    @property
    def var(self) -> pd.DataFrame:
        """Genes."""
        return pd.DataFrame(index=[f"gene{j}" for j in range(self.counts.shape[1])])

    def adata(self, X: Any = None) -> ad.AnnData:
        """The cells, dense unless another matrix is given."""
        return ad.AnnData(self.counts.copy() if X is None else X, self.obs.copy(), self.var)

    def run(self, adata: Any, **changes: Any) -> ad.AnnData:
        """What `lmm_de` makes of the cells."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fsc.FlashmmWarning)  # of groups that are left out
            done = fsc.tl.lmm_de(adata, self.fixed, self.random, **{"n_jobs": 1} | self.options | changes)
        return adata if done is None else done


@st.composite
def studies(draw: st.DrawFn, calls: tuple[str, ...] = tuple(CALLS), genes: int = 6) -> tuple[Study, ad.AnnData]:
    """Studies that can be fitted, and their results; some genes are rare or absent, some cells empty."""
    shape = draw(shapes((4, 7), 14))
    obs, rng = shape.obs, np.random.default_rng(shape.seed + 1)
    assume(len(obs) >= 20)
    fixed, random, options = CALLS[draw(st.sampled_from(calls))]
    mean = np.exp(rng.normal(0.5, 0.8, genes) + rng.normal(0, 0.7, (8, genes))[pd.factorize(obs["donor"])[0]])
    counts = np.minimum(rng.poisson(mean * rng.gamma(2, 0.5, mean.shape)), 200).astype(float)
    counts[:, 0] *= rng.random(len(obs)) < 0.1
    counts[:, 1] = 0
    counts[rng.random(len(obs)) < 0.05] = 0
    obs["depth"], obs["precision"] = rng.uniform(0.5, 2, len(obs)), rng.uniform(0.3, 3, len(obs))
    values = draw(st.sampled_from([{}, {"transform": "log1p"}, {"transform": "log2p1", "size_factors": "depth"}]))
    own = {
        "weights": draw(st.sampled_from([None, "precision"])),
        "method": draw(st.sampled_from(["REML", "ML"])),
        "min_fraction": draw(st.sampled_from([0.0, 0.1])),
    }
    if "residual_by" not in options:
        own["ddf"] = draw(st.sampled_from(["satterthwaite", "residual", "kenward-roger"]))
        own["nonnegative"] = draw(st.booleans())
        if own["ddf"] == "kenward-roger":
            own["method"] = "REML"
    study = Study(obs, counts, fixed, random, values | own | options)
    try:
        return study, study.run(study.adata())
    except ValueError as error:
        assume(not told(error, "groups", "in no group", "no residual degrees of freedom"))
        raise


def numbers(adata: ad.AnnData, key: str = "lmm_de") -> dict[str, pd.DataFrame]:
    """Results with the names of genes and columns, both sorted."""
    entry = adata.uns[key]
    names = {"theta": "theta_names", "theta_se": "theta_names", "loglik": "groups", "status": "groups"}
    names |= dict.fromkeys(("coef", "se", "t", "df", "pval"), "coef_names")
    found = {}
    for name, axis in names.items():
        if f"{key}_{name}" in adata.varm:
            table = np.asarray(adata.varm[f"{key}_{name}"])
            labels = list(entry[axis]) if table.shape[1] == len(entry[axis]) else ["all"]
            found[name] = pd.DataFrame(table, adata.var_names, labels).sort_index(axis=0).sort_index(axis=1)
    return found


def assert_same_numbers(ours: dict[str, pd.DataFrame], theirs: dict[str, pd.DataFrame], rtol: float = 1e-10) -> None:
    """To 1e-10 of what the data can tell: coefficients of their standard errors, variances of the largest of a gene."""
    assert ours.keys() == theirs.keys()
    se, p, t = theirs["se"], theirs["pval"], theirs["t"]
    theta = theirs["theta"]
    units = {
        "coef": theirs["coef"].abs() + se,
        "t": 1 + t.abs(),
        "pval": p * (1 + t**2),
        "theta": theta * 0 + theta.abs().max(axis=1).to_numpy()[:, None],
        "theta_se": theirs["theta_se"] * 0 + theirs["theta_se"].max(axis=1).to_numpy()[:, None],
        "loglik": 1 + theirs["loglik"].abs(),
    }
    for name, expected in theirs.items():
        found, unit = ours[name], units.get(name, expected).to_numpy(float)
        assert list(found.index) == list(expected.index)
        assert list(found.columns) == list(expected.columns)
        a, b = found.to_numpy(float), expected.to_numpy(float)
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b), err_msg=name)
        with np.errstate(invalid="ignore"):
            wrong = np.abs(a - b) > rtol * np.abs(unit) + 1e-300
        assert not wrong.any(), (name, a[wrong], b[wrong], unit[wrong])


# Matrices


def explicit_zeros(values: np.ndarray, kind: type) -> Any:
    """Sparse, with every third value stored, be it zero or not."""
    kept = (values != 0) | (np.arange(values.size).reshape(values.shape) % 3 == 0)
    return kind((values[kept], np.nonzero(kept)), shape=values.shape)


def in_dask(values: np.ndarray, kind: Callable[[Any], Any], rows: int) -> Any:
    """Chunks of some rows."""
    meta = kind(np.zeros((0, 0), values.dtype))
    return da.from_array(values, chunks=(rows, values.shape[1])).map_blocks(kind, dtype=values.dtype, meta=meta)


MATRICES: dict[str, Callable[[np.ndarray], Any]] = {
    "explicit zeros csr": lambda values: explicit_zeros(values, sp.csr_matrix),
    "explicit zeros csc": lambda values: explicit_zeros(values, sp.csc_matrix),
    "dask dense": lambda values: in_dask(values, np.asarray, 7),
    "dask csr": lambda values: in_dask(values, sp.csr_matrix, 11),
}


def stored_in(name: str, study: Study, dtype: str, folder: Path) -> ad.AnnData:
    """The study in any container."""
    values = study.counts.astype(dtype)
    if name in MATRICES:
        return study.adata(MATRICES[name](values))
    return stored(name, values, folder, study.obs.copy(), study.var)
