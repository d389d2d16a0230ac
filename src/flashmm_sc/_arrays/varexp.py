"""How much of a gene's variance the fixed terms, the random components and the residual explain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd

from flashmm_sc._arrays.lmm import LMMFit
from flashmm_sc._base.errors import listed
from flashmm_sc._base.options import check_type
from flashmm_sc._base.selection import Selection, positions
from flashmm_sc._gaussian.shares import Centred
from flashmm_sc._stats.totals import column_totals

if TYPE_CHECKING:
    from flashmm_sc._stats.summary import SummaryStats


def variance_explained(fit: LMMFit, terms: Mapping[str, Selection] | None = None) -> pd.DataFrame:
    """Split the variance of every gene into fractions of fixed terms, random components and the residual.

    Parameters
    ----------
    fit
        From `lmm` or `lmmfit`, with a random intercept among its components: one whose indicator columns share out the
        cells. The sums over cells that centre the designs come from it.
    terms
        Fixed terms, from names to the coefficients of each; coefficients in no term stand for themselves, as all do by
        default. Those constant over the cells, such as the intercept, explain nothing and have no term of their own.

    Returns
    -------
    DataFrame, genes × (terms, components, ``residual``), rows that add up to 1; the components of a correlated term have one
    column, ``var1 + var2``. NaN for genes that were not fitted.

    Raises
    ------
    TypeError
        For what is no `LMMFit`, and terms that are no dictionary.
    ValueError
        When there is no random intercept, or it can't be told from a slope (arrays only), or a term names an unknown
        coefficient, one that another term has, or the name of something else.

    Notes
    -----
    As in the paper of FLASH-MM (Xu et al., Nature Communications 2026, doi 10.1038/s41467-026-69063-2), with X and Z
    centred over the n cells: the sample variance of X β is the part of all fixed terms, which share it in proportion to
    the sample variances of X_t β_t, as if they were uncorrelated; component k has s_k ‖Z_k‖² / (n - 1), negative s_k
    counted as zero; components of a correlated term share a column, with 2 s_kl tr Z_k'Z_l / (n - 1) of their covariances;
    the residual has s_0. With weights all of these are weighted sums over the cells, divided by n - 1, so
    that they are on the scale of s_0, the residual variance of a cell of weight 1.

    Examples
    --------
    >>> import numpy as np, flashmm_sc as fsc
    >>> sample = np.arange(60) % 6
    >>> X = np.column_stack([np.ones(60), sample % 2, np.arange(60) / 10])
    >>> fit = fsc.lmmfit(np.random.default_rng(0).normal(size=(60, 4)), X, np.eye(6)[sample])
    >>> fsc.variance_explained(fit, {"treatment": "x2"}).columns.to_list()
    ['treatment', 'x3', 'var1', 'residual']
    """
    check_type("fit", fit, LMMFit, "fsc.lmm or fsc.lmmfit")
    if terms is not None and not isinstance(terms, Mapping):
        msg = f"terms={terms!r} must be a dictionary, from names of terms to their coefficients."
        raise TypeError(msg)
    stats, structure = fit.stats, fit.projection.structure
    weight_sum = cast("float", stats.weight_sum)
    centred = Centred.of(stats.cross, _totals(stats), weight_sum, stats.d, structure, stats.n)
    named = _named({} if terms is None else terms, stats, centred.varies)
    shares = centred.shares(fit.coef.to_numpy(), fit.theta.to_numpy(), list(named.values()))
    columns = [*named, *centred.random_terms(stats.component_names), "residual"]
    return pd.DataFrame(shares, fit.coef.index, columns)


def _totals(stats: SummaryStats) -> tuple[np.ndarray, np.ndarray]:
    """1'X and 1'Z, from a random intercept."""
    totals = column_totals(stats)
    if totals is None:
        msg = (
            "variance_explained centres the designs by the column sums of a random intercept, a component with one "
            f"indicator column a level; none of {listed(stats.component_names)} is one. Add one to the model."
        )
        raise ValueError(msg)
    return totals[:2]


def _named(terms: Mapping[str, Selection], stats: SummaryStats, varies: np.ndarray) -> dict[str, np.ndarray]:
    """Positions of the coefficients of each term, those of no term by themselves."""
    named = {str(name): positions(f"terms[{name!r}]", chosen, stats.coef_names) for name, chosen in terms.items()}
    taken = np.bincount(np.concatenate([*named.values(), np.empty(0, int)]), minlength=len(varies))
    if (taken > 1).any():
        msg = f"terms: {listed(np.array(stats.coef_names)[taken > 1])} in more than one term."
        raise ValueError(msg)
    alone = {name: np.array([j]) for j, name in enumerate(stats.coef_names) if varies[j] and not taken[j]}
    twice = [name for name in named if name in alone]
    twice += [name for name in [*stats.component_names, "residual"] if name in named or name in alone]
    if twice:
        msg = f"{listed(twice)} would name two parts of the variance; give the fixed terms other names by terms=."
        raise ValueError(msg)
    return named | alone
