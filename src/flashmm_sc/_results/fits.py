"""Fits of all groups as a result, and fitted models out of a result: all that further tests need."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from flashmm_sc._arrays import lmm
from flashmm_sc._base.progress import progress
from flashmm_sc._gaussian.estimate import FILTERED, MASKED, Estimates, largest_slope
from flashmm_sc._gaussian.genes import Genes
from flashmm_sc._gaussian.projection import Projection
from flashmm_sc._gaussian.structure import Structure
from flashmm_sc._inference.inference import Inference
from flashmm_sc._inference.moderated import Moderated
from flashmm_sc._inference.prior import Prior
from flashmm_sc._inference.t_tests import TTests
from flashmm_sc._results.group_tests import FittedModel, GroupTests, tests_result
from flashmm_sc._results.packed import packed
from flashmm_sc._results.ratios import log2_ratios
from flashmm_sc._results.result import MODERATED, Result, correlated_in, joined, residuals_in, strings, texts
from flashmm_sc._stats.correlated import to_numbers
from flashmm_sc._stats.cross import CrossProducts
from flashmm_sc._stats.residual import ResidualGroup

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flashmm_sc._arrays.lmm import LMMFit
    from flashmm_sc._design.fixed import FixedDesign
    from flashmm_sc._gaussian.estimate import Options
    from flashmm_sc._inference.df import Ddf
    from flashmm_sc._results.models import Model
    from flashmm_sc._results.study import Study
    from flashmm_sc._results.summed import SummedModel


DECADES = range(-16, 5)
"""Powers of ten from which on gradients are counted; smaller and larger ones with the first and last."""


def fit_each(
    parts: Sequence[SummedModel],
    options: Options,
    ddf: Ddf,
    *,
    moderate: bool,
    n_jobs: int | None,
    show_progress: bool | None,
) -> list[LMMFit]:
    """Fit each model to its genes."""
    with progress("fitting", sum(len(part.genes) for part in parts), "genes", show_progress) as bar:
        how = lambda model: (model.projection, options, ddf, moderate, n_jobs, model.group)
        return [lmm.fit(part.stats, *how(part.model), done=bar.update) for part in parts]


def fit_result(
    key: str,
    parts: Sequence[SummedModel],
    fits: Sequence[LMMFit],
    study: Study,
    *,
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
    for part, model, fit, its in zip(parts, models, fits, genes, strict=True):
        tests = TTests(*(_spread(getattr(fit, field.name).to_numpy(), its, n_vars) for field in fields(TTests)))
        status = np.full(n_vars, MASKED, np.int8)
        status[study.kept] = FILTERED
        status[its] = fit.status.cat.codes
        fixed = model.design.fixed
        ratio = None
        if part.means is not None:
            ratio = _spread(log2_ratios(model.reference, part.means, np.eye(model.p)), its, n_vars)
        tested.append(GroupTests(model.group, fixed.names, fixed.constant == 0, tests, status, ratio))
    target = study.fitted.target_sum  # what was used, which other cells would not give again
    result = tests_result(key, tested, params | {"target_sum": target})
    arrays, entry = result.arrays, result.entry
    arrays |= {name: side_by_side(getattr(fit, name) for fit in fits) for name in ("theta", "theta_se")}
    arrays["theta_cov"] = side_by_side(_padded(fit.theta_cov, fits) for fit in fits)
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
    entry["theta_names"] = texts(
        joined(model.group, fit.theta.columns.astype(str).to_list()) for model, fit in zip(models, fits, strict=True)
    )
    entry["models"] = packed({str(i): _described(*pair) for i, pair in enumerate(zip(models, fits, strict=True))})
    return result


@dataclass(frozen=True, eq=False)
class StoredDesign:
    """The design of a group as it is stored, nothing of it factorised.

    Attributes
    ----------
    described
        What is stored of the model.
    cross
        Cross-products of its columns.
    d
        Columns of each random component.
    structure
        Which components are correlated, and how many residual variances there are.
    groups
        Groups of cells with residual variances of their own; none where all have the same.
    coef, theta
        Its coefficients and variances among the columns of all groups.
    """

    described: dict[str, Any]
    cross: CrossProducts
    d: list[int]
    structure: Structure
    groups: list[ResidualGroup]
    coef: slice
    theta: slice

    @classmethod
    def all(cls, result: Result) -> list[StoredDesign]:
        """Those of all groups of a fit, in order."""
        found, p, k = [], 0, 0
        for described in result.models:
            parts = described["XX"], described["ZX"], sp.csr_array(described["ZZ"])
            cross = CrossProducts(*parts, described.get("basis"))
            d, groups = [int(size) for size in described["d"]], _groups(described)
            structure = Structure(len(d), tuple(map(tuple, correlated_in(described))), max(len(groups) - 1, 0))
            coef, theta = slice(p, p + len(cross.XX)), slice(k, k + structure.size + 1)
            found.append(cls(described, cross, d, structure, groups, coef, theta))
            p, k = coef.stop, theta.stop
        return found


def lmm_models(result: Result) -> list[FittedModel]:
    """The fitted models of all groups, as further tests need them."""
    models, start = [], 0
    options: dict[str, Any] = {name: str(result.params[name]) for name in ("method", "ddf")}
    sparse = bool(result.params["nonnegative"]) and not bool(result.params["moderate"])
    for i, (group, one) in enumerate(zip(result.groups, StoredDesign.all(result), strict=True)):
        described, k = one.described, one.structure.size + 1
        names = [strings(described[name]) for name in ("coef_names", "component_names")]
        how: dict[str, Any] = {"sparse": sparse, "correlated": one.structure.groups, "groups": one.groups}
        projection = Projection.of(one.cross, int(described["n"]), one.d, *names, **how)
        estimates = Estimates(
            result["coef"][:, one.coef], result["theta"][:, one.theta], result["theta_cov"][:, one.theta, :k]
        )
        moderated, stop = None, start + one.cross.width + 2
        if "prior" in described:
            moderated = _moderated(described, projection, estimates, result["projected"][:, start:stop])
        start = stop
        inference = Inference(projection, estimates, moderated=moderated, **options)
        means = result["mean_coef"][:, one.coef] if "mean_coef" in result.arrays else None
        models.append(FittedModel(group, described, inference, result["status"][:, i], means))
    return models


def _groups(described: dict[str, Any]) -> list[ResidualGroup]:
    """Groups of cells with residual variances of their own, from what is stored of a model."""
    each = described.get("residual", {})
    return [
        ResidualGroup(name, int(its["n"]), np.asarray(its["columns"]), sp.csr_array(its["gram"]))
        for name, its in zip(residuals_in(described), each.values(), strict=True)
    ]


def _moderated_part(fit: LMMFit) -> tuple[np.ndarray, np.ndarray]:
    """As `MODERATED`: shrunken variance components, and the projected data from which posteriors are recomputed."""
    found, (m, p), K = fit.moderated, fit.coef.shape, fit.theta.shape[1]
    if found is None:
        return np.full((m, K), np.nan), np.full((m, p + sum(fit.projection.d) + 2), np.nan)
    genes = found.genes
    projected = [genes.b, fit.projection.S.restore(genes.r), genes.yRy, found.covariate]
    return found.theta(fit.projection), np.column_stack(projected)


def _moderated(
    described: dict[str, Any], projection: Projection, estimates: Estimates, projected: np.ndarray
) -> Moderated:
    """Posteriors, from what `_moderated_part` stored."""
    ols, zry, rest = np.split(projected, [projection.p, -2], axis=1)
    yRy, mean = rest.T
    genes = Genes(ols, projection.S.split(zry.T), yRy, yRy)
    prior = Prior(*(np.asarray(described["prior"][name]) for name in ("gamma", "edges", "weights")))
    return Moderated.of(projection, genes, estimates.fitted, mean, prior)


def _described(model: Model, fit: LMMFit) -> dict[str, Any]:
    prior = {} if fit.moderated is None else {"prior": dict(vars(fit.moderated.prior))}
    return (
        prior
        | described_design(model.design.fixed, model.terms, model.reference)
        | {
            "n": model.n,
            **model.weight_sums,
            "d": np.array(model.design.random.d),
            "XX": model.cross.XX,
            "ZX": model.cross.ZX,
            "ZZ": sp.csr_matrix(model.cross.ZZ),
            **({} if model.cross.basis is None else {"basis": model.cross.basis}),
            "component_names": texts([model.design.random.names]),
            "correlated": to_numbers(model.design.random.correlated, len(model.design.random.d)),
            "ranef_names": texts([model.design.random.ranef_names]),
            "gradients": _gradients(fit),
        }
        | _described_groups(model.groups)
    )


def _gradients(fit: LMMFit) -> np.ndarray:
    """How many genes have a gradient of the log-likelihood of each of `DECADES`, by its largest component where they ended."""
    arrays = fit.theta.to_numpy(), fit.grad.to_numpy()
    largest = largest_slope(fit.projection.structure, *arrays, nonnegative=fit.nonnegative)
    with np.errstate(divide="ignore"):
        decade = np.floor(np.log10(largest[np.isfinite(largest)]))
    return np.bincount(np.clip(decade - DECADES[0], 0, len(DECADES) - 1).astype(int), minlength=len(DECADES))


def _described_groups(groups: Sequence[ResidualGroup]) -> dict[str, Any]:
    if not groups:
        return {}
    each = {
        str(g): {"n": one.n, "columns": one.columns, "gram": sp.csr_matrix(one.gram)} for g, one in enumerate(groups)
    }
    return {"residual_levels": texts([[one.name for one in groups]]), "residual": each}


def described_design(design: FixedDesign, terms: dict[str, np.ndarray], reference: str) -> dict[str, Any]:
    """What is stored of the fixed effects of a group."""
    factors = list(design.levels.items())
    return {
        "coef_names": texts([design.names]),
        "factors": texts([[factor for factor, _ in factors]]),
        "levels": {str(i): texts([levels]) for i, (_, levels) in enumerate(factors)},
        "terms": texts([list(terms)]),
        "constant": design.constant,
        "type3": {str(i): L for i, L in enumerate(terms.values())},
        "design": reference,
    }


def _padded(cov: np.ndarray, fits: Sequence[LMMFit]) -> np.ndarray:
    """Covariances of a group's variances (m × P × P) with NaN to the right, as wide as that of any group."""
    wide = max(fit.theta_cov.shape[2] for fit in fits) - cov.shape[2]
    return np.pad(cov, ((0, 0), (0, 0), (0, wide)), constant_values=np.nan)


def _spread(values: np.ndarray, genes: np.ndarray, n_vars: int) -> np.ndarray:
    """Rows of fitted genes among all genes, NaN elsewhere."""
    out = np.full((n_vars, *values.shape[1:]), np.nan)
    out[genes] = values
    return out
