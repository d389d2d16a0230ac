"""The frozen results of FLASHMM, lmerTest and pbkrtest in `reference/`, under this package's names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array, csr_matrix

from flashmm_sc._results.models import Model

HERE = Path(__file__).parent / "reference"

FIXED = "~ 0 + log(libsize) + cls + cls:trt"
ANOVA_FIXED = "~ score + cls * trt"

random_of: dict[str, str | list[str]] = {
    "sam": "sam",
    "sam_batch": ["sam", "batch"],
    "sam_samcls": "sam + sam:cls",
    "sam_samcls_batch": "sam + sam:cls + batch",
    "sam_slope": ["sam", "(0+score|sam)"],
}
"""The designs, and the argument `random` that describes each."""

contrasts_of: dict[str, str] = {
    "all": "(cls[1]:trt[T.B] + cls[2]:trt[T.B] + cls[3]:trt[T.B])/3",
    "d12": "cls[1]:trt[T.B] - cls[2]:trt[T.B]",
}
"""The contrasts in `contrasts()`."""


def formulaic_name(name: str) -> str:
    """R's column name as formulaic writes it: `cls1:trtB` -> `cls[1]:trt[T.B]`."""
    return re.sub(r"\btrt(\w+)", r"trt[T.\1]", re.sub(r"\bcls(\w+)", r"cls[\1]", name))


def _read(name: str, **options: Any) -> pd.DataFrame:
    return pd.read_csv(HERE / f"{name}.csv.gz", **options)


def counts() -> csr_matrix:
    """Counts, cells × genes."""
    return csr_matrix(_read("counts", index_col=0).to_numpy(dtype="float64"))


def genes() -> pd.Index:
    """Names of the genes, in the order of `counts` and of every table."""
    return _read("counts", index_col=0, nrows=0).columns


def obs() -> pd.DataFrame:
    """The cells: sam, cls, trt, libsize, batch, score."""
    return _read("obs", index_col=0, dtype={"cls": str})


def log_counts() -> pd.DataFrame:
    """log2(1 + counts), what FLASHMM fitted."""
    return pd.DataFrame(np.log2(1 + counts().toarray()), columns=genes())


def designs(fixed: str, random: Any) -> tuple[Model, pd.DataFrame, csr_array]:
    """A model of the cells, and its designs X and Z."""
    model, rows = Model.of("", obs(), fixed, random)
    W, p = rows.cut(0, rows.n)[0], len(model.design.fixed.names)
    return model, pd.DataFrame(W[:, :p].toarray(), columns=model.design.fixed.names), W[:, p:]


def load(design: str, method: str = "REML") -> dict[str, pd.DataFrame]:
    """FLASHMM's fit: coef, se, t, p, theta, theta_se, grad, loglik (loglik, n_iter) and, for REML, ranef; genes × columns.

    FLASHMM failed on a few genes: leave out those that are not `converged`.
    """
    wide = _read(f"{design}.{method}", index_col=0)
    pairs = [column.split("|", 1) for column in wide.columns]
    wide.columns = pd.MultiIndex.from_tuples([(table, formulaic_name(name)) for table, name in pairs])
    return {table: wide[table] for table in wide.columns.unique(0)}


def converged(fit: dict[str, pd.DataFrame]) -> pd.Series:
    """Genes for which FLASHMM found a stationary point; V is positive definite at each of them."""
    return fit["grad"].abs().max(axis=1) <= 1e-6


def contrasts() -> pd.DataFrame:
    """`lmmtest` on the REML fit of `sam`: gene, contrast, alternative, coef, t, p."""
    return _read("sam.contrasts")


def lmertest(design: str) -> pd.DataFrame:
    """Coefficients of 15 genes with Satterthwaite's and Kenward and Roger's degrees of freedom; for the first three designs."""
    table = _read(f"{design}.lmertest")
    return table.assign(name=table["name"].map(formulaic_name))


def ash() -> pd.DataFrame:
    """ashr's shrinkage of effects of five studies: study, betahat, s, PosteriorMean, PosteriorSD, lfsr, svalue, pi0, ..."""
    return _read("ash")


def anova() -> pd.DataFrame:
    """F tests of type III for `ANOVA_FIXED`, random `sam`, first gene: ddf, term, sum_sq, mean_sq, num_df, den_df, f, p."""
    return _read("sam.anova_gene1")


def emmeans() -> pd.DataFrame:
    """Answers of emmeans on lmerTest fits: model, gene, question, name, estimate, se, df."""
    return _read("emmeans", dtype={"name": str})


def fitted() -> pd.DataFrame:
    """Points of curves and their 95 % intervals: model, gene, score, trt, fit, se, df, ci_low, ci_high."""
    return _read("fitted")
