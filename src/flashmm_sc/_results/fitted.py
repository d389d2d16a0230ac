"""The fitted models that a result holds, of whatever kind they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flashmm_sc._results.count_fits import count_models
from flashmm_sc._results.fits import lmm_models

if TYPE_CHECKING:
    from flashmm_sc._results.group_tests import FittedModel
    from flashmm_sc._results.result import Result


def fitted_models(result: Result) -> list[FittedModel]:
    """The fitted models of all groups, as further tests need them."""
    return count_models(result) if result.of_counts else lmm_models(result)
