"""F tests of the fixed terms of stored fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.log import told
from flashmm_sc._base.options import one_of
from flashmm_sc._inference.adjustment import Correction, Scope
from flashmm_sc._inference.df import Ddf, with_df
from flashmm_sc._results.finding import found_fit
from flashmm_sc._results.fitted import fitted_models
from flashmm_sc._results.group_tests import GroupTests, tests_result
from flashmm_sc._results.result import check_key
from flashmm_sc._results.summary import log_summary
from flashmm_sc._results.write import write

if TYPE_CHECKING:
    from anndata import AnnData


@told("testing fixed terms")
def lmm_anova(
    adata: AnnData,
    *,
    key: str | None = None,
    key_added: str = "lmm_anova",
    ddf: Ddf | None = None,
    corr_method: Correction = "benjamini-hochberg",
    corr_scope: Scope = "column",
    n_jobs: int | None = None,
) -> None:
    """Test every term of the fixed formula of a fit by `lmm_de` or `nbmm_de`: type III F tests.

    A main effect is tested averaged over the levels of the factors it interacts with, as if all were equally frequent.
    Works from what is stored in `adata`; the cells are not read again.

    Parameters
    ----------
    adata
        With results of `lmm_de` or `nbmm_de`.
    key
        Key of the fit, by default ``"lmm_de"`` or that of the only fit.
    key_added
        Key of the results.
    ddf
        Denominator degrees of freedom, "satterthwaite", "kenward-roger" or "residual"; by default as in the fit.
        They play no part in a moderated fit, whose tests average over the posterior of the variance ratios: its F is
        the one on (df_num, n - p) df that has the averaged p-value. Of counts, F is the χ² with the p-value of the
        likelihood ratio, over df_num.
    corr_method
        Correction for the number of genes, "benjamini-hochberg" or "bonferroni".
    corr_scope
        Adjust p-values over the genes of each term and group by itself ("column"), or over those of all together
        ("all"), as in `lmm_de`.
    n_jobs
        Threads; by default all cores.

    Returns
    -------
    None. Sets, with `key_added` for ``lmm_anova``:

    `adata.varm['lmm_anova_F' | '_df_num' | '_df' | '_pval' | '_pval_adj']` : float64, genes × terms
        Names in `adata.uns['lmm_anova']['coef_names']`; `flashmm_sc.get.lmm_de_df` gives them as a table.
    `adata.varm['lmm_anova_status']` : int8, genes × groups
        As in the fit.

    Raises
    ------
    KeyError
        When there is no fit under `key`.
    TypeError
        For options of a wrong type.
    ValueError
        For unknown options, `ddf` for a moderated fit, or a fit without fixed terms beyond the intercept.

    Notes
    -----
    As lmerTest's ``anova``, with degrees of freedom also of pbkrtest. Factors that are columns of obs are coded to sum
    to zero for the hypotheses; a term with a coding of your own, ``C(x, ...)``, is tested as coded.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ cls * trt", "sam + sam:cls", transform="log1p", size_factors="total")
    >>> fsc.tl.lmm_anova(adata)
    >>> list(adata.uns["lmm_anova"]["coef_names"])
    ['cls', 'trt', 'cls:trt']
    """
    one_of("corr_method", corr_method, Correction)
    one_of("corr_scope", corr_scope, Scope)
    check_key(adata, key_added, tests=True)
    fit = found_fit(adata, key)
    models = fitted_models(fit)
    used = {model.inference.used_ddf(ddf) for model in models}.pop()
    if not models[0].terms:
        msg = f"The formula {fit.params['fixed']!r} has no term but the intercept, so there is nothing to test."
        raise ValueError(msg)
    tested = []
    for model in models:
        tests = model.inference.f_tests(list(model.terms.values()), ddf=ddf, n_jobs=n_jobs)
        findings = np.array([model.findings(L).all() for L in model.terms.values()])
        tested.append(GroupTests(model.group, list(model.terms), findings, tests, with_df(model.status, tests.df)))
    params = {"key": fit.key, "ddf": used, "corr_method": corr_method, "corr_scope": corr_scope}
    result = tests_result(key_added, tested, params)
    write(adata, [result], [key_added])
    log_summary([result])
