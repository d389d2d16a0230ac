"""Advice: what a user should hear of a call that does what it says, but would mislead; with the better call written out.

All of it is here. What is said before the fit follows from the design and the first values, `before_fit`; what only the
sums tell comes `after_pass`, and what only the fits do `after_fit`.
"""

from __future__ import annotations

from itertools import chain, combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from flashmm_sc._base.errors import AdviceWarning, listed, warn
from flashmm_sc._design.random_terms import RandomTerm, quoted, spelled, written
from flashmm_sc._design.slopes import off_centre
from flashmm_sc._results.count_models import FEWEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flashmm_sc._results.call import Call
    from flashmm_sc._results.count_models import CountModel
    from flashmm_sc._results.scale import Scale
    from flashmm_sc._results.values import Values

FEW_LEVELS = 12
_FEW_GENES = 100
"""Genes below which there is nothing to learn for moderation."""
_SMALL, _LOST = 500, 0.05
"""Cells below which a group may be too small for its model, and share of genes without an optimum from which it is."""
_DISTANT = 10
"""Standard deviations from zero at which independent slopes of a number are much the same as intercepts."""
_RARE, _MANY = 0.05, 0.2
"""Share of cells that express a gene, and share of genes below it, from which these sway the prior."""


def before_fit(call: Call, scales: Sequence[Scale], values: Values) -> list[str]:
    """Advice that needs no pass over the data."""
    found = [
        *_scale(call, scales, values),
        *_sample_term(call),
        *_joint_model(call),
        *_degrees(call),
        *_distant_slopes(call),
    ]
    return _told(found)


def after_pass(shares: dict[str, np.ndarray]) -> list[str]:
    """Advice on moderated fits of genes; `shares` are those of the cells that express each of them, by group."""
    rare = {group: float(np.mean(share < _RARE)) for group, share in shares.items()}
    many = {group: share for group, share in rare.items() if share > _MANY}
    if not many:
        return []
    group, share = max(many.items(), key=lambda one: one[1])
    of = f" of {group!r}" if group else ""
    others = f" (and in {len(many) - 1} more groups)" if len(many) > 1 else ""
    return _told(
        [
            f"{share:.0%} of the genes are expressed in fewer than {_RARE:.0%} of the cells{of}{others}. They share in the prior "
            f"that moderated tests learn, and in the correction for multiple testing: leave them out with min_fraction={_RARE}."
        ]
    )


def after_fit(groups: dict[str, tuple[int, pd.Series]]) -> list[str]:
    """Advice on groups too small for their model: of each its cells, and the status of the genes fitted in it."""
    failed = lambda status: float(status.isin(["not converged", "no residual"]).mean())
    lost = {group: failed(status) for group, (n, status) in groups.items() if n < _SMALL}
    many = [group for group, share in lost.items() if share > _LOST]
    if not many:
        return []
    worst = max(many, key=lambda group: lost[group])
    where = f"the {groups[worst][0]} cells of {worst!r}" if worst else f"these {groups[worst][0]} cells"
    others = f" (and more than {_LOST:.0%} in {len(many) - 1} other groups)" if len(many) > 1 else ""
    largest = max(groups[group][0] for group in many)
    better = f"leave such groups out with min_cells={largest + 1}, or " if worst else ""
    return _told(
        [
            f"{lost[worst]:.0%} of the genes have no result in {where}{others}, which are too few for this many variances and "
            f"effects: {better}leave out genes that hardly any of them express, with min_fraction=."
        ]
    )


