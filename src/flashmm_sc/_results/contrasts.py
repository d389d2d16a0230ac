"""Tests of contrasts in every group of a fit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from flashmm_sc._base.errors import warn
from flashmm_sc._base.options import check_level, check_number
from flashmm_sc._inference.contrasts import Contrasts, contrast_matrix
from flashmm_sc._inference.df import Ddf, with_df
from flashmm_sc._inference.f_tests import check_independent
from flashmm_sc._results.across import across_groups, split
from flashmm_sc._results.fitted import fitted_models
from flashmm_sc._results.group_tests import FittedModel, GroupTests, tests_result
from flashmm_sc._results.questions import answered, labels_of_several
from flashmm_sc._results.ratios import log2_ratios

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from flashmm_sc._design.questions import Question
    from flashmm_sc._inference.adjustment import Correction, Scope
    from flashmm_sc._inference.f_tests import FTests
    from flashmm_sc._inference.t_tests import Alternative, TTests
    from flashmm_sc._results.result import Result


def contrasts_result(
    fit: Result,
    key_added: str,
    contrasts: Contrasts | Question,
    *,
    corr_method: Correction,
    corr_scope: Scope = "column",
    ddf: Ddf | None = None,
    alternative: Alternative = "two-sided",
    lfc: float = 0.0,
    joint: bool = False,
    conf_level: float | None = None,
    n_jobs: int | None = None,
) -> Result:
    """The result of `flashmm_sc.tl.lmm_test`, which has the arguments."""
    models = fitted_models(fit)
    used = {model.inference.used_ddf(ddf) for model in models}.pop()
    base = float(fit.params["log_base"])
    effect = effect_of(lfc, base)
    if joint and (lfc != 0 or alternative != "two-sided" or conf_level is not None):
        msg = "joint=True is an F test, without lfc, alternative and conf_level; test contrasts singly for these."
        raise ValueError(msg)
    if conf_level is not None:
        check_level(conf_level)
    options: dict[str, Any] = {"ddf": ddf, "n_jobs": n_jobs}
    if not joint:
        options |= {"alternative": alternative, "effect": effect, "conf_level": conf_level}
    groups = [(model.group, model.coef_names, model.reference) for model in models]
    matrices, across = in_groups(contrasts, groups)
    tested = [_tested(model, L, joint, options) for model, L in zip(models, matrices, strict=True) if L is not None]
    tested += across_groups(across, models, options, joint)
    params = {"key": fit.key, "ddf": used, "alternative": alternative, "lfc": lfc, "joint": joint}
    params |= {"corr_method": corr_method, "corr_scope": corr_scope, "log_base": base}
    params |= {"moderate": bool(fit.params.get("moderate", False))}
    params |= {} if conf_level is None else {"conf_level": float(conf_level)}
    return tests_result(key_added, tested, params)


def contrasts_of_fit(
    fit: Result, key_added: str, contrasts: Contrasts | Question, *, left_out: bool, **how: Any
) -> list[Result]:
    """The result of contrasts that were checked before the fit; none, with a warning, if groups left out since had them."""
    try:
        return [contrasts_result(fit, key_added, contrasts, **how)]
    except ValueError as error:
        if not left_out:
            raise
        warn(f"contrasts= are not tested, since a group was left out: {error} Test others with fsc.tl.lmm_test.")
        return []


def _tested(model: FittedModel, L: pd.DataFrame, joint: bool, options: dict[str, Any]) -> GroupTests:
    matrix, names = L.to_numpy(), list(L.columns)
    tests: TTests | FTests
    findings = model.findings(matrix)
    if joint:
        check_independent(matrix, names)
        tests, names = model.inference.f_tests([matrix], **options), [", ".join(names)]
        findings = np.array([findings.all()])
    else:
        tests = model.inference.t_tests(matrix, **options)
    ratio = None if joint or model.means is None else log2_ratios(model.reference, model.means, matrix)
    return GroupTests(model.group, names, findings, tests, with_df(model.status, tests.df), ratio)


def in_groups(
    contrasts: Contrasts | Question, groups: Sequence[tuple[str, list[str], str]], *, tell: bool = True
) -> tuple[list[pd.DataFrame | None], dict[str, str]]:
    """The contrast matrix of every group (name, coefficients, reference grid), and expressions across groups by name.

    Where a matrix can't be had there is None, with a warning.
    """
    within, across = split(contrasts, groups)
    if across and not within:
        return [None] * len(groups), across
    several = labels_of_several(within, [reference for _, _, reference in groups])
    matrices: list[pd.DataFrame | None] = []
    reasons: dict[str, ValueError] = {}
    for group, names, reference in groups:
        try:
            matrices.append(contrast_matrix(answered(within, reference, several), names))
        except ValueError as error:
            matrices.append(None)
            reasons[group] = error
    if len(reasons) == len(groups):
        raise next(iter(reasons.values()))
    for group, reason in reasons.items() if tell else ():
        warn(f"Group {group!r} is not tested: {reason}")
    return matrices, across


def effect_of(lfc: float, base: float) -> float:
    """The smallest effect that counts, on the scale of the coefficients."""
    check_number("lfc", lfc, 0.0, hint="It is a log2 fold change; alternative= gives the direction.")
    if lfc and math.isnan(base):
        msg = (
            "lfc is a log2 fold change, but the logarithm that the fitted values are on isn't known; use transform= in "
            "tl.lmm_de, or sc.pp.log1p, which notes it in adata.uns['log1p']."
        )
        raise ValueError(msg)
    return lfc * math.log(2) / math.log(base) if lfc else 0.0
