"""Fits of all groups as a result, and fitted models out of a result: all that further tests need."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from flashmm_sc._gaussian.estimate import MASKED, Estimates
from flashmm_sc._gaussian.genes import Genes
from flashmm_sc._gaussian.projection import Projection
from flashmm_sc._inference.inference import Inference
from flashmm_sc._inference.moderated import Moderated
from flashmm_sc._inference.prior import Prior
from flashmm_sc._inference.t_tests import TTests
from flashmm_sc._results.group_tests import FittedModel, GroupTests, tests_result
from flashmm_sc._results.result import MODERATED, Result, joined, strings, texts
from flashmm_sc._stats.cross import CrossProducts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashmm_sc._arrays.lmm import LMMFit
    from flashmm_sc._results.models import Model


def fit_result(
    key: str,
    models: Sequence[Model],
    fits: Sequence[LMMFit],
    genes: np.ndarray,
    n_vars: int,
    *,
    params: dict[str, Any],
    ranef: bool,
) -> Result:
    """The fits of all groups; `genes` are the positions in var of the genes that were not masked."""
    spread = lambda values: _spread(np.asarray(values), genes, n_vars)
    side_by_side = lambda arrays: np.concatenate([spread(array) for array in arrays], axis=1)
    tested = []
    for model, fit in zip(models, fits, strict=True):
        tests = TTests(*(spread(getattr(fit, field.name)) for field in fields(TTests)))
        status = np.full(n_vars, MASKED, np.int8)
        status[genes] = fit.status.cat.codes
        tested.append(GroupTests(model.group, model.design.fixed.names, tests, status))
    result = tests_result(key, tested, params)
    arrays, entry = result.arrays, result.entry
    arrays |= {name: side_by_side(getattr(fit, name) for fit in fits) for name in ("theta", "theta_se", "theta_cov")}
    arrays |= {name: np.column_stack([spread(getattr(fit, name)) for fit in fits]) for name in ("loglik", "n_iter")}
    if params["moderate"]:
        parts = zip(*(_moderated_part(fit) for fit in fits), strict=True)
        arrays |= {name: side_by_side(part) for name, part in zip(MODERATED, parts, strict=True)}
    if ranef:
        arrays["ranef"] = side_by_side(fit.ranef() for fit in fits)
        entry["ranef_names"] = texts(joined(model.group, model.design.random.ranef_names) for model in models)
    entry["theta_names"] = texts(joined(model.group, [*model.design.random.names, "residual"]) for model in models)
    entry["models"] = {str(i): _described(*pair) for i, pair in enumerate(zip(models, fits, strict=True))}
    return result


def fitted_models(result: Result) -> list[FittedModel]:
    """The fitted models of all groups, as further tests need them."""
    params, models, p0, k0, q0 = result.params, [], 0, 0, 0
    options: dict[str, Any] = {name: str(params[name]) for name in ("method", "ddf")}
    for i, (group, described) in enumerate(zip(result.groups, result.models, strict=True)):
        coef_names, components = strings(described["coef_names"]), strings(described["component_names"])
        projection = _projection(described, coef_names, components, params)
        p, k, q = len(coef_names), len(components) + 1, sum(projection.d)
        estimates = Estimates(
            result["coef"][:, p0 : p0 + p],
            result["theta"][:, k0 : k0 + k],
            result["theta_cov"][:, k0 : k0 + k],
        )
        moderated = None
        if "prior" in described:
            yRy, mean = result["yry"][:, i], result["mean"][:, i]
            r = projection.S.split(result["zry"][:, q0 : q0 + q].T)
            genes = Genes(result["ols"][:, p0 : p0 + p], r, yRy, yRy)
            prior = Prior(*(np.asarray(described["prior"][name]) for name in ("gamma", "edges", "weights")))
            moderated = Moderated.of(projection, genes, estimates.fitted, mean, prior)
        inference = Inference(projection, estimates, moderated=moderated, **options)
        terms = {name: np.asarray(described["type3"][str(j)]) for j, name in enumerate(strings(described["terms"]))}
        models.append(FittedModel(group, coef_names, components, terms, inference, result["status"][:, i]))
        p0, k0, q0 = p0 + p, k0 + k, q0 + q
    return models


def _projection(
    described: dict[str, Any], coefs: list[str], components: list[str], params: dict[str, Any]
) -> Projection:
    sparse = bool(params["nonnegative"]) and not bool(params["moderate"])
    cross = CrossProducts(described["XX"], described["ZX"], sp.csr_array(described["ZZ"]))
    d = [int(size) for size in described["d"]]
    return Projection.of(cross, int(described["n"]), d, coefs, components, sparse=sparse)


def _moderated_part(fit: LMMFit) -> tuple[np.ndarray, ...]:
    """Shrunken variance components, and the projected data from which posteriors are recomputed, as `MODERATED`."""
    found, (m, p), K = fit.moderated, fit.coef.shape, fit.theta.shape[1]
    if found is None:
        return tuple(np.full((m, width), np.nan) for width in (K, p, sum(fit.projection.d), 1, 1))
    zry = fit.projection.S.restore(found.genes.r)
    return found.theta(fit.projection), found.genes.b, zry, found.genes.yRy[:, None], found.covariate[:, None]


def _described(model: Model, fit: LMMFit) -> dict[str, Any]:
    factors = list(model.design.fixed.levels.items())
    prior = {} if fit.moderated is None else {"prior": dict(vars(fit.moderated.prior))}
    return prior | {
        "n": model.n,
        "d": np.array(model.design.random.d),
        "XX": model.cross.XX,
        "ZX": model.cross.ZX,
        "ZZ": sp.csr_matrix(model.cross.ZZ),
        "coef_names": texts([model.design.fixed.names]),
        "component_names": texts([model.design.random.names]),
        "ranef_names": texts([model.design.random.ranef_names]),
        "factors": texts([[factor for factor, _ in factors]]),
        "levels": {str(i): texts([levels]) for i, (_, levels) in enumerate(factors)},
        "terms": texts([list(model.terms)]),
        "type3": {str(i): L for i, L in enumerate(model.terms.values())},
    }


def _spread(values: np.ndarray, genes: np.ndarray, n_vars: int) -> np.ndarray:
    """Rows of fitted genes among all genes, NaN elsewhere."""
    out = np.full((n_vars, *values.shape[1:]), np.nan)
    out[genes] = values
    return out
