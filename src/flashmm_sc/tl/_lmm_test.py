"""Tests of stored fits."""

from __future__ import annotations

from anndata import AnnData

from flashmm_sc._contrasts import Contrasts, contrast_matrix
from flashmm_sc._errors import one_of
from flashmm_sc._inference import ALTERNATIVES, check_ddf, t_tests
from flashmm_sc._store import CORRECTIONS, Table, check_key, read_models, read_result, remove, write_tables


def lmm_test(
    adata: AnnData,
    contrasts: Contrasts,
    *,
    key: str = "lmm_de",
    key_added: str = "lmm_test",
    ddf: str | None = None,
    alternative: str = "two-sided",
    corr_method: str = "benjamini-hochberg",
    n_jobs: int | None = None,
) -> None:
    """Test linear combinations of the coefficients of a fit by `lmm_de`.

    Works from what is stored in `adata`, also after reading it back from h5ad or zarr; the cells are not read again.

    Parameters
    ----------
    adata
        With results of `lmm_de`.
    contrasts
        What to test: an expression over coefficient names, ``"cls[B]:trt[T.stim] - cls[NK]:trt[T.stim]"``, a list of
        them, or ``{name: expression or vector}``. Names may hold any characters; backticks quote one. With groups,
        each contrast is tested within every group.
    key
        Key of the fit.
    key_added
        Key of the results.
    ddf
        Degrees of freedom, "satterthwaite" or "residual"; by default as in the fit.
    alternative
        "two-sided", "less" or "greater".
    corr_method
        Correction for the number of genes, "benjamini-hochberg" or "bonferroni".
    n_jobs
        Threads; by default all cores.

    Returns
    -------
    None. Sets, with `key_added` for ``lmm_test``:

    `adata.varm['lmm_test_coef' | '_se' | '_t' | '_df' | '_pval' | '_pval_adj']` : float64, genes × contrasts
        Names in `adata.uns['lmm_test']['coef_names']`; estimates on the scale of the fitted values.
    `adata.varm['lmm_test_status']` : int8, genes × groups
        As in the fit.

    Raises
    ------
    KeyError
        When there is no fit under `key`.
    ValueError
        For a contrast that names an unknown coefficient or is zero, and for unknown options.

    Notes
    -----
    FLASHMM's ``lmmtest``, with the degrees of freedom of lmerTest's ``contest1D``.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ 0 + cls + cls:trt", "sam", transform="log1p")
    >>> fsc.tl.lmm_test(adata, {"difference": "cls[1]:trt[T.B] - cls[2]:trt[T.B]"}, alternative="greater")
    >>> adata.varm["lmm_test_pval"].shape
    (50, 1)
    """
    one_of("alternative", alternative, ALTERNATIVES)
    one_of("corr_method", corr_method, CORRECTIONS)
    check_key(key_added)
    fitted = read_result(adata, key)
    ddf = str(fitted["params"]["ddf"]) if ddf is None else ddf
    check_ddf(ddf, str(fitted["params"]["method"]))
    models = read_models(adata, key)
    tables = []
    for model in models:
        L = contrast_matrix(contrasts, model.coef_names)
        tests = t_tests(
            model.projection, model.estimates, L.to_numpy(), ddf=ddf, alternative=alternative, n_jobs=n_jobs
        )
        tables.append(Table(model.group, list(L.columns), tests, model.status))
    params = {"key": key, "ddf": ddf, "alternative": alternative, "corr_method": corr_method}
    remove(adata, key_added)
    write_tables(adata, key_added, tables, corr_method, params | {"log_base": fitted["params"]["log_base"]})
