"""Storing a fit and the contrasts with it: the end of every call that fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flashmm_sc._results.contrasts import contrasts_of_fit
from flashmm_sc._results.summary import log_summary
from flashmm_sc._results.write import write

if TYPE_CHECKING:
    from anndata import AnnData

    from flashmm_sc._design.questions import Question
    from flashmm_sc._inference.contrasts import Contrasts
    from flashmm_sc._results.result import Result


def stored(
    target: AnnData,
    fit: Result,
    contrasts_key: str,
    contrasts: Contrasts | Question | None,
    *,
    left_out: bool,
    copy: bool,
    n_jobs: int | None,
) -> AnnData:
    """Test the contrasts, which were checked before, and write all to the AnnData or a copy, which is returned.

    `left_out` tells whether a group was left out since they were checked.
    """
    results = [fit]
    if contrasts is not None:
        how = {name: fit.params[name] for name in ("corr_method", "corr_scope")}
        results += contrasts_of_fit(fit, contrasts_key, contrasts, left_out=left_out, n_jobs=n_jobs, **how)
    target = target.copy() if copy else target
    write(target, results, [fit.key, contrasts_key])
    log_summary(results)
    return target
