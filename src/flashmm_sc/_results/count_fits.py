"""Fits of counts of all groups as a result, and fitted models out of a result: all that further tests need."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from flashmm_sc._base.errors import listed, warn
from flashmm_sc._base.progress import progress
from flashmm_sc._counts.regression import Regression, grid
from flashmm_sc._counts.samples import Samples
from flashmm_sc._gaussian.estimate import FILTERED, MASKED, OK
from flashmm_sc._inference.count_prior import DEFAULT, count_prior, design_effect
from flashmm_sc._inference.counts import CountInference
from flashmm_sc._inference.prior import MIN_GENES, Prior
from flashmm_sc._results.fits import described_design
from flashmm_sc._results.group_tests import FittedModel, GroupTests, tests_result
from flashmm_sc._results.packed import packed
from flashmm_sc._results.result import Result, joined, texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashmm_sc._results.count_models import CountModel
    from flashmm_sc._results.filters import Filter
    from flashmm_sc._results.study import Study
    from flashmm_sc._stats.strata import Strata


@dataclass(frozen=True, eq=False)
class CountedModel:
    """A model and the sums of its samples.

    Attributes
    ----------
    model
        The model.
    genes
        Positions of the genes that are fitted, among those of the study.
    samples
        Sums of their counts.
    """

    model: CountModel
    genes: np.ndarray
    samples: Samples

    def fit(self, study: Study, n_jobs: int | None) -> CountInference:
        """Fit all genes at every τ², and learn how τ² is distributed."""
        if len(self.genes) < MIN_GENES:
            of = f" in {self.model.group!r}" if self.model.group else ""
            warn(
                f"Only {len(self.genes)} genes are fitted{of}, from which how samples vary can't be learned: a prior with median "
                f"variance {DEFAULT[0]} (standard deviation {DEFAULT[1]:g} of its logarithm) counts as much as 50 more."
            )
        tau2, regression = grid(), Regression(self.samples, self.model.X)
        regression = regression.inflated(design_effect(regression, tau2, n_jobs))
        learned = lambda log_lik, rate: count_prior(tau2, log_lik, rate)
        fitted = study.kept[self.genes]
        return CountInference.of(regression, fitted, study.target.n_vars, prior=learned, tau2=tau2, n_jobs=n_jobs)


def counted(models: Sequence[CountModel], strata: Strata, least: Filter, *, normalize: bool) -> list[CountedModel]:
    """Each model with the sums of its samples, which are the strata one model after another.

    Models with a sample without counts, or without genes that pass the filter, are left out with a warning.

    Raises
    ------
    ValueError
        When that is all of them.
    """
    found, start = [], 0
    reasons: dict[str, list[str]] = {}  # names of groups by reason
    for model in models:
        own = strata.select(slice(start, start + len(model.samples)))
        start += len(model.samples)
        empty = [model.samples[i] for i in np.flatnonzero(own.size == 0)]
        genes = np.flatnonzero(
            (own.expressed.sum(axis=0) >= least.min_fraction * own.n.sum())
            & (own.sums.sum(axis=0) >= max(least.min_counts, 1))
        )
        if empty:
            reason = f"no cell of {listed(empty)} has counts; leave these cells out."
        elif not genes.size:
            reason = f"no gene has min_counts={least.min_counts:g} and min_fraction={least.min_fraction:g}; lower them."
        else:
            found.append(CountedModel(model, genes, Samples.of(own, genes, normalize=normalize)))
            continue
        reasons.setdefault(reason, []).append(model.group)
    words = [
        f"{listed(groups, len(groups))}: {reason}" if any(groups) else reason for reason, groups in reasons.items()
    ]
    if not found:
        msg = "Nothing can be fitted: " + " ".join(words)
        raise ValueError(msg)
    if words:
        warn("Left out: " + " ".join(words))
    return found


def fit_counts(
    parts: Sequence[CountedModel], study: Study, n_jobs: int | None, show_progress: bool | None
) -> list[CountInference]:
    """Fit each model to its genes."""
    fits = []
    with progress("fitting", sum(len(part.genes) for part in parts), "genes", show_progress) as bar:
        for part in parts:
            fits.append(part.fit(study, n_jobs))
            bar.update(len(part.genes))
    return fits


def count_result(
    key: str,
    parts: Sequence[CountedModel],
    fits: Sequence[CountInference],
    study: Study,
    *,
    params: dict[str, Any],
    n_jobs: int | None,
) -> Result:
    """The fits of all groups, genes × columns among all genes of the study's AnnData."""
    n_vars, models = study.target.n_vars, [part.model for part in parts]
    theta, theta_sd = np.full((2, n_vars, 2 * len(parts)), np.nan)
    dtype = _smallest(max(part.samples.counts.max() for part in parts))
    sums = np.zeros((n_vars, sum(len(model.samples) for model in models)), dtype)
    tested, start = [], 0
    for i, (part, fit) in enumerate(zip(parts, fits, strict=True)):
        model, its = part.model, fit.fitted
        status = np.full(n_vars, MASKED, np.int8)
        status[study.kept] = FILTERED
        status[its] = OK
        tests = fit.t_tests(np.eye(model.X.shape[1]), n_jobs=n_jobs)
        findings = model.design.constant == 0
        tested.append(GroupTests(model.group, model.design.names, findings, tests, status))
        theta[its, 2 * i], theta_sd[its, 2 * i] = fit.tau2
        theta[its, 2 * i + 1] = part.samples.phi
        sums[its, start : start + len(model.samples)] = part.samples.counts
        start += len(model.samples)
    result = tests_result(key, tested, params)
    result.arrays.update(theta=theta, theta_se=theta_sd, sums=sums)
    entry = result.entry
    entry["theta_names"] = texts(joined(model.group, [model.sample, "phi"]) for model in models)
    entry["models"] = packed({str(i): _described(*pair) for i, pair in enumerate(zip(parts, fits, strict=True))})
    entry["design_effect"] = np.array([_design_effect(*pair) for pair in zip(parts, fits, strict=True)])
    return result


