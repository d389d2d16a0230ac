"""Levels against the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flashmm_sc._design.questions import Each, Question, names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def each(
    factor: str,
    by: str | Sequence[str] | None = None,
    *,
    ref: str | float | None = None,
    at: Mapping[str, Any] | None = None,
) -> Question:
    """Compare every other level of a factor with the reference.

    Differences of `means`. R's ``contrast(emmeans(fit, ~ factor | by), "trt.vs.ctrl")``.

    Parameters
    ----------
    factor
        Column of obs in the model: texts, categories, booleans, or numbers in ``C()``.
    by
        Ask in each level of this factor, or in each combination of the levels of several; a covariate needs values in
        `at`.
    ref
        The reference; by default the level that is the reference in the design.
    at
        Values of other columns in place of their mean or of all their levels, ``{"age": 40}``; several are averaged over.

    Returns
    -------
    A question, for ``contrasts=`` of `flashmm_sc.tl.lmm_de`, and for `flashmm_sc.tl.lmm_test`. Answers are called
    "stim vs ctrl", and "stim vs ctrl, cls=B" with `by`.

    Raises
    ------
    TypeError, ValueError
        For arguments of a wrong type, and a column that is in `by` as well. What the model can't answer is refused by the
        function that takes the question: columns that are not in the formula, unknown levels, values outside of the data.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ cls * trt", "sam + sam:cls", transform="log1p", size_factors="total")
    >>> fsc.tl.lmm_test(adata, [fsc.contrasts.each("trt"), fsc.contrasts.each("trt", by="cls")])
    >>> adata.uns["lmm_test"]["coef_names"].tolist()
    ['B vs A', 'B vs A, cls=1', 'B vs A, cls=2']
    """
    return Each(factor, names(by), {} if at is None else at, ref)
