"""Linear mixed models in pertpy's interface of differential expression. Needs pertpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pandas as pd
from pandas.api.types import is_list_like

from flashmm_sc._design.random_terms import quoted
from flashmm_sc._design.reference_grid import ReferenceGrid
from flashmm_sc._results.finding import found_fit
from flashmm_sc.get import lmm_de_df
from flashmm_sc.tl import lmm_de, lmm_test

try:
    from pertpy.tools._differential_gene_expression import LinearModelBase
except ImportError as error:
    msg = "flashmm_sc.pertpy needs pertpy: pip install pertpy. fsc.tl.lmm_de and all else do without it."
    raise ImportError(msg) from error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Set

    from anndata import AnnData

    from flashmm_sc._design.random_terms import Random

__all__ = ["LMM"]

_TEST = "test"
"""Key of the contrast that is tested."""


class LMM(LinearModelBase):
    """Differential expression with a linear mixed model: two formulas, of fixed and of random effects.

    pertpy's `fit`, `cond`, `contrast`, `test_contrasts`, `compare_groups` and plots, over `flashmm_sc.tl.lmm_de`. The
    AnnData is left as it is, its matrix may be sparse, backed or of dask, and no dense copy nor dense design is made.

    Parameters
    ----------
    adata
        Cells × genes, not pseudobulks: their donors are the random effects.
    design
        Formula of the fixed effects, ``"~ trt"``.
    random
        Random terms, ``"donor"``, as of `flashmm_sc.tl.lmm_de`.
    mask
        Column of `adata.var`, true for genes to fit.
    layer
        Layer to use instead of `adata.X`.

    Attributes
    ----------
    results
        After `fit`: an AnnData with the genes, no cells, and the fit, which `flashmm_sc.get` and `flashmm_sc.pl` take.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> from flashmm_sc.pertpy import LMM
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> model = LMM(adata, "~ cls * trt", ["sam", "(0 + cls || sam)"])
    >>> model.fit(transform="log1p", size_factors="total", residual_by="cls")
    >>> effect = model.cond(cls="2", trt="B") - model.cond(cls="2", trt="A")
    >>> model.test_contrasts({"in 2": effect})[["variable", "p_value", "log_fc", "adj_p_value", "contrast"]].shape
    (50, 5)
    """

    def __init__(
        self, adata: AnnData, design: str, random: Random, *, mask: str | None = None, layer: str | None = None
    ) -> None:
        # not pertpy's own, which reads the whole matrix and makes a dense design; all it checks, `lmm_de` checks
        self.adata, self.design, self.random, self.mask, self.layer = adata, design, random, mask, layer
        self._fitted = False

    def fit(self, **options: Any) -> None:
        """Fit the model.

        Parameters
        ----------
        **options
            Those of `flashmm_sc.tl.lmm_de`: ``transform="log1p"``, ``size_factors="total"``, ``moderate=True``, ...
        """
        if options.get("groupby") is not None:
            msg = (
                "groupby= makes a model for each group, LMM is one; use fsc.tl.lmm_de, or an LMM of the cells of each."
            )
            raise ValueError(msg)
        found = lmm_de([self.adata], self.design, self.random, layer=self.layer, mask_var=self.mask, **options)
        self.results = cast("AnnData", found)
        self._fitted = True

    @classmethod
    def compare_groups(
        cls,
        adata: AnnData,
        column: str,
        baseline: str,
        groups_to_compare: str | Iterable[str],
        *,
        paired_by: str | None = None,
        mask: str | None = None,
        layer: str | None = None,
        fit_kwargs: Mapping[str, Any] | None = None,
        test_kwargs: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Compare groups of cells with a baseline, with a random intercept of each sample.

        Parameters
        ----------
        adata
            Cells × genes.
        column
            Column of `adata.obs` with the groups.
        baseline
            Group to compare with.
        groups_to_compare
            One group or several.
        paired_by
            Column of `adata.obs` with the samples: the one random term, for groups that differ between samples. Where donors are in
            both groups, cells of a sample would be taken for independent: write ``LMM(adata, "~ trt", ["donor", "donor:trt"])``.
        mask, layer
            As of the model.
        fit_kwargs, test_kwargs
            Options of `fit` and of `test_contrasts`.

        Returns
        -------
        DataFrame as that of `test_contrasts`, contrasts called as the groups.
        """
        if paired_by is None:
            msg = "paired_by: name the column of adata.obs with the samples, whose cells are alike; they are the random effects."
            raise ValueError(msg)
        groups = list(groups_to_compare) if is_list_like(groups_to_compare) else [groups_to_compare]
        model = cls(adata, f"~ C({quoted(column)})", quoted(paired_by), mask=mask, layer=layer)
        model.fit(**(fit_kwargs or {}))
        contrasts = {group: model.contrast(column, baseline, group) for group in groups}
        return model.test_contrasts(contrasts, **(test_kwargs or {}))

    def cond(self, **conditions: Any) -> pd.Series:
        """The mean of a condition, as weights of the coefficients.

        Parameters
        ----------
        **conditions
            Columns and their values. Others are at their reference level, or, of numbers, at their mean over the cells.

        Returns
        -------
        Series, a weight a coefficient; differences of such are contrasts.
        """
        grid = self._grid()
        usual = {name: next(iter(levels)) for name, levels in grid.factors.items()}
        points = {name: grid.values(name, value, "cond()") for name, value in (usual | conditions).items()}
        return pd.Series(grid.rows(points)[0], index=found_fit(self.results, None).names("coef_names"))

    def contrast(self, column: str, baseline: Any, group_to_compare: Any) -> pd.Series:
        """The difference between a group and a baseline, other columns as in `cond`.

        Parameters
        ----------
        column
            Column of `adata.obs`.
        baseline, group_to_compare
            Two of its values.

        Returns
        -------
        Series, a weight a coefficient.
        """
        return self.cond(**{column: group_to_compare}) - self.cond(**{column: baseline})

    @property
    def variables(self) -> Set[str]:
        """Columns of obs that the fixed effects use."""
        grid = self._grid()
        return {*grid.factors, *grid.covariates}

    def _grid(self) -> ReferenceGrid:
        if not self._fitted:
            msg = "The model is not fitted yet; call fit() first."
            raise RuntimeError(msg)
        return ReferenceGrid.read(str(found_fit(self.results, None).models[0].get("design", "")))

    def _test_single_contrast(self, contrast: Any, **options: Any) -> pd.DataFrame:
        """Tests of all genes by p-value; `options` of `flashmm_sc.tl.lmm_test`."""
        self._grid()
        lmm_test(self.results, {"contrast": contrast}, key_added=_TEST, **options)
        table = lmm_de_df(self.results, key=_TEST).drop(columns="contrast")
        return table[table["status"] != "masked"].sort_values("p_value", ignore_index=True)

    def _summary(self) -> dict[str, str]:
        summary = {
            "Data": f"{self.adata.n_obs:,} obs × {self.adata.n_vars:,} vars",
            "Layer": self.layer or "X",
            "Fixed": self.design,
            "Random": str(self.random),
            "Fitted": "yes" if self._fitted else "no",
        }
        if self._fitted:
            summary["Coefficients"] = ", ".join(found_fit(self.results, None).names("coef_names"))
        return summary

    def _check_counts(self) -> None:
        """`flashmm_sc.tl.lmm_de` checks the values as it reads them."""
