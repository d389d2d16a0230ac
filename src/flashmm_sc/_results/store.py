"""Where results lie in an AnnData: plain arrays in varm, the names of their columns in uns.

Names live in uns because a level such as `CD4/CD8` as a DataFrame column can be written neither to h5ad nor to zarr.
Groups of cells lie side by side: column `B cells|trt[T.stim]` is coefficient `trt[T.stim]` of the group `B cells`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from flashmm_sc._arrays.lmm import LMMFit
from flashmm_sc._base.errors import did_you_mean
from flashmm_sc._gaussian.estimate import MASKED, STATUS, Estimates
from flashmm_sc._gaussian.projection import Genes, Projection
from flashmm_sc._inference.adjustment import adjust
from flashmm_sc._inference.moderated import Moderated
from flashmm_sc._inference.prior import Prior
from flashmm_sc._inference.t_tests import TTests
from flashmm_sc._results.models import Model

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_SUFFIX = {"p": "pval"}  # otherwise the names of the arrays
_TESTS = ("coef", "se", "t", "df", "ci_low", "ci_high", "pval", "pval_adj", "F", "df_num", "stat", "status")
_MODERATED = ("theta_shrunk", "ols", "zry", "yry", "mean")
_FITS = ("theta", "theta_se", "theta_cov", "loglik", "n_iter", "ranef", *_MODERATED)


@dataclass(frozen=True, eq=False)
class Table:
    """Tests of one group of cells: names of what was tested, and a dataclass of genes × names arrays."""

    group: str
    names: list[str]
    tests: DataclassInstance
    status: np.ndarray


@dataclass(frozen=True, eq=False)
class StoredModel:
    """A fitted model of one group as read back: all that further tests need."""

    group: str
    coef_names: list[str]
    component_names: list[str]
    terms: dict[str, np.ndarray]
    projection: Projection
    estimates: Estimates
    status: np.ndarray
    moderated: Moderated | None


def check_key(adata: AnnData, key: str, *, tests: bool = False) -> None:
    """Refuse a key that anndata can't write, that is not ours to overwrite, or, for tests, under which a fit lies."""
    if not isinstance(key, str) or not key or "/" in key:
        msg = f"key_added={key!r} can't name results in a file; give a text without '/'."
        raise ValueError(msg)
    found = adata.uns.get(key)
    if found is not None and not (isinstance(found, dict) and "column_groups" in found):
        msg = f"adata.uns[{key!r}] holds something else, which key_added={key!r} would overwrite; give another key."
        raise ValueError(msg)
    if tests and found is not None and "models" in found:
        msg = f"key_added={key!r} is the key of a fit, which the tests would overwrite; give another."
        raise ValueError(msg)


def remove(adata: AnnData, key: str) -> None:
    """Remove what an earlier call stored under a key, so that nothing stale stays beside the new."""
    for suffix in (*_TESTS, *_FITS):
        adata.varm.pop(f"{key}_{suffix}", None)
    adata.uns.pop(key, None)


def write_tables(adata: AnnData, key: str, tables: list[Table], corr_method: str, params: dict[str, Any]) -> None:
    """Store tests of all groups under a key."""
    remove(adata, key)
    for field in fields(tables[0].tests):
        side_by_side = np.concatenate([getattr(table.tests, field.name) for table in tables], axis=1)
        adata.varm[f"{key}_{_SUFFIX.get(field.name, field.name)}"] = side_by_side
    adata.varm[f"{key}_pval_adj"] = adjust(adata.varm[f"{key}_pval"], corr_method)
    adata.varm[f"{key}_status"] = np.column_stack([table.status for table in tables])
    adata.uns[key] = {
        "params": params,
        "coef_names": _strings(_joined(table.group, table.names) for table in tables),
        "column_names": _strings(table.names for table in tables),
        "column_groups": _strings([table.group] * len(table.names) for table in tables),
        "groups": _strings([table.group] for table in tables),
        "status_names": np.array(STATUS, dtype=object),
    }


def write_fits(
    adata: AnnData,
    key: str,
    models: list[Model],
    fits: list[LMMFit],
    genes: np.ndarray,
    *,
    corr_method: str,
    params: dict[str, Any],
    ranef: bool,
) -> None:
    """Store the fits of all groups; `genes` are the positions in var of the genes that were not masked."""
    spread = lambda values: _spread(np.asarray(values), genes, adata.n_vars)
    tables = []
    for model, fit in zip(models, fits, strict=True):
        tests = TTests(*(spread(getattr(fit, field.name)) for field in fields(TTests)))
        status = np.full(adata.n_vars, MASKED, np.int8)
        status[genes] = fit.status.cat.codes
        tables.append(Table(model.group, model.fixed.names, tests, status))
    write_tables(adata, key, tables, corr_method, params)
    for name in ("theta", "theta_se", "theta_cov"):
        adata.varm[f"{key}_{name}"] = np.concatenate([spread(getattr(fit, name)) for fit in fits], axis=1)
    for name in ("loglik", "n_iter"):
        adata.varm[f"{key}_{name}"] = np.column_stack([spread(getattr(fit, name)) for fit in fits])
    described = {str(i): _described(model, fit) for i, (model, fit) in enumerate(zip(models, fits, strict=True))}
    names = [_joined(model.group, [*model.random.names, "residual"]) for model in models]
    adata.uns[key] |= {"theta_names": _strings(names), "models": described}
    if params["moderate"]:
        parts = [_moderated_part(fit) for fit in fits]
        for name, arrays in zip(_MODERATED, zip(*parts, strict=True), strict=True):
            adata.varm[f"{key}_{name}"] = np.concatenate([spread(array) for array in arrays], axis=1)
    if ranef:
        adata.varm[f"{key}_ranef"] = np.concatenate([spread(fit.ranef()) for fit in fits], axis=1)
        adata.uns[key]["ranef_names"] = _strings(_joined(model.group, model.random.ranef_names) for model in models)


