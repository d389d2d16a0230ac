"""Differential expression of counts with negative binomial mixed models."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from flashmm_sc._base.log import told
from flashmm_sc._base.options import check_flags, check_optional_flags, one_of
from flashmm_sc._base.threads import n_threads
from flashmm_sc._design.cell_design import needed_columns
from flashmm_sc._inference.adjustment import Correction, Scope
from flashmm_sc._results.advice import on_samples
from flashmm_sc._results.contrasts import in_groups
from flashmm_sc._results.count_fits import count_result, counted, fit_counts
from flashmm_sc._results.count_models import build_count_models, sample_codes, sample_term
from flashmm_sc._results.count_values import check_counts, check_sums
from flashmm_sc._results.filters import Filter
from flashmm_sc._results.result import check_key
from flashmm_sc._results.stored import stored
from flashmm_sc._results.strata import strata_of
from flashmm_sc._results.strata_study import cells_or_strata
from flashmm_sc._results.values import TOTAL, SizeFactors, Values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from flashmm_sc._design.questions import Question
    from flashmm_sc._inference.contrasts import Contrasts
    from flashmm_sc._results.chosen import CellMask
    from flashmm_sc._results.study import Source

Normalize: TypeAlias = Literal[None, "ratio"]


@told("fitting negative binomial models")
def nbmm_de(
    adata: AnnData | Sequence[Source],
    fixed: str,
    sample: str | Sequence[str],
    *,
    groupby: str | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    mask_var: str | Sequence[bool] | np.ndarray | None = None,
    mask_obs: CellMask = None,
    size_factors: SizeFactors = None,
    normalize: Normalize = "ratio",
    min_cells: int = 10,
    min_fraction: float = 0.0,
    min_counts: float = 10.0,
    contrasts: Contrasts | Question | None = None,
    corr_method: Correction = "benjamini-hochberg",
    corr_scope: Scope = "column",
    key_added: str = "nbmm_de",
    copy: bool = False,
    n_jobs: int | None = None,
    show_progress: bool | None = None,
) -> AnnData | None:
    r"""Test differential expression between samples with a negative binomial mixed model of every gene's counts.

    For the count x_ij of a gene in cell j of sample i, x_ij ~ NB(mean s_ij μ_i w_i, dispersion φ), s_ij being the cell's
    size factor, with w_i of mean 1 and variance τ² for what differs between samples, and log μ_i = x_i'β. Fixed effects are
    of samples, so the cells enter through sums, which one pass over the matrix gives. They tell φ, and with it how exactly
    each sample's sum is known, which pseudobulk methods must guess; all genes together tell how τ² is distributed.

    Parameters
    ----------
    adata
        Cells × genes with raw counts, or strata made by `flashmm_sc.pp.aggregate` with size factors; in memory, backed,
        lazy, or a list of AnnData and files, as in `lmm_de`.
    fixed
        Formula of the fixed effects, e.g. ``"~ trt"``, over columns of `adata.obs` that are constant within samples. Donors
        with samples in several arms are blocks, ``"~ donor + trt"``, or ``"~ C(donor) + trt"`` where their names are numbers.
        Splines and numbers are centred over samples. A formula is code: don't take one from a source you wouldn't run code
        from.
    sample
        Column of `adata.obs` that tells samples apart, or several, ``"donor:trt"`` or ``["donor", "trt"]``.
    groupby
        Column of `adata.obs`: fit one model for each of its categories, in the same pass. Samples without cells in a
        group are absent from it; groups with fewer than 2 samples beyond the fixed effects are left out with a warning.
    layer
        Layer with counts to use instead of `adata.X`.
    use_raw
        Use the genes of `adata` from `adata.raw.X`.
    mask_var
        Genes to fit: a boolean column of `adata.var`, or one boolean a gene. Totals are over all genes.
    mask_obs
        Cells to use, as if the others were not there: a boolean column of `adata.obs`; values of its columns, as in
        ``{"cell_type": ["B", "NK"], "batch": "x"}``, all of which must hold; or one boolean a cell, which is not stored with
        the results. Nothing is copied, so it also chooses from files and backed data.
    size_factors
        Depth of each cell: None (or "total") for its total over all genes, a column of `adata.obs`, or one number a cell;
        taken over the mean of the group's cells. Not for strata, which were summed with theirs.
    normalize
        "ratio": samples also get the median over genes of their mean counts relative to the other samples', as in DESeq2,
        so that a few strong genes don't make all others seem to change; from genes with counts in all samples, 5 and more
        on average, if there are 50. None: only size factors.
    min_cells
        Groups of fewer cells are left out, with a warning.
    min_fraction, min_counts
        Genes that fewer than this share of a group's cells express, or with fewer counts in all of them together, get the
        status "filtered" in that group: they are not fitted, and have no share in multiple testing or in what is learned of
        τ².
    contrasts
        Questions (`flashmm_sc.contrasts`) or combinations of coefficients to test as well, as in `lmm_test`; stored
        under ``key_added + "_contrasts"``.
    corr_method, corr_scope
        As in `lmm_de`.
    key_added
        Key of the results.
    copy
        Return a copy of `adata` with the results instead of writing to it; not for backed data or several AnnData.
    n_jobs
        Threads; by default all cores.
    show_progress
        Show a progress bar; by default in a terminal or notebook, of what takes longer than a second.

    Returns
    -------
    None, or the copy; for a list a new AnnData with the shared genes and no cells. Sets, with `key_added` for ``nbmm_de``:

    `adata.varm['nbmm_de_coef' | '_se']` : float64, genes × coefficients
        Coefficients, on the scale of natural logarithms of mean counts (over ln 2 they are log2 fold changes, `log_fc` in
        `flashmm_sc.get.lmm_de_df`): means over the posterior of τ², and standard deviations. Names in
        `adata.uns['nbmm_de']['coef_names']`; NaN for genes that were not fitted.
    `adata.varm['nbmm_de_pval' | '_pval_adj' | '_t' | '_df']` : float64, genes × coefficients
        Likelihood ratio tests averaged over the posterior; t is the normal deviate with that p-value, df are infinite.
    `adata.varm['nbmm_de_theta' | '_theta_se']` : float64, genes × 2
        Posterior mean and standard deviation of τ², named as the samples are, and φ.
    `adata.varm['nbmm_de_sums']` : unsigned integers, genes × samples
        Sums of counts, from which later tests recompute all else; names of the samples in `adata.uns`.
    `adata.varm['nbmm_de_status']` : int8, genes × groups
        Codes count into `adata.uns['nbmm_de']['status_names']`, 0 is "ok".
    `adata.uns['nbmm_de']` : dict
        Parameters, names, the advice given (`notes`), and of each group, under ``models``, the design, sizes of samples, the
        prior of τ² and the `design_effect`.

    With `groupby` the groups lie side by side, named ``"B cells|trt[T.stim]"``. `lmm_test`, `lmm_anova`, `shrink`,
    `flashmm_sc.get` and `flashmm_sc.pl` work on them as on results of `lmm_de`.

    Raises
    ------
    KeyError
        For a column, layer or mask that `adata` lacks.
    OSError, RuntimeError, TypeError
        As `lmm_de`.
    ValueError
        For values that are no counts, a column of the formula that varies within samples, too few samples, a rank-deficient
        design, missing values, size factors that are not positive, and unknown options. `adata` is then as it was.

    Notes
    -----
    The model is NEBULA's NBGMM (He et al., Communications Biology 2021) for effects between samples. For a sample's sum T_i,
    S_i = Σ s_ij, Q_i = Σ s_ij² and b_i = κ φ Q_i / S_i², T_i ~ NB(mean S_i μ_i, dispersion b_i + τ² (1 + b_i)). φ is that of
    cells of the same sample, by moments; κ >= 1 is a design effect, as cells of a sample are not quite independent, one for
    all genes of a group: that under which their sums are most probable. The likelihood at each τ² is adjusted for β (Cox and Reid, as in edgeR), p-values come from Skovgaard's corrected signed root
    of the likelihood ratio, and each sample gets a prior count, an eighth of a count a coefficient in all, so that log fold
    changes are finite where an arm has no counts.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=200, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.nbmm_de(adata, fixed="~ trt", sample="sam", groupby="cls")
    >>> fsc.get.lmm_de_df(adata, "trt[T.B]").columns[:5].to_list()
    ['variable', 'contrast', 'group', 'coef', 'log_fc']
    """
    values = Values(layer, use_raw, mask_var, None, size_factors, mask_obs=mask_obs, weigh=True)
    least = Filter(min_cells, min_fraction, min_counts)
    one_of("normalize", normalize, Normalize)
    one_of("corr_method", corr_method, Correction)
    one_of("corr_scope", corr_scope, Scope)
    check_flags(copy=copy)
    check_optional_flags(show_progress=show_progress)
    n_threads(n_jobs)
    contrasts_key = f"{key_added}_contrasts"
    others = {"groupby": groupby, **values.columns}
    needed = lambda obs, where: needed_columns(
        obs, fixed, sample_term(sample, list(map(str, obs.columns))), where, **others
    )
    with cells_or_strata(adata, needed, values, copy=copy) as study:
        if not (values.sized or study.of_strata):
            values = replace(values, size_factors=TOTAL)
        check_key(study.target, key_added)
        check_key(study.target, contrasts_key, tests=True)
        term = sample_term(sample, list(study.obs.columns))
        models = build_count_models(study.obs, fixed, term, groupby, min_cells=min_cells)
        if contrasts is not None:
            in_groups(contrasts, [(one.group, one.design.names, one.reference) for one in models], tell=False)
        check_counts(study)
        notes = on_samples(study.obs, models, term)
        codes, n_samples = sample_codes(models, len(study.obs))
        strata = strata_of(study, codes, n_samples, values, n_jobs=n_jobs, show_progress=show_progress)
        check_sums(study, strata, [name for model in models for name in model.samples])
    parts = counted(models, strata, least, normalize=normalize is not None)
    fits = fit_counts(parts, study, n_jobs, show_progress)
    params = {
        "fixed": fixed,
        "random": np.array([term.name], dtype=object),
        "sample": term.spelled,
        **values.params,
        **vars(least),
        "normalize": normalize,
        "groupby": groupby,
        "corr_method": corr_method,
        "corr_scope": corr_scope,
        "n_obs": len(study.obs),
        "log_base": math.e,
    }
    result = count_result(key_added, parts, fits, study, params=params, n_jobs=n_jobs)
    result.entry["notes"] = np.array(notes, dtype=object)
    left_out = len(parts) < len(models)
    target = stored(study.target, result, contrasts_key, contrasts, left_out=left_out, copy=copy, n_jobs=n_jobs)
    return None if target is adata else target
