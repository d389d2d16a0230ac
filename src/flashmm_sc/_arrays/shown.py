"""How a fit shows itself."""

from __future__ import annotations

from typing import Any

from flashmm_sc._base.errors import listed
from flashmm_sc._base.render import counted, table


def fit_text(fit: Any) -> str:
    """An `LMMFit` in a line."""
    return (
        f"LMMFit of {fit.coef.shape[0]} genes by {fit.method}: {_statuses(fit)}; "
        f"{fit.coef.shape[1]} coefficients, variance components {listed(fit.theta.columns)}"
    )


def fit_html(fit: Any) -> str:
    """An `LMMFit` in a notebook."""
    rows = {
        "method": f"{fit.method}, {'variances at least zero' if fit.nonnegative else 'variances free'}",
        "tests": "averaged over the prior of variance ratios" if fit.moderated else f"{fit.ddf} degrees of freedom",
        "status": _statuses(fit),
        "coefficients": list(fit.coef.columns),
        "variance components": list(fit.theta.columns),
    }
    return table(f"LMMFit of {fit.stats.n:,} cells × {len(fit.coef):,} genes", rows)


def _statuses(fit: Any) -> str:
    return counted(fit.status.value_counts().items())