def count_models(result: Result) -> list[FittedModel]:
    """The fitted models of all groups, as further tests need them."""
    models, start = [], 0
    for i, (group, described) in enumerate(zip(result.groups, result.models, strict=True)):
        X, status = np.asarray(described["X"]), result["status"][:, i]
        columns = slice(start, start + len(X))
        start = columns.stop
        fitted = np.flatnonzero(status == OK)
        samples = Samples(
            result["sums"][fitted, columns].astype(np.float64),
            np.asarray(described["size"]),
            np.asarray(described["inverse_cells"]),
            result["theta"][fitted, 2 * i + 1],
        )
        prior = Prior(*(np.asarray(described["prior"][one.name]) for one in fields(Prior)))
        tau2, regression = prior.gamma[:, 0], Regression(samples, X)
        inference = CountInference.of(regression, fitted, len(status), prior=prior, tau2=tau2, n_jobs=None)
        models.append(FittedModel(group, described, inference, status, None))
    return models


def _described(part: CountedModel, fit: CountInference) -> dict[str, Any]:
    model, samples = part.model, fit.regression.samples
    return described_design(model.design, model.terms, model.reference) | {
        "n": len(model.cells),
        "component_names": texts([[part.model.sample]]),
        "samples": texts([model.samples]),
        "X": model.X,
        "size": samples.size,
        "inverse_cells": samples.inverse_cells,
        "prior": dict(vars(fit.prior)),
    }


def _design_effect(part: CountedModel, fit: CountInference) -> float:
    """By how much sums over cells vary more than single cells tell."""
    return round(float(fit.regression.samples.inverse_cells[0] / part.samples.inverse_cells[0]), 6)


def _smallest(most: float) -> type[np.unsignedinteger[Any]]:
    """The smallest dtype of unsigned integers that holds counts up to this."""
    return next(dtype for dtype in (np.uint16, np.uint32, np.uint64) if most <= np.iinfo(dtype).max)
