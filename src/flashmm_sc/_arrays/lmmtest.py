"""Tests of array-level fits, as FLASHMM's lmmtest."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pandas as pd

from flashmm_sc._arrays.lmm import LMMFit
from flashmm_sc._base.errors import one_of
from flashmm_sc._base.selection import Selection, positions
from flashmm_sc._inference.contrasts import Contrasts, contrast_matrix
from flashmm_sc._inference.f_tests import check_independent, f_tests
from flashmm_sc._inference.moderated import moderated_tests
from flashmm_sc._inference.t_tests import ALTERNATIVES, check_ddf, t_tests


def lmmtest(
    fit: LMMFit,
    contrast: Contrasts | None = None,
    index: Selection | None = None,
    alternative: str = "two-sided",
    ddf: str | None = None,
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
        "residual" (n - p, as FLASHMM), "satterthwaite" or "kenward-roger" (REML only); by default as in the fit. No part
        in a moderated fit.
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
    ValueError
        For an unknown coefficient or option, a contrast that is zero, contrasts of a joint test that depend on each
        other, or a negative `min_effect`.

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
    one_of("alternative", alternative, ALTERNATIVES)
    ddf = fit.ddf if ddf is None else ddf
    check_ddf(ddf, fit.method)
    if not (np.isfinite(min_effect) and min_effect >= 0):
        msg = f"min_effect={min_effect!r} must be zero or more; alternative= gives the direction."
        raise ValueError(msg)
    if joint and (min_effect != 0 or alternative != "two-sided"):
        msg = "joint=True is an F test, which has neither min_effect nor a one-sided alternative."
        raise ValueError(msg)
    if contrast is not None and index is not None:
        msg = "index chooses coefficients and contrast combinations of them; give one of the two."
        raise ValueError(msg)
    names = list(fit.coef.columns)
    if contrast is None:
        L = pd.DataFrame(np.eye(len(names)), names, names).iloc[:, positions("index", index, names)]
    else:
        L = contrast_matrix(contrast, names)
    if fit.moderated is not None:
        if joint:
            msg = "A moderated fit has t tests only; fit without moderate=True for a joint F test."
            raise ValueError(msg)
        tests = moderated_tests(fit.projection, fit.moderated, L.to_numpy(), alternative=alternative, effect=min_effect)
    elif joint:
        check_independent(L.to_numpy(), list(L.columns))
        F = f_tests(fit.projection, fit.estimates, [L.to_numpy()], ddf=ddf)
        return pd.DataFrame({field.name: getattr(F, field.name)[:, 0] for field in fields(F)}, fit.coef.index)
    else:
        tests = t_tests(
            fit.projection, fit.estimates, L.to_numpy(), ddf=ddf, alternative=alternative, effect=min_effect
        )
    columns = [f"{name}_{what}" for what in ("coef", "t", "p") for name in L.columns]
    return pd.DataFrame(np.concatenate([tests.coef, tests.t, tests.p], axis=1), fit.coef.index, columns)
