"""Contrasts in which questions have their answers' weights: what `contrast_matrix` takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flashmm_sc._base.errors import listed
from flashmm_sc._design.columns import repeated
from flashmm_sc._design.questions import Question
from flashmm_sc._design.reference_grid import ReferenceGrid

if TYPE_CHECKING:
    from flashmm_sc._inference.contrasts import Contrasts


def answered(contrasts: Contrasts | Question, reference: str) -> Contrasts:
    """Contrasts with the answers in the place of every question, from the text of a model's reference grid.

    Raises
    ------
    ValueError
        For a question that the model can't answer, and names that occur twice.
    """
    if isinstance(contrasts, Question):
        contrasts = [contrasts]
    items: list[tuple[Any, Any]] = []
    if isinstance(contrasts, Mapping):
        items = list(contrasts.items())
    elif isinstance(contrasts, list | tuple):
        items = [(None, item) for item in contrasts]
    if not any(isinstance(item, Question) for _, item in items):
        return contrasts
    grid = ReferenceGrid.read(reference)
    found: list[tuple[str, Any]] = []
    for label, item in items:
        if isinstance(item, Question):
            answers = item.answers(grid)
            found += [(_name(label, name, len(answers)), weights) for name, weights in answers]
        elif label is not None or isinstance(item, str):
            found.append((str(item if label is None else label), item))
        else:
            msg = "A vector in a list with questions has no name; give all of them as {name: question or vector}."
            raise ValueError(msg)
    if twice := repeated(name for name, _ in found):
        msg = f"Several contrasts are called {listed(twice)}; name the questions, as in {{name: question}}."
        raise ValueError(msg)
    return dict(found)


def _name(label: Any, name: str, answers: int) -> str:
    """What an answer is called: by itself, by its question's label if it is the only one, else by both."""
    if label is None:
        return name
    return str(label) if answers == 1 else f"{label}: {name}"
