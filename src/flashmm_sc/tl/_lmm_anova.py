"""F tests of the fixed terms of stored fits."""

from __future__ import annotations

from anndata import AnnData

from flashmm_sc._base.errors import one_of
from flashmm_sc._inference.adjustment import CORRECTIONS
from flashmm_sc._inference.df import with_df
from flashmm_sc._inference.f_tests import f_tests
from flashmm_sc._inference.t_tests import check_ddf
from flashmm_sc._results.store import Table, check_key, read_fit, read_models, write_tables
from flashmm_sc.tl._lmm_test import check_moderated


def lmm_anova(
    adata: AnnData,
    *,
    key: str = "lmm_de",
    key_added: str = "lmm_anova",
    ddf: str | None = None,
    corr_method: str = "benjamini-hochberg",
    n_jobs: int | None = None,
) -> None:
    """Test every term of the fixed formula of a fit by `lmm_de`: type III F tests.

    A main effect is tested averaged over the levels of the factors it interacts with, as if all were equally frequent.
    Works from what is stored in `adata`; the cells are not read again.

    Parameters
    ----------
    adata
        With results of `lmm_de`.
    key
        Key of the fit.
    key_added
        Key of the results.
    ddf
        Denominator degrees of freedom, "satterthwaite", "kenward-roger" or "residual"; by default as in the fit.
    corr_method
        Correction for the number of genes, "benjamini-hochberg" or "bonferroni".
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
    ValueError
        For unknown options, a moderated fit, or one without fixed terms beyond the intercept.

    Notes
    -----
    As lmerTest's ``anova``, with degrees of freedom also of pbkrtest. Factors that are columns of obs are coded to sum
    to zero for the hypotheses; a term with a coding of your own, ``C(x, ...)``, is tested as coded.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ cls * trt", "sam", transform="log1p")
    >>> fsc.tl.lmm_anova(adata)
    >>> list(adata.uns["lmm_anova"]["coef_names"])
    ['cls', 'trt', 'cls:trt']
    """
    one_of("corr_method", corr_method, CORRECTIONS)
    check_key(adata, key_added, tests=True)
    params = read_fit(adata, key)["params"]
    models = read_models(adata, key)
    check_moderated(models, ddf, joint=True)
    ddf = str(params["ddf"]) if ddf is None else ddf
    check_ddf(ddf, str(params["method"]))
    if not models[0].terms:
        msg = f"The formula {params['fixed']!r} has no term but the intercept, so there is nothing to test."
        raise ValueError(msg)
    tables = []
    for model in models:
        tests = f_tests(model.projection, model.estimates, list(model.terms.values()), ddf=ddf, n_jobs=n_jobs)
        tables.append(Table(model.group, list(model.terms), tests, with_df(model.status, tests.df)))
    write_tables(adata, key_added, tables, corr_method, {"key": key, "ddf": ddf, "corr_method": corr_method})