def on_samples(obs: pd.DataFrame, models: Sequence[CountModel], term: RandomTerm) -> list[str]:
    """Advice on models of samples of which several have something in common that no fixed effect stands for."""
    model, columns = models[0], models[0].design.columns
    samples = obs.iloc[model.cells].drop_duplicates(list(term.groups))
    n_levels = lambda names: len(samples[list(dict.fromkeys(names))].drop_duplicates())
    n, p = model.X.shape
    alike = lambda names: f"Several samples have the same {listed(names)} and are alike, but are taken for independent"
    for some in chain(*(combinations(term.groups, r) for r in range(1, len(term.groups)))):
        n_whole = n_levels(some)
        if p + FEWEST <= n_whole < n and n_levels([*some, *columns]) == n_whole:
            whole = RandomTerm("", some).spelled
            words = "p-values come out too small. Sum over what was sampled as a whole, sample="
            return _told([f"{alike(some)}: {words}{whole!r}."])
    for name in term.groups if len(term.groups) > 1 else ():
        n_blocks = n_levels([name])
        if name in columns or not 1 < n_blocks < n or _stands_for(model, obs.iloc[model.cells][name]):
            continue
        inside = [other for other in columns if n_levels([name, other]) > n_blocks]
        lost = f"{alike([name])}: effects of {listed(inside)} get lost in how it varies"
        if len(inside) < len(columns) or n < p + n_blocks - 1 + FEWEST:
            random = [RandomTerm("", (name,)).spelled, term.spelled]
            return _told([f"{lost}. Two levels of samples are for fsc.tl.lmm_de, with random={random!r}."])
        block = f"C({quoted(name)})" if pd.api.types.is_numeric_dtype(samples[name]) else quoted(name)
        fixed = f"{model.design.encoding.text} + {block}"
        return _told([f"{lost}. Make it a block, fixed={fixed!r}."])
    return []


def _stands_for(model: CountModel, column: pd.Series) -> bool:
    """Whether the fixed effects of a model can differ between all levels of a column of its samples."""
    first = np.unique(model.codes, return_index=True)[1]
    blocks = pd.get_dummies(column.iloc[first]).to_numpy(dtype=np.float64)
    left = blocks - model.X @ np.linalg.lstsq(model.X, blocks, rcond=None)[0]
    return bool(np.abs(left).max() < 1e-6)


def advice_on_values(scales: Sequence[Scale], values: Values) -> None:
    """Advice on the values alone, where there is no model yet."""
    _told([*_scale(None, scales, values)])


def _told(notes: list[str]) -> list[str]:
    for note in notes:
        warn(note, AdviceWarning)
    return notes


def _scale(call: Call | None, scales: Sequence[Scale], values: Values) -> Iterator[str]:
    """On what the values are."""
    transform = values.transform
    if values.weigh:
        logged = [scale for scale in scales if values.sized and (scale.logged or scale.negative)]
        yield from map(_weighed, logged[:1])
        return
    sized = values.sized or (call is not None and any(map(call.of_cells, call.design.columns)))
    for scale in scales:
        if transform is None and scale.counts:
            yield (
                f"{scale.source} seems to hold raw counts, which are fitted as they are. For log-expression use "
                "transform='log1p', size_factors='total' (strata: in fsc.pp.aggregate), or sc.pp.normalize_total and "
                "sc.pp.log1p first; effects between samples can be fitted to counts by fsc.tl.nbmm_de."
            )
        elif transform is None and scale.negative and values.log_base is None:
            yield (
                f"{scale.source} holds negative values, as after sc.pp.scale: effects are then in standard deviations of each "
                "gene, and log fold changes can't be had. Name the layer with log-expression, layer=, or use_raw=True."
            )
        elif transform is not None and scale.logged:
            yield (
                f"{scale.source} seems to hold logarithms already, of which transform={transform!r} takes the logarithm "
                "again. Use transform=None, or name the layer with counts, as in layer='counts'."
            )
        elif transform is not None and scale.counts and not sized:
            yield (
                f"{scale.source} seems to hold raw counts, which differ between cells by how deeply they were sequenced: "
                f"transform={transform!r} alone takes that for expression. Divide it out with size_factors='total'."
            )
        else:
            continue
        return


def _weighed(scale: Scale) -> str:
    return (
        f"{scale.source} seems to hold logarithms or scaled values, while size factors weigh counts: name the layer with counts, "
        "as in layer='counts'. Sums of logarithms, for linear mixed models, need no size_factors."
    )


def _sample_term(call: Call) -> Iterator[str]:
    """On a treatment of samples of one donor, whose samples have no random term."""
    joint = (_joint_factor(call) or ("", ""))[1]
    for term in call.intercepts:
        names = [name for name in call.design.columns if name not in (*term.groups, joint)]
        varying = [name for name in names if call.varies_within(name, term) and not call.of_cells(name)]
        varying = [name for name in varying if not any(_holds(call, other, name) for other in call.terms)]
        if not varying:
            continue
        sample = (*term.groups, *varying)
        by_level = call.residual_by is not None and call.residual_by == joint
        own = written([joint], sample, "||") if by_level else RandomTerm("", sample).spelled
        random = [*spelled(call.terms), own]
        what, donors = listed(varying), ":".join(term.groups)
        yield (
            f"{what} {_vary(varying)} within the levels of {donors!r}: each has several samples, whose cells are alike, and no random "
            f"term says so. Effects of {what} are then tested as if cells were samples, and p-values come out far too small. "
            f"Use random={random!r}."
        )
        return


