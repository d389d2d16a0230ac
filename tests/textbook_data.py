"""Textbook data sets, and the fits of lme4, lmerTest and pbkrtest in `reference/textbook`, under this package's names."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent / "reference" / "textbook"


@cache
def _results(table: str) -> pd.DataFrame:
    return pd.read_csv(HERE / f"lmer_{table}.csv.gz", keep_default_na=False, na_values=["NA"])


@cache
def data(name: str) -> pd.DataFrame:
    """A data set: columns that R quotes are factors."""
    with gzip.open(HERE / f"{name}.csv.gz", "rt") as file:
        header, *rows = csv.reader(file, quoting=csv.QUOTE_NONNUMERIC)
    return pd.DataFrame(rows, columns=header, index=[str(i) for i in range(len(rows))])


@dataclass(frozen=True)
class Textbook:
    """A model of `reference/textbook/make_textbook.R`: its name there, the same in this package's words.

    `data` has cells in rows, and `genes`, its responses, among the columns; `contrast` is what R's tests call "contrast".
    """

    name: str
    data: str
    fixed: str
    random: str
    contrast: str
    weights: str | None = None

    @cached_property
    def genes(self) -> list[str]:
        """Responses that R has fitted."""
        fits = _results("fits")
        return list(fits.loc[fits["model"] == self.name, "gene"].unique())

    @property
    def obs(self) -> pd.DataFrame:
        """What the responses may depend on."""
        return data(self.data).drop(columns=self.genes)

    @property
    def Y(self) -> pd.DataFrame:
        """Responses, cells × genes."""
        return data(self.data)[self.genes]

    def lmer(self, table: str, method: str, **where: str) -> pd.DataFrame:
        """Rows of a table of R's results; names as here, with the column `component` in tables of random effects."""
        rows = _results(table).query("model == @self.name and method == @method")
        for column, value in where.items():
            rows = rows[rows[column] == value]
        for column in rows.columns.intersection(["name", "row", "column"]):
            rows = rows.assign(**{column: rows[column].map(self._coef)})
        if "effect" in rows:
            rows = rows.assign(component=list(map(self._component, rows["group"], rows["effect"])))
        return rows.drop(columns=["model", "method", *where])

    def wide(self, table: str, method: str, value: str, by: str | list[str], **where: str) -> pd.DataFrame:
        """One column of such a table, genes × the names in column `by`."""
        rows = self.lmer(table, method, **where)
        return rows.pivot_table(value, "gene", by).loc[self.genes]

    def variances(self, method: str) -> pd.DataFrame:
        """Variance components, genes × components with covariances and the residual."""
        rows = self.lmer("varcorr", method)
        others = map(self._component, rows["group"], rows["other"])
        pairs = zip(rows["component"], others, rows["other"].notna(), strict=True)
        names = [f"cov({one}, {other})" if both else one for one, other, both in pairs]
        return rows.assign(component=names).pivot_table("cov", "gene", "component").loc[self.genes]

    @cached_property
    def _parts(self) -> dict[str, str]:
        """formulaic's names for R's: recipeB is recipe[T.B]."""
        obs = self.obs
        factors = [column for column in obs if isinstance(obs[column].iloc[0], str)]
        names = {f"{factor}{level}": f"{factor}[T.{level}]" for factor in factors for level in obs[factor].unique()}
        return {"(Intercept)": "Intercept"} | names

    def _coef(self, name: str) -> str:
        return ":".join(self._parts.get(part, part) for part in name.split(":"))

    def _component(self, group: str, effect: object) -> str:
        if group == "Residual":
            return "residual"
        return group if effect == "(Intercept)" else f"{self._coef(str(effect))}|{group}"


def containment_df(X: np.ndarray, Z: np.ndarray, c: np.ndarray) -> float:
    """Levels left beyond the fixed columns if c'β can't be told from differences within them, else infinity."""
    rank = np.linalg.matrix_rank
    within = X - Z @ np.linalg.lstsq(Z, X, rcond=None)[0]
    if rank(np.vstack([within, c]), tol=1e-8) == rank(within, tol=1e-8):
        return np.inf
    return rank(np.hstack([X, Z]), tol=1e-8) - rank(X, tol=1e-8)


MODELS = {
    model.name: model
    for model in [
        Textbook("sleepstudy", "sleepstudy", "~ Days", "(1 | Subject)", "Intercept + 9 * Days"),
        Textbook("sleepstudy_independent", "sleepstudy", "~ Days", "(1 + Days || Subject)", "Intercept + 9 * Days"),
        Textbook("Dyestuff", "Dyestuff", "~ 1", "(1 | Batch)", "2 * Intercept"),
        Textbook("Penicillin", "Penicillin", "~ 1", "(1 | plate) + (1 | sample)", "2 * Intercept"),
        Textbook("Pastes", "Pastes", "~ 1", "(1 | batch/cask)", "2 * Intercept"),
        Textbook("cake", "cake", "~ recipe * temperature", "(1 | recipe:replicate)", "recipe[T.B] - recipe[T.C]"),
        Textbook(
            "cake_additive",
            "cake",
            "~ recipe + temperature",
            "(1 | recipe:replicate)",
            "temperature[T.195] - temperature[T.185]",
        ),
        Textbook("cake_linear", "cake", "~ recipe + temp", "(1 | recipe:replicate)", "Intercept + 200 * temp"),
        Textbook("Machines", "Machines", "~ Machine", "(1 | Worker/Machine)", "Machine[T.B] - Machine[T.C]"),
        Textbook(
            "Oats", "Oats", "~ nitro + Variety", "(1 | Block/Variety)", "Variety[T.Marvellous] - Variety[T.Victory]"
        ),
        Textbook("InstEval", "InstEval", "~ service + studage", "(1 | s) + (1 | d)", "studage[T.4] - studage[T.6]"),
        Textbook(
            "InstEval_departments", "InstEval", "~ service", "(1 | d) + (1 | dept)", "Intercept + 0.5 * service[T.1]"
        ),
        Textbook("drawn_independent", "drawn", "~ x + trt", "(1 + x || donor) + (1 | batch)", "trt[T.b] - trt[T.c]"),
        Textbook("sleepstudy_correlated", "sleepstudy", "~ Days", "(Days | Subject)", "Intercept + 9 * Days"),
        Textbook("Machines_correlated", "Machines", "~ Machine", "(Machine | Worker)", "Machine[T.B] - Machine[T.C]"),
        Textbook("drawn_slope", "drawn", "~ x + trt", "(1 + x | donor)", "trt[T.b] - trt[T.c]"),
        Textbook("drawn_two_slopes", "drawn", "~ x + z", "(0 + x + z | donor)", "x - z"),
        Textbook("drawn_factor", "drawn", "~ trt", "(trt | donor)", "trt[T.b] - trt[T.c]"),
        Textbook("drawn_slope_batch", "drawn", "~ x + trt", "(1 + x | donor) + (1 | batch)", "trt[T.b] - trt[T.c]"),
        Textbook("drawn_weights", "drawn", "~ x + trt", "(1 | donor)", "trt[T.b] - trt[T.c]", "w"),
        Textbook("drawn_weights_slope", "drawn", "~ x + trt", "(1 + x | donor)", "trt[T.b] - trt[T.c]", "w"),
    ]
}
