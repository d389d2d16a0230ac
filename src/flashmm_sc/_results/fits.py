"""Fits of all groups as a result, and fitted models out of a result: all that further tests need."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from flashmm_sc._gaussian.estimate import FILTERED, MASKED, Estimates
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
    from collections.abc import Iterable, Sequence

    from flashmm_sc._arrays.lmm import LMMFit
    from flashmm_sc._inference.adjustment import Correction
    from flashmm_sc._results.models import Model
    from flashmm_sc._results.study import Study
    from flashmm_sc._results.summed import SummedModel


def fit_result(
    key: str,
    parts: Sequence[SummedModel],
    fits: Sequence[LMMFit],
    study: Study,
    *,
    corr_method: Correction,
    params: dict[str, Any],
    ranef: bool,
) -> Result:
    """The fits of all groups, genes × columns among all genes of the study's AnnData."""
    n_vars, models = study.target.n_vars, [part.model for part in parts]
    genes = [study.kept[part.genes] for part in parts]  # those of each fit

    def side_by_side(arrays: Iterable[Any]) -> np.ndarray:
        pairs = zip(arrays, genes, strict=True)
        return np.concatenate([_spread(np.asarray(array), its, n_vars) for array, its in pairs], axis=1)

    tested = []
    for model, fit, its in zip(models, fits, genes, strict=True):
        tests = TTests(*(_spread(getattr(fit, field.name).to_numpy(), its, n_vars) for field in fields(TTests)))
        status = np.full(n_vars, MASKED, np.int8)
        status[study.kept] = FILTERED
        status[its] = fit.status.cat.codes
        tested.append(GroupTests(model.group, model.design.fixed.names, tests, status))
    result = tests_result(key, tested, corr_method, params)
    arrays, entry = result.arrays, result.entry
    arrays |= {name: side_by_side(getattr(fit, name) for fit in fits) for name in ("theta", "theta_se", "theta_cov")}
    arrays |= {
        name: side_by_side(getattr(fit, name).to_numpy()[:, None] for fit in fits) for name in ("loglik", "n_iter")
    }
    if parts[0].means is not None:
        arrays["mean_coef"] = side_by_side(part.means for part in parts)
    if params["moderate"]:
        found = zip(*(_moderated_part(fit) for fit in fits), strict=True)
        arrays |= {name: side_by_side(one) for name, one in zip(MODERATED, found, strict=True)}
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
        models.append(
            FittedModel(
                group,
                coef_names,
                components,
                terms,
                str(described.get("design", "")),
                inference,
                result["status"][:, i],
            )
        )
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
        "design": model.reference,
    }


def _spread(values: np.ndarray, genes: np.ndarray, n_vars: int) -> np.ndarray:
    """Rows of fitted genes among all genes, NaN elsewhere."""
    out = np.full((n_vars, *values.shape[1:]), np.nan)
    out[genes] = values
    return out
