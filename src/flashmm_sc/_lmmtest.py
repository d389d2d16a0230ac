"""Tests of array-level fits, as FLASHMM's lmmtest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from flashmm_sc._contrasts import Contrasts, contrast_matrix
from flashmm_sc._errors import did_you_mean, one_of
from flashmm_sc._inference import ALTERNATIVES, check_ddf, t_tests
from flashmm_sc._lmm import LMMFit


def lmmtest(
    fit: LMMFit,
    contrast: Contrasts | None = None,
    index: int | str | Sequence[int | str] | None = None,
    alternative: str = "two-sided",
    ddf: str = "residual",
) -> pd.DataFrame:
    """Test coefficients or combinations of them in every gene.

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
        "residual" (n - p, as FLASHMM) or "satterthwaite".

    Returns
    -------
    DataFrame, genes × (estimates ``NAME_coef``, t-values ``NAME_t``, p-values ``NAME_p``), as FLASHMM's.

    Raises
    ------
    ValueError
        For an unknown coefficient or option, or a contrast that is zero.

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
    check_ddf(ddf, fit.method)
    names = list(fit.coef.columns)
    if contrast is None:
        L = pd.DataFrame(np.eye(len(names)), names, names).iloc[:, _positions(index, names)]
    else:
        L = contrast_matrix(contrast, names)
    tests = t_tests(fit.projection, fit.estimates, L.to_numpy(), ddf=ddf, alternative=alternative)
    columns = [f"{name}_{what}" for what in ("coef", "t", "p") for name in L.columns]
    return pd.DataFrame(np.concatenate([tests.coef, tests.t, tests.p], axis=1), fit.coef.index, columns)


def _positions(index: int | str | Sequence[int | str] | None, names: list[str]) -> list[int]:
    if index is None:
        return list(range(len(names)))
    positions = []
    for item in [index] if isinstance(index, int | str) else index:
        if isinstance(item, str) and item not in names:
            msg = f"index: there is no coefficient {item!r}. {did_you_mean(item, names)}"
            raise ValueError(msg)
        positions.append(names.index(item) if isinstance(item, str) else int(item))
    return positions
