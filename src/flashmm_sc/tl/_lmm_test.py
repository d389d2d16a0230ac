"""Tests of stored fits."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from flashmm_sc._base.errors import FlashmmWarning, one_of
from flashmm_sc._inference.adjustment import CORRECTIONS
from flashmm_sc._inference.contrasts import Contrasts, contrast_matrix
from flashmm_sc._inference.df import with_df
from flashmm_sc._inference.f_tests import FTests, check_independent, f_tests
from flashmm_sc._inference.moderated import moderated_intervals, moderated_tests
from flashmm_sc._inference.t_tests import ALTERNATIVES, TTests, check_ddf, t_tests, with_intervals
from flashmm_sc._results.store import StoredModel, Table, check_key, read_fit, read_models, write_tables


def lmm_test(
    adata: AnnData,
    contrasts: Contrasts,
    *,
    key: str = "lmm_de",
    key_added: str = "lmm_test",
    ddf: str | None = None,
    alternative: str = "two-sided",
    lfc: float = 0.0,
    joint: bool = False,
    conf_level: float | None = None,
    corr_method: str = "benjamini-hochberg",
    n_jobs: int | None = None,
) -> None:
    r"""Test linear combinations of the coefficients of a fit by `lmm_de`.

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
        Degrees of freedom, "satterthwaite", "kenward-roger" or "residual"; by default as in the fit. They play no part
        in a moderated fit, whose tests average over the posterior of the variance ratios.
    alternative
        "two-sided", "less" or "greater".
    lfc
        Smallest effect that counts, as an absolute log2 fold change: the null hypothesis is \|effect\| <= lfc (or
        effect <= lfc for "greater", effect >= -lfc for "less").
    joint
        One F test of all contrasts together instead of a t test of each.
    conf_level
        Also store two-sided confidence intervals of this level, e.g. 0.95.
    corr_method
        Correction for the number of genes, "benjamini-hochberg" or "bonferroni".
    n_jobs
        Threads; by default all cores.

    Returns
    -------
    None. Sets, with `key_added` for ``lmm_test``:

    `adata.varm['lmm_test_coef' | '_se' | '_t' | '_df' | '_pval' | '_pval_adj']` : float64, genes × contrasts
        Names in `adata.uns['lmm_test']['coef_names']`; estimates on the scale of the fitted values.
    `adata.varm['lmm_test_ci_low' | '_ci_high']` : float64, genes × contrasts
        With `conf_level`.
    `adata.varm['lmm_test_F' | '_df_num' | '_df' | '_pval' | '_pval_adj']` : float64, genes × 1
        Instead of these, with `joint`.
    `adata.varm['lmm_test_status']` : int8, genes × groups
        As in the fit.

    Raises
    ------
    KeyError
        When there is no fit under `key`.
    ValueError
        For a contrast that names an unknown coefficient or is zero, linearly dependent contrasts of a joint test, a
        negative `lfc` or one for values of which the logarithm isn't known, and unknown options.

    Notes
    -----
    FLASHMM's ``lmmtest``; degrees of freedom and F tests of lmerTest's ``contest`` and of pbkrtest; `lfc` is the treat
    test of limma (McCarthy and Smyth, Bioinformatics 2009).

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
    check_key(adata, key_added, tests=True)
    params = read_fit(adata, key)["params"]
    models = read_models(adata, key)
    check_moderated(models, ddf, joint)
    ddf = str(params["ddf"]) if ddf is None else ddf
    check_ddf(ddf, str(params["method"]))
    effect = _effect(lfc, float(params["log_base"]))
    if joint and (lfc != 0 or alternative != "two-sided" or conf_level is not None):
        msg = "joint=True is an F test, without lfc, alternative and conf_level; test contrasts singly for these."
        raise ValueError(msg)
    if conf_level is not None and not 0 < conf_level < 1:
        msg = f"conf_level={conf_level!r} must lie between 0 and 1, e.g. 0.95."
        raise ValueError(msg)
    tables = []
    for model, L in zip(models, in_groups(contrasts, [(m.group, m.coef_names) for m in models]), strict=True):
        if L is None:
            continue
        matrix, names = L.to_numpy(), list(L.columns)
        if joint:
            check_independent(matrix, names)
            tests: TTests | FTests = f_tests(model.projection, model.estimates, [matrix], ddf=ddf, n_jobs=n_jobs)
            names = [", ".join(names)]
        else:
            tests = _t_tests(model, matrix, ddf, alternative, effect, conf_level, n_jobs)
        tables.append(Table(model.group, names, tests, with_df(model.status, tests.df)))
    options = {
        "key": key,
        "ddf": ddf,
        "alternative": alternative,
        "lfc": lfc,
        "joint": joint,
        "corr_method": corr_method,
    }
    write_tables(adata, key_added, tables, corr_method, options | {"log_base": params["log_base"]})


def _t_tests(
    model: StoredModel,
    L: np.ndarray,
    ddf: str,
    alternative: str,
    effect: float,
    conf_level: float | None,
    n_jobs: int | None,
) -> TTests:
    projection, moderated = model.projection, model.moderated
    options: dict[str, Any] = {"alternative": alternative, "effect": effect, "n_jobs": n_jobs}
    if moderated is None:
        tests = t_tests(projection, model.estimates, L, ddf=ddf, **options)
        return tests if conf_level is None else with_intervals(tests, conf_level)
    tests = moderated_tests(projection, moderated, L, **options)
    return (
        tests if conf_level is None else moderated_intervals(projection, moderated, L, tests, conf_level, n_jobs=n_jobs)
    )


def check_moderated(models: list[StoredModel], ddf: str | None, joint: bool) -> None:
    """Refuse what a moderated fit can't serve."""
    if any(model.moderated is not None for model in models) and (joint or ddf is not None):
        what = "F tests" if joint else f"ddf={ddf!r}"
        msg = f"The fit is moderated: its t tests average over the variance ratios. For {what} fit with moderate=False."
        raise ValueError(msg)


def in_groups(
    contrasts: Contrasts, groups: list[tuple[str, list[str]]], *, warn: bool = True
) -> list[pd.DataFrame | None]:
    """The contrast matrix of every group (name, coefficients); None, with a warning, where a coefficient is missing."""
    matrices: list[pd.DataFrame | None] = []
    reasons: dict[str, ValueError] = {}
    for group, names in groups:
        try:
            matrices.append(contrast_matrix(contrasts, names))
        except ValueError as error:
            matrices.append(None)
            reasons[group] = error
    if len(reasons) == len(groups):
        raise next(iter(reasons.values()))
    for group, reason in reasons.items() if warn else ():
        warnings.warn(f"Group {group!r} is not tested: {reason}", FlashmmWarning, stacklevel=3)
    return matrices


def _effect(lfc: float, base: float) -> float:
    """The smallest effect that counts, on the scale of the coefficients."""
    if not (np.isfinite(lfc) and lfc >= 0):
        msg = f"lfc={lfc!r} must be a log2 fold change of zero or more; alternative= gives the direction."
        raise ValueError(msg)
    if lfc and math.isnan(base):
        msg = (
            "lfc is a log2 fold change, but the logarithm that the fitted values are on isn't known; use transform= in "
            "tl.lmm_de, or sc.pp.log1p, which notes it in adata.uns['log1p']."
        )
        raise ValueError(msg)
    return lfc * math.log(2) / math.log(base) if lfc else 0.0
