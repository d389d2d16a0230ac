"""Tests of array-level fits, as FLASHMM's lmmtest."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from flashmm_sc._arrays.lmm import LMMFit
from flashmm_sc._base.options import check_flags, check_number, check_type, one_of
from flashmm_sc._base.selection import Selection, positions
from flashmm_sc._inference.contrasts import Contrasts, contrast_matrix
from flashmm_sc._inference.f_tests import check_independent
from flashmm_sc._inference.t_tests import Alternative

if TYPE_CHECKING:
    from flashmm_sc._inference.df import Ddf


def lmmtest(
    fit: LMMFit,
    contrast: Contrasts | None = None,
    index: Selection | None = None,
    alternative: Alternative = "two-sided",
    ddf: Ddf | None = None,
    *,
    min_effect: float = 0.0,
    joint: bool = False,
) -> pd.DataFrame:
    r"""Test coefficients or combinations of them in every gene.

    Parameters
    ----------
    fit
        From `lmm` or `lmmfit`.
    contrast
        What to test, in any form that `contrast_matrix` takes, or its result; by default each coefficient.
    index
        Coefficients to test, by name or position, when there is no contrast.
    alternative
        "two-sided", "less" or "greater".
    ddf
        "residual" (n - p, as FLASHMM), "satterthwaite" or "kenward-roger" (REML only); by default as in the fit. Not
        of a moderated fit.
    min_effect
        Smallest effect that counts, on the scale of the fitted values: the null hypothesis is \|effect\| <= min_effect
        (or effect <= min_effect for "greater", effect >= -min_effect for "less"; McCarthy and Smyth, Bioinformatics
        2009).
    joint
        One F test of everything together instead of t tests.

    Returns
    -------
    DataFrame, genes × (estimates ``NAME_coef``, t-values ``NAME_t``, p-values ``NAME_p``), as FLASHMM's; with `joint`
    genes × (``F``, ``df_num``, ``df``, ``p``).

    Raises
    ------
    TypeError
        For options of a wrong type.
    ValueError
        For an unknown coefficient or option, a contrast that is zero, contrasts of a joint test that depend on each
        other, a negative `min_effect`, and degrees of freedom for a moderated fit.

    Examples
    --------
    >>> import numpy as np, flashmm_sc as fsc
    >>> rng = np.random.default_rng(0)
    >>> sample = np.arange(60) % 6
    >>> X = np.column_stack([np.ones(60), sample % 2])
    >>> fit = fsc.lmmfit(rng.normal(size=(60, 4)), X, np.eye(6)[sample])
    >>> list(fsc.lmmtest(fit, {"sum": "x1 + x2"}, alternative="less"))
    ['sum_coef', 'sum_t', 'sum_p']
    """
    check_type("fit", fit, LMMFit, "fsc.lmm or fsc.lmmfit")
    one_of("alternative", alternative, Alternative)
    check_flags(joint=joint)
    check_number("min_effect", min_effect, 0.0, hint="alternative= gives the direction.")
    if joint and (min_effect != 0 or alternative != "two-sided"):
        msg = "joint=True is an F test, which has neither min_effect nor a one-sided alternative."
        raise ValueError(msg)
    if contrast is not None and index is not None:
        msg = "index chooses coefficients and contrast combinations of them; give one of the two."
        raise ValueError(msg)
    names, inference = list(fit.coef.columns), fit.inference
    if contrast is None:
        L = pd.DataFrame(np.eye(len(names)), names, names).iloc[:, positions("index", index, names)]
        if L.empty:
            msg = "index chooses no coefficient; give one or more, or leave it out for all."
            raise ValueError(msg)
    else:
        L = contrast_matrix(contrast, names)
    if joint:
        check_independent(L.to_numpy(), list(L.columns))
        F = inference.f_tests([L.to_numpy()], ddf=ddf)
        return pd.DataFrame({field.name: getattr(F, field.name)[:, 0] for field in fields(F)}, fit.coef.index)
    tests = inference.t_tests(L.to_numpy(), ddf=ddf, alternative=alternative, effect=min_effect)
    columns = [f"{name}_{what}" for what in ("coef", "t", "p") for name in L.columns]
    return pd.DataFrame(np.concatenate([tests.coef, tests.t, tests.p], axis=1), fit.coef.index, columns)
