"""Adaptive shrinkage of stored effects."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._base.errors import listed
from flashmm_sc._base.log import told
from flashmm_sc._inference.shrinkage import NormalMixture, Shrunken, learn, normal_errors
from flashmm_sc._inference.shrinkage import shrink as shrunken
from flashmm_sc._results.finding import columns_of, found
from flashmm_sc._results.result import Result, check_key, texts
from flashmm_sc._results.summary import log_summary
from flashmm_sc._results.write import write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

MIN_GENES = 10
_NAMES = ("coef_names", "column_names", "column_groups")


@told("shrinking effects")
def shrink(
    adata: AnnData,
    coefs: str | Sequence[str] | None = None,
    *,
    key: str | None = None,
    key_added: str = "lmm_shrink",
) -> None:
    """Shrink effects towards zero, each as far as its error and the effects of all genes suggest.

    Adaptive shrinkage (ash): the effects of one coefficient are taken to be draws from a mixture of normals around zero,
    many of them zero, which is learned from all genes. What was estimated poorly is shrunken more. Posterior means can be
    ranked as they are, without the winner's curse, and the local false sign rate says how sure the direction is.

    Parameters
    ----------
    adata
        With results of `lmm_de` or `lmm_test`.
    coefs
        Coefficients or contrasts, by default all but intercepts and means of levels, which don't lie around zero.
    key
        Key of the results; by default the one that has all of `coefs`, ``"lmm_de"`` before others.
    key_added
        Key of the shrunken effects.

    Returns
    -------
    None. Sets, with `key_added` for ``lmm_shrink``:

    `adata.varm['lmm_shrink_coef' | '_sd']` : float64, genes × coefficients
        Posterior means and standard deviations, on the scale of the fitted values. NaN for genes that were not fitted.
        Names in `adata.uns['lmm_shrink']['coef_names']`; `flashmm_sc.get.lmm_de_df` gives it all as a table.
    `adata.varm['lmm_shrink_lfsr' | '_svalue']` : float64, genes × coefficients
        Local false sign rate, the probability that the effect is zero or of the other sign; and its mean over all genes
        with one as low, which bounds wrong signs in a list as a q-value bounds false discoveries.
    `adata.varm['lmm_shrink_status']` : int8, genes × groups
        As in the fit.
    `adata.uns['lmm_shrink']` : dict
        Names, parameters, `pi0`, the share of zero effects of each coefficient, and in `mixtures` the standard deviations
        and weights of the normals.

    Raises
    ------
    KeyError
        When no result, or not the one under `key`, has the coefficients.
    TypeError
        For names that are no texts.
    ValueError
        When the results are no t tests, or tests against a bound (`lfc`), and when fewer than 10 genes were fitted.

    Notes
    -----
    Stephens, "False discovery rates: a new deal", Biostatistics 2017, doi 10.1093/biostatistics/kxw041; the numbers are
    those of its R package: ``ashr::ash(coef, s, mixcompdist="normal")``. Its normal likelihood knows no degrees of
    freedom, so that s is not the standard error but coef / z, with z the normal deviate that has the p-value of the
    t test (Lu and Stephens 2019, arXiv 1901.10679). Genes with different degrees of freedom, and moderated tests, are
    thus comparable.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", size_factors="total")
    >>> fsc.tl.shrink(adata)
    >>> fsc.get.lmm_de_df(adata, "trt[T.B]", key="lmm_shrink").columns.to_list()
    ['variable', 'contrast', 'group', 'coef', 'log_fc', 'sd', 'lfsr', 's_value', 'status']
    """
    check_key(adata, key_added, tests=True)
    result = found(adata, key, coefs)
    columns = _columns(result, coefs)
    if key_added == result.key:
        msg = f"key_added={key_added!r} is the key of the tests, which the shrunken effects would overwrite; give another."
        raise ValueError(msg)
    priors, posteriors = zip(*_fits(result, columns), strict=True)
    shrunk = _result(key_added, result, columns, list(priors), list(posteriors))
    write(adata, [shrunk], [key_added])
    log_summary([shrunk])


def _columns(result: Result, coefs: str | Sequence[str] | None) -> list[int]:
    """Columns to shrink, of results that can be shrunken."""
    if result.what not in ("fit", "t tests"):
        msg = f"The result {result.key!r} holds {result.what}, not effects with standard errors; choose another key."
        raise ValueError(msg)
    if result.params.get("lfc", 0.0) != 0:
        msg = f"The tests {result.key!r} are against a bound, lfc={result.params['lfc']:g}; shrink those against zero."
        raise ValueError(msg)
    columns = columns_of(result, coefs, None)
    if coefs is None:
        columns = [j for j in columns if result.findings[j]]
    if not columns:
        msg = f"There is nothing to shrink: the result {result.key!r} holds only intercepts and means. Choose coefs=."
        raise ValueError(msg if coefs is None else f"coefs={coefs!r} names nothing to shrink.")
    return columns


def _fits(result: Result, columns: list[int]) -> list[tuple[NormalMixture, Shrunken]]:
    """Prior and posteriors of each column, NaN for genes without a result."""
    coef, *tests = (result[name][:, columns] for name in ("coef", "se", "t", "df"))
    s = normal_errors(coef, *tests)
    usable = np.isfinite(coef) & np.isfinite(s) & (s > 0)
    names = result.names("coef_names")
    if few := [names[j] for j, n in zip(columns, usable.sum(axis=0), strict=True) if n < MIN_GENES]:
        msg = (
            f"{listed(few)}: fewer than {MIN_GENES} genes were fitted, from which no prior can be learned. Leave them out "
            "by coefs=."
        )
        raise ValueError(msg)
    fits = []
    for j in range(len(columns)):
        genes = usable[:, j]
        prior = learn(coef[genes, j], s[genes, j])
        found = shrunken(prior, coef[genes, j], s[genes, j])
        whole = {field.name: np.full(len(coef), np.nan) for field in fields(Shrunken)}
        for name, values in whole.items():
            values[genes] = getattr(found, name)
        fits.append((prior, Shrunken(**whole)))
    return fits


def _result(
    key: str, tests: Result, columns: list[int], priors: list[NormalMixture], posteriors: list[Shrunken]
) -> Result:
    arrays = {
        field.name: np.column_stack([getattr(found, field.name) for found in posteriors]) for field in fields(Shrunken)
    }
    names = {name: [tests.names(name)[j] for j in columns] for name in _NAMES}
    used, places = np.unique(np.array(tests.status_columns)[columns], return_inverse=True)
    arrays["status"] = tests["status"][:, used]
    entry = {
        "params": {"key": tests.key, "log_base": float(tests.params["log_base"])},
        **{name: texts([values]) for name, values in names.items()},
        "findings": tests.findings[columns],
        "groups": texts([[tests.groups[i] for i in used]]),
        "status_columns": places,
        "status_names": texts([tests.names("status_names")]),
        "pi0": np.array([prior.weights[0] for prior in priors]),
        "mixtures": {str(i): dict(vars(prior)) for i, prior in enumerate(priors)},
    }
    return Result(key, arrays, entry)
