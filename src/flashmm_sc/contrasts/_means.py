"""Marginal means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flashmm_sc._design.questions import Means, Question, names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def means(
    factor: str,
    by: str | Sequence[str] | None = None,
    *,
    at: Mapping[str, Any] | None = None,
) -> Question:
    """The mean that the model gives each level of a factor, tested against zero.

    These are estimated marginal means, R's ``emmeans(fit, ~ factor | by)``: those of cells that are alike in everything
    else, not the averages of the cells there are. `flashmm_sc.get.fitted` gives them, with intervals, as a table.

    Parameters
    ----------
    factor
        Column of obs in the model: texts, categories, booleans, or numbers in ``C()``.
    by
        Ask in each level of this factor, or in each combination of the levels of several; a covariate needs values in
        `at`.
    at
        Values of other columns in place of their mean or of all their levels, ``{"age": 40}``; several are averaged over.

    Returns
    -------
    A question, for ``contrasts=`` of `flashmm_sc.tl.lmm_de`, and for `flashmm_sc.tl.lmm_test`. Answers are called
    by the level, "ctrl", and "ctrl, cls=B" with `by`.

    Raises
    ------
    TypeError, ValueError
        For arguments of a wrong type, and a column that is in `by` as well. What the model can't answer is refused by the
        function that takes the question: columns that are not in the formula, unknown levels, values outside of the data.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ cls * trt + log(libsize)", "sam + sam:cls", transform="log1p")
    >>> fsc.tl.lmm_test(adata, fsc.contrasts.means("trt", by="cls", at={"libsize": 100}))
    >>> adata.uns["lmm_test"]["coef_names"].tolist()
    ['A, cls=1', 'B, cls=1', 'A, cls=2', 'B, cls=2']
    """
    return Means(factor, names(by), {} if at is None else at)