def read_result(adata: AnnData, key: str) -> dict[str, Any]:
    """The entry of a result in uns, or a KeyError that names the results there are."""
    found = adata.uns.get(key)
    if not isinstance(found, dict) or "coef_names" not in found:
        keys = [name for name, value in adata.uns.items() if isinstance(value, dict) and "column_groups" in value]
        hint = did_you_mean(key, keys) if keys else "Run fsc.tl.lmm_de first."
        msg = f"adata.uns[{key!r}] holds no result of fsc.tl.lmm_de or fsc.tl.lmm_test. {hint}"
        raise KeyError(msg)
    return found


def read_fit(adata: AnnData, key: str) -> dict[str, Any]:
    """The entry of a fit in uns."""
    found = read_result(adata, key)
    if "models" not in found:
        msg = f"adata.uns[{key!r}] holds tests, not a fit; give the key of a result of fsc.tl.lmm_de."
        raise KeyError(msg)
    return found


def read_models(adata: AnnData, key: str) -> list[StoredModel]:
    """The fitted models of all groups, as further tests need them."""
    found = read_fit(adata, key)
    models, p0, k0, q0 = [], 0, 0, 0
    for i, group in enumerate(strings(found["groups"])):
        m = found["models"][str(i)]
        coef_names, components = strings(m["coef_names"]), strings(m["component_names"])
        p, k = len(coef_names), len(components) + 1
        ZZ, n, d = sp.csr_array(m["ZZ"]), int(m["n"]), [int(q) for q in m["d"]]
        sparse = bool(found["params"]["nonnegative"]) and not bool(found["params"]["moderate"])
        projection = Projection.of(m["XX"], m["ZX"], ZZ, n, d, coef_names, components, sparse=sparse)
        estimates = Estimates(
            adata.varm[f"{key}_coef"][:, p0 : p0 + p],
            adata.varm[f"{key}_theta"][:, k0 : k0 + k],
            adata.varm[f"{key}_theta_cov"][:, k0 : k0 + k],
        )
        terms = {name: np.asarray(m["type3"][str(j)]) for j, name in enumerate(strings(m["terms"]))}
        status = adata.varm[f"{key}_status"][:, i]
        moderated = None
        if "prior" in m:
            b, zry = adata.varm[f"{key}_ols"][:, p0 : p0 + p], adata.varm[f"{key}_zry"][:, q0 : q0 + sum(projection.d)]
            yRy, mean = adata.varm[f"{key}_yry"][:, i], adata.varm[f"{key}_mean"][:, i]
            genes = Genes(b, *projection.S.rotate(zry.T), yRy, yRy)
            prior = Prior(*(np.asarray(m["prior"][name]) for name in ("gamma", "edges", "weights")))
            moderated = Moderated.of(projection, genes, estimates.fitted, mean, prior)
        models.append(StoredModel(group, coef_names, components, terms, projection, estimates, status, moderated))
        p0, k0, q0 = p0 + p, k0 + k, q0 + sum(projection.d)
    return models


def strings(values: Any) -> list[str]:
    """An array of text, as read from memory, h5ad or zarr, as a list."""
    return [str(value) for value in np.asarray(values).reshape(-1)]


def _moderated_part(fit: LMMFit) -> tuple[np.ndarray, ...]:
    """Shrunken variance components, and the projected data from which posteriors are recomputed, as `_MODERATED`."""
    found, (m, p), K = fit.moderated, fit.coef.shape, fit.theta.shape[1]
    if found is None:
        return tuple(np.full((m, width), np.nan) for width in (K, p, sum(fit.projection.d), 1, 1))
    zry = fit.projection.S.restore(found.genes.a, found.genes.r2)
    return found.theta(fit.projection), found.genes.b, zry, found.genes.yRy[:, None], found.covariate[:, None]


def _described(model: Model, fit: LMMFit) -> dict[str, Any]:
    factors = list(model.fixed.levels.items())
    prior = {} if fit.moderated is None else {"prior": dict(vars(fit.moderated.prior))}
    return prior | {
        "n": model.n,
        "d": np.array(model.random.d),
        "XX": model.XX,
        "ZX": model.ZX,
        "ZZ": sp.csr_matrix(model.projection.ZZ),
        "coef_names": _strings([model.fixed.names]),
        "component_names": _strings([model.random.names]),
        "ranef_names": _strings([model.random.ranef_names]),
        "factors": _strings([[factor for factor, _ in factors]]),
        "levels": {str(i): _strings([levels]) for i, (_, levels) in enumerate(factors)},
        "terms": _strings([list(model.terms)]),
        "type3": {str(i): L for i, L in enumerate(model.terms.values())},
    }


def _joined(group: str, names: Sequence[str]) -> list[str]:
    return [f"{group}|{name}" for name in names] if group else list(names)


def _strings(parts: Any) -> np.ndarray:
    return np.array([name for part in parts for name in part], dtype=object)


def _spread(values: np.ndarray, genes: np.ndarray, n_vars: int) -> np.ndarray:
    """Rows of fitted genes among all genes, NaN elsewhere."""
    out = np.full((n_vars, *values.shape[1:]), np.nan)
    out[genes] = values
    return out
