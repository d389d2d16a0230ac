"""Finding results: under which key a coefficient or contrast lies, and which columns of it are meant."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from flashmm_sc._base.errors import did_you_mean, listed
from flashmm_sc._base.options import names_given
from flashmm_sc._design.reference_grid import ReferenceGrid
from flashmm_sc._results.result import Result, uns_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anndata import AnnData

FIRST = "lmm_de"
"""The key that is looked under first."""
_READ = ("fit", "t tests", "F tests")


def found(adata: AnnData, key: str | None, coefs: str | Sequence[str] | None = None, argument: str = "coefs") -> Result:
    """The result under a key, which is to have these coefficients or contrasts; without a key, the result that has them.

    Results of the fit or tests count, `FIRST` before others.

    Raises
    ------
    KeyError
        Where there is no such result; names those that have what was asked for, all of them where there are several.
    TypeError
        For names that are no texts.
    """
    names, whole = names_given(argument, coefs) or [], Result.all(adata, whole=True)
    results = [result for result in whole if result.what in _READ]
    having = [result.key for result in results if set(names) <= set(_columns(result))]
    damaged = set(Result.keys(adata)) - {result.key for result in whole}
    if key is None and (FIRST in having or FIRST in damaged or not results):
        return Result.read(adata, FIRST)
    if key is None and len(having) == 1:
        return Result.read(adata, having[0])
    if key is None and having:
        what = f"{argument}: several results have {listed(names)}" if names else "There are several results"
        msg = f"{what}; choose key= among {listed(having)}."
        raise KeyError(msg)
    those = results if key is None else [Result.read(adata, key)]
    if key is None and damaged:
        Result.all(adata)  # one of them may have it, and says that it is damaged
    for name in names:
        if not any(name in _columns(result) for result in those):
            raise KeyError(_missing(argument, name, key, those, results))
    if key is None:
        msg = f"{argument}: no result has all of {listed(names)}. Ask for those of one result at a time."
        raise KeyError(msg)
    return those[0]


def found_fit(adata: AnnData, key: str | None) -> Result:
    """The fit under a key; without a key, under `FIRST`, or the only one."""
    if key is None and FIRST not in uns_of(adata):
        fits = [result.key for result in Result.all(adata, whole=True) if result.what == "fit"]
        if len(fits) > 1:
            msg = f"There are several fits; choose key= among {listed(fits)}."
            raise KeyError(msg)
        key = next(iter(fits), FIRST)
    return Result.read_fit(adata, FIRST if key is None else key)


def fit_of(adata: AnnData, result: Result) -> Result | None:
    """The fit that a result is or was made from; None if it is gone, or another lies in its place now."""
    results = {one.key: one for one in Result.all(adata, whole=True)}
    when = lambda one: str(one.params.get("time", ""))
    while result.what != "fit":
        source = results.get(next(iter(result.of), ""))
        if source is None or when(source) > when(result):
            return None
        result = source
    return result


def factors_of(fit: Result | None) -> dict[str, list[str]]:
    """Columns of obs with levels in the design of a fit, the reference first; none where no design is stored."""
    if fit is None:
        return {}
    with suppress(ValueError):
        factors = ReferenceGrid.read(str(fit.models[0].get("design", ""))).factors
        return {name: list(levels) for name, levels in factors.items()}
    return {}


def columns_of(result: Result, coefs: str | Sequence[str] | None, groups: str | Sequence[str] | None) -> list[int]:
    """Positions of the columns of these coefficients, found before, in these groups, in the order in which they are asked for.

    The coefficients of a group stay together, unless each name is that of one column.
    """
    names, chosen = names_given("coefs", coefs), selected("groups", groups, result.groups, result.key)
    columns = zip(*(result.names(name) for name in ("column_names", "coef_names", "column_groups")), strict=True)
    asked, order = names or [], result.groups if chosen is None else chosen
    places = {
        j: (order.index(group), asked.index(name if name in asked else full) if asked else 0)
        for j, (name, full, group) in enumerate(columns)
        if (names is None or name in names or full in names) and (chosen is None or group in chosen)
    }
    by_name = len(places) == len(set(asked))
    return sorted(places, key=lambda j: places[j][::-1] if by_name else places[j])


def selected(argument: str, values: str | Sequence[str] | None, known: Sequence[str], key: str) -> list[str] | None:
    """The names asked for, checked; None means all."""
    names = names_given(argument, values)
    for name in names or []:
        if name not in known:
            msg = f"{argument}: the result {key!r} has no {name!r}. {did_you_mean(name, dict.fromkeys(known))}"
            raise KeyError(msg)
    return names


def _columns(result: Result) -> list[str]:
    """Names under which columns can be asked for: with and without the group."""
    return [*result.names("column_names"), *result.names("coef_names")]


def _missing(argument: str, name: str, key: str | None, those: Iterable[Result], results: Iterable[Result]) -> str:
    """Say where a name lies that isn't in those results; if nowhere, which names of theirs are close to it."""
    there = "no result has" if key is None else f"the result {key!r} has no"
    elsewhere = [f"key={result.key!r}" for result in results if name in _columns(result)]
    if elsewhere:
        return f"{argument}: {there} {name!r}; {' and '.join(elsewhere)} {'has' if len(elsewhere) == 1 else 'have'} it."
    which = "coef_names" if "|" in name else "column_names"  # a name once, not once a group
    close = dict.fromkeys(known for result in those for known in result.names(which))
    return f"{argument}: {there} {name!r}. {did_you_mean(name, close)}"
