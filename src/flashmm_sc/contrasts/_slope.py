"""Slopes of covariates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flashmm_sc._design.questions import Question, Slope, names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def slope(
    covariate: str,
    per: float = 1,
    by: str | Sequence[str] | None = None,
    *,
    at: Mapping[str, Any] | None = None,
) -> Question:
    """The slope of a covariate, whatever the formula makes of it.

    The derivative of the mean at the covariate's mean over the cells, through logarithms, polynomials, splines and
    interactions, times `per`. R's ``emtrends(fit, ~ by, var = covariate)``.

    Parameters
    ----------
    covariate
        Column of numbers in the model.
    per
        Units of the covariate that the slope is for: ``per=10`` for years gives the change in ten years.
    by
        Ask in each level of this factor, or in each combination of the levels of several; a covariate needs values in
        `at`.
    at
        Values of other columns in place of their mean or of all their levels, ``{"age": 40}``; several are averaged over.
        Of the covariate itself one value, at which the slope is taken.

    Returns
    -------
    A question, for ``contrasts=`` of `flashmm_sc.tl.lmm_de`, and for `flashmm_sc.tl.lmm_test`. Answers are called
    "age per 10", and "age per 10, cls=B" with `by`.

    Raises
    ------
    TypeError, ValueError
        For arguments of a wrong type, and a column that is in `by` as well. What the model can't answer is refused by the
        function that takes the question: columns that are not in the formula, unknown levels, values outside of the data.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ cls * log(libsize) + trt", "sam + sam:cls", transform="log1p")
    >>> fsc.tl.lmm_test(adata, fsc.contrasts.slope("libsize", per=10, by="cls"))
    >>> adata.uns["lmm_test"]["coef_names"].tolist()
    ['libsize per 10, cls=1', 'libsize per 10, cls=2']
    """
    return Slope(covariate, names(by), {} if at is None else at, per)
