"""Contrasts in which questions have their answers' weights: what `contrast_matrix` takes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from flashmm_sc._base.errors import listed
from flashmm_sc._design.columns import repeated
from flashmm_sc._design.questions import Question
from flashmm_sc._design.reference_grid import ReferenceGrid

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from flashmm_sc._inference.contrasts import Contrasts


def answered(contrasts: Contrasts | Question, reference: str, several: Collection[str]) -> Contrasts:
    """Contrasts with the answers in the place of every question, from the text of a model's reference grid.

    An answer is called by itself, by its question's label, or by both for `several`, see `labels_of_several`.

    Raises
    ------
    ValueError
        For a question that the model can't answer, and names that occur twice.
    """
    items = _items(contrasts)
    if not isinstance(contrasts, Question) and not any(isinstance(item, Question) for _, item in items):
        return contrasts
    grid = ReferenceGrid.read(reference)
    found: list[tuple[str, Any]] = []
    for label, item in items:
        if isinstance(item, Question):
            found += [(_name(label, name, several), weights) for name, weights in item.answers(grid)]
        elif label is not None or isinstance(item, str):
            found.append((str(item if label is None else label), item))
        else:
            msg = "A vector in a list with questions has no name; give all of them as {name: question or vector}."
            raise ValueError(msg)
    if twice := repeated(name for name, _ in found):
        msg = f"Several contrasts are called {listed(twice)}; name the questions, as in {{name: question}}."
        raise ValueError(msg)
    return dict(found)


def labels_of_several(contrasts: Contrasts | Question, references: Iterable[str]) -> set[str]:
    """Labels of the questions to which a model, of those with these reference grids, has more than one answer."""
    labelled = {
        str(label): item for label, item in _items(contrasts) if label is not None and isinstance(item, Question)
    }
    found: set[str] = set()
    for reference in references if labelled else ():
        with suppress(ValueError):  # `answered` says why
            grid = ReferenceGrid.read(reference)
            found |= {label for label, item in labelled.items() if len(item.answers(grid)) > 1}
    return found


def _items(contrasts: Contrasts | Question) -> list[tuple[Any, Any]]:
    """Labels, if there are any, and contrasts; nothing for those that hold no question."""
    if isinstance(contrasts, Mapping):
        return list(contrasts.items())
    several = [contrasts] if isinstance(contrasts, Question) else contrasts
    return [(None, item) for item in several] if isinstance(several, list | tuple) else []


def _name(label: Any, name: str, several: Collection[str]) -> str:
    if label is None:
        return name
    return f"{label}: {name}" if str(label) in several else str(label)
