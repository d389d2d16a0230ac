"""Putting results into an AnnData, all of them or none."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from flashmm_sc._base.errors import AdviceWarning, listed, warn
from flashmm_sc._base.log import detail, info
from flashmm_sc._results.result import EARLIER, WORDS, Result

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anndata import AnnData


def write(adata: AnnData, results: Sequence[Result], keys: Iterable[str]) -> None:
    """Put results in the place of all that lies under these keys; if that fails, Ctrl-C included, adata is as it was.

    Parameters of the results note time and version; what is replaced is told at info level, and what was made from it
    in a warning.
    """
    keys, old_results = list(keys), {result.key: result for result in Result.all(adata, whole=True)}
    for one in old_results.values():
        replaced = [key for key in one.of if key in keys and key in old_results]
        if replaced and one.key not in keys:
            msg = (
                f"{one.key!r} was made from the result that lay under {replaced[0]!r} and is replaced now: it stays as it is. "
                "Make it anew, or remove it with fsc.tl.forget."
            )
            warn(msg, AdviceWarning)
    stamp = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "version": version("flashmm-sc")}
    new: dict[str, dict[str, Any]] = {
        "varm": {f"{result.key}_{name}": array for result in results for name, array in result.arrays.items()},
        "uns": {result.key: {**result.entry, "params": result.entry["params"] | stamp} for result in results},
    }
    old = {"varm": places(keys), "uns": keys}
    slots: dict[str, Any] = {place: getattr(adata, place) for place in new}
    before = {
        place: {name: slot[name] for name in {*old[place], *new[place]} & {*slot}} for place, slot in slots.items()
    }
    try:
        for place, values in new.items():
            _replace(adata, place, values, before[place])
    except BaseException:
        for place, values in before.items():
            _replace(adata, place, values, new[place])
        raise
    for result in results:
        if result.key in old_results:
            info(f"    {result.key}: replaces {_in_words(old_results[result.key])}")
    detail(_told(results) or f"removed {listed(keys)}")


def places(keys: Iterable[str]) -> list[str]:
    """Names in varm of all that may lie there under some keys."""
    return [f"{key}_{name}" for key in keys for name in (*WORDS, *EARLIER)]


def _told(results: Sequence[Result]) -> str:
    """What is added where, in scanpy's words; empty without results."""
    lines = []
    for result in results:
        lines += [f"'{result.key}_{name}', {WORDS[name]} (adata.varm)" for name in result.arrays]
        lines += [f"{result.key!r}, names and parameters (adata.uns)"]
    return "\n    ".join(["added", *lines]) if lines else ""


def _in_words(result: Result) -> str:
    """What was there, and from when."""
    when = f", made {result.params['time']}" if "time" in result.params else ""
    return f"{result.what} of {result.formula}{when}"


def _replace(adata: AnnData, place: str, new: dict[str, Any], old: Iterable[str]) -> None:
    """Put in new values, take out old ones that have none.

    anndata checks all of varm wherever it is asked for, so it isn't for each of many; but where adata was a view, of which the
    first change has made a copy.
    """
    slot = getattr(adata, place)
    for name in [*new, *(name for name in old if name not in new)]:
        was_view = adata.is_view
        if name in new:
            slot[name] = new[name]
        else:
            slot.pop(name, None)
        if was_view:
            slot = getattr(adata, place)
