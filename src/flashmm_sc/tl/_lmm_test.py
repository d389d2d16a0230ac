"""Tests of stored fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flashmm_sc._base.log import told
from flashmm_sc._base.options import check_flags, one_of
from flashmm_sc._inference.adjustment import Correction, Scope
from flashmm_sc._inference.t_tests import Alternative
from flashmm_sc._results.contrasts import contrasts_result
from flashmm_sc._results.finding import found_fit
from flashmm_sc._results.result import check_key
from flashmm_sc._results.summary import log_summary
from flashmm_sc._results.write import write

if TYPE_CHECKING:
    from anndata import AnnData

    from flashmm_sc._design.questions import Question
    from flashmm_sc._inference.contrasts import Contrasts
    from flashmm_sc._inference.df import Ddf


@told("testing contrasts")
def lmm_test(
    adata: AnnData,
    contrasts: Contrasts | Question,
    *,
    key: str | None = None,
    key_added: str = "lmm_test",
    ddf: Ddf | None = None,
    alternative: Alternative = "two-sided",
    lfc: float = 0.0,
    joint: bool = False,
    conf_level: float | None = None,
    corr_method: Correction = "benjamini-hochberg",
    corr_scope: Scope = "column",
    n_jobs: int | None = None,
) -> None:
    r"""Test linear combinations of the coefficients of a fit by `lmm_de` or `nbmm_de`.

    Works from what is stored in `adata`, also after reading it back from h5ad or zarr; the cells are not read again.

    Parameters
    ----------
    adata
        With results of `lmm_de` or `nbmm_de`.
    contrasts
        What to test: a question, ``fsc.contrasts.each("trt", by="sex")`` (`flashmm_sc.contrasts`); an expression over
        coefficient names, ``"cls[B]:trt[T.stim] - cls[NK]:trt[T.stim]"``; a list of them, or ``{name: question,
        expression or vector}``. Coefficients may have names of any characters; backticks quote one. With groups, each
        contrast is tested within every group; an expression over full names, ``"B cells|trt[T.stim] - NK
        cells|trt[T.stim]"``, is tested across groups, as if their donors were different ones: estimates are added up,
        and so are variances, with df by Welch and Satterthwaite, or averaged over the posteriors of all groups in a
        moderated fit. Where groups share donors whose effects correlate positively, as they mostly do, differences are
        more certain than this says (conservative), and sums less.
    key
        Key of the fit, by default ``"lmm_de"`` or that of the only fit.
    key_added
        Key of the results.
    ddf
        Degrees of freedom, "satterthwaite", "kenward-roger" or "residual"; by default as in the fit. They play no part
        in a moderated fit, whose tests average over the posterior of the variance ratios (see `moderate` of `lmm_de`
        for what se, t and df then are), nor in one of counts, which is tested by likelihood ratios.
    alternative
        "two-sided", "less" or "greater".
    lfc
        Smallest effect that counts, as an absolute log2 fold change: the null hypothesis is \|effect\| <= lfc (or
        effect <= lfc for "greater", effect >= -lfc for "less").
    joint
        One F test of all contrasts together instead of a t test of each. Of a moderated fit, F is the one on n - p df
        that has the averaged p-value; of counts, a likelihood ratio test: F is the χ² that has the averaged p-value, over
        the number of contrasts.
    conf_level
        Also store two-sided confidence intervals of this level, e.g. 0.95. Of a moderated fit they are exact ones of
        the average; coef ± t se comes close.
    corr_method
        Correction for the number of genes, "benjamini-hochberg" or "bonferroni".
    corr_scope
        Adjust p-values over the genes of each contrast and group by itself ("column"), or over those of all together
        ("all"), intercepts and means of levels apart from effects.
    n_jobs
        Threads; by default all cores.

    Returns
    -------
    None. Sets, with `key_added` for ``lmm_test``:

    `adata.varm['lmm_test_coef' | '_se' | '_t' | '_df' | '_pval' | '_pval_adj']` : float64, genes × contrasts
        Names in `adata.uns['lmm_test']['coef_names']`; estimates on the scale of the fitted values.
    `adata.varm['lmm_test_ci_low' | '_ci_high']` : float64, genes × contrasts
        With `conf_level`.
    `adata.varm['lmm_test_log2_ratio']` : float64, genes × contrasts
        Of fits with `size_factors`: log2 ratios of fitted mean counts; NaN where a contrast is no difference of two means.
    `adata.varm['lmm_test_F' | '_df_num' | '_df' | '_pval' | '_pval_adj']` : float64, genes × 1
        Instead of these, with `joint`.
    `adata.varm['lmm_test_status']` : int8, genes × groups
        As in the fit; one column more for each contrast across groups, the worst status of its groups.

    Raises
    ------
    KeyError
        When there is no fit under `key`.
    TypeError
        For options of a wrong type.
    ValueError
        For a contrast that names an unknown coefficient or is zero, a question that the model can't answer, linearly
        dependent contrasts of a joint test, a negative `lfc` or one for values of which the logarithm isn't known, and
        unknown options.

    Notes
    -----
    Questions read the fit's formula, which is code: ask only fits from files that you trust.

    FLASHMM's ``lmmtest``; degrees of freedom and F tests of lmerTest's ``contest`` and of pbkrtest; `lfc` is the treat
    test of limma (McCarthy and Smyth, Bioinformatics 2009).

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", size_factors="total")
    >>> fsc.tl.lmm_test(adata, [fsc.contrasts.each("trt"), "Intercept + trt[T.B]"], alternative="greater")
    >>> adata.varm["lmm_test_pval"].shape
    (50, 4)

    Across the separate fits of the cell types:

    >>> fsc.tl.lmm_test(adata, {"difference": "`1|trt[T.B]` - `2|trt[T.B]`"})
    """
    one_of("alternative", alternative, Alternative)
    one_of("corr_method", corr_method, Correction)
    one_of("corr_scope", corr_scope, Scope)
    check_flags(joint=joint)
    check_key(adata, key_added, tests=True)
    result = contrasts_result(
        found_fit(adata, key),
        key_added,
        contrasts,
        corr_method=corr_method,
        corr_scope=corr_scope,
        ddf=ddf,
        alternative=alternative,
        lfc=lfc,
        joint=joint,
        conf_level=conf_level,
        n_jobs=n_jobs,
    )
    write(adata, [result], [key_added])
    log_summary([result])