def _vary(names: Sequence[str]) -> str:
    return "varies" if len(names) == 1 else "vary"


def _holds(call: Call, term: RandomTerm, name: str) -> bool:
    """Whether a random term takes up how samples differ between the values of a column."""
    whole = term.slope is None or term.level is not None
    return term.slope == name or (whole and not call.varies_within(name, term))


def _joint_factor(call: Call) -> tuple[str, str] | None:
    """The one factor of cells, not donors, that all interactions share, and its column, if no other has a term: `~ 0 + a + a:b`."""
    if call.groupby is not None:
        return None
    columns = {f.expr: f.needs[0] for f in call.design.encoding.factors if f.ordered is not None and len(f.needs) == 1}
    terms = [{factor.expr for factor in term.factors} for term in call.design.formula]
    crossed = [term for term in terms if len(term) > 1]
    alone = {name for term in terms if len(term) == 1 for name in term if name in call.design.levels}
    shared = set.intersection(*crossed) & alone if crossed else set()
    found = shared & columns.keys() if len(shared) == len(alone) == 1 else set()
    of_cells = lambda column: any(column in term.groups or call.varies_within(column, term) for term in call.intercepts)
    return next(((name, columns[name]) for name in found if of_cells(columns[name])), None)


def _joint_model(call: Call) -> Iterator[str]:
    """On one model for all cell types."""
    joint = _joint_factor(call)
    if joint is None:
        return
    factor, column = joint
    if call.residual_by == column and any(term.slope == column and term.level for term in call.terms):
        return
    fixed = call.design.without(factor)
    moderate = " Moderated p-values come out much too small then." if call.moderate else ""
    more = ", moderate=True" if _few(call) or call.moderate else ""
    yield (
        f"The model pools one variance over the levels of {column!r}, which differ in real data: p-values come out too small "
        f"for genes that vary most in the level tested.{moderate} One model for each level estimates the same effects with "
        f"variances of its own: fixed={fixed!r}, groupby={column!r}{more}.{_by_level(call, column)}"
    )


def _by_level(call: Call, column: str) -> str:
    """What to write for one model with variances of each level."""
    terms = [term for term in call.intercepts if column not in term.groups]
    if not terms or call.moderate:
        return ""
    random = [*spelled(terms), *(written([column], term.groups, "||") for term in terms)]
    return f" For differences between the levels within {terms[0].grouping!r}, keep one model: random={random!r}, residual_by={column!r}."


def _few(call: Call) -> int:
    """The number of levels of a random term, if they are few and moderation could help; else 0."""
    correlated = any(term.joint for term in call.terms)
    if correlated or len(call.terms) > 2 or call.n_genes < _FEW_GENES or not call.intercepts:
        return 0
    least = min(call.n_levels[term.name] for term in call.intercepts)
    return least if least < FEW_LEVELS else 0


def _degrees(call: Call) -> Iterator[str]:
    """On cells counted as samples, and on tests of few donors."""
    if call.ddf == "residual":
        for term in call.terms:
            names = [name for name in call.design.columns if name not in term.groups]
            between = [name for name in names if not call.varies_within(name, term)]
            if between:
                yield (
                    f"{listed(between)} {_vary(between)} between the levels of {':'.join(term.groups)!r} only, but ddf='residual' counts "
                    "cells as if they were independent: p-values come out too small. Use ddf='satterthwaite'."
                )
                return
    elif not call.moderate and _joint_factor(call) is None and (few := _few(call)):
        yield (
            f"There are {few} levels of a random term: with fewer than {FEW_LEVELS}, a single gene tells too little of its "
            "variance, and little is found. moderate=True learns from all genes how much donors vary."
        )


def _distant_slopes(call: Call) -> Iterator[str]:
    """Intercepts and slopes that are independent of each other, where no cell is."""
    beside = {term.groups for term in call.intercepts}
    for term in call.terms:
        if term.slope and not term.levels and not term.joint and term.groups in beside:
            ratio, where, better = off_centre(call.obs, term)
            if ratio > _DISTANT:
                yield (
                    f"obs[{term.slope!r}] is {where}: slopes that are independent of intercepts, '||', make much the same of it as "
                    f"intercepts. {better}."
                )
