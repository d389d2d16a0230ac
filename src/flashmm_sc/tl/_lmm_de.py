"""Differential expression with linear mixed models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.log import told
from flashmm_sc._base.options import check_flags, check_optional_flags, one_of
from flashmm_sc._base.threads import n_threads
from flashmm_sc._design.cell_design import needed_columns
from flashmm_sc._gaussian.estimate import Options
from flashmm_sc._gaussian.structure import check_correlated
from flashmm_sc._inference.adjustment import Correction, Scope
from flashmm_sc._inference.df import Ddf, check_ddf
from flashmm_sc._inference.moderated import check_moderate
from flashmm_sc._results.advice import after_fit, after_pass, before_fit
from flashmm_sc._results.call import Call
from flashmm_sc._results.contrasts import in_groups
from flashmm_sc._results.filters import Filter
from flashmm_sc._results.fits import fit_each, fit_result
from flashmm_sc._results.models import build_models
from flashmm_sc._results.residual import check_residual_by
from flashmm_sc._results.result import check_key
from flashmm_sc._results.scale import base_of
from flashmm_sc._results.sizes import with_sizes
from flashmm_sc._results.stored import stored
from flashmm_sc._results.strata_study import cells_or_strata
from flashmm_sc._results.summed import passes, summed, tally_of
from flashmm_sc._results.values import PerCell, SizeFactors, Values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from flashmm_sc._design.questions import Question
    from flashmm_sc._design.random_terms import Random
    from flashmm_sc._gaussian.profile import Method
    from flashmm_sc._inference.contrasts import Contrasts
    from flashmm_sc._results.chosen import CellMask
    from flashmm_sc._results.study import Source
    from flashmm_sc._stream.kernel import Transform


@told("fitting linear mixed models")
def lmm_de(
    adata: AnnData | Sequence[Source],
    fixed: str,
    random: Random,
    *,
    layer: str | None = None,
    use_raw: bool = False,
    mask_var: str | Sequence[bool] | np.ndarray | None = None,
    mask_obs: CellMask = None,
    transform: Transform = None,
    size_factors: SizeFactors = None,
    target_sum: float | None = None,
    log_base: float | None = None,
    weights: PerCell = None,
    min_cells: int = 10,
    min_fraction: float = 0.0,
    min_counts: float = 0.0,
    method: Method = "REML",
    ddf: Ddf = "satterthwaite",
    nonnegative: bool = True,
    moderate: bool = False,
    groupby: str | None = None,
    residual_by: str | None = None,
    contrasts: Contrasts | Question | None = None,
    corr_method: Correction = "benjamini-hochberg",
    corr_scope: Scope = "column",
    ranef: bool = False,
    key_added: str = "lmm_de",
    copy: bool = False,
    max_iter: int = 100,
    n_jobs: int | None = None,
    show_progress: bool | None = None,
) -> AnnData | None:
    """Test differential expression with a linear mixed model for every gene.

    y = X β + Σ_k Z_k b_k + e for the expression y of a gene in all cells: fixed effects β of the columns of X, random
    effects b_k ~ N(0, s_k I) of samples, donors or batches, which make the cells of one donor alike, and
    e ~ N(0, s_0 I). One pass over the matrix, in blocks, then all genes are fitted at once.

    Parameters
    ----------
    adata
        Cells × genes: in memory, backed, or lazy (`anndata.experimental.read_lazy`, dask arrays: summed chunk by chunk on
        whatever dask scheduler is active). Or a list of AnnData and of h5ad files or zarr stores, which are analysed
        together with one design and the genes that all have. Or strata of `flashmm_sc.pp.aggregate`, or a list of these, in
        the place of their cells: results are the same, for any model whose columns they have.
    fixed
        Formula of the fixed effects over the columns of `adata.obs`, in formulaic's language, e.g.
        ``"~ trt"``. A formula is code: don't take one from a source you wouldn't run code from.
    random
        Random terms: ``"sam"``, ``["sam", "batch"]``, ``"sam + sam:cls"``, ``"(1|sam)"``,
        ``"(1|sam/cls)"``, ``{"name": term}``. Slopes as in lme4: ``"(score|sam)"`` or ``"(1 + score|sam)"``, correlated with
        the intercept; ``"(1 + score||sam)"``, independent; ``"(trt|donor)"`` of a factor, with an effect for each of its
        levels but the first, ``"(0 + trt|donor)"`` for each. A boolean column is a number, 0 or 1.
    layer
        Layer to use instead of `adata.X`.
    use_raw
        Use the genes of `adata` from `adata.raw.X`.
    mask_var
        Genes to fit: a boolean column of `adata.var`, or one boolean a gene.
    mask_obs
        Cells to use, as if the others were not there: a boolean column of `adata.obs`; values of its columns, as in
        ``{"cell_type": ["B", "NK"], "batch": "x"}``, all of which must hold; or one boolean a cell, which is not stored with
        the results. Nothing is copied, so it also chooses from files and backed data.
    transform
        Applied to the values as they are read: None for values that are logged already, "log1p" for ln(1 + x),
        "log2p1" for log2(1 + x). `adata.X` itself is not changed.
    size_factors
        With `transform`: what the values of each cell are divided by before the logarithm. "total" for the cell's total
        over `target_sum`, as `sc.pp.normalize_total` does; or a column of `adata.obs`, or one number a cell, over their
        mean, or over `target_sum`. Raw counts with ``transform="log1p", size_factors="total"`` give what
        `sc.pp.normalize_total` and `sc.pp.log1p` would, without a second copy of the matrix.
    target_sum
        By default the median of the cells' totals for "total", as in scanpy. Without it, totals take a pass of their own.
    log_base
        Base of the logarithm that the values are on where nothing notes it, e.g. 2, or `math.e`: it makes log fold
        changes of coefficients. `transform` and `sc.pp.log1p` do note it.
    weights
        Precision weights, as those of R's lm and lmer: Var(e_i) = s_0 / w_i. A column of `adata.obs`, or one positive number a
        cell, for values that are known more or less well, such as means of several measurements. They are no numbers of cells,
        which strata have, nor weights of donors; and counts, whose precision follows from their mean, are no weights. All sums
        are weighted, s_0 is the residual variance of a cell of weight 1, and what describes the data isn't: numbers of cells,
        `min_fraction`, `min_counts`, and the degrees of freedom of n cells.
    min_cells
        Groups of fewer cells are left out, with a warning.
    min_fraction, min_counts
        Genes that are expressed (not zero) in a smaller share of a group's cells than `min_fraction`, or of which the
        values as they are read add up to less than `min_counts` there, get the status "filtered" in that group: they are
        not fitted, and have no share in multiple testing or in what moderation learns.
    method
        "REML" or "ML".
    ddf
        Degrees of freedom of the t tests: "satterthwaite"; "kenward-roger", which also adjusts the standard errors for
        the uncertainty of the variance components (REML only, slower); or "residual" for FLASHMM's n - p, which gives
        far too many small p-values for effects that vary between samples only. Where a component is estimated as zero,
        the first two are bounded by the containment df: its levels minus the fixed columns constant within them.
    nonnegative
        Bound variance components at zero, as lme4 does. False: free as in FLASHMM.
    moderate
        Learn from all genes how the variance ratios are distributed, and average each gene's tests over its posterior:
        calibrated with few samples, where single genes know little of their sample variance, and more powerful. `ddf`
        then plays no part. p-values are averages of exact ones, and the other columns fit them: coef is the posterior
        mean, se its standard deviation, t = coef / se, and df are those at which this t has the p-value. Most effects
        with p > 0.05 would need more than n - p df; there df is n - p, and se a little smaller (at most 20 %, which
        can leave some p > 0.5 unlike those of t). REML with one or two random components. Groups with fewer than 100
        genes or fewer than 2 levels beyond the fixed effects get Satterthwaite's df instead, with a warning.
    groupby
        Column of `adata.obs`: fit one model for each of its categories, with variances of its own, in the same pass.
        Categories in which the model can't be fitted are left out with a warning.
    residual_by
        Column of `adata.obs`: a residual variance for each of its levels, in one model. With ``"~ 0 + cls + cls:trt"``,
        ``random=["donor", "(0 + cls || donor)"]`` and ``residual_by="cls"`` each cell type has variances of its own, as with
        `groupby`, but donors are shared: differences of effects between cell types are tested within donors. Each gene then
        takes algebra of its own, of all effects of a donor at once. Not with `groupby`, `moderate`, ``nonnegative=False``,
        correlated random effects and Kenward and Roger's df. A gene that is constant in all cells of a level has there a
        millionth of its variance over all cells.
    contrasts
        Questions (`flashmm_sc.contrasts`) or combinations of coefficients to test as well, as in `lmm_test`; stored
        under ``key_added + "_contrasts"``.
    corr_method
        Correction of the p-values of each coefficient for the number of genes: "benjamini-hochberg" or "bonferroni".
    corr_scope
        Adjust p-values over the genes of each coefficient and group by itself ("column"), or over those of all together
        ("all"); `contrasts` too. Intercepts and means of levels, which differ from zero in every gene that is expressed,
        are adjusted apart from effects.
    ranef
        Also store the predicted random effects (BLUPs).
    key_added
        Key of the results.
    copy
        Return a copy of `adata` with the results instead of writing to it; not for backed data or several AnnData.
    max_iter
        Most steps of the optimiser for a gene.
    n_jobs
        Threads; by default all cores.
    show_progress
        Show a progress bar; by default in a terminal or notebook, of what takes longer than a second.

    Returns
    -------
    None, or the copy; for a list a new AnnData with the shared genes and no cells. Sets, with `key_added` for ``lmm_de``:

    `adata.varm['lmm_de_coef' | '_se' | '_t' | '_df' | '_pval' | '_pval_adj']` : float64, genes × coefficients
        Coefficients on the scale of the fitted values and their two-sided t tests; names in
        `adata.uns['lmm_de']['coef_names']`. NaN for genes that were not fitted.
    `adata.varm['lmm_de_theta' | '_theta_se']` : float64, genes × variance components
        Variances, the covariances of correlated effects, and the residual variance last, or those of the levels of `residual_by`; names in
        `adata.uns['lmm_de']['theta_names']`.
    `adata.varm['lmm_de_theta_cov']` : float64, genes × all parameters × those of one group
        Inverse of the observed information; padded with NaN for groups that have fewer parameters than others.
    `adata.varm['lmm_de_status' | '_loglik' | '_n_iter']` : genes × groups
        Status codes (int8) count into `adata.uns['lmm_de']['status_names']`, 0 is "ok"; the others are float64, NaN for
        masked genes.
    `adata.varm['lmm_de_ranef']` : float64, genes × random effects
        With `ranef=True`; names in `adata.uns['lmm_de']['ranef_names']`.
    `adata.varm['lmm_de_theta_shrunk' | '_projected']` : float64
        With `moderate=True`: posterior means of the variance components, genes × variance components; and the projected
        data from which later tests recompute the posteriors, for each group p coefficients, q random effects and 2 more.
    `adata.varm['lmm_de_log2_ratio' | '_mean_coef']` : float64, genes × coefficients
        With `size_factors`: log2 ratios of fitted mean counts (see `flashmm_sc.get.lmm_de_df`), and the least-squares
        coefficients of counts over size factors that they and those of later tests come from.
    `adata.uns['lmm_de']` : dict
        Parameters, names, the advice given (`notes`), and of each group the factor levels, how many genes ended with a gradient
        of which size, and X'X, Z'X, Z'Z, so that tests need no second pass.

    With `groupby` the groups lie side by side, named ``"B cells|trt[T.stim]"``.

    Raises
    ------
    KeyError
        For a column, layer or mask that `adata` lacks.
    OSError
        For a file that can't be read.
    RuntimeError
        When workers of a dask cluster die again and again.
    TypeError
        For something else than an AnnData or a formula, options of a wrong type, and a matrix that can't be streamed.
    ValueError
        For missing values in obs, a rank-deficient design, random terms that can't be estimated, values that the
        transform can't take, a damaged matrix, and unknown options. `adata` is then as it was.

    Notes
    -----
    The model and its summary statistics are those of FLASH-MM: Xu et al., Nature Communications 2026,
    doi 10.1038/s41467-026-69063-2. ``lmm_de(adata, fixed, random, transform="log2p1", ddf="residual",
    nonnegative=False)`` gives the numbers of its R package's ``flashmm``, but for the REML log-likelihood, which is
    lme4's. Satterthwaite's degrees of freedom are those of lmerTest (Kuznetsova et al., Journal of Statistical Software
    2017), Kenward and Roger's those of pbkrtest (Halekoh and Højsgaard, Journal of Statistical Software 2014).

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, fixed="~ trt", random="sam", groupby="cls", transform="log1p", size_factors="total")
    >>> fsc.get.lmm_de_df(adata, "trt[T.B]").columns[:5].to_list()
    ['variable', 'contrast', 'group', 'coef', 'log_fc']
    """
    values = Values(layer, use_raw, mask_var, transform, size_factors, target_sum, log_base, weights, mask_obs)
    least, options = Filter(min_cells, min_fraction, min_counts), Options(method, nonnegative, max_iter)
    check_ddf(ddf, method)
    one_of("corr_method", corr_method, Correction)
    one_of("corr_scope", corr_scope, Scope)
    check_flags(moderate=moderate, ranef=ranef, copy=copy)
    check_residual_by(residual_by, groupby, moderate=moderate, nonnegative=nonnegative, ddf=ddf)
    check_optional_flags(show_progress=show_progress)
    n_threads(n_jobs)
    ddf = "satterthwaite" if moderate else ddf  # where a prior can't be learned
    contrasts_key = f"{key_added}_contrasts"
    columns = {"groupby": groupby, "residual_by": residual_by, **values.columns}
    needed = lambda obs, where: needed_columns(obs, fixed, random, where, **columns)
    with cells_or_strata(adata, needed, values, copy=copy) as study:
        values = study.fitted
        check_key(study.target, key_added)
        check_key(study.target, contrasts_key, tests=True)
        sparse = nonnegative and not moderate
        models, rows = build_models(
            study.obs, fixed, random, groupby, residual_by, weights=study.weights, min_cells=min_cells, sparse=sparse
        )
        for model in models:
            check_correlated(model.design.random.correlated, nonnegative, moderate)
        if moderate:
            check_moderate(method, len(models[0].design.random.d))
        if contrasts is not None:
            in_groups(contrasts, [(one.group, one.design.fixed.names, one.reference) for one in models], tell=False)
        params = {
            "fixed": fixed,
            "random": np.array(models[0].design.random.words, dtype=object),
            **values.params,
            **vars(least),
            "method": method,
            "ddf": ddf,
            "nonnegative": nonnegative,
            "moderate": moderate,
            "groupby": groupby,
            "residual_by": residual_by,
            "corr_method": corr_method,
            "corr_scope": corr_scope,
            "max_iter": max_iter,
            **study.shape,
            "log_base": base_of(study.scales, values.transform, log_base),
        }
        study = with_sizes(study, values, rows, n_jobs, show_progress)
        cells = study.obs[needed(study.obs, "")].iloc[rows.cells]
        call = Call.of(cells, models[0].design, len(study.kept), groupby, residual_by, moderate=moderate, ddf=ddf)
        notes = before_fit(call, study.scales, values)
        tally = tally_of(models, rows, expressed=moderate or least.of_genes, linear=values.sized)
        passed = passes(study, models, rows, tally, values.transform, n_jobs=n_jobs, show_progress=show_progress)
    parts = summed(models, rows, passed, least, study.genes)
    notes += after_pass({part.model.group: part.expressed for part in parts if moderate})
    fits = fit_each(parts, options, ddf, moderate=moderate, n_jobs=n_jobs, show_progress=show_progress)
    notes += after_fit({one.model.group: (one.model.n, its.status) for one, its in zip(parts, fits, strict=True)})
    result = fit_result(key_added, parts, fits, study, params=params, ranef=ranef)
    result.entry["notes"] = np.array(notes, dtype=object)
    target = stored(
        study.target, result, contrasts_key, contrasts, left_out=len(parts) < len(models), copy=copy, n_jobs=n_jobs
    )
    return None if target is adata else target
