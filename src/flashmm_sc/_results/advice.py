"""What a user should hear of a model before it is fitted."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from flashmm_sc._base.errors import listed, warn
from flashmm_sc._design.columns import as_factor

if TYPE_CHECKING:
    import pandas as pd

    from flashmm_sc._design.fixed import FixedDesign
    from flashmm_sc._design.random_terms import RandomTerm

logger = logging.getLogger("flashmm_sc")


def advise(
    obs: pd.DataFrame,
    design: FixedDesign,
    terms: list[RandomTerm],
    *,
    ddf: str,
    moderate: bool,
    groupby: str | None,
) -> None:
    """Warn of n - p degrees of freedom for effects between samples; hint at `groupby` where it asks the same."""
    if ddf == "residual":
        _warn_of_cells_as_samples(obs, design.columns, terms)
    name = _crossed_with_everything(design)
    if groupby is None and name and moderate:
        msg = (
            f"The model pools one variance over the levels of {name!r}, which differ in real data: moderated p-values "
            f"come out too small then. Fit one model for each level with groupby={name!r}."
        )
        warn(msg)
    elif groupby is None and name:
        logger.info(
            "Every interaction has %r in it. One model for each of its levels, groupby=%r, estimates the same effects "
            "with variances of each level's own, and is better calibrated where these differ.",
            name,
            name,
        )


def _warn_of_cells_as_samples(obs: pd.DataFrame, used: list[str], terms: list[RandomTerm]) -> None:
    for term in terms:
        levels = [as_factor(obs[group]).codes for group in term.groups]
        between = [name for name in used if name not in term.groups and obs[name].groupby(levels).nunique().max() <= 1]
        if between:
            msg = (
                f"{listed(between)} varies between the levels of {':'.join(term.groups)!r} only, but ddf='residual' counts "
                "cells as if they were independent: p-values come out too small. Use ddf='satterthwaite'."
            )
            warn(msg)
            return


def _crossed_with_everything(design: FixedDesign) -> str | None:
    """The one factor that all interactions share, if no other factor has a term of its own (as in `~ 0 + a + a:b`)."""
    terms = [{factor.expr for factor in term.factors} for term in design.formula]
    crossed = [term for term in terms if len(term) > 1]
    alone = {name for term in terms if len(term) == 1 for name in term if name in design.levels}
    shared = set.intersection(*crossed) & alone if crossed else set()
    return shared.pop() if len(shared) == 1 and len(alone) == 1 else None
